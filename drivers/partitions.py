"""Partition tables: MBR with its chain of logical partitions, and GPT with its backup.

Read from a ``DiskReader`` alone. Nothing in a table is believed: ranges are held against the disk's size, chains
remember where they were, counts have limits. What is odd becomes a note, never an exception.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from drivers.facts import Disk, Partition
from p2v.core.disk import DiskReader, told_sector_size
from p2v.core.units import SECTOR_BYTES

LOGICAL_PARTITIONS_AT_MOST = 128
GPT_ENTRIES_AT_MOST = 1024

ESP_GUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT_GUID = "21686148-6449-6e6f-744e-656564454649"
PREP_GUID = "9e1a2d38-c612-4316-aa26-8b49521e5a8b"
ESP_MBR = "ef"
PREP_MBR = "41"

_MBR_SIGNATURE = b"\x55\xaa"
_BOOT_CODE_BYTES = 440
# what zipl begins a SCSI disk with, and QEMU's s390-ccw firmware looks for (pc-bios/s390-ccw/bootmap.h, ZIPL_MAGIC)
_ZIPL_MAGIC = b"zIPL"
# the number of the sector that is loaded next: GRUB 2's boot.S (kernel_sector), GRUB legacy's stage1.S (stage2_sector)
_NEXT_STAGE = {"grub2": (struct.Struct("<Q"), 0x5C), "grub1": (struct.Struct("<I"), 0x44)}
_FIRST_ENTRY = 446
_ENTRY_BYTES = 16
_EXTENDED_TYPES = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE_TYPE = 0xEE
# longer than any disk: partitions keep the places that their table gives them
_NO_END = 1 << 80

# UEFI 2.10, 5.3.2: signature, revision, header size, CRC, reserved, my LBA, alternate LBA, first and last usable,
# disk GUID, LBA of the entries, their number, size and CRC
_GPT_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
GPT_SIGNATURE = b"EFI PART"
_GPT_SECTOR_SIZES = (512, 4096)
_LEGACY_BOOT_ATTRIBUTE = 1 << 2


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """A disk, the partitions its table names (none for a disk without table), and what was odd about it."""

    disk: Disk
    partitions: tuple[Partition, ...]
    notes: tuple[str, ...] = ()


def read_partitions(reader: DiskReader, index: int, *, as_stated: bool = False) -> DiskLayout:
    """Read the partition table of the disk that is the guest's number ``index``.

    A disk without a table comes back with ``table`` ``none`` and no partitions. Partitions are in the order of
    their numbers; the container of logical partitions is among them. ``as_stated``: also what reaches past the disk's end
    keeps the length that the table gives it, and what lies behind it is there.
    """
    found = _read(reader, index, _NO_END if as_stated else reader.virtual_size)
    return replace(found, disk=replace(found.disk, size_bytes=reader.virtual_size))


def _read(reader: DiskReader, index: int, end_bytes: int) -> DiskLayout:
    sector = reader.pread(SECTOR_BYTES, 0)
    told = told_sector_size(reader)
    code = recognise_boot_code(sector)
    stage = _next_stage(reader, sector, code, told)
    disk = Disk(index, end_bytes, "none", boot_code=code, sector_bytes=told, next_stage=stage)
    if len(sector) < SECTOR_BYTES or sector[510:512] != _MBR_SIGNATURE or _is_boot_sector_of_file_system(sector):
        return DiskLayout(disk, ())
    entries = mbr_entries(sector)
    if any(entry.type_id == PROTECTIVE_TYPE for entry in entries):
        return _read_gpt(reader, disk)
    if not _is_plausible(sector, entries):
        return DiskLayout(disk, ())
    return _read_mbr(reader, disk, sector, entries)


def recognise_boot_code(sector: bytes) -> str:
    """Whose boot code stands in a disk's first sector (see ``Disk.boot_code``)."""
    code = sector[:_BOOT_CODE_BYTES]
    if len(sector) == SECTOR_BYTES and code[:4] == _ZIPL_MAGIC:
        return "zipl"
    if len(sector) < SECTOR_BYTES or sector[510:512] != _MBR_SIGNATURE or not any(code):
        return ""
    if code[6:10] == b"LILO" or code[2:6] == b"LILO":
        return "lilo"
    # both generations of GRUB say "GRUB Geom Hard Disk Read Error"; only the second ends its message with a line feed
    if b"Geom\0Hard Disk\0Read\0" in code and b"GRUB" in code:
        return "grub2" if b" Error\r\n\0" in code else "grub1"
    if b"Operating system load error" in code or b"SYSLINUX" in code or b"EXTLINUX" in code:
        return "syslinux"
    if b"Error loading operating system" in code or b"NTLDR" in code or b"BOOTMGR" in code:
        return "windows"
    return "unknown"


def _next_stage(reader: DiskReader, sector: bytes, code: str, sector_bytes: int) -> str:
    """What stands where GRUB's boot code goes on (see ``Disk.next_stage``): it names a sector of its disk."""
    place = _NEXT_STAGE.get(code)
    if place is None:
        return ""
    (first,) = place[0].unpack_from(sector, place[1])
    if (first + 1) * sector_bytes > reader.virtual_size:
        return "outside"
    return "there" if any(reader.pread(sector_bytes, first * sector_bytes)) else "zeroes"


def _is_boot_sector_of_file_system(sector: bytes) -> bool:
    """Whether this is a volume's own first sector: those end in 55 AA too, and hold text where a table would be."""
    if sector[3:11] in (b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"):
        return True
    is_fat = sector[54:59] in (b"FAT12", b"FAT16") or sector[82:87] == b"FAT32"
    sector_size, cluster_sectors = struct.unpack_from("<HB", sector, 11)
    has_parameters = sector_size in (512, 1024, 2048, 4096) and cluster_sectors in (1, 2, 4, 8, 16, 32, 64, 128)
    return is_fat and has_parameters


# --- MBR -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MbrEntry:
    """An entry of an MBR's table; ``slot`` from 0."""

    slot: int
    status: int
    type_id: int
    first_sector: int
    sectors: int


def mbr_entries(sector: bytes) -> list[MbrEntry]:
    """The entries of a table that are in use."""
    found = []
    for slot in range(4):
        raw = sector[_FIRST_ENTRY + slot * _ENTRY_BYTES : _FIRST_ENTRY + (slot + 1) * _ENTRY_BYTES]
        status, type_id, first, sectors = struct.unpack("<B3xB3xII", raw)
        if type_id and sectors:
            found.append(MbrEntry(slot, status, type_id, first, sectors))
    return found


def _is_plausible(sector: bytes, entries: list[MbrEntry]) -> bool:
    statuses = {sector[_FIRST_ENTRY + slot * _ENTRY_BYTES] for slot in range(4)}
    return statuses <= {0x00, 0x80} and all(entry.first_sector > 0 for entry in entries)


def _read_mbr(reader: DiskReader, disk: Disk, sector: bytes, entries: list[MbrEntry]) -> DiskLayout:
    disk_id = f"{struct.unpack_from('<I', sector, _BOOT_CODE_BYTES)[0]:08x}"
    notes: list[str] = []
    found: list[Partition] = []

    def add(number: int, entry: MbrEntry, first_sector: int) -> None:
        partition = _fitted(
            Partition(
                disk.index,
                number,
                first_sector * disk.sector_bytes,
                entry.sectors * disk.sector_bytes,
                f"{entry.type_id:02x}",
                bootable=entry.status == 0x80,
                partuuid=f"{disk_id}-{number:02x}",
            ),
            disk.size_bytes,
            notes,
        )
        if partition is not None:
            found.append(partition)

    for entry in entries:
        add(entry.slot + 1, entry, entry.first_sector)
    number = 5
    for entry in entries:
        if entry.type_id in _EXTENDED_TYPES:
            for first_sector, logical in _logical_entries(reader, entry, number - 5, notes, disk.sector_bytes):
                add(number, logical, first_sector)
                number += 1
    return DiskLayout(replace(disk, table="mbr", disk_id=disk_id), tuple(found), tuple(notes))


def _logical_entries(
    reader: DiskReader, container: MbrEntry, already: int, notes: list[str], sector_bytes: int
) -> Iterator[tuple[int, MbrEntry]]:
    """Walk the chain of extended boot records; each yields a first sector on the disk and its entry."""
    at, seen = container.first_sector, set[int]()
    while at not in seen:
        seen.add(at)
        if already + len(seen) > LOGICAL_PARTITIONS_AT_MOST:
            notes.append(f"more than {LOGICAL_PARTITIONS_AT_MOST} logical partitions; the rest are left out")
            return
        sector = reader.pread(SECTOR_BYTES, at * sector_bytes) if at * sector_bytes < reader.virtual_size else b""
        if len(sector) < SECTOR_BYTES or sector[510:512] != _MBR_SIGNATURE:
            if len(seen) > 1:
                notes.append(f"the chain of logical partitions breaks off at byte {at * sector_bytes}")
            return
        next_at = None
        for entry in mbr_entries(sector)[:2]:
            if entry.type_id in _EXTENDED_TYPES:
                next_at = container.first_sector + entry.first_sector
            else:
                yield at + entry.first_sector, entry
        if next_at is None:
            return
        at = next_at
    notes.append("the chain of logical partitions is a loop")


# --- GPT -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GptHeader:
    """A header that holds, with its entries. ``alternate_lba``: where it says that the other one is."""

    disk_guid: str
    sector_bytes: int
    alternate_lba: int
    entries: bytes
    entry_bytes: int


def _read_gpt(reader: DiskReader, disk: Disk) -> DiskLayout:
    notes: list[str] = []
    header, problems = _primary_header(reader, disk.sector_bytes), list[str]()
    if isinstance(header, str):
        problems.append(f"the GPT at the start is bad ({header})")
        header = _backup_header(reader, disk.sector_bytes)
        if isinstance(header, str):
            problems.append(f"so is its backup ({header})")
    notes.extend(f"disk {disk.index}: {problem}" for problem in problems)
    disk = replace(disk, table="gpt")
    if isinstance(header, str):
        return DiskLayout(disk, (), tuple(notes))
    partitions = _gpt_partitions(header, disk, notes)
    if header.sector_bytes != disk.sector_bytes:
        notes.append(f"disk {disk.index}: its GPT counts in sectors of {header.sector_bytes} bytes")
    found = replace(disk, disk_id=header.disk_guid, sector_bytes=header.sector_bytes)
    return DiskLayout(found, tuple(partitions), tuple(notes))


def _sizes(told: int) -> tuple[int, ...]:
    """Sizes of sectors to look for a table with, the likeliest first."""
    return tuple(sorted(_GPT_SECTOR_SIZES, key=lambda size: size != told))


def _primary_header(reader: DiskReader, told: int) -> GptHeader | str:
    outcome: GptHeader | str = "no header"
    for sector_bytes in _sizes(told):
        outcome = gpt_header(reader, 1, sector_bytes)
        if isinstance(outcome, GptHeader):
            return outcome
    # the first size is the disk's own, and its reason the one to tell
    return gpt_header(reader, 1, _sizes(told)[0])


def _backup_header(reader: DiskReader, told: int) -> GptHeader | str:
    """The backup stands in the last sector; on a disk that was grown, where the bad primary says."""
    outcome: GptHeader | str = "no header"
    for sector_bytes in _sizes(told):
        places = [reader.virtual_size // sector_bytes - 1]
        primary = reader.pread(_GPT_HEADER.size, sector_bytes)
        if len(primary) == _GPT_HEADER.size and primary[:8] == GPT_SIGNATURE:
            places.append(_GPT_HEADER.unpack(primary)[6])
        for lba in places:
            outcome = gpt_header(reader, lba, sector_bytes)
            if isinstance(outcome, GptHeader):
                return outcome
    return outcome


def gpt_header(reader: DiskReader, lba: int, sector_bytes: int) -> GptHeader | str:
    """The GPT header at an LBA with its entries, or what is wrong with it."""
    if lba < 1 or (lba + 1) * sector_bytes > reader.virtual_size:
        return "it would lie outside the disk"
    raw = reader.pread(sector_bytes, lba * sector_bytes)
    if len(raw) < _GPT_HEADER.size or raw[:8] != GPT_SIGNATURE:
        return "no header"
    (_, _, header_bytes, crc, _, my_lba, alternate, _, _, guid, entries_lba, count, entry_bytes, entries_crc) = (
        _GPT_HEADER.unpack_from(raw)
    )
    if not _GPT_HEADER.size <= header_bytes <= sector_bytes:
        return f"its header says it is {header_bytes} bytes long"
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:header_bytes]) != crc:
        return "its header fails its checksum"
    if my_lba != lba:
        return f"its header belongs into sector {my_lba}, not {lba}"
    if not 1 <= count <= GPT_ENTRIES_AT_MOST or entry_bytes not in (128, 256, 512, 1024, 2048, 4096):
        return f"{count} entries of {entry_bytes} bytes"
    offset = entries_lba * sector_bytes
    if offset + count * entry_bytes > reader.virtual_size:
        return "its entries would lie outside the disk"
    entries = reader.pread(count * entry_bytes, offset)
    if zlib.crc32(entries) != entries_crc:
        return "its entries fail their checksum"
    return GptHeader(str(uuid.UUID(bytes_le=guid)), sector_bytes, alternate, entries, entry_bytes)


def _gpt_partitions(header: GptHeader, disk: Disk, notes: list[str]) -> Iterator[Partition]:
    for number, start in enumerate(range(0, len(header.entries), header.entry_bytes), 1):
        type_guid, guid, first, last, attributes, name = _GPT_ENTRY.unpack_from(header.entries, start)
        if not any(type_guid):
            continue
        label = name.decode("utf-16-le", "replace").split("\0")[0]
        partition = _fitted(
            Partition(
                disk.index,
                number,
                first * header.sector_bytes,
                (last - first + 1) * header.sector_bytes,
                str(uuid.UUID(bytes_le=type_guid)),
                bootable=bool(attributes & _LEGACY_BOOT_ATTRIBUTE),
                partuuid=str(uuid.UUID(bytes_le=guid)),
                partlabel=label or None,
            ),
            disk.size_bytes,
            notes,
        )
        if partition is not None:
            yield partition


def _fitted(partition: Partition, disk_bytes: int, notes: list[str]) -> Partition | None:
    """The partition as far as it lies on the disk; None when it does not."""
    name = f"disk {partition.disk}, partition {partition.number}"
    if partition.length <= 0 or partition.offset >= disk_bytes:
        notes.append(f"{name}: lies outside the disk; left out")
        return None
    if partition.offset + partition.length > disk_bytes:
        notes.append(f"{name}: reaches {partition.offset + partition.length - disk_bytes} bytes past the disk's end")
        return replace(partition, length=disk_bytes - partition.offset)
    return partition
