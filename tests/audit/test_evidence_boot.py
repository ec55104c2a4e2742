"""What keeps a guest from starting is pointed at: entries of boot loaders, initramfs images, boot configurations, boot sectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from drivers.facts import BootEntry, BootLoader, EfiProgram, GuestFacts, Initramfs, Partition, TextFile
from drivers.partitions import ESP_GUID
from drivers.plan import Finding, PlanOptions
from drivers.windows.boot_facts import BootSector
from p2v.audit.evidence import evidence_of
from p2v.audit.findings import Evidence, EvidenceKind
from tests.audit.planned_guests import examined, pieces
from tests.audit.test_evidence_files import INITRAMFS, file, line
from tests.audit.test_evidence_windows import MIB, ROOT, bytes_at, guest, windows
from tests.audit.test_evidence_windows import _started as started
from tests.drivers.linux.guest import ROOT as LINUX_ROOT
from tests.drivers.linux.guest import SWAP, facts_of, files, kernel
from tests.drivers.memory_tree import Node
from tests.drivers.windows.test_states import machine
from tests.fixtures.hives import Tree, binary, multi_sz, sz
from tests.fixtures.windows import bcd as written

MENU = "/boot/grub/grub.cfg"


def plain(**nodes: Node) -> GuestFacts:
    """A guest with plain file systems only; names of files without their slashes are not needed here."""
    return facts_of({**files(), **nodes}, None, (LINUX_ROOT, SWAP))


def image(**changes: object) -> Initramfs:
    found = kernel().initramfs
    assert found is not None
    return replace(found, **changes)  # type: ignore[arg-type]


# --- Linux -----------------------------------------------------------------------------------------------------------------


def test_a_root_that_no_file_system_is_points_at_its_line() -> None:
    menu = str(files()[MENU]).replace("root=/dev/sda1", "root=UUID=0bad0bad-0000-4000-8000-000000000000")
    (first, *_) = pieces(examined(plain(**{MENU: menu})), "linux.boot-loader.root-absent")
    assert (first.where, "root=UUID=0bad0bad" in first.text) == (MENU, True)


def test_an_environment_block_points_at_its_variable() -> None:
    block = "# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro\n"
    found = pieces(examined(plain(**{"/boot/grub/grubenv": block})), "linux.grubenv.names-device")
    assert found == (line("/boot/grub/grubenv", 2, "kernelopts=root=/dev/sda1 ro"),)


def test_a_switch_for_device_names_points_at_its_line() -> None:
    nameless = replace(LINUX_ROOT, filesystem=replace(LINUX_ROOT.filesystem, uuid=None))  # type: ignore[type-var]
    text = "# GRUB_DISABLE_LINUX_UUID=true\nGRUB_DISABLE_LINUX_UUID=true\n"
    facts = facts_of({**files(), "/etc/default/grub": text}, None, (nameless, SWAP))
    found = pieces(examined(facts), "linux.default-grub.no-uuids")
    assert found == (line("/etc/default/grub", 2, "GRUB_DISABLE_LINUX_UUID=true"),)


def test_a_loader_that_its_machine_does_not_know_and_a_menu_that_is_no_text() -> None:
    facts = plain()
    other = replace(facts, os=replace(facts.os, arch="s390x"))  # type: ignore[type-var]
    other = replace(other, boot_loader=replace(other.boot_loader, kind="lilo", config="/etc/lilo.conf"))
    assert pieces(examined(other), "linux.boot-loader.not-here") == (file("/etc/lilo.conf"),)
    unread = replace(facts, texts={path: text for path, text in facts.texts.items() if path != MENU})
    assert pieces(examined(unread), "linux.boot-loader.unreadable") == (file(MENU),)


@pytest.mark.parametrize(
    "id_, changes, compatible, text",
    [
        ("linux.initramfs.fixed", {"squashed": True}, False, ""),
        ("linux.disks.not-virtio", {"squashed": True}, True, ""),
        ("linux.disks.unknown", {"squashed": True, "modules": ()}, True, ""),
        (
            "linux.boot.no-disk-driver",
            {"modules": ("xfs",)},
            False,
            "1 modules were seen in it, not all that virtio_blk needs",
        ),
        (
            "linux.kernel.no-virtio",
            {"problem": "it is cut short", "modules": ()},
            False,
            "it could not be read: it is cut short",
        ),
    ],
)
def test_an_initramfs_is_pointed_at_as_what_was_seen_of_it(
    id_: str, changes: dict[str, object], compatible: bool, text: str
) -> None:
    modules = {} if id_ == "linux.boot.no-disk-driver" else kernel().modules
    facts = replace(plain(), kernels=(replace(kernel(), initramfs=image(**changes), modules=modules),))
    (found,) = pieces(examined(facts, options=PlanOptions(compatible=compatible)), id_)
    assert found == Evidence(EvidenceKind.FILE, INITRAMFS, text=text)


@pytest.mark.parametrize(
    "id_, words",
    [
        ("linux.lvm.devices-in-initramfs", "holds a copy of LVM's devices file"),
        ("linux.mdadm.in-initramfs", "may hold a copy of /etc/mdadm.conf"),
        ("linux.rebuild.left", "is not built anew"),
        ("linux.image.sealed", "belongs to the Nix store, and its drivers are missing"),
    ],
)
def test_an_image_that_a_message_begins_with_is_pointed_at(id_: str, words: str) -> None:
    assert evidence_of(examined(plain()), Finding(id_, f"{INITRAMFS} {words}")) == (file(INITRAMFS),)


def test_an_initramfs_that_is_extended_in_an_image_is_pointed_at() -> None:
    finding = Finding("linux.image.next-initramfs", "the initramfs of Fedora's present image is extended")
    assert evidence_of(examined(plain()), finding) == (file(INITRAMFS),)


@pytest.mark.parametrize(
    "id_, message, number",
    [
        (
            "linux.boot.root-name-fixed",
            "the entry one names its root /dev/sda1 where it cannot be edited, and no disk has it",
            2,
        ),
        (
            "linux.disks.name-kept",
            "the entry one names its root /dev/sda1 where it cannot be edited, so the disks keep it",
            2,
        ),
        (
            "linux.s390x.cio-ignore",
            "the entry one passes cio_ignore=all,!condev, so that its kernel ignores the channels",
            3,
        ),
        (
            "linux.s390x.arguments",
            "the entry one names devices of the old machine (rd.dasd=0.0.0100), which do not exist",
            4,
        ),
        (
            "linux.boot.kernel-missing",
            "the boot entry one starts /boot/vmlinuz-1, which is none of the guest's kernels",
            1,
        ),
    ],
)
def test_an_entry_points_at_the_line_of_its_own_file(id_: str, message: str, number: int) -> None:
    path = "/etc/zipl.conf"
    lines = ["image=/boot/vmlinuz-1", "append root=/dev/sda1", "x cio_ignore=all,!condev", "y rd.dasd=0.0.0100"]
    entry = BootEntry("one", "/boot/vmlinuz-1", ("/boot/initrd-1",), " ".join(lines[1:]))
    facts = replace(
        plain(),
        boot_loader=BootLoader("zipl", path, (entry,), "one"),
        texts={path: TextFile(path, path, "\n".join(lines))},
    )
    assert evidence_of(examined(facts), Finding(id_, message)) == (line(path, number, lines[number - 1]),)
    unread = replace(facts, texts={})
    assert evidence_of(examined(unread), Finding(id_, message)) == (file(path),)


def test_kernels_of_a_map_and_of_a_unified_image_are_pointed_at() -> None:
    unified = replace(
        kernel(), image="/efi/EFI/Linux/a.efi", initramfs=image(path="/efi/EFI/Linux/a.efi", unified=True)
    )
    entry = BootEntry("a", unified.image, (), "root=/dev/sda1", unified.image)
    facts = replace(
        plain(), kernels=(unified,), boot_loader=BootLoader("systemd-boot", "/efi/loader/loader.conf", (entry,), "a")
    )
    message = f"the unified kernel image {unified.image} names its root /dev/sda1, which is called otherwise on virtio"
    assert evidence_of(examined(facts), Finding("linux.unified.names-device", message)) == (file(unified.image),)
    first = replace(kernel(), initramfs=image(path="/boot/zipl/initrd", modules=("xfs",)))
    facts = replace(plain(), kernels=(first, kernel("2")))
    (found,) = evidence_of(examined(facts), Finding("linux.s390x.first-kernel", "GRUB is started by a first kernel"))
    assert found.where == "/boot/zipl/initrd"
    (found,) = evidence_of(examined(plain()), Finding("linux.zipl.no-virtio", "zipl's boot map starts it as it was"))
    assert found.where == INITRAMFS


def test_a_firmware_without_its_loader_points_at_the_programs_or_the_partition() -> None:
    esp = Partition(0, 3, 1 << 20, 1 << 20, ESP_GUID)
    facts = replace(facts_of(files(), None, (LINUX_ROOT, SWAP, esp)), firmware="uefi")
    assert pieces(examined(facts), "linux.firmware.uefi") == (bytes_at(1 << 20, "partition 3"),)
    programs = tuple(EfiProgram(f"/boot/efi/EFI/{name}/grubx64.efi", 1, "", "grub") for name in ("a", "b"))
    found = pieces(examined(replace(facts, efi_programs=programs)), "linux.firmware.uefi")
    assert [(each.where, each.text) for each in found] == [(each.path, "grub") for each in programs]


def test_what_debians_package_remembers_is_in_its_database() -> None:
    facts = plain()
    facts = replace(facts, boot_loader=replace(facts.boot_loader, install_devices=("/dev/sda",)))
    (found,) = pieces(examined(facts), "linux.grub.install-devices")
    assert (found.where, found.text) == ("/var/cache/debconf/config.dat", "grub-pc/install_devices: /dev/sda")


@pytest.mark.parametrize("arch, id_", [("aarch64", "linux.aarch64.no-uefi"), ("ppc64le", "linux.ppc64le.no-prep")])
def test_partitions_that_are_missing_are_missing_in_the_table(arch: str, id_: str) -> None:
    facts = plain()
    facts = replace(facts, os=replace(facts.os, arch=arch))  # type: ignore[type-var]
    assert pieces(examined(facts), id_) == (bytes_at(446, "the partition table (MBR)"),)


def test_disks_without_a_root_or_a_system_point_at_what_was_found_in_them() -> None:
    expected = (bytes_at(MIB, "partition 1: ext4"), bytes_at(3 << 30, "partition 2: swap"))
    assert pieces(examined(replace(plain(), root=None)), "linux.root-missing") == expected
    assert pieces(examined(replace(plain(), os=None, root=None)), "guest.no-os") == expected


# --- Windows ---------------------------------------------------------------------------------------------------------------

_OS_DEVICE = f"Objects\\{written.LOADER}\\Elements\\21000001"


@pytest.mark.parametrize(
    "id_, tree, path",
    [
        ("windows.boot-device", {_OS_DEVICE: {"Element": binary(b"\1")}}, _OS_DEVICE),
        (
            "windows.boot-entry-elsewhere",
            {f"Objects\\{written.LOADER}\\Elements\\22000002": {"Element": sz("\\Other")}},
            _OS_DEVICE,
        ),
        (
            "windows.no-boot-entry",
            {
                f"Objects\\{written.BOOT_MANAGER}\\Elements\\23000003": {
                    "Element": sz("{00000000-0000-0000-0000-000000000000}")
                },
                f"Objects\\{written.BOOT_MANAGER}\\Elements\\24000001": {"Element": multi_sz()},
            },
            f"Objects\\{written.BOOT_MANAGER}\\Elements\\23000003",
        ),
    ],
)
def test_a_default_that_leads_nowhere_points_at_the_element_that_says_so(id_: str, tree: Tree, path: str) -> None:
    (found,) = pieces(guest(*started(tree)), id_)
    assert found.where == f"BCD\\{path}\\Element"


def test_a_disk_without_signature_and_a_start_without_its_files() -> None:
    found, on = started({})
    unsigned = replace(on, disks=(replace(on.disks[0], disk_id="00000000"),))
    assert pieces(guest(found, unsigned), "windows.no-disk-signature") == (bytes_at(440, "signature 00000000"),)
    uefi = replace(on, firmware="uefi")
    assert pieces(guest(found, uefi), "windows.no-boot-manager") == (bytes_at(MIB, "partition 1: ntfs"),)
    storeless = replace(found, boot=replace(found.boot, store=None), registry=windows().registry)  # type: ignore[type-var]
    assert pieces(guest(storeless, on), "windows.no-boot-store") == (bytes_at(MIB, "partition 1: ntfs"),)


@pytest.mark.parametrize(
    "id_, sector, version, at",
    [
        ("windows.boot-sector", BootSector(0, 1, "ntfs", 255, 2048, ""), (10, 0), 0),
        ("windows.boot-heads", BootSector(0, 1, "ntfs", 16, 2048, "NTLDR"), (5, 1), 26),
    ],
)
def test_a_boot_sector_points_at_its_own_field(id_: str, sector: BootSector, version: tuple[int, int], at: int) -> None:
    found, on = started({}, sector=sector, mountpoint="")
    numbered = replace(found, version=replace(found.version, major=version[0], minor=version[1]))
    assert pieces(guest(numbered, on), id_) == (bytes_at(MIB + at, "partition 1: ntfs"),)


def test_a_disk_that_starts_it_and_is_not_the_first_is_pointed_at() -> None:
    found, on = started({}, disk=1)
    second: Sequence[Partition] = (replace(ROOT, disk=1),)
    both = replace(
        on, disks=(on.disks[0], replace(on.disks[0], index=1, disk_id="55667788")), partitions=(*on.partitions, *second)
    )
    assert pieces(guest(found, both), "windows.boot-disk") == (bytes_at(MIB, "partition 1: ntfs", disk=1),)


def test_a_loader_that_cannot_be_put_in_its_place_points_at_the_partition_and_missing_drivers_at_none() -> None:
    on = guest(windows(), replace(machine(), partitions=(ROOT,)))
    loader = Finding(
        "windows.no-fallback", "no loader is on disk 1, partition 1 that a firmware without boot entries starts"
    )
    drivers = Finding("windows.no-fallback", "it cannot start from a disk on IDE: it lacks atapi.sys")
    assert evidence_of(on, loader) == (bytes_at(MIB, "partition 1: ntfs"),)
    assert evidence_of(on, drivers) == ()
