"""Where on a machine's disks a finding of the plan can be seen: bytes of partition tables, boot sectors, volumes. Pure.

Sources of the places: MBR: the boot code from byte 0, the disk's signature at 440, four entries of 16 bytes from 446 on; UEFI
specification, "GPT header": the second sector, with the disk's GUID at 56; "NTFS boot sector" and Microsoft's FAT specification:
heads at 26, hidden sectors at 28.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from drivers import ldm
from drivers.facts import Disk, Mount, Partition
from drivers.layout import Layout, locked
from drivers.partitions import ESP_GUID, ESP_MBR
from drivers.plan import Finding
from drivers.windows.places import is_root, partition_of
from p2v.audit.evidence_files import Seeker
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence
from p2v.audit.pointing import named_disks, named_partitions, of_device, on_disk
from p2v.audit.told_once import told_by
from p2v.documents import PlanDocument

_SPACES = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
_SIGNATURE_AT, _ENTRIES_AT, _ENTRY_BYTES = 440, 446, 16
_GPT_GUID_AT = 56
_HEADS_AT, _HIDDEN_SECTORS_AT = 26, 28
_NUMBERS_OF_ENTRIES = range(1, 5)


def _disk(document: PlanDocument, index: int) -> Disk | None:
    return next((disk for disk in document.facts.disks if disk.index == index), None)


def _table(document: PlanDocument, disk: Disk) -> Iterator[Evidence]:
    """Where a disk's partition table begins; nothing for a disk without one."""
    if disk.table == "mbr":
        yield from on_disk(document, disk.index, _ENTRIES_AT, "the partition table (MBR)")
    elif disk.table == "gpt":
        yield from on_disk(document, disk.index, disk.sector_bytes, "the partition table (GPT)")


def _identifier(document: PlanDocument, disk: Disk) -> Iterator[Evidence]:
    """Where the number or GUID stands by which Windows knows a disk."""
    if disk.table == "mbr":
        yield from on_disk(document, disk.index, _SIGNATURE_AT, f"signature {disk.disk_id or 'none'}")
    elif disk.table == "gpt":
        yield from on_disk(document, disk.index, disk.sector_bytes + _GPT_GUID_AT, f"GUID {disk.disk_id or 'none'}")


def tables(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The partition tables of all disks."""
    for disk in examined.document.facts.disks:
        yield from _table(examined.document, disk)


def contents(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """Every partition with what was found in it."""
    for partition in examined.document.facts.partitions:
        yield from of_device(examined.document, partition)


def told(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The partitions that the message names."""
    for partition in named_partitions(examined.document.facts, finding.message):
        yield from of_device(examined.document, partition)


def _told_by(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The partition that told which system it is."""
    for note in told_by(examined.document.facts):
        for partition in named_partitions(examined.document.facts, note):
            yield from of_device(examined.document, partition)


def _locked(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for device in locked(Layout.of(examined.document.facts), ()):
        yield from of_device(examined.document, device)


def _encrypted(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The partitions that encrypted volumes stand on."""
    facts = examined.document.facts
    carriers = {place for volume in facts.volumes if volume.kind == "luks" for place in volume.carriers}
    for partition in facts.partitions:
        if (partition.disk, partition.number) in carriers:
            yield from of_device(examined.document, partition)


def _root(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    facts = examined.document.facts
    for partition in facts.partitions:
        if is_root(facts, partition):
            yield from of_device(examined.document, partition)


def mounted(pattern: str) -> Seeker:
    """The file system at the mount point with which the message, in the form of ``pattern``, begins."""

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        facts = examined.document.facts
        mounts = {mount.mountpoint: mount for mount in (facts.root, *facts.mounts) if mount is not None}
        fits = [at for at in mounts if finding.message.startswith(pattern.format(at))]
        if fits:
            yield from _of_mount(examined.document, mounts[max(fits, key=len)])

    return seek


def _of_mount(document: PlanDocument, mount: Mount) -> Iterator[Evidence]:
    facts = document.facts
    devices = (
        [volume for volume in facts.volumes if volume.device == mount.volume]
        if mount.volume
        else [each for each in facts.partitions if (each.disk, each.number) == (mount.disk, mount.partition)]
    )
    for device in devices:
        yield from of_device(document, device)


def _hibernated_swap(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for partition in examined.document.facts.partitions:
        system = partition.filesystem
        if system is not None and system.kind == "swap" and system.why_not_host:
            yield from of_device(examined.document, partition)


def _efi_partition(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for partition in examined.document.facts.partitions:
        if partition.type_id in (ESP_GUID, ESP_MBR) and not examined.document.facts.efi_programs:
            yield from of_device(examined.document, partition)


# --- Windows ---------------------------------------------------------------------------------------------------------------


def _start(examined: Examined) -> Partition | None:
    windows = examined.document.facts.windows
    boot = windows.boot if windows is not None else None
    return partition_of(examined.document.facts, boot.disk, boot.partition) if boot is not None else None


def starting(at: int = 0) -> Seeker:
    """The partition that starts Windows, ``at`` bytes from its beginning."""

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        partition = _start(examined)
        if partition is not None:
            yield from of_device(examined.document, partition, at)

    return seek


def _without_fallback(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The partition without a loader; nothing where it is drivers that are missing."""
    if finding.message.startswith("no loader is on "):
        yield from told(examined, finding)


def _first_sector(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    yield from on_disk(examined.document, 0, 0, "the first sector")


def _active(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The entries of active partitions in the first disk's MBR, else the whole table."""
    document = examined.document
    first = _disk(document, 0)
    if first is None or first.table != "mbr":
        return
    active = [
        p.number for p in document.facts.partitions if p.disk == 0 and p.bootable and p.number in _NUMBERS_OF_ENTRIES
    ]
    for number in active:
        at = _ENTRIES_AT + _ENTRY_BYTES * (number - 1)
        yield from on_disk(document, 0, at, f"partition {number} is marked active")
    if not active:
        yield from _table(document, first)


def _dirty(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The volume that the message names, else that of Windows."""
    yield from tuple(told(examined, finding)) or _root(examined, finding)


def of_types(is_wanted: Callable[[str], bool]) -> Seeker:
    """Partitions of some types on the disks that the message names; on all where it names none."""

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        disks = named_disks(finding.message)
        for partition in examined.document.facts.partitions:
            if is_wanted(partition.type_id) and (not disks or partition.disk in disks):
                yield from on_disk(
                    examined.document,
                    partition.disk,
                    partition.offset,
                    f"partition {partition.number}: type {partition.type_id}",
                )

    return seek


def _same_signature(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    match = re.search(r"the same signature \(([^)]+)\)", finding.message)
    for disk in examined.document.facts.disks:
        if match is not None and disk.disk_id == match[1]:
            yield from _identifier(examined.document, disk)


def _without_signature(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    for partition in named_partitions(examined.document.facts, finding.message):
        disk = _disk(examined.document, partition.disk)
        if disk is not None:
            yield from _identifier(examined.document, disk)


def _sectors(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The tables that count in large sectors."""
    for disk in examined.document.facts.disks:
        if disk.sector_bytes != 512:
            yield from _table(examined.document, disk)


SEEKERS: Mapping[str, Seeker] = {
    "linux.root-missing": contents,
    "guest.no-os": contents,
    "guest.encrypted": _locked,
    "guest.reading": told,
    "guest.second-system": told,
    "other.not-rewritten": _told_by,
    "linux.rebuild.encrypted": _encrypted,
    "linux.hibernated": _hibernated_swap,
    "linux.file-system.unclean": mounted("the file system at {}: "),
    "linux.space.bytes": mounted("the file system at {} has "),
    "linux.space.inodes": mounted("the file system at {} has "),
    "linux.firmware.uefi": _efi_partition,
    "linux.aarch64.no-uefi": tables,
    "linux.ppc64le.no-prep": tables,
    "windows.dirty-volume": _dirty,
    "windows.dirty-data": told,
    "windows.refs": told,
    "windows.bitlocker": told,
    "windows.bitlocker-data": told,
    "windows.deduplicated": told,
    "windows.dynamic-disk": of_types(lambda type_id: type_id in ldm.TYPES),
    "windows.dynamic-data": of_types(lambda type_id: type_id in ldm.TYPES),
    "windows.dynamic-incomplete": of_types(lambda type_id: type_id in ldm.TYPES),
    "windows.storage-spaces": of_types(lambda type_id: type_id == _SPACES),
    "windows.same-signature": _same_signature,
    "windows.no-disk-signature": _without_signature,
    "windows.no-fallback": _without_fallback,
    "windows.boot-disk": starting(),
    "windows.boot-sector": starting(),
    "windows.no-boot-manager": starting(),
    "windows.no-boot-store": starting(),
    "windows.hidden-sectors": starting(_HIDDEN_SECTORS_AT),
    "windows.boot-heads": starting(_HEADS_AT),
    "windows.no-boot-code": _first_sector,
    "windows.several-active": _active,
    "windows.no-active-partition": _active,
    "hardware.sectors": _sectors,
}
