"""Guests for aarch64, ppc64le and s390x: what their machines on KVM start, and what of a mainframe stays behind."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.changes import CopyFile, EditFile, ExtendInitramfs, MakeSymlink, WriteFile
from drivers.facts import FileSystem, GuestFacts, Partition
from drivers.linux import console
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.kernels import find_kernels
from drivers.partitions import ESP_GUID, PREP_GUID
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.systems import read_system
from p2v.core.units import GIB, MIB
from tests.drivers.linux import images
from tests.drivers.linux.guest import ROOT, SWAP, applied, extended, facts_of, text_file
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures.layout import ROOT_UUID

V = "6.1.0-9-arm64"
ESP = Partition(0, 3, 3 * GIB, 64 * MIB, ESP_GUID, filesystem=FileSystem("vfat", "C0FF-EE12", free_bytes=30 * MIB))
PREP = Partition(0, 4, 3 * GIB, 8 * MIB, PREP_GUID)
MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")
ROOT_ARGUMENT = f"root=UUID={ROOT_UUID}"
PLAIN = PlanOptions()


def kernel(
    version: str = V, packed: tuple[str, ...] = ("nvme",), image: str = "vmlinuz", initrd: str = "initrd.img"
) -> dict[str, Node]:
    """A kernel whose virtio drivers are modules, with an initramfs that holds ``packed``."""
    folder = f"/usr/lib/modules/{version}"
    return {
        "/lib": Link("usr/lib"),
        f"/boot/{image}-{version}": b"MZ a kernel for another machine",
        f"/boot/{initrd}-{version}": images.initramfs(version, packed),
        f"{folder}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
        f"{folder}/modules.dep": "".join(f"kernel/{name}.ko:\n" for name in MODULES),
        **{f"{folder}/kernel/{name}.ko": b"ELF" for name in MODULES},
    }


def grub(arguments: str = "root=/dev/nvme0n1p1 ro", version: str = V) -> dict[str, Node]:
    entry = f"linux /boot/vmlinuz-{version} {arguments}\ninitrd /boot/initrd.img-{version}\n"
    return {"/boot/grub/grub.cfg": f"menuentry 'Debian' {{\n{entry}}}\n"}


def facts(nodes: dict[str, Node], arch: str, *more: Partition, firmware: str = "bios") -> GuestFacts:
    nodes = {"/etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n", **nodes}
    tree = InMemoryTree(nodes)
    kernels = find_kernels(tree, read_boot_loader(tree), arch)
    found = facts_of(nodes, kernels, (ROOT, SWAP, *more))
    assert found.os is not None
    return dataclasses.replace(found, os=dataclasses.replace(found.os, arch=arch), firmware=firmware)


def plan(known: GuestFacts, options: PlanOptions = PLAIN) -> GuestPlan:
    return plan_guest(known, options)


def blockers(known: GuestFacts, options: PlanOptions = PLAIN) -> list[str]:
    return [finding.id for finding in plan(known, options).blockers]


def arm(**more: Node) -> dict[str, Node]:
    return {**kernel(), **grub("root=/dev/nvme0n1p1 ro console=tty0 console=ttyS0,115200n8"), **more}


# -- what a guest is for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "big_endian", "arch"),
    [
        (62, False, "x86_64"),
        (183, False, "aarch64"),
        (21, False, "ppc64le"),
        (21, True, "ppc64"),
        (22, True, "s390x"),
        (22, False, ""),
    ],
)
def test_the_architecture_is_that_of_the_programs(machine: int, big_endian: bool, arch: str) -> None:
    header = b"\x7fELF\x02" + (b"\x02" if big_endian else b"\x01") + bytes(12)
    header += machine.to_bytes(2, "big" if big_endian else "little")
    system = read_system(InMemoryTree({"/etc/os-release": "ID=debian\n", "/bin/sh": header}))
    assert system is not None
    assert system.arch == arch


@pytest.mark.parametrize("arch", ["ppc64", "riscv64", "arm", "loongarch64", "mips"])
def test_an_architecture_without_a_machine_here_blocks(arch: str) -> None:
    assert blockers(facts(arm(), arch, ESP, firmware="uefi")) == ["linux.arch-unsupported"]


@pytest.mark.parametrize(
    ("image", "initrd"),
    [("Image", "initrd"), ("image", "initrd"), ("vmlinux", "initrd.img"), ("vmlinuz", "initrd.img")],
)
def test_kernels_are_found_by_the_names_that_their_distributions_give_them(image: str, initrd: str) -> None:
    tree = InMemoryTree(kernel(image=image, initrd=initrd))
    (found,) = find_kernels(tree, read_boot_loader(tree), "aarch64")
    assert (found.version, found.image, found.transport) == (V, f"/boot/{image}-{V}", "virtio_pci")
    assert found.initramfs is not None
    assert found.initramfs.path == f"/boot/{initrd}-{V}"


# -- aarch64 -----------------------------------------------------------------------------------------------------------


def test_an_arm_guest_is_made_to_find_its_root_and_its_console() -> None:
    nodes = arm()
    known = facts(nodes, "aarch64", ESP, firmware="uefi")
    found = plan(known)
    assert found.blockers == ()
    (extension,) = [change for change in found.changes if isinstance(change, ExtendInitramfs)]
    assert extension.modules == ("kernel/virtio_pci.ko", "kernel/virtio_blk.ko", "kernel/virtio_scsi.ko")
    after = applied({"/etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n", **nodes}, found.changes)
    line = f"linux /boot/vmlinuz-{V} {ROOT_ARGUMENT} ro console=tty0 console=ttyAMA0,115200n8\n"
    assert line in str(after["/boot/grub/grub.cfg"])
    caps = found.caps
    assert (caps.arch, caps.machine, caps.disk_buses, caps.firmware) == (
        "aarch64",
        "virt",
        ("virtio-blk", "virtio-scsi"),
        "uefi",
    )
    again = facts(after, "aarch64", ESP, firmware="uefi")
    assert plan(dataclasses.replace(again, kernels=extended(known.kernels, found.changes))).changes == ()


def test_an_arm_guests_own_loader_is_put_where_an_empty_nvram_looks() -> None:
    nodes = arm(**{"/boot/efi/EFI/debian/shimaa64.efi": b"shim", "/boot/efi/EFI/debian/grubaa64.efi": b"grub"})
    copies = [
        change for change in plan(facts(nodes, "aarch64", ESP, firmware="uefi")).changes if isinstance(change, CopyFile)
    ]
    assert [copy.target for copy in copies] == ["/boot/efi/EFI/BOOT/BOOTAA64.EFI", "/boot/efi/EFI/BOOT/grubaa64.efi"]


def test_an_arm_guest_without_uefi_blocks() -> None:
    assert blockers(facts(arm(), "aarch64")) == ["linux.aarch64.no-uefi"]


def test_extlinux_is_no_loader_of_an_arm_machine() -> None:
    text = f"label l0\n linux /boot/vmlinuz-{V}\n initrd /boot/initrd.img-{V}\n append root=/dev/mmcblk0p2\n"
    nodes = {**kernel(), "/boot/extlinux/extlinux.conf": text}
    assert blockers(facts(nodes, "aarch64", ESP, firmware="uefi")) == ["linux.boot-loader.not-here"]


def test_hardware_that_an_arm_machine_cannot_start_from_is_not_offered() -> None:
    nodes = {**kernel(packed=("ahci", "sd_mod")), **grub()}
    found = plan(facts(nodes, "aarch64", ESP, firmware="uefi"), PlanOptions(compatible=True))
    assert found.caps.disk_buses == ("virtio-blk", "virtio-scsi")
    without = {path: node for path, node in nodes.items() if "virtio" not in path}
    without[f"/usr/lib/modules/{V}/modules.dep"] = ""
    known = facts(without, "aarch64", ESP, firmware="uefi")
    assert blockers(known, PlanOptions(compatible=True)) == ["linux.boot.no-disk-driver"]


def test_logins_on_an_arm_guests_old_serial_port_move() -> None:
    target = "/lib/systemd/system/serial-getty@.service"
    known = facts(
        arm(**{"/etc/inittab": "S0:23:respawn:/sbin/getty -L ttyS0 115200 vt100\n"}), "aarch64", ESP, firmware="uefi"
    )
    known = dataclasses.replace(known, links={f"{console.WANTS}/serial-getty@ttyS0.service": target})
    changes = console.contribute(known).changes
    (edit,) = [change for change in changes if isinstance(change, EditFile)]
    assert edit.after == "S0:23:respawn:/sbin/getty -L ttyAMA0 115200 vt100\n"
    (link,) = [change for change in changes if isinstance(change, MakeSymlink)]
    assert link.path == f"{console.WANTS}/serial-getty@ttyAMA0.service"
    assert console.plan_inittab(text_file("S0:23:respawn:/sbin/getty ttyS0\n", "/etc/inittab")) is None


@pytest.mark.parametrize(
    ("arch", "path"), [("aarch64", "Path=pci-* *-pci-*\n"), ("s390x", "Path=ccw-*\n"), ("x86_64", "Path=pci-*\n")]
)
def test_a_card_keeps_its_name_wherever_its_architecture_puts_it(arch: str, path: str) -> None:
    nodes = {**(mainframe() if arch == "s390x" else arm()), "/etc/systemd/network": Folder()}
    nodes["/etc/network/interfaces"] = "auto ens160\niface ens160 inet dhcp\n"
    changes = plan(facts(nodes, arch, ESP, firmware="uefi")).changes
    (link,) = [c.content for c in changes if isinstance(c, WriteFile) and c.path.endswith("ens160.link")]
    assert path in link


# -- ppc64le -----------------------------------------------------------------------------------------------------------


def test_a_power_guest_keeps_its_console_and_is_named_by_uuid() -> None:
    nodes = {**kernel(), **grub("root=/dev/sda1 ro console=hvc0")}
    found = plan(facts(nodes, "ppc64le", PREP))
    assert found.blockers == ()
    after = applied({"/etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n", **nodes}, found.changes)
    assert f"{ROOT_ARGUMENT} ro console=hvc0\n" in str(after["/boot/grub/grub.cfg"])
    assert (found.caps.machine, found.caps.disk_buses) == ("pseries", ("virtio-blk", "virtio-scsi"))


def test_a_power_guest_without_a_prep_partition_blocks() -> None:
    assert blockers(facts({**kernel(), **grub()}, "ppc64le")) == ["linux.ppc64le.no-prep"]
    mbr = dataclasses.replace(PREP, type_id="41")
    assert blockers(facts({**kernel(), **grub()}, "ppc64le", mbr)) == []


# -- s390x -------------------------------------------------------------------------------------------------------------

S = "6.1.0-9-s390x"
READY = ("virtio_blk", "virtio_scsi")


def mainframe(
    arguments: str = ROOT_ARGUMENT, packed: tuple[str, ...] = READY, config: str = "CONFIG_S390_GUEST=y\n"
) -> dict[str, Node]:
    """A guest as Debian lays it out."""
    return {
        **kernel(S, packed),
        f"/boot/config-{S}": config,
        "/etc/zipl.conf": (
            "[defaultboot]\ndefaultmenu = menu\n\n:menu\ndefault = 1\n1 = debian\n2 = old\ntarget = /boot\n\n"
            f'[debian]\ntarget = /boot\nimage = /boot/vmlinuz-{S}\nramdisk = /boot/initrd.img-{S}\nparameters = "{arguments}"\n'
            f"[old]\ntarget=/boot\nimage=/boot/vmlinuz-{S},0x10000\nparmfile=/boot/parmfile\n"
        ),
        "/boot/parmfile": "root=/dev/dasda1\nro\n",
    }


def test_zipls_sections_menus_and_parameter_files_are_read() -> None:
    loader = read_boot_loader(InMemoryTree(mainframe("root=/dev/sda1 ro")))
    assert (loader.kind, loader.config, loader.default) == ("zipl", "/etc/zipl.conf", "debian")
    assert [(e.title, e.kernel, e.arguments) for e in loader.entries] == [
        ("debian", f"/boot/vmlinuz-{S}", "root=/dev/sda1 ro"),
        ("old", f"/boot/vmlinuz-{S}", "root=/dev/dasda1 ro"),
    ]
    assert loader.entries[0].initramfs == (f"/boot/initrd.img-{S}",)


def test_zipl_takes_boot_loader_specification_entries_without_sections_of_its_own() -> None:
    snippet = (
        f"title Fedora\nversion {S}\nlinux /boot/vmlinuz-{S}\ninitrd /boot/initrd.img-{S}\noptions {ROOT_ARGUMENT}\n"
    )
    nodes = {
        **mainframe(),
        "/etc/zipl.conf": "[defaultboot]\ndefaultauto\nprompt=1\ntarget=/boot\n",
        f"/boot/loader/entries/a-{S}.conf": snippet,
    }
    loader = read_boot_loader(InMemoryTree(nodes))
    assert [(e.title, e.arguments, e.source) for e in loader.entries] == [
        ("Fedora", ROOT_ARGUMENT, f"/boot/loader/entries/a-{S}.conf")
    ]
    found = plan(facts(nodes, "s390x"))
    assert found.blockers == ()
    assert not any(isinstance(change, ExtendInitramfs) or "loader" in str(change) for change in found.changes)


def test_what_zipls_map_was_made_from_is_left_alone_and_starts_as_it_is() -> None:
    nodes = mainframe()
    found = plan(facts(nodes, "s390x"))
    assert found.blockers == ()
    touched = [
        change
        for change in found.changes
        if isinstance(change, ExtendInitramfs) or getattr(change, "path", "") == "/etc/zipl.conf"
    ]
    assert touched == []
    assert (found.caps.machine, found.caps.disk_buses, found.caps.nic_models) == (
        "s390-ccw-virtio", ("virtio-blk", "virtio-scsi"), ("virtio",),
    )  # fmt: skip


def test_an_initramfs_without_virtio_in_zipls_map_blocks_and_says_what_to_do() -> None:
    (blocker,) = plan(facts(mainframe(packed=("dasd_eckd_mod",)), "s390x")).blockers
    assert blocker.id == "linux.zipl.no-virtio"
    assert f"/boot/initrd.img-{S}" in blocker.message
    assert "virtio_blk" in blocker.hint
    assert "run `zipl`" in blocker.hint


def test_a_root_that_keeps_its_name_on_virtio_scsi_gets_that() -> None:
    found = plan(facts(mainframe("root=/dev/sda1 ro"), "s390x"))
    assert (found.blockers, found.caps.disk_buses) == ((), ("virtio-scsi",))
    assert "linux.disks.name-kept" in {finding.id for finding in found.warnings}


@pytest.mark.parametrize("root", ["/dev/dasda1", "/dev/disk/by-path/ccw-0.0.0200-part1"])
def test_a_root_on_a_dasd_in_zipls_map_blocks(root: str) -> None:
    assert blockers(facts(mainframe(f"root={root}"), "s390x")) == ["linux.boot.root-name-fixed"]


def test_names_of_dasds_become_uuids() -> None:
    nodes = {**mainframe(), "/etc/fstab": "/dev/dasda1 / ext4 defaults 0 1\n/dev/dasda2 none swap sw 0 0\n"}
    edits = {c.path: c.after for c in plan(facts(nodes, "s390x")).changes if isinstance(c, EditFile)}
    assert "/dev/dasd" not in edits["/etc/fstab"]
    assert f"UUID={ROOT_UUID} /" in edits["/etc/fstab"]


def test_a_kernel_that_is_told_to_ignore_all_channels_blocks() -> None:
    assert blockers(facts(mainframe(f"{ROOT_ARGUMENT} cio_ignore=all,!condev rd.dasd=0.0.0200"), "s390x")) == [
        "linux.s390x.cio-ignore"
    ]
    assert blockers(facts(mainframe(f"{ROOT_ARGUMENT} cio_ignore=0.0.0200"), "s390x")) == []


def test_channel_devices_are_named_with_file_and_line() -> None:
    rules = '# chzdev\nACTION=="add", KERNEL=="0.0.0600", ATTR{online}="1"\n'
    nodes = mainframe(f"{ROOT_ARGUMENT} rd.dasd=0.0.0200")
    nodes |= {"/etc/dasd.conf": "# the root\n0.0.0200\n", "/etc/udev/rules.d/41-qeth-0.0.0600.rules": rules}
    found = [finding for finding in plan(facts(nodes, "s390x")).warnings if finding.id.startswith("linux.s390x.")]
    assert [finding.id for finding in found] == [
        "linux.s390x.arguments",
        "linux.s390x.channel-device",
        "linux.s390x.channel-device",
    ]
    assert "rd.dasd=0.0.0200" in found[0].message
    assert "/etc/dasd.conf line 2 sets up the device 0.0.0200" in found[1].message
    assert "/etc/udev/rules.d/41-qeth-0.0.0600.rules line 2" in found[2].message
    assert [finding.id for finding in plan(facts(nodes, "x86_64")).warnings if "s390x" in finding.id] == []


def test_a_kernel_that_cannot_find_channels_blocks() -> None:
    assert blockers(facts(mainframe(config="# CONFIG_S390_GUEST is not set\n"), "s390x")) == [
        "linux.boot.no-disk-driver"
    ]


def suse(packed: tuple[str, ...]) -> dict[str, Node]:
    """GRUB 2 behind a first kernel that zipl starts."""
    return {
        **kernel(S, READY), **grub(ROOT_ARGUMENT, S), f"/boot/config-{S}": "CONFIG_S390_GUEST=y\n",
        f"/boot/zipl/image-{S}": b"kernel", "/boot/zipl/image": Link(f"image-{S}"),
        f"/boot/zipl/initrd-{S}": images.initramfs(S, packed), "/boot/zipl/initrd": Link(f"initrd-{S}"),
    }  # fmt: skip


def test_the_kernel_that_starts_suses_grub_must_find_the_disk_itself() -> None:
    assert blockers(facts(suse(READY), "s390x")) == []
    found = plan(facts(suse(("dasd_mod",)), "s390x"))
    assert [finding.id for finding in found.blockers] == ["linux.s390x.first-kernel"]
    assert not any(isinstance(change, ExtendInitramfs) for change in found.changes)


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("[]:=,\"'#\r\n\t defaultmenuimage/boot0.x\udcff"), max_size=80))
def test_any_text_can_be_zipls_configuration_and_a_channels(text: str) -> None:
    nodes = {**mainframe(), "/etc/zipl.conf": text, "/boot/parmfile": text, "/etc/dasd.conf": text, f"/boot/config-{S}": text}
    first = plan(facts(nodes, "s390x"))
    assert [change for change in first.changes if isinstance(change, ExtendInitramfs)] == []
    assert first.caps.machine == "s390-ccw-virtio"
