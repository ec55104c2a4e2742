"""Dynamic disks (Windows' logical disk manager): which group a disk belongs to, and how many disks that has.

Its database is big-endian, and the same on every disk of a group. Volumes are not put together here.

Sources: the Linux-NTFS project's documentation of LDM ("PRIVHEAD", "VMDB"); for GPT, where the private header is in the last
sector of the metadata partition, what libldm's authors found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from p2v.core.disk import DiskReader
from p2v.core.units import MIB, SECTOR_BYTES

TYPE_MBR = "42"
TYPE_METADATA = "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"
TYPE_DATA = "af9b60a0-1431-4f62-bc68-3311714a69ad"
TYPES = frozenset({TYPE_MBR, TYPE_METADATA, TYPE_DATA})

_HEADER_SECTOR_OF_MBR = 6
_HEADER_MAGIC, _DATABASE_MAGIC = b"PRIVHEAD", b"VMDB"
_HEADER_BYTES = 512
_DISK_GUID_AT, _GROUP_GUID_AT, _GUID_BYTES = 0x30, 0xB0, 64
_PRIVATE_REGION_AT = 0x12B
_PRIVATE_REGION_AT_MOST = 2 * MIB
_DISKS_AT = 0x91
_DISKS_AT_MOST = 1000


class _Part(Protocol):
    """What is looked at of a partition; lengths in bytes."""

    @property
    def type_id(self) -> str: ...

    @property
    def offset(self) -> int: ...

    @property
    def length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DynamicDisk:
    """``disk``, ``group``: the GUIDs of the disk and of its group. ``disks``: how many the group has; 0 where that is not known."""

    disk: str
    group: str
    disks: int = 0


def read_dynamic(reader: DiskReader, partitions: Iterable[_Part], sector_bytes: int) -> DynamicDisk | None:
    """What a disk's private header says; None where the table has no dynamic partitions, or no header was found."""
    own = [each for each in partitions if each.type_id in TYPES]
    places = (_place(each, sector_bytes) for each in own if each.type_id != TYPE_DATA)
    for at in dict.fromkeys(places):
        raw = reader.pread(_HEADER_BYTES, at) if 0 < at <= reader.virtual_size - _HEADER_BYTES else b""
        if raw[:8] == _HEADER_MAGIC and len(raw) == _HEADER_BYTES:
            group = _text(raw, _GROUP_GUID_AT)
            return DynamicDisk(_text(raw, _DISK_GUID_AT), group, _disks(reader, raw, sector_bytes))
    return None


def _place(partition: _Part, sector_bytes: int) -> int:
    if partition.type_id == TYPE_MBR:
        return _HEADER_SECTOR_OF_MBR * SECTOR_BYTES
    return partition.offset + partition.length - sector_bytes


def _text(raw: bytes, at: int) -> str:
    text = raw[at : at + _GUID_BYTES].split(b"\0")[0].decode("ascii", "replace").lower()
    return "".join(letter for letter in text if letter.isalnum() or letter == "-")


def _disks(reader: DiskReader, header: bytes, sector_bytes: int) -> int:
    """How many disks the database lists; 0 where it cannot be found."""
    first, count = struct.unpack_from(">QQ", header, _PRIVATE_REGION_AT)
    start, length = first * sector_bytes, min(count * sector_bytes, _PRIVATE_REGION_AT_MOST)
    if not start or start + length > reader.virtual_size:
        return 0
    region = reader.pread(length, start)
    counts = (struct.unpack_from(">I", region, at + _DISKS_AT)[0] for at in _databases(region))
    return next((int(number) for number in counts if 0 < number <= _DISKS_AT_MOST), 0)


def _databases(region: bytes) -> Iterator[int]:
    """Where the database begins; its place within the region is in a table of contents that this does without."""
    for at in range(0, len(region) - SECTOR_BYTES + 1, SECTOR_BYTES):
        if region[at : at + 4] == _DATABASE_MAGIC:
            yield at
