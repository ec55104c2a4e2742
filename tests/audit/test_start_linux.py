"""The chain of a Linux guest's start: each rule with a guest that triggers it and one that does not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from drivers.changes import ExtendInitramfs
from drivers.facts import BootLoader, Disk, FileSystem, GuestFacts, Mount, Partition, Volume
from drivers.partitions import BIOS_BOOT_GUID, PREP_GUID
from p2v.audit.chain import LinkState
from p2v.audit.document import Verdict, verdict
from p2v.audit.findings import EvidenceKind, Severity
from p2v.audit.rules.start import chain
from p2v.core.units import MIB
from p2v.machine import Firmware
from tests.audit.start_guests import (
    DISK,
    ESP,
    GPT,
    INITRD,
    KERNEL,
    ROOT,
    SWAP,
    VERSION,
    VMWARE_MODULES,
    bad,
    debian,
    examined,
    facts_of,
    findings,
    fired,
    initramfs,
    link,
    state,
)
from tests.drivers.linux import images
from tests.drivers.memory_tree import Node
from tests.fixtures import etc
from tests.fixtures.layout import ABSENT_UUID, ROOT_UUID

DATA_UUID = "99999999-2222-4333-8444-555555555555"
SHIM = images.pe({".sbat": b"sbat,1,x\nshim,3,UEFI shim\n"})
GRUB = images.pe({".sbat": b"sbat,1,x\ngrub,3,Free Software Foundation\n"})
AT_ESP = Mount("/boot/efi", 0, 15)
UEFI_ROOT = replace(ROOT, type_id="0fc63daf-8483-4772-8e79-3d69d8477de4", bootable=False, partuuid="aaaa0001")


def fstab(*lines: str) -> dict[str, Node]:
    """A Debian with further lines in its table."""
    return {**debian(), etc.FSTAB: etc.fstab(etc.Naming.UUID) + "".join(f"{line}\n" for line in lines)}


def uefi(*programs: tuple[str, bytes]) -> GuestFacts:
    """A Debian with UEFI and these programs on its EFI system partition."""
    files: dict[str, Node] = {**debian(), **{f"/boot/efi/EFI/{name}": data for name, data in programs}}
    return facts_of(files, (ESP, UEFI_ROOT, SWAP), (GPT,), mounts=(AT_ESP,))


def with_disk(**changes: object) -> GuestFacts:
    return facts_of(debian(), disks=(replace(DISK, **changes),))  # type: ignore[arg-type]


DEBIAN_EFI = (
    ("debian/shimx64.efi", SHIM),
    ("debian/grubx64.efi", GRUB),
    ("debian/mmx64.efi", images.pe({".text": b"x"})),
)
READY_EFI = (*DEBIAN_EFI, ("BOOT/BOOTX64.EFI", SHIM), ("BOOT/grubx64.efi", GRUB))


# --- guests that start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guest",
    [
        pytest.param(lambda: facts_of(debian()), id="debian"),
        pytest.param(lambda: facts_of(debian(VMWARE_MODULES)), id="vmware"),
        pytest.param(lambda: facts_of(debian(root="LABEL=root")), id="root by label"),
        pytest.param(lambda: facts_of(debian(root="PARTUUID=c0ffee12-01")), id="root by partuuid"),
        pytest.param(lambda: facts_of(debian(root="/dev/sda1")), id="root by device"),
        pytest.param(lambda: facts_of(debian(arguments="init=/lib/systemd/systemd")), id="init named"),
        pytest.param(lambda: uefi(*READY_EFI), id="uefi"),
        pytest.param(lambda: uefi(*DEBIAN_EFI), id="uefi without the removable path"),
        pytest.param(lambda: with_disk(boot_code="grub2", next_stage=""), id="gap not told"),
        pytest.param(
            lambda: facts_of(
                fstab("/dev/sr0 /cd auto ro 0 0", "nas:/x /x nfs defaults 0 0", "tmpfs /tmp tmpfs defaults 0 0")
            ),
            id="mounts that are on no disk",
        ),
        pytest.param(lambda: facts_of(fstab(f"UUID={DATA_UUID} /data ext4 defaults,nofail 0 2")), id="nofail"),
    ],
)
def test_guest_that_starts_has_every_link_proven(guest: Callable[[], GuestFacts]) -> None:
    seen = examined(guest())
    assert bad(seen) == []
    assert {each.name: each.state for each in chain(seen)} == dict.fromkeys(
        (
            "firmware and boot loader", "boot loader's configuration", "kernel", "initramfs", "root", "file systems",
            "first program",
        ),
        LinkState.PROVEN,
    )  # fmt: skip
    assert all(each.message and each.evidence for each in chain(seen))


# --- the broken guests of the boot check's tests ----------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "rule", "broken"),
    [
        pytest.param(with_disk(boot_code="", next_stage=""), "no-boot-code", "firmware and boot loader", id="no-bootloader"),
        pytest.param(facts_of(debian(root=f"UUID={ABSENT_UUID}")), "root-missing", "root", id="no-root"),
        pytest.param(facts_of(debian(arguments="init=/bin/false")), "no-init", "first program", id="panic"),
        pytest.param(
            facts_of({
                **debian(arguments="init=/sbin/hang"),
                "/usr/sbin/hang": "#!/bin/sh\nwhile :; do sleep 1000; done\n",
            }),
            "no-init", "first program", id="hang",
        ),
        pytest.param(
            facts_of(fstab(f"UUID={ABSENT_UUID} /srv ext4 defaults 0 2")), "mount-missing", "file systems", id="emergency"
        ),
    ],
)  # fmt: skip
def test_each_broken_guest_of_the_boot_check_is_blocked(guest: GuestFacts, rule: str, broken: str) -> None:
    seen = examined(guest)
    assert fired(seen) == {f"start.linux.{rule}": Severity.BLOCKER}
    assert verdict(findings(seen), seen.rules) is Verdict.BLOCKED
    assert [each.name for each in chain(seen) if each.state is not LinkState.PROVEN] == [broken]


def test_initramfs_without_virtio_is_told_and_set_right_by_the_conversion() -> None:
    seen = examined(facts_of(debian(VMWARE_MODULES)))
    assert any(isinstance(change, ExtendInitramfs) for change in seen.document.plan.changes)
    told = [each for each in findings(seen) if each.severity is Severity.BLOCKER]
    assert [(each.rule, each.fixed_by_conversion) for each in told] == [("start.linux.initramfs-no-virtio", True)]
    assert state(seen, "initramfs") is LinkState.PROVEN


# --- firmware and boot loader -----------------------------------------------------------------------------


def test_boot_code_on_another_disk_is_an_order_of_disks_that_does_not_start() -> None:
    second = Disk(1, 1 << 30, "mbr", "c0ffee13", "grub2", next_stage="there")
    seen = examined(facts_of(debian(), disks=(replace(DISK, boot_code="", next_stage=""), second)))
    assert fired(seen) == {"start.linux.boot-code-on-other-disk": Severity.BLOCKER}
    assert fired(examined(facts_of(debian(), disks=(DISK, replace(second, boot_code=""))))) == {}


@pytest.mark.parametrize(
    ("disk", "rule"),
    [
        ({"next_stage": "zeroes"}, "no-core-image"),
        ({"next_stage": "outside"}, "no-core-image"),
        ({"boot_code": "lilo", "next_stage": ""}, "map-unseen"),
        ({"boot_code": "unknown", "next_stage": ""}, "boot-code-unknown"),
    ],
)
def test_what_is_wrong_with_the_first_sector(disk: dict[str, str], rule: str) -> None:
    assert f"start.linux.{rule}" in fired(examined(with_disk(**disk)))


def test_grub_on_a_gpt_needs_a_place_for_its_core_image() -> None:
    disk = replace(DISK, table="gpt", next_stage="")
    place = Partition(0, 14, 17408, MIB, BIOS_BOOT_GUID)
    assert "start.linux.no-core-image" in fired(examined(facts_of(debian(), disks=(disk,))))
    assert fired(examined(facts_of(debian(), (ROOT, SWAP, place), (disk,)))) == {}


@pytest.mark.parametrize(
    ("root", "rule"),
    [
        (replace(ROOT, bootable=False), "no-active-partition"),
        (ROOT, "no-active-partition"),
        (replace(ROOT, boot_code="unknown"), "boot-code-unknown"),
        (replace(ROOT, boot_code="grub2"), ""),
    ],
)
def test_code_that_starts_the_active_partition_needs_one_with_code(root: Partition, rule: str) -> None:
    seen = examined(facts_of(debian(), (root, SWAP), (replace(DISK, boot_code="windows", next_stage=""),)))
    assert list(fired(seen)) == ([f"start.linux.{rule}"] if rule else [])


def test_uefi_machine_without_an_efi_system_partition() -> None:
    seen = examined(facts_of(debian()), firmware=Firmware.UEFI)
    assert fired(seen)["start.linux.no-esp"] is Severity.BLOCKER
    assert "start.linux.no-esp" not in fired(examined(uefi(*READY_EFI)))


def test_empty_efi_system_partition_starts_nothing() -> None:
    assert fired(examined(uefi()))["start.linux.no-efi-loader"] is Severity.BLOCKER


def test_efi_system_partition_that_is_not_mounted_was_not_seen() -> None:
    facts = facts_of(debian(), (ESP, UEFI_ROOT, SWAP), (GPT,))
    assert fired(examined(facts))["start.linux.esp-unseen"] is Severity.UNKNOWN


def test_efi_system_partition_that_was_not_read_was_not_seen() -> None:
    unread = replace(ESP, filesystem=FileSystem("vfat", "ABCD-0123", why_not_host="the host reader refuses it"))
    facts = facts_of(debian(), (unread, UEFI_ROOT, SWAP), (GPT,), mounts=(AT_ESP,))
    assert fired(examined(facts))["start.linux.esp-unseen"] is Severity.UNKNOWN


def test_loader_for_an_empty_nvram_is_made_or_it_is_told_that_none_can_be() -> None:
    made = examined(uefi(*DEBIAN_EFI))
    assert fired(made) == {"start.linux.removable-loader-made": Severity.INFORMATION}
    two = (
        ("one/shimx64.efi", SHIM),
        ("one/grubx64.efi", GRUB),
        ("two/shimx64.efi", SHIM + b"2"),
        ("two/grubx64.efi", GRUB + b"2"),
    )
    assert fired(examined(uefi(*two)))["start.linux.no-removable-loader"] is Severity.BLOCKER
    assert fired(examined(uefi(*READY_EFI))) == {}


@pytest.mark.parametrize(
    ("why", "rules"), [("it begins with nothing but zeroes", ["start.linux.prep-empty"]), ("", [])]
)
def test_prep_partition_has_to_hold_something(why: str, rules: list[str]) -> None:
    prep = Partition(
        0, 3, 4 * MIB, 8 * MIB, PREP_GUID, filesystem=FileSystem("unknown", why_not_host=why or "not recognised")
    )
    facts = facts_of(debian(), (ROOT, SWAP, prep), (replace(DISK, boot_code="", next_stage=""),))
    assert facts.os is not None
    power = replace(facts, os=replace(facts.os, arch="ppc64le"))
    assert [rule for rule in fired(examined(power)) if "prep" in rule or "boot-code" in rule] == rules


@pytest.mark.parametrize(("code", "rules"), [("zipl", []), ("", ["start.linux.boot-code-unknown"])])
def test_mainframe_starts_zipls_record(code: str, rules: list[str]) -> None:
    facts = facts_of(debian(), disks=(replace(DISK, boot_code=code, next_stage=""),))
    assert facts.os is not None
    mainframe = replace(facts, os=replace(facts.os, arch="s390x"))
    assert [rule for rule in fired(examined(mainframe)) if "boot-code" in rule] == rules


# --- configuration ----------------------------------------------------------------------------------------


def test_default_that_starts_no_kernel_was_not_followed() -> None:
    menu = str(debian()[etc.GRUB_CFG]).replace('default="0"', 'default="firmware"')
    other = "menuentry 'UEFI Firmware Settings' --id 'firmware' {\n\tfwsetup\n}\n"
    seen = examined(facts_of({**debian(), etc.GRUB_CFG: menu + other}))
    assert fired(seen) == {"start.linux.default-starts-no-kernel": Severity.UNKNOWN}
    assert "UEFI Firmware Settings" in link(seen, "boot loader's configuration").message


def test_boot_code_of_one_loader_and_configuration_of_another() -> None:
    seen = examined(with_disk(boot_code="grub1"))
    assert fired(seen) == {"start.linux.loader-differs": Severity.UNKNOWN}


def test_what_the_plan_blocks_breaks_the_link_and_is_not_told_twice() -> None:
    seen = examined(replace(facts_of(debian()), boot_loader=BootLoader("none")))
    assert "linux.boot-loader.missing" in {each.id for each in seen.document.plan.blockers}
    assert state(seen, "boot loader's configuration") is LinkState.BROKEN
    assert {state(seen, name) for name in ("kernel", "initramfs", "root", "first program")} == {LinkState.UNSEEN}
    assert fired(seen) == {}


def test_boot_that_was_not_read_is_unseen_and_not_broken() -> None:
    boot = Partition(
        0, 3, 4 << 30, MIB, "83", filesystem=FileSystem("btrfs", "x", why_not_host="there is no host reader for it")
    )
    facts = facts_of(debian(), (ROOT, SWAP, boot), mounts=(Mount("/boot", 0, 3),))
    seen = examined(replace(facts, boot_loader=BootLoader("none")))
    assert state(seen, "boot loader's configuration") is LinkState.UNSEEN


# --- kernel and initramfs ---------------------------------------------------------------------------------


def without(path: str) -> dict[str, Node]:
    files = debian()
    del files[path]
    return files


def short_kernel() -> bytes:
    """A header that tells of far more than there is."""
    head = bytearray(4096)
    head[0x1F1] = 27
    struct.pack_into("<I", head, 0x1F4, 500_000)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    return bytes(head)


def test_kernel_that_is_missing_is_the_plans_to_tell() -> None:
    seen = examined(facts_of(without(KERNEL)))
    assert {each.id for each in seen.document.plan.blockers} == {"linux.boot.kernel-missing"}
    assert (fired(seen).keys() & {"start.linux.no-kernel-file"}, state(seen, "kernel")) == (set(), LinkState.BROKEN)


def test_kernel_of_the_same_name_elsewhere_is_not_the_one_that_starts() -> None:
    facts = facts_of(debian())
    elsewhere = replace(facts.boot_loader.entries[0], kernel=f"/boot/old/vmlinuz-{VERSION}")
    loader = replace(facts.boot_loader, entries=(elsewhere, *facts.boot_loader.entries[1:]))
    files = (replace(facts.start_files[0], path=elsewhere.kernel, found="", size=0), *facts.start_files[1:])
    seen = examined(replace(facts, boot_loader=loader, start_files=files))
    assert fired(seen) == {"start.linux.no-kernel-file": Severity.BLOCKER}
    assert "start.linux.no-kernel-file" not in fired(examined(facts))


@pytest.mark.parametrize("kernel", [b"", short_kernel()], ids=["empty", "cut short"])
def test_kernel_that_is_not_whole(kernel: bytes) -> None:
    seen = examined(facts_of({**debian(), KERNEL: kernel}))
    assert fired(seen)["start.linux.kernel-damaged"] is Severity.BLOCKER
    assert state(seen, "kernel") is LinkState.BROKEN
    whole = short_kernel() + bytes(28 * 512 + 500_000 * 16)
    assert "start.linux.kernel-damaged" not in fired(examined(facts_of({**debian(), KERNEL: whole})))


def test_files_that_were_not_looked_for_are_unseen() -> None:
    seen = examined(replace(facts_of(debian()), start_files=()))
    assert fired(seen) == dict.fromkeys(
        ("start.linux.kernel-unseen", "start.linux.initramfs-unseen", "start.linux.program-unseen"), Severity.UNKNOWN
    )


def test_initramfs_that_is_missing() -> None:
    seen = examined(facts_of(without(INITRD)))
    assert fired(seen)["start.linux.no-initramfs-file"] is Severity.BLOCKER


@pytest.mark.parametrize("image", [b"", initramfs()[:450]], ids=["empty", "cut short"])
def test_initramfs_that_is_not_whole(image: bytes) -> None:
    files = {**debian(), INITRD: image, f"/usr/lib/modules/{VERSION}/modules.builtin": BUILTIN}
    assert fired(examined(facts_of(files)))["start.linux.initramfs-damaged"] is Severity.BLOCKER


BUILTIN = "".join(
    f"kernel/{name}.ko\n" for name in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "ext4")
)


def test_initramfs_that_is_packed_in_an_unknown_way_is_unseen() -> None:
    files = {**debian(), INITRD: b"XX" + bytes(100), f"/usr/lib/modules/{VERSION}/modules.builtin": BUILTIN}
    assert fired(examined(facts_of(files))) == {"start.linux.initramfs-unseen": Severity.UNKNOWN}


def test_initramfs_that_cannot_be_helped_is_the_plans_to_tell() -> None:
    seen = examined(facts_of({**debian(), INITRD: b"XX" + bytes(100)}))
    assert {each.id for each in seen.document.plan.blockers} == {"linux.initramfs.fixed"}
    assert (fired(seen), state(seen, "initramfs")) == ({}, LinkState.BROKEN)


def test_entry_without_its_initramfs_is_doubtful() -> None:
    menu = "".join(line for line in str(debian()[etc.GRUB_CFG]).splitlines(keepends=True) if "initrd\t" not in line)
    seen = examined(facts_of({**debian(root="/dev/sda1"), etc.GRUB_CFG: menu}))
    assert fired(seen)["start.linux.initramfs-not-named"] is Severity.UNKNOWN


def test_root_whose_driver_is_nowhere() -> None:
    bare = tuple(name for name in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod"))
    assert fired(examined(facts_of(debian(bare)))) == {"start.linux.no-root-driver": Severity.BLOCKER}
    builtin = {f"/usr/lib/modules/{VERSION}/modules.builtin": "kernel/fs/ext4/ext4.ko\n"}
    assert fired(examined(facts_of({**debian(bare), **builtin}))) == {}


def test_root_whose_driver_nothing_tells_of() -> None:
    bare = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod")
    files = debian(bare)
    del files[f"/usr/lib/modules/{VERSION}/modules.builtin"]
    assert fired(examined(facts_of(files))) == {"start.linux.root-driver-unseen": Severity.UNKNOWN}
    told = {**files, f"/boot/config-{VERSION}": "CONFIG_EXT4_FS=y\n"}
    assert fired(examined(facts_of(told))) == {}


# --- root -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    [
        f"UUID={ABSENT_UUID}",
        "LABEL=other",
        "PARTUUID=c0ffee12-09",
        "PARTLABEL=x",
        "/dev/mapper/vg0-root",
        "/dev/vg0/root",
    ],
)
def test_root_that_nothing_on_the_disks_is(root: str) -> None:
    seen = examined(facts_of(debian(root=root)))
    assert fired(seen) == {"start.linux.root-missing": Severity.BLOCKER}
    (evidence,) = link(seen, "root").evidence
    assert (evidence.kind, evidence.where, evidence.line is not None) == (EvidenceKind.FILE, etc.GRUB_CFG, True)


def test_root_may_be_in_what_was_not_opened() -> None:
    closed = Partition(0, 3, 4 << 30, MIB, "83", filesystem=FileSystem("luks", "77", why_not_host="it is encrypted"))
    seen = examined(facts_of(debian(root=f"UUID={ABSENT_UUID}"), (ROOT, SWAP, closed)))
    assert fired(seen) == {"start.linux.root-unseen": Severity.UNKNOWN}


@pytest.mark.parametrize("root", ["zfs:rpool/root", "/dev/disk/by-id/dm-name-x", "live:CDLABEL=x"])
def test_root_by_a_name_that_cannot_be_held_against_the_disks(root: str) -> None:
    assert fired(examined(facts_of(debian(root=root)))) == {"start.linux.root-unseen": Severity.UNKNOWN}


def test_entry_that_names_no_root() -> None:
    menu = str(debian()[etc.GRUB_CFG]).replace(f"root=UUID={ROOT_UUID} ", "")
    assert fired(examined(facts_of({**debian(), etc.GRUB_CFG: menu}))) == {"start.linux.root-unseen": Severity.UNKNOWN}


@pytest.mark.parametrize(
    ("block", "rules"),
    [
        ("kernelopts=root=LABEL=root ro\n", []),
        ("", []),
        (f"kernelopts=root=UUID={ABSENT_UUID} ro\n", ["start.linux.root-missing"]),
    ],
)
def test_root_that_is_in_a_variable_of_grubs(block: str, rules: list[str]) -> None:
    menu = str(debian()[etc.GRUB_CFG]).replace(f"root=UUID={ROOT_UUID} ro", "$kernelopts $tuned_params")
    menu = f'set kernelopts="root=UUID={ROOT_UUID} ro quiet "\n{menu}'
    environment = ("# GRUB Environment Block\n" + block).ljust(1024, "#")
    seen = examined(facts_of({**debian(), etc.GRUB_CFG: menu, "/boot/grub/grubenv": environment}))
    assert list(fired(seen)) == rules


def test_root_that_is_not_the_systems() -> None:
    other = Partition(0, 3, 4 << 30, MIB, "83", partuuid="c0ffee12-03", filesystem=FileSystem("ext4", DATA_UUID))
    seen = examined(facts_of(debian(root=f"UUID={DATA_UUID}"), (ROOT, SWAP, other)))
    assert fired(seen) == {"start.linux.root-elsewhere": Severity.BLOCKER}


def test_two_file_systems_with_the_roots_uuid() -> None:
    twin = replace(ROOT, number=3, offset=4 << 30, partuuid="c0ffee12-03")
    assert fired(examined(facts_of(debian(), (ROOT, SWAP, twin))))["start.linux.root-unseen"] is Severity.UNKNOWN


def test_kernel_without_initramfs_knows_no_uuid() -> None:
    def alone(root: str) -> GuestFacts:
        files = {**debian(root=root), f"/usr/lib/modules/{VERSION}/modules.builtin": BUILTIN}
        del files[INITRD]
        menu = "".join(line for line in str(files[etc.GRUB_CFG]).splitlines(keepends=True) if "initrd\t" not in line)
        return facts_of({**files, etc.GRUB_CFG: menu})

    assert fired(examined(alone(f"UUID={ROOT_UUID}"))) == {"start.linux.root-needs-initramfs": Severity.BLOCKER}
    assert fired(examined(alone("PARTUUID=c0ffee12-01"))) == {}


def test_root_on_a_logical_volume() -> None:
    carrier = replace(ROOT, filesystem=FileSystem("lvm2", "pv", why_not_host="it carries other volumes"))
    volume = Volume(
        "/dev/mapper/vg0-root",
        "lvm",
        "lv",
        1 << 30,
        ("/dev/vg0/root",),
        ((0, 1),),
        filesystem=FileSystem("ext4", ROOT_UUID),
    )
    mount = Mount("/", 0, 1, "", "/dev/mapper/vg0-root")

    def guest(modules: tuple[str, ...]) -> GuestFacts:
        return facts_of(debian(modules, root="/dev/mapper/vg0-root"), (carrier, SWAP), volumes=(volume,), root=mount)

    with_mapper = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ext4", "dm-mod")
    assert fired(examined(guest(with_mapper))) == {}
    assert fired(examined(guest(with_mapper[:-1]))) == {"start.linux.no-root-driver": Severity.BLOCKER}


# --- fstab ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"UUID={DATA_UUID} /data ext4 defaults 0 2", {"start.linux.mount-missing": Severity.BLOCKER}),
        ("LABEL=data /data xfs defaults 0 0", {"start.linux.mount-missing": Severity.BLOCKER}),
        ("/dev/sdb1 /data ext4 defaults 0 2", {"start.linux.mount-missing": Severity.BLOCKER}),
        ("/dev/mapper/vg1-data /data ext4 defaults 0 2", {"start.linux.mount-missing": Severity.BLOCKER}),
        (f"UUID={ROOT_UUID} /data xfs defaults 0 2", {"start.linux.mount-other-type": Severity.BLOCKER}),
        ("/dev/disk/by-id/dm-uuid-x /data ext4 defaults 0 2", {"start.linux.mount-unseen": Severity.UNKNOWN}),
        (f"UUID={DATA_UUID} none swap sw 0 0", {"start.linux.swap-missing": Severity.WARNING}),
        (f"UUID={DATA_UUID} /data ext4 noauto 0 2", {}),
        (f"UUID={DATA_UUID} /data ext4 _netdev 0 2", {}),
        (f"UUID={DATA_UUID} /data ext4 x-systemd.automount 0 2", {}),
        (f"UUID={ROOT_UUID} /again ext3 ro 0 0", {}),
        ("/srv/x /srv/y none bind 0 0", {}),
    ],
)
def test_what_fstab_asks_for(line: str, expected: dict[str, Severity]) -> None:
    seen = examined(facts_of(fstab(line)))
    assert fired(seen) == expected
    for each in findings(seen):
        assert (each.evidence[0].where, each.evidence[0].line) == (
            etc.FSTAB,
            len(etc.fstab(etc.Naming.UUID).splitlines()) + 1,
        )


@pytest.mark.parametrize(("passno", "severity"), [(0, Severity.WARNING), (2, Severity.BLOCKER)])
def test_old_inits_go_on_unless_a_check_fails(passno: int, severity: Severity) -> None:
    facts = facts_of(fstab(f"UUID={DATA_UUID} /data ext4 defaults 0 {passno}"))
    assert facts.os is not None
    assert fired(examined(replace(facts, os=replace(facts.os, init="sysv")))) == {"start.linux.mount-missing": severity}


def test_swap_that_crypttab_makes_anew_is_not_missing() -> None:
    files = {
        **fstab("/dev/mapper/cryptswap none swap sw 0 0"),
        "/etc/crypttab": "cryptswap /dev/sda2 /dev/urandom swap\n",
    }
    assert fired(examined(facts_of(files))) == {}


# --- first program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("/usr/sbin/wrapper", '#!/bin/sh\nmount -t proc proc /proc\nexec /sbin/init "$@"\n', {}),
        (
            "/usr/sbin/wrapper",
            "#!/bin/sh\nexec >/dev/console 2>&1\nexec 3<&0\n",
            {"start.linux.no-init": Severity.BLOCKER},
        ),
        ("/bin/sh", None, {"start.linux.no-init": Severity.BLOCKER}),
        ("/usr/sbin/odd", b"\x7fELF" + bytes(60), {"start.linux.program-unseen": Severity.UNKNOWN}),
        ("/usr/sbin/plain", b"\x7fELF" + bytes(60), {"start.linux.no-first-program": Severity.BLOCKER}),
        # initramfs-tools goes on with /sbin/init
        ("/usr/sbin/gone", None, {"start.linux.no-first-program": Severity.WARNING}),
    ],
)
def test_first_program_that_is_named(name: str, content: Node | None, expected: dict[str, Severity]) -> None:
    files = debian(arguments=f"init={name}")
    if content is not None:
        files[name] = content
    assert fired(examined(facts_of(files))) == expected


def test_other_initramfs_do_not_go_on_without_the_program_that_is_named() -> None:
    files = {
        **debian(arguments="init=/usr/sbin/gone"),
        INITRD: images.initramfs(VERSION, ("virtio_pci", "virtio_blk", "virtio_scsi", "ext4")),
    }
    assert fired(examined(facts_of(files))) == {"start.linux.no-first-program": Severity.BLOCKER}


def test_system_without_any_first_program() -> None:
    files = debian()
    del files["/usr/sbin/init"], files["/usr/lib/systemd/systemd"]
    assert fired(examined(facts_of(files))) == {"start.linux.no-first-program": Severity.BLOCKER}


def test_first_program_on_a_file_system_that_was_not_read_is_unseen() -> None:
    files = debian()
    del files["/usr/sbin/init"], files["/usr/lib/systemd/systemd"]
    usr = Partition(
        0, 3, 4 << 30, MIB, "83", filesystem=FileSystem("btrfs", "x", why_not_host="there is no host reader for it")
    )
    facts = facts_of(files, (ROOT, SWAP, usr), mounts=(Mount("/usr", 0, 3),))
    assert fired(examined(facts))["start.linux.program-unseen"] is Severity.UNKNOWN


# --- hostile texts ----------------------------------------------------------------------------------------


def test_texts_of_the_guests_are_cut_and_made_safe() -> None:
    evil = "\x1b[2J" + "x" * 10_000
    menu = str(debian()[etc.GRUB_CFG]).replace(ROOT_UUID, evil)
    seen = examined(facts_of({**debian(), etc.GRUB_CFG: menu}))
    for each in findings(seen):
        texts = [each.message, *(f"{evidence.where}{evidence.text}" for evidence in each.evidence)]
        assert all("\x1b" not in text and len(text) < 2000 for text in texts)
    assert findings(seen)
