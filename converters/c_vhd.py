"""VHD on disk: footer, dynamic disk header and block allocation table.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0 (October 2006). Everything
is big-endian. Behaviour is in ``vhd.py``.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

FOOTER_COOKIE = b"conectix"
HEADER_COOKIE = b"cxsparse"

FOOTER_BYTES = 512
# before Virtual PC 2004 the footer was 511 bytes long
OLD_FOOTER_BYTES = 511
HEADER_BYTES = 1024
BAT_ENTRY_BYTES = 4

FOOTER_CHECKSUM_OFFSET = 64
HEADER_CHECKSUM_OFFSET = 36

FILE_FORMAT_VERSION_MAJOR = 1
# Time stamps count seconds since 2000-01-01 00:00 UTC; this is that moment as Unix counts.
EPOCH_UNIX_SECONDS = 946_684_800
NO_DATA_OFFSET = 0xFFFFFFFFFFFFFFFF
UNALLOCATED = 0xFFFFFFFF

DISK_TYPE_FIXED = 2
DISK_TYPE_DYNAMIC = 3
DISK_TYPE_DIFFERENCING = 4

# The largest geometry a footer can hold; it then means "too large for CHS".
MAX_GEOMETRY_SECTORS = 65535 * 16 * 255
# The BAT counts sectors in 32 bits, so no dynamic disk can be larger; fixed ones follow the same limit.
MAX_VIRTUAL_BYTES = 0xFFFFFFFF * 512

# Platform codes of parent locators; "Mac " holds a binary alias that says nothing on this host.
LOCATOR_WINDOWS_RELATIVE = b"W2ru"
LOCATOR_WINDOWS_ABSOLUTE = b"W2ku"
LOCATOR_MAC_URL = b"MacX"
LOCATOR_WINDOWS_RELATIVE_ANSI = b"Wi2r"
LOCATOR_WINDOWS_ABSOLUTE_ANSI = b"Wi2k"
LOCATORS = 8
LOCATORS_OFFSET = 576

_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_HEADER = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")


@dataclass(frozen=True, slots=True)
class VhdFooter:
    """The footer's fields, by the specification's names."""

    features: int
    file_format_version: int
    data_offset: int
    time_stamp: int
    creator_application: str
    creator_version: int
    creator_host_os: bytes
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors_per_track: int
    disk_type: int
    checksum: int
    unique_id: uuid.UUID
    saved_state: int

    @property
    def geometry_sectors(self) -> int:
        """Sectors of the disk by its geometry."""
        return self.cylinders * self.heads * self.sectors_per_track


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """Where one of the parent's names stands; ``data_space`` is in sectors by the specification, in bytes as written."""

    platform_code: bytes
    data_space: int
    data_length: int
    data_offset: int


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """The dynamic disk header's fields, by the specification's names."""

    data_offset: int
    table_offset: int
    header_version: int
    max_table_entries: int
    block_size: int
    checksum: int
    parent_unique_id: uuid.UUID
    parent_time_stamp: int
    parent_unicode_name: str
    parent_locators: tuple[ParentLocator, ...]


def checksum(raw: bytes, checksum_offset: int) -> int:
    """One's complement of the sum of all bytes but the checksum's own four."""
    total = sum(raw) - sum(raw[checksum_offset : checksum_offset + 4])
    return ~total & 0xFFFFFFFF


def is_sound_footer(raw: bytes) -> bool:
    """Whether a footer (511 or 512 bytes) has its cookie and the right checksum."""
    if len(raw) < OLD_FOOTER_BYTES or not raw.startswith(FOOTER_COOKIE):
        return False
    return unpack_footer(raw).checksum == checksum(raw, FOOTER_CHECKSUM_OFFSET)


def unpack_footer(raw: bytes) -> VhdFooter:
    """Read a footer (511 or 512 bytes) without judging it."""
    (_, features, version, data_offset, time_stamp, creator, creator_version, host_os, original, current,
     cylinders, heads, sectors, disk_type, stored_checksum, unique_id, saved) = _FOOTER.unpack_from(raw)  # fmt: skip
    return VhdFooter(
        features, version, data_offset, time_stamp, creator.decode("latin-1"), creator_version, host_os,
        original, current, cylinders, heads, sectors, disk_type, stored_checksum, uuid.UUID(bytes=unique_id), saved,
    )  # fmt: skip


def unpack_header(raw: bytes) -> DynamicHeader:
    """Read a dynamic disk header (1024 bytes) without judging it."""
    (_, data_offset, table_offset, version, entries, block_size, stored_checksum, parent_id, parent_time, _,
     name) = _HEADER.unpack_from(raw)  # fmt: skip
    parent_name = name.decode("utf-16-be", "replace").split("\0", 1)[0]
    return DynamicHeader(
        data_offset, table_offset, version, entries, block_size, stored_checksum, uuid.UUID(bytes=parent_id),
        parent_time, parent_name, tuple(_locators(raw)),
    )  # fmt: skip


def _locators(raw: bytes) -> Iterator[ParentLocator]:
    for number in range(LOCATORS):
        code, space, length, _, offset = _LOCATOR.unpack_from(raw, LOCATORS_OFFSET + number * _LOCATOR.size)
        if code != bytes(4):
            yield ParentLocator(code, space, length, offset)


def sector_bitmap_bytes(block_size: int) -> int:
    """Bytes of the bitmap before each data block: a bit a sector, in whole sectors."""
    return -(-(block_size // 512) // (512 * 8)) * 512


def find_footer_offset(size: int, tail: bytes) -> int | None:
    """Where the footer at a file's end begins, given its last bytes (512 or more); None without a cookie."""
    lengths = (FOOTER_BYTES, OLD_FOOTER_BYTES)
    found = (n for n in lengths if n <= len(tail) and tail.startswith(FOOTER_COOKIE, len(tail) - n))
    return next((size - n for n in found), None)
