"""Writes small VDI images of every type, differencing ones above all: qemu-img makes and reads none of those.

Made from the facts in VirtualBox's VDICore.h, without its code; block map at byte 512, data behind it.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from pathlib import Path

from converters import c_vdi
from converters.c_vdi import VdiHeader

MAP_OFFSET = 512
KIB = 1024
# VirtualBox writes 1 MiB; small blocks make small images.
BLOCK = 4 * KIB


def header_of(image: Path) -> VdiHeader:
    return c_vdi.unpack_header(image.read_bytes()[:512])


def rewritten(image: Path, target: Path, **fields: object) -> Path:
    """A copy with other header fields."""
    raw = image.read_bytes()
    packed = c_vdi.pack_header(dataclasses.replace(c_vdi.unpack_header(raw[:512]), **fields))  # type: ignore[arg-type]
    target.write_bytes(packed + raw[len(packed) :])
    return target


def write_vdi(
    path: Path,
    size: int,
    blocks: Mapping[int, bytes | None],
    *,
    parent: Path | None = None,
    block_size: int = BLOCK,
    block_extra: int = 0,
    image_type: int | None = None,
) -> Path:
    """A VDI of ``size`` bytes with these blocks: bytes are stored in the mapping's order, None is a zero block.

    With a ``parent`` it is differencing and remembers that image's two UUIDs.
    """
    count = -(-size // block_size)
    data_offset = MAP_OFFSET + -(-count * c_vdi.MAP_ENTRY_BYTES // 512) * 512
    table, stored = [c_vdi.BLOCK_FREE] * count, b""
    written = 0
    for number, content in blocks.items():
        if content is None:
            table[number] = c_vdi.BLOCK_ZERO
            continue
        table[number] = written
        stored += b"\xee" * block_extra + content.ljust(block_size, b"\0")
        written += 1
    above = header_of(parent) if parent is not None else None
    made = VdiHeader(
        b"<<< Oracle VM VirtualBox Disk Image >>>\n",
        c_vdi.VERSION_1_1,
        400,
        image_type or (c_vdi.TYPE_DIFFERENCING if above else c_vdi.TYPE_DYNAMIC),
        MAP_OFFSET,
        data_offset,
        size,
        block_size,
        block_extra,
        count,
        written,
        uuid.uuid4(),
        uuid.uuid4(),
        above.uuid_create if above else c_vdi.NO_UUID,
        above.uuid_modify if above else c_vdi.NO_UUID,
    )
    entries = b"".join(entry.to_bytes(4, "little") for entry in table)
    start = c_vdi.pack_header(made).ljust(MAP_OFFSET, b"\0") + entries
    path.write_bytes(start.ljust(data_offset, b"\0") + stored)
    return path
