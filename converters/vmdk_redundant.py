"""Whether the grain directory of a sparse extent and its grain tables lead into the file: primary or redundant copy."""

from __future__ import annotations

import sys
from array import array

from converters import c_vmdk
from converters.source_file import SourceFile
from p2v.core.units import SECTOR_BYTES

# Opening must not read all tables of a large disk: 2048 of the usual ones cover 64 GiB.
_MAX_TABLES = 2048
# 64 TiB of the usual grain tables take 2 Mi entries.
_MAX_DIRECTORY_ENTRIES = 4 * 1024 * 1024
_PIECE_ENTRIES = 64 * 1024


def first_damage(file: SourceFile, gd_sector: int, tables: int, gtes_per_gt: int) -> str | None:
    """What is wrong with a directory of ``tables`` entries, in words; None where nothing is.

    All of the directory and its first 2048 tables are looked at: that they lie in the file, and what they name begins in it.
    """
    offset = gd_sector * SECTOR_BYTES
    if gd_sector in (0, c_vmdk.GD_AT_END) or offset + tables * c_vmdk.TABLE_ENTRY_BYTES > file.size:
        return f"it would lie at byte {offset} of {file.size}"
    table_bytes = gtes_per_gt * c_vmdk.TABLE_ENTRY_BYTES
    looked_at, seen = 0, set[int]()
    for first in range(0, min(tables, _MAX_DIRECTORY_ENTRIES), _PIECE_ENTRIES):
        count = min(_PIECE_ENTRIES, tables - first)
        entries = _entries(file, offset + first * c_vmdk.TABLE_ENTRY_BYTES, count)
        farthest = _largest(entries)
        if farthest * SECTOR_BYTES + table_bytes > file.size and farthest:
            return f"grain table {first + entries.index(farthest)} would lie at byte {farthest * SECTOR_BYTES} of {file.size}"
        if farthest == 0 or looked_at >= _MAX_TABLES:
            continue
        for index, sector in enumerate(entries, first):
            if looked_at >= _MAX_TABLES:
                break
            if sector == 0:
                continue
            looked_at += 1
            if sector in seen:
                continue  # that the directory names it twice is found when it is read
            seen.add(sector)
            grain = _largest(_entries(file, sector * SECTOR_BYTES, gtes_per_gt))
            if grain * SECTOR_BYTES >= file.size:
                return f"grain table {index} names a grain at byte {grain * SECTOR_BYTES} of {file.size}"
    return None


def _largest(entries: array[int]) -> int:
    # Comparing is ten times as quick as looking for the largest, and most of a large directory is empty.
    return 0 if entries == array("I", bytes(len(entries) * entries.itemsize)) else max(entries)


def _entries(file: SourceFile, offset: int, count: int) -> array[int]:
    raw = file.pread(count * c_vmdk.TABLE_ENTRY_BYTES, offset)
    entries = array("I", raw[: len(raw) // c_vmdk.TABLE_ENTRY_BYTES * c_vmdk.TABLE_ENTRY_BYTES])
    if sys.byteorder != "little":
        entries.byteswap()
    return entries
