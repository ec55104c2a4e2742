"""The guest's own next initramfs keeps virtio, whichever builder makes it; logins on Xen's consoles move."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.changes import DeleteSymlink, EditFile, MakeSymlink, WriteFile
from drivers.facts import GuestFacts, Kernel
from drivers.linux import console, next_initramfs
from drivers.linux.console import plan_inittab, plan_securetty
from drivers.linux.devices import DeviceNames
from drivers.plan import GuestPlan
from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux.guest import ROOT, SWAP, applied, extended, facts_of, files, kernel, text_file
from tests.drivers.memory_tree import Folder, Node
from tests.fixtures.layout import ROOT_UUID

NAMES = DeviceNames(1, (ROOT, SWAP), ROOT)
VIRTIO = "virtio_blk virtio_scsi virtio_pci"
OURS = "/etc/dracut.conf.d/p2v-virtio.conf"


def guest(more: dict[str, Node], kernels: list[Kernel] | None = None) -> GuestFacts:
    """A guest without initramfs-tools, with these files."""
    nodes = {path: node for path, node in files().items() if not path.startswith("/etc/initramfs-tools")}
    return facts_of({**nodes, **more}, kernels)


def after(more: dict[str, Node]) -> dict[str, Node]:
    """The files once the plan was carried out, asserting that a second plan leaves them alone."""
    nodes = {path: node for path, node in files().items() if not path.startswith("/etc/initramfs-tools")} | more
    kernels = [kernel()]
    first: GuestPlan = plan_guest(facts_of(nodes, kernels), PlanOptions())
    found = applied(nodes, first.changes)
    assert plan_guest(facts_of(found, extended(kernels, first.changes)), PlanOptions()).changes == ()
    return found


# -- dracut ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["/usr/lib/dracut", "/usr/share/dracut"])
def test_dracut_is_told_to_keep_virtio(folder: str) -> None:
    assert str(after({folder: Folder()})[OURS]).endswith(
        f'KVM: disks there need these modules.\nadd_drivers+=" {VIRTIO} "\n'
    )


def test_guests_without_dracut_get_no_file_of_its() -> None:
    assert OURS not in after({})


def test_only_modules_that_some_kernel_has_are_asked_for() -> None:
    builtin = dataclasses.replace(kernel(), modules={"virtio_blk": "x"}, builtin=("virtio_pci",))
    (change,) = next_initramfs.contribute(guest({"/usr/lib/dracut": Folder()}, [builtin]), NAMES).changes
    assert isinstance(change, WriteFile)
    assert change.content.endswith('add_drivers+=" virtio_blk "\n')
    old = dataclasses.replace(kernel(), modules={})
    assert next_initramfs.contribute(guest({"/usr/lib/dracut": Folder()}, [old]), NAMES).changes == ()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ('omit_drivers+=" virtio_blk nouveau "\n', 'omit_drivers+=" nouveau "\n'),
        ("omit_drivers='nouveau virtio-scsi virtio_pci floppy'\r\n", "omit_drivers='nouveau floppy'\r\n"),
        ('omit_drivers+=" virtio "', 'omit_drivers+=" "'),
        ('# omit_drivers+=" virtio_blk "\n', '# omit_drivers+=" virtio_blk "\n'),
        ('omit_drivers+=" virtio_gpu my_virtio_blk "\n', 'omit_drivers+=" virtio_gpu my_virtio_blk "\n'),
        ('add_drivers+=" virtio_blk "\n', 'add_drivers+=" virtio_blk "\n'),
    ],
)
def test_what_dracut_is_told_to_leave_out_is_not_virtio(before: str, expected: str) -> None:
    for path in ("/etc/dracut.conf", "/etc/dracut.conf.d/10-small.conf"):
        assert after({"/usr/lib/dracut": Folder(), path: before})[path] == expected


def test_a_later_file_that_sets_the_drivers_anew_is_warned_of() -> None:
    def ids(name: str, text: str) -> list[str]:
        nodes: dict[str, Node] = {"/usr/lib/dracut": Folder(), f"/etc/dracut.conf.d/{name}": text}
        return [finding.id for finding in next_initramfs.contribute(guest(nodes), NAMES).warnings]

    assert ids("z.conf", "add_drivers=ahci\n") == ["linux.dracut.overridden"]
    assert ids("z.conf", "add_drivers+=ahci\n") == ids("a.conf", "add_drivers=ahci\n") == []


def test_arguments_that_dracut_builds_in_are_named_by_uuid() -> None:
    text = 'omit_drivers+="floppy virtio_blk"\nkernel_cmdline="root=/dev/sda1 ro"\n'
    found = after({"/usr/lib/dracut": Folder(), "/etc/dracut.conf.d/cmdline.conf": text})
    assert found["/etc/dracut.conf.d/cmdline.conf"] == text.replace("/dev/sda1", f"UUID={ROOT_UUID}").replace(
        "virtio_blk", ""
    )


# -- the others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "before", "expected"),
    [
        ("/etc/mkinitcpio.conf", "# MODULES=(x)\nMODULES=()\nHOOKS=(base)\n", f"# MODULES=(x)\nMODULES=({VIRTIO})\nHOOKS=(base)\n"),
        ("/etc/mkinitcpio.conf", "MODULES=(ext4 virtio-blk )\n", "MODULES=(ext4 virtio-blk virtio_scsi virtio_pci )\n"),
        ("/etc/mkinitcpio.conf", 'MODULES="ext4"\n', f'MODULES="ext4 {VIRTIO}"\n'),
        ("/etc/mkinitcpio.conf", "MODULES=(\n  ext4\n)\n", f"MODULES=(\n  ext4 {VIRTIO}\n)\n"),
        ("/etc/sysconfig/kernel", 'X="1"\nINITRD_MODULES="ata_piix ext3"\n', f'X="1"\nINITRD_MODULES="ata_piix ext3 {VIRTIO}"\n'),
        ("/etc/sysconfig/kernel", 'INITRD_MODULES=""\n', f'INITRD_MODULES="{VIRTIO}"\n'),
        ("/etc/sysconfig/kernel", "UPDATEDEFAULT=yes\n", "UPDATEDEFAULT=yes\n"),
        ("/etc/mkinitfs/mkinitfs.conf", 'features="ata base ext4"\n', 'features="ata base ext4 virtio"\n'),
        ("/etc/mkinitfs/mkinitfs.conf", 'features="ata virtio"\n', 'features="ata virtio"\n'),
    ],
)  # fmt: skip
def test_every_builders_settings_get_what_is_missing(path: str, before: str, expected: str) -> None:
    assert after({path: before})[path] == expected


@pytest.mark.parametrize("text", ["MODULES=(\n", "MODULES=(a)\nMODULES+=(b\n", 'MODULES="ext4\n', "MODULES='\n"])
def test_what_no_shell_reads_of_mkinitcpio_is_left_as_it_is(text: str) -> None:
    assert after({"/etc/mkinitcpio.conf": text})["/etc/mkinitcpio.conf"] == text


def test_mkinitcpios_last_setting_is_the_one_that_counts() -> None:
    drop_in = "/etc/mkinitcpio.conf.d/local.conf"
    found = after({"/etc/mkinitcpio.conf": "MODULES=()\n", drop_in: "MODULES=(ext4)\n"})
    assert (found["/etc/mkinitcpio.conf"], found[drop_in]) == ("MODULES=()\n", f"MODULES=(ext4 {VIRTIO})\n")


def test_a_file_that_sets_no_modules_gets_a_setting() -> None:
    assert str(after({"/etc/mkinitcpio.conf": "HOOKS=(base)"})["/etc/mkinitcpio.conf"]).endswith(
        f"\nMODULES=({VIRTIO})\n"
    )
    assert str(after({"/etc/initrd.mk": "AUTODETECT = all\n"})["/etc/initrd.mk"]).endswith(
        f"\nMODULES_ADD += {VIRTIO}\n"
    )


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("MODULES=(+)\"'virtio_blk omit_drivers\n\r#\udcff"), max_size=60))
def test_any_text_can_be_a_builders_settings_and_is_done_in_one_go(text: str) -> None:
    nodes: dict[str, Node] = {"/usr/lib/dracut": Folder(), "/etc/inittab": text, "/etc/securetty": text}
    nodes |= dict.fromkeys((*next_initramfs.TEXTS[:1], *next_initramfs.TEXTS[4:]), text)
    nodes |= {"/etc/mkinitcpio.conf": text, "/etc/dracut.conf.d/a.conf": text}
    found = guest(nodes)
    first = (*next_initramfs.contribute(found, NAMES).changes, *console.contribute(found).changes)
    again = guest(applied(nodes, first))
    assert next_initramfs.contribute(again, NAMES).changes == console.contribute(again).changes == ()


# -- consoles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("co:2345:respawn:/sbin/agetty xvc0 9600 vt100-nav\n", "co:2345:respawn:/sbin/agetty ttyS0 9600 vt100-nav\n"),
        ("hvc0:2345:respawn:/sbin/getty 38400 hvc0\n", "hvc0:2345:respawn:/sbin/getty 38400 ttyS0\n"),
        ("hvc0::respawn:/sbin/getty -L 0 hvc0 vt100\r\n", "ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100\r\n"),
        ("S0:3:respawn:/getty ttyS0\nh0:3:respawn:/getty hvc0\n", "S0:3:respawn:/getty ttyS0\n#h0:3:respawn:/getty hvc0\n"),
        ("a:3:respawn:/g xvc0\nb:3:respawn:/g hvc0\n", "a:3:respawn:/g ttyS0\n#b:3:respawn:/g hvc0\n"),
    ],
)  # fmt: skip
def test_a_login_on_xens_console_moves_to_the_serial_port(before: str, expected: str) -> None:
    edit = plan_inittab(text_file(before, "/etc/inittab"))
    assert edit is not None
    assert edit.after == expected
    assert plan_inittab(text_file(expected, "/etc/inittab")) is None


@pytest.mark.parametrize("text", ["#h0:3:respawn:/sbin/getty hvc0\n", "1:2345:respawn:/sbin/getty tty1\n", ""])
def test_other_logins_stay(text: str) -> None:
    assert plan_inittab(text_file(text, "/etc/inittab")) is None


def test_root_may_log_in_on_the_serial_port_where_it_could_on_xens_console() -> None:
    edit = plan_securetty(text_file("tty1\nxvc0\nhvc0\n", "/etc/securetty"))
    assert edit is not None
    assert edit.after == "tty1\nttyS0\nhvc0\n"
    assert plan_securetty(text_file("hvc0\nttyS0\n", "/etc/securetty")) is None
    assert plan_securetty(text_file("tty1\n# hvc0\n", "/etc/securetty")) is None


def test_systemds_login_on_xens_console_moves_to_the_serial_port() -> None:
    target = "/lib/systemd/system/serial-getty@.service"
    facts = dataclasses.replace(guest({}), links={f"{console.WANTS}/serial-getty@hvc0.service": target})
    deleted, made = console.contribute(facts).changes
    assert isinstance(deleted, DeleteSymlink)
    assert isinstance(made, MakeSymlink)
    assert (made.path, made.target) == (f"{console.WANTS}/serial-getty@ttyS0.service", target)
    assert facts.os is not None
    power = dataclasses.replace(facts, os=dataclasses.replace(facts.os, arch="ppc64le"))
    assert console.contribute(power).changes == ()


def test_consoles_are_part_of_the_plan() -> None:
    plan = plan_guest(guest({"/etc/inittab": "co:2345:respawn:/sbin/agetty xvc0 9600\n"}), PlanOptions())
    assert "/etc/inittab" in [change.path for change in plan.changes if isinstance(change, EditFile)]
