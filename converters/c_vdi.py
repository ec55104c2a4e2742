"""VDI on disk: pre-header, header of version 1.1 and block map.

Source: Oracle VM VirtualBox, src/VBox/Storage/VDICore.h (the format's only definition), whose names the fields
bear. Everything is little-endian, UUIDs with their first three fields too. Behaviour is in ``vdi.py``.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

# The pre-header: a text of 64 bytes that anybody may word, the signature, the version.
TEXT_BYTES = 64
SIGNATURE = b"\x7f\x10\xda\xbe"
SIGNATURE_OFFSET = TEXT_BYTES
PRE_HEADER_BYTES = 72

VERSION_1_1 = 0x00010001
# The shortest header of version 1.1 ends before the second geometry (0x180 bytes, as QEMU writes it).
HEADER_BYTES = 0x180

TYPE_DYNAMIC = 1
TYPE_FIXED = 2
TYPE_UNDO = 3
TYPE_DIFFERENCING = 4

MAP_ENTRY_BYTES = 4
BLOCK_FREE = 0xFFFFFFFF
"""Nothing said: the parent's bytes, zeroes where there is no parent."""
BLOCK_ZERO = 0xFFFFFFFE
"""Zeroes, whatever the parent has."""

NO_UUID = uuid.UUID(int=0)

_HEADER = struct.Struct("<III256sII4IIQIIII16s16s16s16s")


@dataclass(frozen=True, slots=True)
class VdiHeader:
    """The fields that matter, by VirtualBox's names in this suite's spelling; as stored, nothing judged."""

    text: bytes
    version: int
    header_size: int
    image_type: int
    blocks_offset: int
    data_offset: int
    disk_size: int
    block_size: int
    block_extra: int
    blocks: int
    blocks_allocated: int
    uuid_create: uuid.UUID
    uuid_modify: uuid.UUID
    uuid_linkage: uuid.UUID = NO_UUID
    uuid_parent_modify: uuid.UUID = NO_UUID
    sector_size: int = 512
    flags: int = 0
    comment: bytes = b""


def unpack_version(raw: bytes) -> int:
    """The version a file's first 72 bytes name. Raises ValueError when they are no VDI pre-header."""
    if len(raw) < PRE_HEADER_BYTES or not raw.startswith(SIGNATURE, SIGNATURE_OFFSET):
        raise ValueError("no VDI pre-header")
    return int.from_bytes(raw[PRE_HEADER_BYTES - 4 : PRE_HEADER_BYTES], "little")


def unpack_header(raw: bytes) -> VdiHeader:
    """Read pre-header and header of version 1.1. Raises ValueError when ``raw`` is too short or is none."""
    version = unpack_version(raw)
    if len(raw) < PRE_HEADER_BYTES + HEADER_BYTES:
        raise ValueError("VDI header is cut short")
    (header_size, image_type, flags, comment, blocks_offset, data_offset, _, _, _, sector_size, _, disk_size,
     block_size, block_extra, blocks, allocated, create, modify, linkage, parent_modify,
     ) = _HEADER.unpack_from(raw, PRE_HEADER_BYTES)  # fmt: skip
    return VdiHeader(
        raw[:TEXT_BYTES], version, header_size, image_type, blocks_offset, data_offset, disk_size, block_size,
        block_extra, blocks, allocated, _uuid(create), _uuid(modify), _uuid(linkage), _uuid(parent_modify),
        sector_size=sector_size, flags=flags, comment=comment.rstrip(b"\0"),
    )  # fmt: skip


def _uuid(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes_le=raw)


def pack_header(header: VdiHeader) -> bytes:
    """Write pre-header and header (456 bytes)."""
    pre = header.text.ljust(TEXT_BYTES, b"\0") + SIGNATURE + header.version.to_bytes(4, "little")
    uuids = (header.uuid_create, header.uuid_modify, header.uuid_linkage, header.uuid_parent_modify)
    return pre + _HEADER.pack(
        header.header_size, header.image_type, header.flags, header.comment, header.blocks_offset, header.data_offset,
        0, 0, 0, header.sector_size, 0, header.disk_size, header.block_size, header.block_extra, header.blocks,
        header.blocks_allocated, *(each.bytes_le for each in uuids),
    )  # fmt: skip
