"""Free clusters of exFAT, from its allocation bitmap.

The bitmap has no checksum, so all folders are walked: what any file has must be taken.

Source: Microsoft's "exFAT file system specification", whose names the structures bear.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

from converters.allocation.runs import Runs, clear_bits
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB, MIB

NAME = b"EXFAT   "
_REVISION = 0x0100
_DIRTY, _MEDIA_FAILURE, _SECOND_TABLE = 0x2, 0x4, 0x1
_BOOT_SECTORS = 11
_CHANGING = (106, 107, 112)
_LARGEST_BITMAP = 64 * MIB
_FOLDERS_AT_MOST = 256 * KIB
_LARGEST_FOLDER = 256 * MIB
_ENTRY_BYTES = 32
_BITMAP, _UPCASE, _FILE, _STREAM = 0x81, 0x82, 0x85, 0xC0
_IS_FOLDER = 0x10
_HAS_CLUSTERS, _NO_CHAIN = 0x1, 0x2
_LAST = 0xFFFFFFFF
_STEP_BYTES = 4096
_PAGE_ENTRIES = 16 * KIB

Stretch = tuple[int, int]
"""First cluster (the heap's first has the number 2) and count."""


def is_exfat(volume: Volume) -> bool:
    """Whether there is a boot sector."""
    return volume.peek(8, 3) == NAME


def free_runs(volume: Volume) -> Runs:
    """The ranges of free clusters. Raises NotUnderstood."""
    heap = _Heap(volume)
    root = heap.contents(heap.chain(heap.root))
    bitmap = heap.bitmap(root)
    _check_taken(heap, bitmap, root)
    runs = Runs()
    for begin in range(0, len(bitmap), _STEP_BYTES):
        count = min(_STEP_BYTES * 8, heap.clusters - begin * 8)
        used = int.from_bytes(bitmap[begin : begin + _STEP_BYTES], "little")
        for first, length in clear_bits(used, count, runs.least_bytes // heap.cluster_bytes):
            runs.add(heap.place(begin * 8 + first + 2), length * heap.cluster_bytes)
    return runs


class _Heap:
    """Boot region, table and clusters. Raises NotUnderstood."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        raw = volume.read(512, 0)
        sectors, table, table_sectors, heap, self.clusters, self.root = struct.unpack_from("<QIIIII", raw, 72)
        revision, flags, sector_bits, cluster_bits, tables = struct.unpack_from("<HHBBB", raw, 104)
        if raw[3:11] != NAME or raw[510:512] != b"\x55\xaa" or revision != _REVISION or tables != 1 or flags & _SECOND_TABLE:
            raise NotUnderstood("its version is not known")
        if flags & (_DIRTY | _MEDIA_FAILURE):
            raise NotUnderstood("it is marked dirty")
        if not 9 <= sector_bits <= 12 or not sector_bits + cluster_bits <= 25:
            raise NotUnderstood("its sectors or clusters have an impossible size")
        self.cluster_bytes = 1 << sector_bits + cluster_bits
        self._table, self._heap = table << sector_bits, heap << sector_bits
        end = self._heap + self.clusters * self.cluster_bytes
        if not end <= sectors << sector_bits <= volume.size or not 0 < self.clusters <= 8 * _LARGEST_BITMAP:
            raise NotUnderstood(f"it is {sectors << sector_bits} bytes long, in a place of {volume.size}")
        if (self.clusters + 2) * 4 > table_sectors << sector_bits or self._table + (table_sectors << sector_bits) > self._heap:
            raise NotUnderstood("its table is too short")
        self._check_boot_region(1 << sector_bits)
        self._page = lru_cache(maxsize=64)(self._read_page)

    def _check_boot_region(self, sector_bytes: int) -> None:
        raw = self._volume.read((_BOOT_SECTORS + 1) * sector_bytes, 0)
        total = 0
        for at in range(_BOOT_SECTORS * sector_bytes):
            if at not in _CHANGING:
                total = ((total << 31 | total >> 1) + raw[at]) & 0xFFFFFFFF
        if struct.pack("<I", total) * (sector_bytes // 4) != raw[_BOOT_SECTORS * sector_bytes :]:
            raise NotUnderstood("its boot region fails its checksum")

    def place(self, cluster: int) -> int:
        """Where a cluster stands, in bytes."""
        return int(self._heap + (cluster - 2) * self.cluster_bytes)

    def require(self, first: int, count: int) -> None:
        """Raise NotUnderstood unless clusters are there."""
        if first < 2 or first + count > self.clusters + 2:
            raise NotUnderstood("a file has clusters that are not there")

    def _read_page(self, number: int) -> tuple[int, ...]:
        count = min(_PAGE_ENTRIES, self.clusters + 2 - number * _PAGE_ENTRIES)
        return struct.unpack(f"<{count}I", self._volume.read(4 * count, self._table + 4 * number * _PAGE_ENTRIES))

    def chain(self, first: int) -> Iterator[Stretch]:
        """The clusters of a chain, neighbours joined."""
        begin, count, steps = first, 1, 0
        self.require(first, 1)
        while True:
            last = begin + count - 1
            following = self._page(last // _PAGE_ENTRIES)[last % _PAGE_ENTRIES]
            steps += 1
            if following == _LAST:
                yield begin, count
                return
            self.require(following, 1)
            if steps > self.clusters:
                raise NotUnderstood("a chain of clusters is a loop")
            if following == last + 1:
                count += 1
                continue
            yield begin, count
            begin, count = following, 1

    def contents(self, stretches: Iterator[Stretch]) -> bytes:
        """All bytes of some clusters; for folders."""
        parts, size = [], 0
        for first, count in stretches:
            size += count * self.cluster_bytes
            if size > _LARGEST_FOLDER:
                raise NotUnderstood("a folder is too large")
            parts.append(self._volume.read(count * self.cluster_bytes, self.place(first)))
        return b"".join(parts)

    def bitmap(self, root: bytes) -> bytes:
        """The allocation bitmap that the root folder names."""
        needed = -(-self.clusters // 8)
        found = [entry for entry in _entries(root) if entry[0] == _BITMAP]
        if len(found) != 1 or struct.unpack_from("<Q", found[0], 24)[0] != needed:
            raise NotUnderstood("it has no allocation bitmap, or several")
        data = self.contents(self.chain(struct.unpack_from("<I", found[0], 20)[0]))
        if len(data) < needed:
            raise NotUnderstood("its allocation bitmap is too short")
        return data[:needed]


def _entries(folder: bytes) -> Iterator[bytes]:
    for at in range(0, len(folder), _ENTRY_BYTES):
        if not folder[at]:
            return
        yield folder[at : at + _ENTRY_BYTES]


def _check_taken(heap: _Heap, bitmap: bytes, root: bytes) -> None:
    """Whether all that files and folders have is taken. Raises NotUnderstood."""
    used = heap.chain(heap.root)
    seen = {heap.root}
    folders = [root]

    def take(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
        for first, count in stretches:
            heap.require(first, count)
            if not _is_taken(bitmap, first - 2, count):
                raise NotUnderstood("its bitmap calls clusters free that a file has")
            yield first, count

    _exhaust(take(used))
    while folders:
        attributes = 0
        for entry in _entries(folders.pop()):
            first, length = struct.unpack_from("<IQ", entry, 20)
            if entry[0] == _FILE:
                attributes = struct.unpack_from("<H", entry, 4)[0]
            elif entry[0] in (_BITMAP, _UPCASE):
                _exhaust(take(heap.chain(first)))
            elif entry[0] == _STREAM and entry[1] & _HAS_CLUSTERS and first:
                count = -(-length // heap.cluster_bytes)
                stretches = iter([(first, count)]) if entry[1] & _NO_CHAIN else heap.chain(first)
                if not attributes & _IS_FOLDER:
                    _exhaust(take(stretches))
                    continue
                if first in seen or len(seen) > _FOLDERS_AT_MOST:
                    raise NotUnderstood("its folders are a loop, or too many")
                seen.add(first)
                folders.append(heap.contents(take(stretches)))


def _exhaust(stretches: Iterator[Stretch]) -> None:
    for _ in stretches:
        pass


def _is_taken(bitmap: bytes, first: int, count: int) -> bool:
    raw = bitmap[first // 8 : (first + count + 7) // 8]
    bits = int.from_bytes(raw, "little") >> first % 8
    return bits & (1 << count) - 1 == (1 << count) - 1
