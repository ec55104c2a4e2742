"""Free clusters of FAT12, FAT16 and FAT32, from their file allocation table.

Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. The count of free clusters in FSInfo is a hint by
that document, and is not looked at.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import MIB

_FAT12_BELOW, _FAT16_BELOW = 4085, 65525
_CLUSTERS_AT_MOST = 16 * MIB
_DIRTY_FLAGS = 0x3
_MIRRORING_OFF = 0x80
_SECTORS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class _Table:
    """Sizes and places in bytes. ``entry_bits``: 12, 16 or 32."""

    entry_bits: int
    table_offset: int
    table_bytes: int
    tables: int
    data_offset: int
    cluster_bytes: int
    clusters: int
    root_cluster: int
    media: int

    @property
    def mask(self) -> int:
        """The bits of an entry that count."""
        return {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}[self.entry_bits]


def is_fat(volume: Volume) -> bool:
    """Whether the first sector is a boot sector with sizes that a FAT could have."""
    raw = volume.peek(512, 0)
    if len(raw) < 512 or raw[510:512] != b"\x55\xaa" or raw[0] not in (0xE9, 0xEB):
        return False
    sector_bytes, cluster_sectors, reserved, tables = struct.unpack_from("<HBHB", raw, 11)
    return (
        sector_bytes in _SECTORS
        and cluster_sectors in (1, 2, 4, 8, 16, 32, 64, 128)
        and reserved > 0
        and tables in (1, 2)
        and raw[21] >= 0xF0
        and any(raw[19:21] + raw[32:36])
    )


def free_runs(volume: Volume) -> Runs:
    """The ranges of free clusters. Raises NotUnderstood."""
    raw = volume.read(512, 0)
    if not is_fat(volume):
        raise NotUnderstood("it has no boot sector")
    table = _table(raw, volume.size)
    entries = _entries(volume, table)
    _check_state(raw, table, entries)
    _check_chains(table, entries)
    runs = Runs()
    for cluster in range(table.clusters):
        if not entries[cluster + 2] & table.mask:
            runs.add(table.data_offset + cluster * table.cluster_bytes, table.cluster_bytes)
    return runs


def _table(raw: bytes, size: int) -> _Table:
    sector, cluster_sectors, reserved, tables, root_entries, total = struct.unpack_from("<HBHBHH", raw, 11)
    total = total or struct.unpack_from("<I", raw, 32)[0]
    table_sectors = struct.unpack_from("<H", raw, 22)[0]
    is_fat32 = not table_sectors
    table_sectors = table_sectors or struct.unpack_from("<I", raw, 36)[0]
    root_sectors = -(-root_entries * 32 // sector)
    data_sector = reserved + tables * table_sectors + root_sectors
    clusters = (total - data_sector) // cluster_sectors
    bits = 32 if is_fat32 else 12 if clusters < _FAT12_BELOW else 16
    if total * sector > size:
        raise NotUnderstood(f"it is {total * sector} bytes long, in a place of {size}")
    if not 0 < clusters <= _CLUSTERS_AT_MOST or (bits == 16 and clusters >= _FAT16_BELOW):
        raise NotUnderstood(f"it has {clusters} clusters")
    if (clusters + 2) * bits > table_sectors * sector * 8:
        raise NotUnderstood("its table is too short")
    root = struct.unpack_from("<I", raw, 44)[0] if is_fat32 else 0
    if is_fat32 and (root_entries or struct.unpack_from("<H", raw, 42)[0] or not 2 <= root < clusters + 2):
        raise NotUnderstood("its version is not known")
    if is_fat32 and struct.unpack_from("<H", raw, 40)[0] & _MIRRORING_OFF:
        raise NotUnderstood("only one of its tables is kept up to date")
    table_bytes = table_sectors * sector
    offset, cluster_bytes = reserved * sector, cluster_sectors * sector
    return _Table(bits, offset, table_bytes, tables, data_sector * sector, cluster_bytes, clusters, root, raw[21])


def _entries(volume: Volume, table: _Table) -> Sequence[int]:
    """The table, which all copies of it must agree on."""
    needed = -(-(table.clusters + 2) * table.entry_bits // 8)
    raw = volume.read(needed, table.table_offset)
    for copy in range(1, table.tables):
        if volume.read(needed, table.table_offset + copy * table.table_bytes) != raw:
            raise NotUnderstood("its two tables differ")
    if table.entry_bits == 12:
        pairs = raw + bytes(3)
        return [
            pairs[at] | (pairs[at + 1] & 0xF) << 8 if not number % 2 else pairs[at] >> 4 | pairs[at + 1] << 4
            for number in range(table.clusters + 2)
            for at in (number * 3 // 2,)
        ]
    entries = array("H" if table.entry_bits == 16 else "I")
    entries.frombytes(raw)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def _check_state(raw: bytes, table: _Table, entries: Sequence[int]) -> None:
    if entries[0] & 0xFF != table.media:
        raise NotUnderstood("its table does not begin as one")
    flags = raw[65 if table.entry_bits == 32 else 37]
    # the two highest bits that count: shut down cleanly, no errors
    good = {12: 0, 16: 0xC000, 32: 0x0C000000}[table.entry_bits]
    if flags & _DIRTY_FLAGS or entries[1] & good != good:
        raise NotUnderstood("it is marked dirty")


def _check_chains(table: _Table, entries: Sequence[int]) -> None:
    """Whether no chain leads to a free cluster or out of the table. Raises NotUnderstood."""
    mask, end = table.mask, table.clusters + 2
    first_special = mask & ~0xF  # reserved, bad, end of chain
    if table.root_cluster and not entries[table.root_cluster] & mask:
        raise NotUnderstood("its table calls the root folder free")
    for cluster in range(2, end):
        following = entries[cluster] & mask
        if not following or following >= first_special:
            continue
        if not 2 <= following < end or not entries[following] & mask:
            raise NotUnderstood(f"the chain at cluster {cluster} leads to one that is free or not there")
