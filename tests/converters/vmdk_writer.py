"""A small writer of VMDKs for tests: hosted sparse extents, streams, COWD, seSparse, descriptors.

Made for this suite from "Virtual Disk Format 5.0" (hosted sparse, stream, COWD) and from what is known of seSparse (see
``converters/c_vmdk_esx.py``). An extent is described by its grains: bytes, ``ZEROED``, or absent. Grains are stored in the
order the mapping has them, so that a test can scatter them. No structure of the reader is used here: a wrong idea of a
field must not cancel itself out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

SECTOR = 512
ZEROED = None
Grains = Mapping[int, "bytes | None"]

NEW_LINES = b"\n \r\n"
ROOM_FOR_DESCRIPTOR = 20


def descriptor(*extents: str, create_type: str, cid: str = "12345678", parent_cid: str = "ffffffff", hint: str = "",
               more: str = "") -> str:  # fmt: skip
    """A text descriptor as VMware writes it."""
    parent = f'parentFileNameHint="{hint}"\n' if hint else ""
    return (
        f"# Disk DescriptorFile\nversion=1\nCID={cid}\nparentCID={parent_cid}\n"
        f'createType="{create_type}"\n{parent}\n# Extent description\n'
        + "".join(f"{line}\n" for line in extents)
        + "\n"
        f'# The Disk Data Base\n#DDB\nddb.virtualHWVersion = "8"\nddb.adapterType = "lsilogic"\n{more}'
    )


def sparse(grains: Grains, capacity: int, *, grain_sectors: int = 128, gtes: int = 512, version: int = 2, text: str = "",
           redundant: bool = True, unclean: bool = False) -> bytes:  # fmt: skip
    """A hosted sparse extent of ``capacity`` sectors, every grain table there, as VMware lays it out."""
    tables = -(-capacity // (grain_sectors * gtes))
    room = ROOM_FOR_DESCRIPTOR if text else 0
    gd_sectors, gt_sectors = _sectors(tables * 4), _sectors(gtes * 4)
    rgd = 1 + room
    gd = rgd + gd_sectors + tables * gt_sectors
    overhead = -(-(gd + gd_sectors + tables * gt_sectors) // grain_sectors) * grain_sectors
    entries, stored = _placed(grains, tables * gtes, overhead, grain_sectors)
    tail = b"".join(
        _sector_padded(struct.pack(f"<{gtes}I", *entries[n * gtes : (n + 1) * gtes])) for n in range(tables)
    )
    parts = [_header(version, 1 | (2 if redundant else 0) | 4, capacity, grain_sectors, 1 if text else 0, room, gtes,
                     rgd if redundant else 0, gd, overhead, unclean=unclean)]  # fmt: skip
    parts.append(_sector_padded(text.encode("utf-8", "surrogateescape"), room))
    for begin in (rgd, gd):
        first = begin + gd_sectors
        numbers = struct.pack(f"<{tables}I", *(first + n * gt_sectors for n in range(tables)))
        parts += [_sector_padded(numbers), tail]
    return _sector_padded(b"".join(parts), overhead) + b"".join(stored)


def stream(grains: Grains, capacity: int, *, grain_sectors: int = 128, text: str = "", version: int = 3,
           deflate: Callable[[bytes], bytes] = zlib.compress) -> bytes:  # fmt: skip
    """A streamOptimized disk as ovftool writes it: markers, tables behind their grains, the directory named by a footer."""
    gtes, flags = 512, 0x30001
    tables = -(-capacity // (grain_sectors * gtes))
    parts = [bytes(SECTOR), _sector_padded(text.encode(), ROOM_FOR_DESCRIPTOR)]
    position = 1 + ROOM_FOR_DESCRIPTOR
    directory = [0] * tables

    def put(raw: bytes) -> int:
        nonlocal position
        padded = _sector_padded(raw)
        parts.append(padded)
        position += len(padded) // SECTOR
        return position - len(padded) // SECTOR

    for table in range(tables):
        entries = [0] * gtes
        for grain, content in grains.items():
            if grain // gtes == table:
                assert content is not ZEROED
                packed = deflate(content)
                entries[grain % gtes] = put(struct.pack("<QI", grain * grain_sectors, len(packed)) + packed)
        if any(entries):
            put(struct.pack("<QII", _sectors(gtes * 4), 0, 1))
            directory[table] = put(struct.pack(f"<{gtes}I", *entries))
    put(struct.pack("<QII", _sectors(tables * 4), 0, 2))
    gd = put(struct.pack(f"<{tables}I", *directory))
    end = (1 << 64) - 1
    whole = (capacity, grain_sectors, 1, ROOM_FOR_DESCRIPTOR, gtes, 0)
    parts[0] = _header(version, flags, *whole, end, 1 + ROOM_FOR_DESCRIPTOR, algorithm=1)
    put(struct.pack("<QII", 1, 0, 3))
    put(_header(version, flags, *whole, gd, 1 + ROOM_FOR_DESCRIPTOR, algorithm=1))
    put(bytes(SECTOR))
    return b"".join(parts)


def cowd(grains: Grains, capacity: int, *, grain_sectors: int = 1, version: int = 1, unclean: bool = False) -> bytes:
    """A COWD extent (vmfsSparse): 4096 entries a table, tables only where something is stored."""
    gtes = 4096
    tables = -(-capacity // (grain_sectors * gtes))
    used = sorted({grain // gtes for grain in grains})
    gd = 4
    first_table = gd + _sectors(tables * 4)
    begin = first_table + len(used) * 32
    entries, stored = _placed(grains, tables * gtes, begin, grain_sectors)
    directory = [0] * tables
    parts = []
    for place, table in enumerate(used):
        directory[table] = first_table + 32 * place
        parts.append(struct.pack(f"<{gtes}I", *entries[table * gtes : (table + 1) * gtes]))
    free = begin + sum(map(len, stored)) // SECTOR
    header = b"COWD" + struct.pack("<7I", version, 3, capacity, grain_sectors, gd, tables, free)
    # Behind it: the parent's name or a geometry, generations, a name and a description; then the sign of a crash.
    header = header.ljust(1648, b"\0") + struct.pack("<I", unclean)
    raw = header.ljust(2048, b"\0") + _sector_padded(struct.pack(f"<{tables}I", *directory)) + b"".join(parts)
    return raw + b"".join(stored)


def sesparse(grains: Grains, capacity: int, *, replay: int = 0, unmapped: frozenset[int] = frozenset()) -> bytes:
    """An seSparse extent: 4 KiB grains, 4096 entries of 8 bytes a table, each kind of structure in an area of its own."""
    gtes = 4096
    tables = -(-capacity // (8 * gtes))
    used = sorted({grain // gtes for grain in (*grains, *unmapped)})
    gd_sectors = _sectors(tables * 8)
    gd, gts = 2048, 2048 + gd_sectors
    grains_at = -(-(gts + len(used) * 64) // 8) * 8
    entries: dict[int, int] = dict.fromkeys(unmapped, 1 << 60)
    stored: list[bytes] = []
    for grain, content in grains.items():
        number = len(stored)
        entries[grain] = 2 << 60 if content is ZEROED else 3 << 60 | (number & 0xFFF) << 48 | number >> 12
        if content is not ZEROED:
            stored.append(content)
    directory = [0] * tables
    parts = []
    for number, table in enumerate(used):
        directory[table] = 1 << 60 | number
        parts.append(struct.pack(f"<{gtes}Q", *(entries.get(table * gtes + n, 0) for n in range(gtes))))
    constant = struct.pack("<26Q", 0xCAFEBABE, 0x200000001, capacity, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 2, 4, 2044, gd, gd_sectors,
                           gts, len(used) * 64, 0, 0, 0, 0, grains_at, len(stored) * 8)  # fmt: skip
    volatile = struct.pack("<4Q", 0xCAFECAFE, len(used), 1, replay)
    raw = _sector_padded(constant) + _sector_padded(volatile)
    raw = _sector_padded(raw, gd) + _sector_padded(struct.pack(f"<{tables}Q", *directory)) + b"".join(parts)
    return _sector_padded(raw, grains_at) + b"".join(stored)


def grains_of(content: bytes, grain_sectors: int) -> dict[int, bytes]:
    """All grains of a disk that are not all zeroes; the last one filled up."""
    size = grain_sectors * SECTOR
    pieces = {n: content[n * size : (n + 1) * size].ljust(size, b"\0") for n in range(-(-len(content) // size))}
    return {n: piece for n, piece in pieces.items() if any(piece)}


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """A file in a folder."""
    path = folder / name
    path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
    return path


def _header(version: int, flags: int, capacity: int, grain_sectors: int, descriptor_at: int, descriptor_sectors: int, gtes: int,
            rgd: int, gd: int, overhead: int, *, unclean: bool = False, algorithm: int = 0) -> bytes:  # fmt: skip
    fields = struct.pack("<4sIIQQQQIQQQB", b"KDMV", version, flags, capacity, grain_sectors, descriptor_at, descriptor_sectors,
                         gtes, rgd, gd, overhead, unclean)  # fmt: skip
    return _sector_padded(fields + NEW_LINES + struct.pack("<H", algorithm))


def _placed(grains: Grains, entries: int, begin: int, grain_sectors: int) -> tuple[list[int], list[bytes]]:
    table = [0] * entries
    stored: list[bytes] = []
    for grain, content in grains.items():
        if content is ZEROED:
            table[grain] = 1
            continue
        table[grain] = begin + len(stored) * grain_sectors
        stored.append(content)
    return table, stored


def _sectors(length: int) -> int:
    return -(-length // SECTOR)


def _sector_padded(raw: bytes, sectors: int | None = None) -> bytes:
    return raw.ljust((_sectors(len(raw)) if sectors is None else sectors) * SECTOR, b"\0")
