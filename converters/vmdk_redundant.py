"""The two copies of a sparse extent's grain directory and tables: whether one leads into the file, where they differ."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator

from converters import c_vmdk
from converters.source_file import SourceFile
from p2v.core.units import SECTOR_BYTES

# Opening must not read all tables of a large disk: 2048 of the usual ones cover 64 GiB.
_MAX_TABLES = 2048
# 64 TiB of the usual grain tables take 2 Mi entries.
_MAX_DIRECTORY_ENTRIES = 4 * 1024 * 1024
_PIECE_ENTRIES = 64 * 1024
_NAMES = ("primary", "redundant")
# Comparing reads every table: of the usual ones these are for 128 TiB.
MAX_COMPARED_TABLES = 4 * 1024 * 1024


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


def differences(file: SourceFile, sectors: tuple[int, int], tables: int, gtes_per_gt: int) -> Iterator[str]:
    """Where the primary and the redundant tables (their directories are at ``sectors``) say other things, in words.

    The first ``MAX_COMPARED_TABLES`` are compared. A table that is not there says what one of zeroes does.
    """
    lengths = tables * c_vmdk.TABLE_ENTRY_BYTES
    for name, sector in zip(_NAMES, sectors, strict=True):
        if sector * SECTOR_BYTES + lengths > file.size:
            yield f"its {name} grain directory would lie at byte {sector * SECTOR_BYTES} of {file.size}"
            return
    if sectors[0] == sectors[1]:
        return
    for first in range(0, min(tables, MAX_COMPARED_TABLES), _PIECE_ENTRIES):
        count = min(_PIECE_ENTRIES, tables - first)
        offsets = [sector * SECTOR_BYTES + first * c_vmdk.TABLE_ENTRY_BYTES for sector in sectors]
        primary, redundant = (_entries(file, offset, count) for offset in offsets)
        if primary == redundant:
            continue  # nothing stored, or one table for both
        for index, pair in enumerate(zip(primary, redundant, strict=True), first):
            if pair[0] != pair[1]:
                yield from _table_differences(file, index, pair, gtes_per_gt)


def _table_differences(file: SourceFile, index: int, sectors: tuple[int, int], gtes_per_gt: int) -> Iterator[str]:
    table_bytes = gtes_per_gt * c_vmdk.TABLE_ENTRY_BYTES
    raw: list[bytes] = []
    for name, sector in zip(_NAMES, sectors, strict=True):
        if sector * SECTOR_BYTES + table_bytes > file.size:
            yield f"its {name} grain table {index} would lie at byte {sector * SECTOR_BYTES} of {file.size}"
            return
        raw.append(file.pread(table_bytes, sector * SECTOR_BYTES) if sector else bytes(table_bytes))
    if raw[0] == raw[1]:
        return
    width = c_vmdk.TABLE_ENTRY_BYTES
    differing = [at for at in range(0, table_bytes, width) if raw[0][at : at + width] != raw[1][at : at + width]]
    at = differing[0]
    says = []
    for name, sector, table in zip(_NAMES, sectors, raw, strict=True):
        entry = int.from_bytes(table[at : at + width], "little")
        where = f"at byte {sector * SECTOR_BYTES + at}" if sector else "(which has no table)"
        says.append(f"{entry} in the {name} one {where}")
    more = f", and {len(differing) - 1} more of its entries differ" if len(differing) > 1 else ""
    yield f"entry {at // width} of its grain table {index} is {says[0]}, {says[1]}{more}"


def _entries(file: SourceFile, offset: int, count: int) -> array[int]:
    raw = file.pread(count * c_vmdk.TABLE_ENTRY_BYTES, offset)
    entries = array("I", raw[: len(raw) // c_vmdk.TABLE_ENTRY_BYTES * c_vmdk.TABLE_ENTRY_BYTES])
    if sys.byteorder != "little":
        entries.byteswap()
    return entries
