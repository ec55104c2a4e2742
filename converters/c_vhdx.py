"""VHDX on disk: file identifier, headers, region and metadata tables, BAT entries, log entries.

Source: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format". Everything is little-endian.
Behaviour is in ``vhdx.py``.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

import google_crc32c

FILE_SIGNATURE = b"vhdxfile"
HEADER_SIGNATURE = b"head"
REGION_SIGNATURE = b"regi"
METADATA_SIGNATURE = b"metadata"
LOG_ENTRY_SIGNATURE = b"loge"

KIB = 1024
MIB = 1024 * KIB

FILE_IDENTIFIER_BYTES = 520
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
HEADER_BYTES = 4 * KIB
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_BYTES = 64 * KIB
HEADER_SECTION_BYTES = MIB
CHECKSUM_OFFSET = 4
MAX_TABLE_ENTRIES = 2047

HEADER_VERSION = 1
LOG_VERSION = 0
LOG_SECTOR_BYTES = 4 * KIB
LOG_ENTRY_HEADER_BYTES = 64
LOG_DESCRIPTOR_BYTES = 32
LOG_DATA_DESCRIPTOR = b"desc"
LOG_ZERO_DESCRIPTOR = b"zero"
LOG_DATA_SECTOR = b"data"

REGION_BAT = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
REGION_METADATA = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")

FILE_PARAMETERS = uuid.UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
VIRTUAL_DISK_SIZE = uuid.UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
VIRTUAL_DISK_ID = uuid.UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR_SIZE = uuid.UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR_SIZE = uuid.UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR = uuid.UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
KNOWN_METADATA = frozenset(
    (FILE_PARAMETERS, VIRTUAL_DISK_SIZE, VIRTUAL_DISK_ID, LOGICAL_SECTOR_SIZE, PHYSICAL_SECTOR_SIZE, PARENT_LOCATOR)
)
NO_GUID = uuid.UUID(int=0)

PARENT_LOCATOR_VHDX = uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")
PARENT_LOCATOR_HEADER_BYTES = 20
PARENT_LOCATOR_ENTRY_BYTES = 12
MAX_METADATA_ITEM_BYTES = MIB

REGION_REQUIRED = 1 << 0
METADATA_IS_USER = 1 << 0
METADATA_IS_VIRTUAL_DISK = 1 << 1
METADATA_IS_REQUIRED = 1 << 2
METADATA_TABLE_BYTES = 64 * KIB
LEAVE_BLOCK_ALLOCATED = 1 << 0
HAS_PARENT = 1 << 1

MIN_BLOCK_BYTES = MIB
MAX_BLOCK_BYTES = 256 * MIB
MAX_VIRTUAL_BYTES = 64 * 1024**4

BAT_ENTRY_BYTES = 8
BAT_STATE_MASK = 0x7
BAT_RESERVED_MASK = 0xFFFF8
BAT_OFFSET_SHIFT = 20
PAYLOAD_BLOCK_NOT_PRESENT = 0
PAYLOAD_BLOCK_UNDEFINED = 1
PAYLOAD_BLOCK_ZERO = 2
PAYLOAD_BLOCK_UNMAPPED = 3
PAYLOAD_BLOCK_FULLY_PRESENT = 6
PAYLOAD_BLOCK_PARTIALLY_PRESENT = 7
SB_BLOCK_PRESENT = 6
SECTOR_BITMAP_BYTES = MIB

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_TABLE_HEADER = struct.Struct("<4sII")
_REGION_ENTRY = struct.Struct("<16sQII")
_METADATA_HEADER = struct.Struct("<8sHH")
_METADATA_ENTRY = struct.Struct("<16sIIII")
_REGION_ENTRIES_AT = 16
_METADATA_ENTRIES_AT = 32
_ENTRY_BYTES = 32
_LOG_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_LOG_DATA = struct.Struct("<4s4s8sQQ")
_LOG_ZERO = struct.Struct("<4sIQQQ")
_LOG_SECTOR = struct.Struct("<4sI4084sI")
_LOCATOR_HEADER = struct.Struct("<16sHH")
_LOCATOR_ENTRY = struct.Struct("<IIHH")


@dataclass(frozen=True, slots=True)
class VhdxHeader:
    """One of the two headers."""

    checksum: int
    sequence_number: int
    file_write_guid: uuid.UUID
    data_write_guid: uuid.UUID
    log_guid: uuid.UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int


@dataclass(frozen=True, slots=True)
class Region:
    """A region table entry."""

    guid: uuid.UUID
    file_offset: int
    length: int
    required: bool


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """A metadata table entry; ``offset`` counts from the metadata region's begin."""

    item_id: uuid.UUID
    offset: int
    length: int
    flags: int


@dataclass(frozen=True, slots=True)
class LogEntryHeader:
    """What each log entry begins with; ``tail`` is the offset in the log of its sequence's first entry."""

    checksum: int
    entry_length: int
    tail: int
    sequence_number: int
    descriptor_count: int
    log_guid: uuid.UUID
    flushed_file_offset: int
    last_file_offset: int


@dataclass(frozen=True, slots=True)
class LogDescriptor:
    """A range of the file that an entry writes: zeroes, or one sector whose ends stand in the descriptor itself."""

    file_offset: int
    length: int
    sequence_number: int
    ends: tuple[bytes, bytes] | None
    """The sector's first eight and last four bytes; None for zeroes."""


def unpack_log_entry_header(raw: bytes) -> LogEntryHeader:
    """Read a log entry's header (64 bytes) without judging it."""
    _, stored, length, tail, sequence, count, _, guid, flushed, last = _LOG_ENTRY.unpack_from(raw)
    return LogEntryHeader(stored, length, tail, sequence, count, _guid(guid), flushed, last)


def unpack_log_descriptor(raw: bytes, offset: int) -> LogDescriptor | None:
    """Read the descriptor at ``offset``; None when it is of no known kind."""
    kind = raw[offset : offset + 4]
    if kind == LOG_DATA_DESCRIPTOR:
        _, trailing, leading, place, sequence = _LOG_DATA.unpack_from(raw, offset)
        return LogDescriptor(place, LOG_SECTOR_BYTES, sequence, (leading, trailing))
    if kind == LOG_ZERO_DESCRIPTOR:
        _, _, length, place, sequence = _LOG_ZERO.unpack_from(raw, offset)
        return LogDescriptor(place, length, sequence, None)
    return None


def unpack_log_sector(raw: bytes, offset: int) -> tuple[bytes, int] | None:
    """The 4084 bytes of a data sector and its sequence number; None when it is no data sector."""
    signature, high, data, low = _LOG_SECTOR.unpack_from(raw, offset)
    return (data, high << 32 | low) if signature == LOG_DATA_SECTOR else None


def unpack_parent_locator(raw: bytes) -> tuple[uuid.UUID, dict[str, str]] | None:
    """Type and keys of a parent locator item; None when an entry does not lie in it."""
    if len(raw) < PARENT_LOCATOR_HEADER_BYTES:
        return None
    kind, _, count = _LOCATOR_HEADER.unpack_from(raw)
    values: dict[str, str] = {}
    for number in range(count):
        at = PARENT_LOCATOR_HEADER_BYTES + number * PARENT_LOCATOR_ENTRY_BYTES
        if at + PARENT_LOCATOR_ENTRY_BYTES > len(raw):
            return None
        key_at, value_at, key_bytes, value_bytes = _LOCATOR_ENTRY.unpack_from(raw, at)
        if max(key_at + key_bytes, value_at + value_bytes) > len(raw):
            return None
        key = raw[key_at : key_at + key_bytes].decode("utf-16-le", "replace")
        values[key] = raw[value_at : value_at + value_bytes].decode("utf-16-le", "replace")
    return _guid(kind), values


def unpack_header(raw: bytes) -> VhdxHeader:
    """Read a header (4096 bytes) without judging it."""
    _, checksum, sequence, file_write, data_write, log, log_version, version, length, offset = _HEADER.unpack_from(raw)
    return VhdxHeader(
        checksum, sequence, _guid(file_write), _guid(data_write), _guid(log), log_version, version, length, offset
    )


def unpack_region_table(raw: bytes) -> tuple[Region, ...] | None:
    """The entries of a region table (64 KiB), or None when their count is impossible."""
    _, _, count = _TABLE_HEADER.unpack_from(raw)
    if count > MAX_TABLE_ENTRIES:
        return None
    entries = (_REGION_ENTRY.unpack_from(raw, _REGION_ENTRIES_AT + i * _ENTRY_BYTES) for i in range(count))
    return tuple(
        Region(_guid(g), offset, length, bool(flags & REGION_REQUIRED)) for g, offset, length, flags in entries
    )


def unpack_metadata_table(raw: bytes) -> tuple[MetadataItem, ...] | None:
    """The entries of a metadata table (64 KiB), or None when their count is impossible."""
    _, _, count = _METADATA_HEADER.unpack_from(raw)
    if count > MAX_TABLE_ENTRIES:
        return None
    entries = (_METADATA_ENTRY.unpack_from(raw, _METADATA_ENTRIES_AT + i * _ENTRY_BYTES) for i in range(count))
    return tuple(MetadataItem(_guid(g), offset, length, flags) for g, offset, length, flags, _ in entries)


def checksum(raw: bytes) -> int:
    """CRC-32C of a structure with its own checksum field (bytes 4 to 7) taken as zero."""
    return crc32c(raw[:CHECKSUM_OFFSET] + bytes(4) + raw[CHECKSUM_OFFSET + 4 :])


def crc32c(raw: bytes) -> int:
    """CRC-32C (Castagnoli), reflected, as in RFC 3720."""
    return int(google_crc32c.value(raw))


def _guid(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes_le=raw)
