"""The plan of a whole guest: what is done, that it is done once, and what stops it or is warned of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.changes import EditFile, ExtendInitramfs, WriteFile, summary
from drivers.facts import BootLoader, FileSystem, GuestFacts, Kernel, OperatingSystem, Partition
from drivers.linux import paths, space
from drivers.plan import GuestPlan
from drivers.planning import PlanOptions, plan_guest
from p2v.core.units import KIB, MIB
from tests.drivers.linux.guest import OLDER, ROOT, SWAP, VERSION, applied, extended, facts_of, files, kernel
from tests.drivers.memory_tree import Node
from tests.fixtures import etc
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

OPTIONS = PlanOptions(nic_macs=("00:0c:29:01:02:03",))
# a reader's finding about a journal
DIRTY = FileSystem("ext4", ROOT_UUID, why_not_host="its journal was not replayed", dirty=True)


def plan(facts: GuestFacts, options: PlanOptions = OPTIONS) -> GuestPlan:
    """The plan of these facts."""
    return plan_guest(facts, options)


def warnings(facts: GuestFacts) -> list[str]:
    """Ids of the plan's warnings, but for the one that every guest without an agent gets."""
    return [finding.id for finding in plan(facts).warnings if finding.id != "linux.agent-missing"]


def blockers(facts: GuestFacts) -> list[str]:
    """Ids of the plan's blockers."""
    return [finding.id for finding in plan(facts).blockers]


def edited(found: GuestPlan, path: str) -> str:
    """What a file holds after the plan."""
    return next(change.after for change in found.changes if isinstance(change, EditFile) and change.path == path)


def full(free_bytes: int | None, free_inodes: int | None = None) -> tuple[Partition, ...]:
    """Partitions of which the root has so much space left."""
    system = FileSystem("ext4", ROOT_UUID, free_bytes=free_bytes, free_inodes=free_inodes)
    return dataclasses.replace(ROOT, filesystem=system), SWAP


# -- the guest as VMware left it ---------------------------------------------------------------------------------------


def test_the_vmware_guest_is_planned_in_a_fixed_order_and_without_reserve() -> None:
    found = plan(facts_of(files()))
    assert [summary(change) for change in found.changes] == [
        "edit /etc/fstab",
        "edit /boot/grub/grub.cfg",
        "edit /etc/default/grub",
        f"add 3 modules to /boot/initrd.img-{VERSION}",
        "edit /etc/initramfs-tools/conf.d/resume",
        "edit /etc/initramfs-tools/modules",
        "create /etc/systemd/network/70-p2v-ens33.link",
        "link /etc/systemd/system/open-vm-tools.service -> /dev/null",
        "link /etc/systemd/system/vmtoolsd.service -> /dev/null",
        "link /etc/systemd/system/vgauth.service -> /dev/null",
    ]
    assert ([finding.id for finding in found.warnings], found.blockers) == (["linux.agent-missing"], ())
    assert all(change.why for change in found.changes)


def test_after_the_plan_no_text_names_a_disk_by_the_old_machines_name() -> None:
    nodes = files((VERSION, OLDER))
    found = plan(facts_of(nodes, [kernel(), kernel(OLDER)]))
    after = applied(nodes, found.changes)
    for path in etc.device_naming_files(etc.Naming.DEVICE, [VERSION]):
        text = after[path]
        assert isinstance(text, str)
        assert "/dev/sda" not in text
    assert after["/etc/fstab"] == etc.fstab(etc.Naming.UUID)
    assert after["/etc/initramfs-tools/conf.d/resume"] == f"RESUME=UUID={SWAP_UUID}\n"
    # a device name in the initramfs is replaced there, so the kernel need not be told
    assert after["/boot/grub/grub.cfg"] == etc.grub_cfg(f"UUID={ROOT_UUID}", [VERSION, OLDER])


def test_a_kernel_whose_initramfs_cannot_be_told_is_told_where_to_resume() -> None:
    nodes, known = files((VERSION, OLDER)), kernel(OLDER, ("virtio_pci", "virtio_blk"))
    assert known.initramfs is not None
    closed = dataclasses.replace(known, initramfs=dataclasses.replace(known.initramfs, problem="it is of a kind unknown here"))
    after = applied(nodes, plan(facts_of(nodes, [kernel(), closed])).changes)
    resumed = etc.grub_cfg(f"UUID={ROOT_UUID}", [VERSION, OLDER]).replace("  quiet", f"  quiet resume=UUID={SWAP_UUID}")
    assert after["/boot/grub/grub.cfg"] == resumed.replace("single ", f"single resume=UUID={SWAP_UUID} ")


@pytest.mark.parametrize("options", [OPTIONS, PlanOptions(), PlanOptions((None,))])
@pytest.mark.parametrize("more", [{}, {"/boot/grub/device.map": "(hd0) /dev/sda\n"}])
def test_planning_what_a_plan_left_changes_nothing(options: PlanOptions, more: dict[str, Node]) -> None:
    nodes, kernels = {**files((VERSION, OLDER)), **more}, [kernel(), kernel(OLDER)]
    first = plan(facts_of(nodes, kernels), options)
    assert first.changes
    second = plan(facts_of(applied(nodes, first.changes), extended(kernels, first.changes)), options)
    assert second.changes == ()
    assert second.caps == first.caps


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional={
        "/etc/fstab": st.sampled_from([etc.fstab(etc.Naming.UUID), "/dev/sda1 / ext4\n/dev/sdb1 /x xfs\n", "", "\udcff"]),
        "/boot/grub/grub.cfg": st.sampled_from([
            etc.grub_cfg("LABEL=x", [VERSION]), etc.grub_cfg("/dev/sda1", [VERSION], arguments="resume=/dev/sda2"), "menuentry {",
        ]),
        "/etc/default/grub": st.sampled_from(["", "GRUB_CMDLINE_LINUX='root=/dev/sda1 resume=/dev/sdz9'\n"]),
        "/etc/initramfs-tools/initramfs.conf": st.sampled_from(["MODULES=most\n", "MODULES=dep\nRESUME=/dev/sda2", ""]),
        "/etc/initramfs-tools/modules": st.sampled_from(["", "virtio-blk\n# x", "ext4"]),
        "/etc/network/interfaces": st.sampled_from(["iface eth0 inet dhcp\n", "iface ens1 inet dhcp\niface ens2 inet dhcp\n"]),
    })
)  # fmt: skip
def test_a_second_plan_of_any_guest_changes_nothing(more: dict[str, str]) -> None:
    nodes: dict[str, Node] = {**files(), **more}
    kernels = [kernel()]
    first = plan(facts_of(nodes, kernels))
    second = plan(facts_of(applied(nodes, first.changes), extended(kernels, first.changes)))
    assert second.changes == ()


def test_plans_of_equal_facts_are_equal() -> None:
    assert plan(facts_of(files())) == plan(facts_of(dict(reversed(files().items()))))


def test_a_file_too_large_to_be_configuration_is_not_taken_for_it() -> None:
    nodes = {**files(), "/boot/grub/grub.cfg": "#" * (paths.TEXT_BYTES_AT_MOST + 1)}
    assert "/boot/grub/grub.cfg" not in facts_of(nodes).texts


# -- initramfs-tools ---------------------------------------------------------------------------------------------------


def settings_of(
    conf: str, modules: str | None = "ext4\n", drop_in: str = "", kernels: Sequence[Kernel] = ()
) -> GuestPlan:
    """The plan with these settings of initramfs-tools."""
    nodes = {
        **files(),
        "/etc/initramfs-tools/initramfs.conf": conf,
        "/etc/initramfs-tools/conf.d/driver-policy": drop_in,
    }
    if modules is None:
        del nodes["/etc/initramfs-tools/modules"]
    else:
        nodes["/etc/initramfs-tools/modules"] = modules
    return plan(facts_of(nodes, kernels or None))


@pytest.mark.parametrize("conf", ["MODULES=list\n", "MODULES=dep\n", 'MODULES="netboot" # x\n'])
def test_the_next_initramfs_gets_virtio_where_its_policy_might_leave_it_out(conf: str) -> None:
    after = edited(settings_of(conf), "/etc/initramfs-tools/modules")
    assert after.startswith("ext4\n# ")
    assert after.endswith("\nvirtio_pci\nvirtio_blk\nvirtio_scsi\n")


@pytest.mark.parametrize("conf", ["MODULES=most\n", "", "#MODULES=list\n"])
def test_a_policy_that_takes_all_modules_needs_no_list(conf: str) -> None:
    assert "edit /etc/initramfs-tools/modules" not in [summary(change) for change in settings_of(conf).changes]


def test_drop_ins_win_over_the_main_file() -> None:
    assert "edit /etc/initramfs-tools/modules" in map(
        summary, settings_of("MODULES=most\n", drop_in="MODULES=dep\n").changes
    )
    assert "edit /etc/initramfs-tools/modules" not in map(
        summary, settings_of("MODULES=dep\n", drop_in="MODULES=most\n").changes
    )


def test_modules_that_are_listed_or_built_in_are_not_added() -> None:
    builtin = dataclasses.replace(kernel(), builtin=("virtio_pci",))
    after = edited(
        settings_of("MODULES=list", "virtio-blk timeout=1\nx", kernels=[builtin]), "/etc/initramfs-tools/modules"
    )
    assert after.startswith("virtio-blk timeout=1\nx\n# ")
    assert after.endswith("KVM: disks there need these modules.\nvirtio_scsi\n")


def test_a_list_that_is_not_there_is_made() -> None:
    change = next(c for c in settings_of("MODULES=list\n", None).changes if c.path == "/etc/initramfs-tools/modules")
    assert isinstance(change, WriteFile)


@pytest.mark.parametrize("value", ["none", "auto", f"UUID={SWAP_UUID}", "LABEL=swap", "/dev/mapper/vg-swap", ""])
def test_a_resume_setting_that_lasts_stays_and_the_menu_says_nothing_of_it(value: str) -> None:
    nodes = {**files(), "/etc/initramfs-tools/conf.d/resume": f"RESUME={value}\n"}
    found = plan(facts_of(nodes))
    assert "edit /etc/initramfs-tools/conf.d/resume" not in map(summary, found.changes)
    assert "resume=" not in edited(found, "/boot/grub/grub.cfg")


def test_a_resume_device_that_is_not_there_is_warned_of() -> None:
    nodes = {**files(), "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sdb2\n"}
    assert warnings(facts_of(nodes)) == ["linux.resume.unresolved"]


# -- what the guest can use --------------------------------------------------------------------------------------------


def test_the_guest_can_use_virtio_once_its_initramfs_is_extended() -> None:
    caps = plan(facts_of(files())).caps
    assert caps.disk_buses == ("virtio-blk", "virtio-scsi", "sata", "ide")
    assert caps.nic_models[0] == "virtio"
    assert (caps.rng, caps.balloon, caps.firmware, caps.arch, caps.machine) == (True, True, "bios", "x86_64", "q35")


def test_a_kernel_without_virtio_starts_from_sata_and_that_is_said() -> None:
    old = dataclasses.replace(kernel(), modules={})
    found = plan(facts_of(files(), [old]))
    assert found.caps.disk_buses == ("sata", "ide")
    assert found.caps.nic_models == ("e1000e", "e1000")
    assert [finding.id for finding in found.warnings][:2] == ["linux.kernel.no-virtio", "linux.disks.not-virtio"]
    assert found.blockers == ()
    assert not any(isinstance(change, ExtendInitramfs) for change in found.changes)


def test_a_kernel_that_finds_no_disk_at_all_blocks() -> None:
    old = dataclasses.replace(kernel(modules=["mptspi"]), modules={})
    assert blockers(facts_of(files(), [old])) == ["linux.boot.no-disk-driver"]


def test_an_old_kernel_that_is_not_the_default_only_warns() -> None:
    old = dataclasses.replace(kernel(OLDER), modules={})
    facts = facts_of(files((VERSION, OLDER)), [kernel(), old])
    assert plan(facts).caps.disk_buses[0] == "virtio-blk"
    assert warnings(facts) == ["linux.kernel.no-virtio"]


def test_what_the_default_entry_starts_decides() -> None:
    nodes = files((VERSION, OLDER))
    text = nodes["/boot/grub/grub.cfg"]
    assert isinstance(text, str)
    nodes["/boot/grub/grub.cfg"] = text.replace('set default="0"', 'set default="1>2"')
    old = dataclasses.replace(kernel(OLDER), modules={})
    assert plan(facts_of(nodes, [kernel(), old])).caps.disk_buses == ("sata", "ide")


def test_every_initramfs_is_extended() -> None:
    found = plan(facts_of(files((VERSION, OLDER)), [kernel(), kernel(OLDER)]))
    paths = [change.path for change in found.changes if isinstance(change, ExtendInitramfs)]
    assert paths == [f"/boot/initrd.img-{VERSION}", f"/boot/initrd.img-{OLDER}"]


def test_an_initramfs_that_two_kernels_share_is_extended_once() -> None:
    shared = dataclasses.replace(kernel(OLDER), initramfs=kernel().initramfs)
    found = plan(facts_of(files((VERSION, OLDER)), [kernel(), shared]))
    assert sum(isinstance(change, ExtendInitramfs) for change in found.changes) == 1
    assert found.warnings[0].id == "linux.kernel.no-virtio"


# -- blockers, all at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "blocker"),
    [
        (None, "guest.no-os"),
        (OperatingSystem("vms", "openvms", "9", "OpenVMS 9", "x86_64", "vms"), "guest.os-unsupported"),
        (OperatingSystem("unknown", "plan9next", "1", "Plan 9 Next", "", "unknown"), "guest.os-unsupported"),
    ],
)  # fmt: skip
def test_guests_that_are_not_known_are_not_touched(system: OperatingSystem | None, blocker: str) -> None:
    found = plan(dataclasses.replace(facts_of(files()), os=system))
    assert [finding.id for finding in found.blockers] == [blocker]
    assert found.changes == ()
    assert found.caps.disk_buses


def test_a_linux_of_no_known_family_is_converted_by_its_parts_with_a_warning() -> None:
    system = OperatingSystem("linux", "myown", "1", "My Own Linux", "x86_64", "unknown", init="systemd")
    known = plan(facts_of(files()))
    found = plan(dataclasses.replace(facts_of(files()), os=system))
    assert (found.changes, found.blockers) == (known.changes, ())
    assert [finding.id for finding in found.warnings][:1] == ["linux.family-unknown"]


@pytest.mark.parametrize("family", ["redhat", "suse", "arch", "alpine", "void", "photon"])
def test_every_family_is_planned(family: str) -> None:
    facts = facts_of(files())
    assert facts.os is not None
    assert plan(dataclasses.replace(facts, os=dataclasses.replace(facts.os, family=family))).blockers == ()


def test_all_blockers_are_told_at_once() -> None:
    nodes = {**files(), "/etc/fstab": "/dev/sdc1 / ext4\n", "/boot/grub/grub.cfg": etc.grub_cfg("/dev/sdc1", [VERSION])}
    facts = dataclasses.replace(facts_of(nodes, [dataclasses.replace(kernel(modules=[]), modules={})]), root=None)
    assert set(blockers(facts)) == {
        "linux.root-missing", "linux.fstab.root-unresolved", "linux.boot-loader.root-unresolved", "linux.boot.no-disk-driver",
    }  # fmt: skip


def test_a_guest_without_boot_loader_blocks() -> None:
    facts = dataclasses.replace(facts_of(files()), boot_loader=BootLoader("none"))
    assert blockers(facts) == ["linux.boot-loader.missing"]


def test_a_menu_without_kernels_and_a_kernel_that_is_missing_block() -> None:
    assert blockers(facts_of({**files(), "/boot/grub/grub.cfg": "blscfg\n"})) == ["linux.boot-loader.no-entries"]
    assert blockers(facts_of(files(), [kernel("5.10.0-1-amd64")])) == ["linux.boot.kernel-missing"]


def test_a_menu_that_is_no_readable_text_blocks() -> None:
    facts = facts_of(files())
    texts = {path: file for path, file in facts.texts.items() if path != "/boot/grub/grub.cfg"}
    assert "linux.boot-loader.unreadable" in blockers(dataclasses.replace(facts, texts=texts))


def test_another_architecture_blocks() -> None:
    facts = facts_of(files())
    assert facts.os is not None
    assert blockers(dataclasses.replace(facts, os=dataclasses.replace(facts.os, arch="riscv64"))) == [
        "linux.arch-unsupported"
    ]


def test_a_hibernated_guest_blocks() -> None:
    asleep = dataclasses.replace(SWAP, filesystem=FileSystem("swap", SWAP_UUID, why_not_host="it holds the memory"))
    assert blockers(facts_of(files(), partitions=(ROOT, asleep))) == ["linux.hibernated"]


# -- space and state ---------------------------------------------------------------------------------------------------


def test_space_is_counted_for_the_changes_that_are_planned() -> None:
    needed = sum(space.bytes_needed(change) for change in plan(facts_of(files())).changes)
    assert space.SUPPLEMENT_BYTES < needed < space.SUPPLEMENT_BYTES + 100 * KIB
    assert blockers(facts_of(files(), partitions=full(needed))) == []
    assert blockers(facts_of(files(), partitions=full(needed - 1))) == ["linux.space.bytes"]
    assert blockers(facts_of(files(), partitions=full(None))) == []


def test_inodes_are_counted_too() -> None:
    # a .link file and three masks
    assert blockers(facts_of(files(), partitions=full(MIB * 50, 4))) == []
    assert blockers(facts_of(files(), partitions=full(MIB * 50, 3))) == ["linux.space.inodes"]


def test_each_file_system_needs_room_for_its_own_changes() -> None:
    boot = Partition(0, 3, 0, 1, "83", filesystem=FileSystem("ext4", "boot", free_bytes=1 * MIB))
    facts = facts_of(files(), partitions=(*full(1 * MIB), boot))
    assert facts.root is not None
    separate = dataclasses.replace(facts.root, mountpoint="/boot", partition=3)
    found = plan(dataclasses.replace(facts, mounts=(facts.root, separate)))
    assert [(finding.id, "/boot" in finding.message) for finding in found.blockers] == [("linux.space.bytes", True)]


def test_a_file_system_that_was_not_clean_is_said() -> None:
    found = plan(facts_of(files(), partitions=(dataclasses.replace(ROOT, filesystem=DIRTY), SWAP)))
    assert found.warnings[0].id == "linux.file-system.unclean"
    assert "its journal was not replayed" in found.warnings[0].message


def test_what_the_readers_could_not_see_is_passed_on() -> None:
    facts = dataclasses.replace(facts_of(files()), notes=("disk 2 is encrypted",), firmware="uefi")
    assert warnings(facts) == ["guest.reading", "linux.firmware.uefi"]
