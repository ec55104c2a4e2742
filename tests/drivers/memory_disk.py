"""Disks as pieces of bytes in memory, and partition tables written by hand."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.disk import Extent

MIB = 1 << 20
LINUX_GUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRIES, _ENTRY_BYTES = 128, 128

Partition = tuple[int, int]
"""First byte and length."""


@dataclass
class MemoryDisk:
    """Implements ``p2v.core.disk.DiskReader``; zeroes where nothing was put. ``reads``: (length, offset) of every read."""

    size: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    sector_bytes: int = 512
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def virtual_size(self) -> int:
        return self.size

    @property
    def logical_sector_size(self) -> int:
        return self.sector_bytes

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path("disk.raw"),)

    def pread(self, length: int, offset: int) -> bytes:
        assert min(length, offset) >= 0, "no reader is asked for such a place"
        self.reads.append((length, offset))
        found = bytearray(max(0, min(length, self.size - offset)))
        for at, piece in self.pieces.items():
            start, stop = max(at, offset), min(at + len(piece), offset + len(found))
            if start < stop:
                found[start - offset : stop - offset] = piece[start - at : stop - at]
        return bytes(found)

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size, zero=False, allocated=True)

    def close(self) -> None:
        pass

    def put(self, offset: int, data: bytes) -> MemoryDisk:
        """The same disk with bytes written over it."""
        self.pieces[offset] = data
        return self


def mbr(entries: Sequence[tuple[int, int, int, bool]] = (), *, code: bytes = b"", disk_id: int = 0x12345678) -> bytes:
    """A first sector; an entry is its type, first sector, number of sectors, and whether it is active."""
    table = b"".join(
        struct.pack("<B3xB3xII", 0x80 * active, kind, first, count) for kind, first, count, active in entries
    )
    return code.ljust(440, b"\0") + struct.pack("<I2x", disk_id) + table.ljust(64, b"\0") + b"\x55\xaa"


def protective(size: int) -> bytes:
    """The MBR in front of a GPT."""
    return mbr([(0xEE, 1, min(size // 512 - 1, 0xFFFFFFFF), False)], disk_id=0)


def gpt_pieces(
    size: int, partitions: Sequence[Partition], sector_bytes: int = 512, type_guid: str = LINUX_GUID
) -> dict[int, bytes]:
    """A GPT's two copies without the MBR in front of them, for a disk of a size."""
    last = size // sector_bytes - 1
    entries = b"".join(_entry(*each, sector_bytes, type_guid) for each in partitions).ljust(
        _ENTRIES * _ENTRY_BYTES, b"\0"
    )
    entry_sectors = len(entries) // sector_bytes
    first, second = _header(1, last, 2, entries, last), _header(last, 1, last - entry_sectors, entries, last)
    return {
        sector_bytes: first,
        2 * sector_bytes: entries,
        (last - entry_sectors) * sector_bytes: entries,
        last * sector_bytes: second,
    }


def _entry(offset: int, length: int, sector_bytes: int, type_guid: str) -> bytes:
    first, last = offset // sector_bytes, (offset + length) // sector_bytes - 1
    guids = uuid.UUID(type_guid).bytes_le + uuid.uuid5(uuid.NAMESPACE_OID, str(offset)).bytes_le
    return guids + struct.pack("<QQQ", first, last, 0) + bytes(72)


def _header(lba: int, other: int, entries_lba: int, entries: bytes, last: int) -> bytes:
    fields = (
        b"EFI PART",
        0x10000,
        92,
        0,
        0,
        lba,
        other,
        34,
        last - 33,
        uuid.UUID(int=7).bytes_le,
        entries_lba,
        128,
        128,
    )
    raw = _HEADER.pack(*fields, zlib.crc32(entries))
    return raw[:16] + struct.pack("<I", zlib.crc32(raw)) + raw[20:]


def gpt_disk(
    size: int = 32 * MIB,
    partitions: Sequence[Partition] = ((MIB, 8 * MIB), (9 * MIB, 8 * MIB)),
    sector_bytes: int = 512,
    type_guid: str = LINUX_GUID,
) -> MemoryDisk:
    """A sound disk with a GPT."""
    pieces = gpt_pieces(size, partitions, sector_bytes, type_guid)
    return MemoryDisk(size, {0: protective(size), **pieces}, sector_bytes)


def mbr_disk(
    size: int = 32 * MIB,
    entries: Sequence[tuple[int, int, int, bool]] = ((0x83, 2048, 16384, True),),
    code: bytes = b"",
) -> MemoryDisk:
    """A disk with a table of the older kind."""
    return MemoryDisk(size, {0: mbr(entries, code=code)})


def with_pieces(disk: MemoryDisk, pieces: Mapping[int, bytes]) -> MemoryDisk:
    """The disk with more written to it."""
    disk.pieces.update(pieces)
    return disk


def from_file(path: Path) -> MemoryDisk:
    """The disk in a raw file."""
    raw = path.read_bytes()
    pieces = {at: raw[at : at + MIB] for at in range(0, len(raw), MIB)}
    return MemoryDisk(len(raw), {at: piece for at, piece in pieces.items() if any(piece)})
