"""Partition tables, read for one question only: which ranges of a disk stand by themselves.

``drivers.partitions`` reads the same tables for what they tell of a guest and makes the best of what is odd. Here whatever is
odd (partitions that overlap or reach behind the disk, tables that contradict each other) means that the disk is copied whole.

Sources: UEFI 2.10, 5.2 and 5.3.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB, SECTOR_BYTES

_SIGNATURE = b"\x55\xaa"
_FIRST_ENTRY, _ENTRY_BYTES = 446, 16
_CONTAINERS = (0x05, 0x0F, 0x85)
_PROTECTIVE, _DYNAMIC = 0xEE, 0x42
_LOGICAL_AT_MOST, _GPT_ENTRIES_AT_MOST = 128, 1024
_GPT = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQ")
_GPT_SIGNATURE = b"EFI PART"
_GPT_SECTORS = (512, 4096)
# volumes of Windows that go over several partitions, by their own databases
_SCATTERED = {
    uuid.UUID(text).bytes_le: what
    for text, what in (
        ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "dynamic disks"),
        ("af9b60a0-1431-4f62-bc68-3311714a69ad", "dynamic disks"),
        ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "storage spaces"),
    )
}
# other tables, by what stands where: Apple, BSD, Sun, SGI, and Linux on mainframes
_OTHER_TABLES = (
    ("Apple", 0, b"ER"), ("Apple", 512, b"PM\0\0"), ("BSD", 512, b"\x57\x45\x56\x82"), ("BSD", 64, b"\x57\x45\x56\x82"),
    ("Sun", 508, b"\xda\xbe"), ("SGI", 0, b"\x0b\xe5\xa9\x41"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A partition, in bytes of the disk."""

    number: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class _Entry:
    slot: int
    kind: int
    first: int
    sectors: int


def read_parts(disk: Volume, *, has_boot_sector: bool, sector_bytes: int = SECTOR_BYTES) -> tuple[Part, ...] | None:
    """The partitions of a disk, in order of place; None when it has no table. Raises NotUnderstood.

    ``has_boot_sector``: the disk begins as a volume does, whose boot sectors end in 55 AA as well. ``sector_bytes``: what an MBR
    counts in; a GPT tells that itself, and must not tell otherwise where the disk's sectors are large.
    """
    sector = disk.peek(SECTOR_BYTES, 0)
    entries = _entries(sector) if sector[510:512] == _SIGNATURE else []
    if any(disk.peek(len(magic), at) == magic for _, at, magic in _OTHER_TABLES):
        raise NotUnderstood("it has a partition table of another kind")
    if not entries or not _is_plausible(sector, entries):
        if any(disk.peek(8, size) == _GPT_SIGNATURE for size in _GPT_SECTORS):
            raise NotUnderstood("it has a GPT without the MBR that protects it")
        return None
    if has_boot_sector:
        raise NotUnderstood("it has a partition table and a file system in one place")
    if any(entry.kind == _PROTECTIVE for entry in entries):
        parts, kept = _read_gpt(disk, entries, sector_bytes)
    else:
        parts, kept = _read_mbr(disk, entries, sector_bytes)
    _check_apart(disk, parts, kept)
    return tuple(sorted(parts, key=lambda part: part.offset))


def _check_apart(disk: Volume, parts: list[Part], kept: list[tuple[int, int]]) -> None:
    """Whether all partitions lie on the disk, beside each other and beside the tables."""
    end = 0
    for offset, length in sorted([*((part.offset, part.length) for part in parts), *kept]):
        if offset < end:
            raise NotUnderstood("its partitions overlap each other, or the table")
        end = offset + length
    if end > disk.size:
        raise NotUnderstood("a partition reaches past its end")


# --- MBR -------------------------------------------------------------------------------------------------------------


def _entries(sector: bytes) -> list[_Entry]:
    found = []
    for slot in range(4):
        kind, first, sectors = struct.unpack_from("<4xB3xII", sector, _FIRST_ENTRY + slot * _ENTRY_BYTES)
        if kind or sectors:
            found.append(_Entry(slot, kind, first, sectors))
    return found


def _is_plausible(sector: bytes, entries: list[_Entry]) -> bool:
    statuses = {sector[_FIRST_ENTRY + slot * _ENTRY_BYTES] for slot in range(4)}
    return statuses <= {0x00, 0x80} and all(entry.first and entry.sectors and entry.kind for entry in entries)


def _read_mbr(disk: Volume, entries: list[_Entry], sector_bytes: int) -> tuple[list[Part], list[tuple[int, int]]]:
    if any(entry.kind == _DYNAMIC for entry in entries):
        raise NotUnderstood("its volumes are dynamic disks of Windows")
    parts = [
        Part(entry.slot + 1, entry.first * sector_bytes, entry.sectors * sector_bytes)
        for entry in entries
        if entry.kind not in _CONTAINERS
    ]
    kept = [(0, sector_bytes)]
    containers = [entry for entry in entries if entry.kind in _CONTAINERS]
    if len(containers) > 1:
        raise NotUnderstood("it has several extended partitions")
    for container in containers:
        end = container.first + container.sectors
        for number, (at, logical) in enumerate(_chain(disk, container, sector_bytes), 5):
            kept.append((at * sector_bytes, sector_bytes))
            if logical is None:
                continue
            first = at + logical.first
            if not container.first < first or first + logical.sectors > end:
                raise NotUnderstood("a logical partition lies outside of the extended one")
            parts.append(Part(number, first * sector_bytes, logical.sectors * sector_bytes))
        if any(p.offset < end * sector_bytes and p.end > container.first * sector_bytes for p in parts if p.number < 5):
            raise NotUnderstood("its partitions overlap")
    return parts, kept


def _chain(disk: Volume, container: _Entry, sector_bytes: int) -> Iterator[tuple[int, _Entry | None]]:
    """The extended boot records: sector of each, and the logical partition it tells of."""
    at, seen = container.first, set[int]()
    while at not in seen:
        seen.add(at)
        sector = disk.peek(SECTOR_BYTES, at * sector_bytes)
        is_inside = container.first <= at < container.first + container.sectors
        if not is_inside or len(seen) > _LOGICAL_AT_MOST or sector[510:512] != _SIGNATURE:
            raise NotUnderstood("its chain of logical partitions is damaged")
        entries = _entries(sector)
        logical = [entry for entry in entries if entry.kind not in _CONTAINERS]
        links = [entry for entry in entries if entry.kind in _CONTAINERS]
        if len(logical) > 1 or len(links) > 1 or any(entry.slot > 1 for entry in entries):
            raise NotUnderstood("its chain of logical partitions is damaged")
        yield at, logical[0] if logical else None
        if not links:
            return
        at = container.first + links[0].first
    raise NotUnderstood("its chain of logical partitions is a loop")


def reads_otherwise_with_large_sectors(disk: Volume) -> list[int]:
    """Where the partitions of an MBR would begin if its sectors had 4096 bytes; empty when it has a GPT, which tells."""
    sector = disk.peek(SECTOR_BYTES, 0)
    entries = _entries(sector) if sector[510:512] == _SIGNATURE else []
    if any(entry.kind == _PROTECTIVE for entry in entries):
        return []
    return [entry.first * 4 * KIB for entry in entries]


# --- GPT -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _GptHeader:
    sector_bytes: int
    alternate: int
    usable: tuple[int, int]
    entries: bytes
    entry_bytes: int
    kept: tuple[tuple[int, int], ...]


def _read_gpt(disk: Volume, entries: list[_Entry], sector_bytes: int) -> tuple[list[Part], list[tuple[int, int]]]:
    found = [header for size in _GPT_SECTORS if (header := _header(disk, 1, size)) is not None]
    if len(found) != 1:
        raise NotUnderstood("its GPT is damaged")
    header = found[0]
    if header.sector_bytes < sector_bytes:
        raise NotUnderstood(f"its GPT counts in sectors of {header.sector_bytes} bytes, and its own have {sector_bytes}")
    backup = _header(disk, header.alternate, header.sector_bytes)
    if backup is not None and backup.entries != header.entries:
        raise NotUnderstood("its two GPTs differ")
    parts = list(_gpt_parts(header))
    kept = [(0, SECTOR_BYTES), *header.kept, *(backup.kept if backup is not None else ())]
    ranges = {(part.offset, part.length) for part in parts}
    for entry in entries:
        here = (entry.first * header.sector_bytes, entry.sectors * header.sector_bytes)
        if entry.kind != _PROTECTIVE and here not in ranges:
            raise NotUnderstood("its MBR and its GPT tell of different partitions")
    return parts, kept


def _header(disk: Volume, lba: int, sector_bytes: int) -> _GptHeader | None:
    """The header at an LBA with its entries; None when it is none, or fails a checksum."""
    raw = disk.peek(sector_bytes, lba * sector_bytes)
    if raw[:8] != _GPT_SIGNATURE:
        return None
    (_, _, size, crc, _, mine, alternate, first, last, _, entries_lba, count, entry_bytes, entries_crc) = _GPT.unpack_from(raw)
    if not _GPT.size <= size <= sector_bytes or zlib.crc32(raw[:16] + bytes(4) + raw[20:size]) != crc or mine != lba:
        return None
    if not 1 <= count <= _GPT_ENTRIES_AT_MOST or entry_bytes not in (128, 256, 512, 1024, 2048, 4096):
        return None
    entries = disk.peek(count * entry_bytes, entries_lba * sector_bytes)
    if not entries or zlib.crc32(entries) != entries_crc:
        return None
    kept = ((lba * sector_bytes, sector_bytes), (entries_lba * sector_bytes, len(entries)))
    return _GptHeader(sector_bytes, alternate, (first, last), entries, entry_bytes, kept)


def _gpt_parts(header: _GptHeader) -> Iterator[Part]:
    for number, start in enumerate(range(0, len(header.entries), header.entry_bytes), 1):
        kind, _, first, last = _GPT_ENTRY.unpack_from(header.entries, start)
        if not any(kind):
            continue
        if kind in _SCATTERED:
            raise NotUnderstood(f"its volumes are {_SCATTERED[kind]} of Windows")
        if not header.usable[0] <= first <= last <= header.usable[1]:
            raise NotUnderstood("a partition lies where its GPT has no place for one")
        yield Part(number, first * header.sector_bytes, (last - first + 1) * header.sector_bytes)
