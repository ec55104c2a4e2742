"""Free clusters of FAT12, FAT16 and FAT32, from their file allocation table.

Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. The count of free clusters in FSInfo is a hint by
that document, and is not looked at.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB, MIB

_FAT12_BELOW, _FAT16_BELOW = 4085, 65525
_CLUSTERS_AT_MOST = 16 * MIB
_DIRTY_FLAGS = 0x3
_MIRRORING_OFF = 0x80
_ENTRY_BYTES, _DELETED, _ITSELF = 32, 0xE5, b".          "
_LABEL, _FOLDER, _LONG = 0x08, 0x10, 0x0F
# powers of two on disks, others on floppies; where the data begin hangs on it, and nothing else tells that
_ROOT_ENTRIES = (*(1 << power for power in range(4, 16)), 112, 192, 224, 240)
_FOLDERS_AT_MOST = 256 * KIB
_LARGEST_FOLDER = 8 * MIB
_SECTORS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class _Table:
    """Sizes and places in bytes. ``entry_bits``: 12, 16 or 32; ``root_bytes``: of the root folder where it has its own place."""

    entry_bits: int
    table_offset: int
    table_bytes: int
    tables: int
    data_offset: int
    cluster_bytes: int
    clusters: int
    root_cluster: int
    root_bytes: int
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
    _check_tree(volume, table, entries)
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
    if is_fat32 and (struct.unpack_from("<H", raw, 42)[0] or not 2 <= root < clusters + 2):
        raise NotUnderstood("its version is not known")
    if is_fat32 and struct.unpack_from("<H", raw, 40)[0] & _MIRRORING_OFF:
        raise NotUnderstood("only one of its tables is kept up to date")
    table_bytes = table_sectors * sector
    if bool(root_entries) == is_fat32 or (root_entries not in _ROOT_ENTRIES and not is_fat32):
        raise NotUnderstood(f"its root folder has room for {root_entries} files")
    return _Table(
        bits, reserved * sector, table_bytes, tables, data_sector * sector, cluster_sectors * sector, clusters, root,
        root_sectors * sector, raw[21],
    )  # fmt: skip


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


def _check_tree(volume: Volume, table: _Table, entries: Sequence[int]) -> None:
    """Whether every file has as many clusters as its size takes, and every folder is where it says. Raises NotUnderstood.

    The boot sector has no checksum: with another size of clusters or of the root folder all places would be wrong.
    """
    begin = table.data_offset - table.root_bytes
    root = _folder(volume, table, entries, table.root_cluster) if table.root_cluster else volume.read(table.root_bytes, begin)
    folders, seen = [root], {table.root_cluster}
    while folders:
        for attributes, first, size in _files(folders.pop()):
            if not attributes & _FOLDER:
                if sum(1 for _ in _chain(table, entries, first)) * table.cluster_bytes < size:
                    raise NotUnderstood("a file has fewer clusters than its size takes")
                continue
            if first in seen or len(seen) > _FOLDERS_AT_MOST:
                raise NotUnderstood("its folders are a loop, or too many")
            seen.add(first)
            raw = _folder(volume, table, entries, first)
            # a folder begins with itself, by the name "."
            if raw[:11] != _ITSELF or _first_cluster(raw) != first:
                raise NotUnderstood("a folder is not where it should be")
            folders.append(raw)


def _files(folder: bytes) -> Iterator[tuple[int, int, int]]:
    """Attributes, first cluster and size of every entry but a folder's own two, labels and parts of long names."""
    for at in range(0, len(folder), _ENTRY_BYTES):
        entry = folder[at : at + _ENTRY_BYTES]
        if not entry[0]:
            return
        if entry[0] != _DELETED and not entry[11] & _LABEL and not entry.startswith(b".") and (entry[11] & _LONG) != _LONG:
            yield entry[11], _first_cluster(entry), struct.unpack_from("<I", entry, 28)[0]


def _first_cluster(entry: bytes) -> int:
    high, low = struct.unpack_from("<H", entry, 20)[0], struct.unpack_from("<H", entry, 26)[0]
    return int(high << 16 | low)


def _chain(table: _Table, entries: Sequence[int], first: int) -> Iterator[int]:
    """The clusters of a file from its first one on; none for 0. Chains were looked at before: none leads astray."""
    cluster, steps = first, 0
    while cluster:
        steps += 1
        if not 2 <= cluster < table.clusters + 2 or steps > table.clusters or not entries[cluster] & table.mask:
            raise NotUnderstood("a file has clusters that are free, not there, or without end")
        yield cluster
        cluster = entries[cluster] & table.mask
        if cluster >= table.mask & ~0xF:
            return


def _folder(volume: Volume, table: _Table, entries: Sequence[int], first: int) -> bytes:
    parts = []
    for cluster in _chain(table, entries, first):
        parts.append(volume.read(table.cluster_bytes, table.data_offset + (cluster - 2) * table.cluster_bytes))
        if len(parts) * table.cluster_bytes > _LARGEST_FOLDER:
            raise NotUnderstood("a folder is too large")
    return b"".join(parts)
