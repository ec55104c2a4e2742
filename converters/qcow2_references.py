"""How often each cluster of a qcow2 image is named: by its header, tables, snapshots and bitmaps.

That is what the image's refcounts have to say (``qcow2_refcounts``). L2 tables that several snapshots share are read
once. What is damaged in the active tables is told by the reader's own walk, so it is only left out here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from converters import c_qcow2
from converters.c_qcow2 import Qcow2Header
from converters.source_file import SourceFile
from converters.tables import EntryPages
from p2v.core.errors import BadImage

Wrong = Callable[[str], None]
Flagged = Callable[[bool, "int | None", int, int], None]

_LARGEST_IN_A_BYTE = 255
_ONES = bytes(min(value + 1, _LARGEST_IN_A_BYTE) for value in range(256))
# Counters are bytes (longer ones where a cluster is named very often): for as much as 8 TiB in clusters of 64 KiB.
_MAX_COUNTER_BYTES = 128 * 1024 * 1024
# What Python takes for a page beside its counters.
_PAGE_OVERHEAD_BYTES = 256
# Each takes some hundred bytes here, and has to be read: 32 TiB of disk in clusters of 64 KiB.
_MAX_L2_TABLES = 512 * 1024
_MAX_L2_BYTES = 4 * 1024 * 1024 * 1024
_MAX_L1_ENTRIES = 32 * 1024 * 1024
_MAX_BITMAP_ENTRIES = 32 * 1024 * 1024
_DAMAGED = "Its snapshots or bitmaps cannot be used; the current state is what p2v disk convert copies."


class NotCounted(Exception):
    """The references cannot be counted; the argument says why, as the end of a sentence."""


class ClusterCounts:
    """A number for each cluster of a file; memory only for pages of clusters that have one above zero.

    Raises NotCounted where that would take more than 128 MiB.
    """

    def __init__(self, page_clusters: int) -> None:
        self.page_clusters = page_clusters
        self._pages: dict[int, bytearray | array[int]] = {}
        self._room = _MAX_COUNTER_BYTES
        self._fresh = bytes(page_clusters)

    def add(self, first: int, count: int, times: int) -> None:
        """Count ``times`` more for the clusters from ``first`` on."""
        while count:
            number, begin = divmod(first, self.page_clusters)
            end = min(begin + count, self.page_clusters)
            self._add_in_page(number, begin, end, times)
            first, count = first + end - begin, count - (end - begin)

    def of(self, cluster: int) -> int:
        """The count of one cluster."""
        number, index = divmod(cluster, self.page_clusters)
        return self.page(number)[index]

    def page(self, number: int) -> bytes | bytearray | array[int]:
        """The counts of one page of clusters."""
        return self._pages.get(number, self._fresh)

    def pages(self) -> list[int]:
        """The numbers of the pages that have counts, in order."""
        return sorted(self._pages)

    def _add_in_page(self, number: int, begin: int, end: int, times: int) -> None:
        page = self._pages.get(number)
        if page is None:
            self._take(self.page_clusters + _PAGE_OVERHEAD_BYTES)
            page = self._pages[number] = bytearray(self.page_clusters)
        part = page[begin:end]
        most = max(part)
        if isinstance(page, bytearray) and most + times <= _LARGEST_IN_A_BYTE:
            if most == 0:
                page[begin:end] = bytes((times,)) * (end - begin)
            elif times == 1:
                page[begin:end] = page[begin:end].translate(_ONES)
            else:
                page[begin:end] = bytes(value + times for value in part)
            return
        if isinstance(page, bytearray):
            self._take(7 * self.page_clusters)
            page = self._pages[number] = array("Q", list(page))
        for index in range(begin, end):
            page[index] += times

    def _take(self, wanted: int) -> None:
        self._room -= wanted
        if self._room < 0:
            raise NotCounted(f"counting what is stored would take more than {_MAX_COUNTER_BYTES >> 20} MiB of memory")


class ReferenceWalk:
    """Looks through everything that names clusters, and counts it in ``counts``.

    ``wrong`` is told what is wrong with snapshots and bitmaps; ``flagged`` is told of the active tables' entries: whether
    bit 63 is set, the first cluster that is named, how many entries name clusters in a row, and where in the file the first
    of them is. Of compressed clusters, which may not have the bit, it is told only where they have it, with None for the
    cluster, and once for each table of L2 tables.
    """

    def __init__(self, file: SourceFile, header: Qcow2Header, counts: ClusterCounts, wrong: Wrong, flagged: Flagged) -> None:
        self._file = file
        self._header = header
        self._cluster = header.cluster_bytes
        self._counts = counts
        self._wrong = wrong
        self._flagged = flagged
        self._has_data_file = bool(header.incompatible_features & c_qcow2.INCOMPAT_DATA_FILE)
        self._l1 = EntryPages(file, 8, "big", "an L1 table")
        self._l2 = EntryPages(file, 8, "big", "an L2 table")
        self._l1_entries = 0
        # how often each L2 table is named, by where it is
        self._active: dict[int, int] = {}
        self._of_snapshots: dict[int, int] = {}

    def count(self, extensions: dict[int, bytes]) -> None:
        """Count everything but the refcount structures. Raises NotCounted, BadImage, ReadFailed."""
        header = self._header
        self._region(0, self._cluster)
        self._l1_table(header.l1_table_offset, header.l1_size, active=True)
        self._snapshots()
        for offset, times in self._active.items():
            self._l2_table(offset, times + self._of_snapshots.pop(offset, 0), active=True)
        for offset, times in self._of_snapshots.items():
            self._l2_table(offset, times, active=False)
        if header.autoclear_features & c_qcow2.AUTOCLEAR_BITMAPS:
            # without that flag what they say is out of date, and their clusters belong to nobody
            self._bitmaps(extensions.get(c_qcow2.EXT_BITMAPS, b""))

    def _region(self, offset: int, length: int, times: int = 1) -> None:
        """Count the clusters of a range; it is known to begin in the file, and what of it lies behind that does not count."""
        end = min(offset + length, self._file.size)
        if offset < end:
            first = offset // self._cluster
            self._counts.add(first, (end - 1) // self._cluster + 1 - first, times)

    def _l1_table(self, offset: int, entries: int, *, active: bool) -> None:
        self._l1_entries += entries
        if self._l1_entries > _MAX_L1_ENTRIES:
            raise NotCounted(f"its snapshots' L1 tables have more than {_MAX_L1_ENTRIES} entries together")
        self._file.require(entries * c_qcow2.ENTRY_BYTES, offset, "an L1 table")
        self._region(offset, entries * c_qcow2.ENTRY_BYTES)
        named = self._active if active else self._of_snapshots
        for index, count, entry in self._l1.runs(offset, entries, 0, entries, _equal):
            table = entry & c_qcow2.L1E_OFFSET_MASK
            if table == 0:
                continue
            if table % self._cluster or table + self._cluster > -(-self._file.size // self._cluster) * self._cluster:
                if not active:
                    self._wrong(f"L1 entry {index} of a snapshot names byte {table}, where no L2 table can be")
                continue
            self._region(table, self._cluster, count)
            named[table] = named.get(table, 0) + count
            if active:
                for each in range(index, index + count):
                    self._flag(entry, table, 1, offset + each * c_qcow2.ENTRY_BYTES)
            most = min(_MAX_L2_TABLES, _MAX_L2_BYTES // self._cluster)
            if len(self._active) + len(self._of_snapshots) > most:
                raise NotCounted(f"it has more than {most} L2 tables")

    def _snapshots(self) -> None:
        header, at = self._header, self._header.snapshots_offset
        if header.nb_snapshots > c_qcow2.MAX_SNAPSHOTS:
            raise NotCounted(f"its header says {header.nb_snapshots} snapshots")
        end = at + c_qcow2.MAX_SNAPSHOT_TABLE_BYTES
        for number in range(header.nb_snapshots):
            raw = self._file.read_exactly(c_qcow2.SNAPSHOT_ENTRY_BYTES, at, f"entry {number} of the snapshot table")
            entry = c_qcow2.unpack_snapshot(raw)
            self._file.require(entry.entry_bytes - 7, at, f"entry {number} of the snapshot table")
            at += entry.entry_bytes
            if at > end:
                raise NotCounted(f"its snapshot table has more than {c_qcow2.MAX_SNAPSHOT_TABLE_BYTES} bytes")
            if entry.l1_table_offset % self._cluster or entry.l1_size * c_qcow2.ENTRY_BYTES > c_qcow2.MAX_L1_BYTES:
                problem = f"snapshot {number} has {entry.l1_size} L1 entries at byte {entry.l1_table_offset}, which cannot be"
                self._wrong(problem)
                continue
            self._l1_table(entry.l1_table_offset, entry.l1_size, active=False)
        self._region(header.snapshots_offset, at - header.snapshots_offset)

    def _l2_table(self, offset: int, times: int, *, active: bool) -> None:
        if offset + self._cluster > self._file.size:
            raise NotCounted(f"the L2 table at byte {offset} is cut at the end of the file")
        past = 0
        for at, count, entry in self._entries(offset):
            if entry & c_qcow2.OFLAG_COMPRESSED:
                self._compressed(entry, count * times)
                if entry & c_qcow2.OFLAG_COPIED:
                    self._flagged(True, None, count * times, at)
                continue
            place = entry & c_qcow2.L2E_OFFSET_MASK
            if place == 0 or self._has_data_file:
                continue
            if place % self._cluster or place >= self._file.size:
                past = past or place
                continue
            self._region(place, count * self._cluster, times)
            if active:
                inside = min(count, -(-(self._file.size - place) // self._cluster))
                self._flag(entry, place, inside, at)
        if past and not active:
            self._wrong(f"the L2 table at byte {offset} of a snapshot names byte {past}, where no cluster can be")

    def _entries(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """The runs of an L2 table as (place of the first entry in the file, count, the first entry)."""
        entries = self._header.l2_entries
        if self._header.has_subclusters:
            pairs = self._l2.pair_runs(offset, entries, 0, entries, lambda entry, _bitmap: self._step(entry))
            for index, count, entry, _bitmap in pairs:
                yield offset + index * c_qcow2.EXTENDED_L2_ENTRY_BYTES, count, entry
        else:
            for index, count, entry in self._l2.runs(offset, entries, 0, entries, self._step):
                yield offset + index * c_qcow2.ENTRY_BYTES, count, entry

    def _step(self, entry: int) -> int:
        plain = not entry & c_qcow2.OFLAG_COMPRESSED and entry & c_qcow2.L2E_OFFSET_MASK
        return self._cluster if plain else 0

    def _compressed(self, entry: int, times: int) -> None:
        if not self._has_data_file:
            self._region(*c_qcow2.compressed_range(entry, self._header.cluster_bits), times)

    def _flag(self, entry: int, place: int, count: int, at: int) -> None:
        self._flagged(bool(entry & c_qcow2.OFLAG_COPIED), place // self._cluster, count, at)

    def _bitmaps(self, extension: bytes) -> None:
        if not extension:
            return
        try:
            bitmaps, size, offset = c_qcow2.unpack_bitmaps_extension(extension)
        except ValueError as error:
            raise BadImage(self._file.path, f"its bitmaps' header extension has {len(extension)} bytes", _DAMAGED) from error
        if bitmaps > c_qcow2.MAX_BITMAPS or size > c_qcow2.MAX_BITMAP_DIRECTORY_BYTES:
            raise NotCounted(f"its header says {bitmaps} bitmaps in {size} bytes")
        self._file.require(size, offset, "the bitmap directory")
        self._region(offset, size)
        at, left = offset, _MAX_BITMAP_ENTRIES
        for number in range(bitmaps):
            raw = self._file.read_exactly(c_qcow2.BITMAP_ENTRY_BYTES, at, f"entry {number} of the bitmap directory")
            entry = c_qcow2.unpack_bitmap(raw)
            at, left = at + entry.entry_bytes, left - entry.table_size
            if at > offset + size or left < 0:
                raise BadImage(self._file.path, f"bitmap {number} of its directory at byte {offset} cannot be", _DAMAGED)
            self._bitmap_table(entry.table_offset, entry.table_size)

    def _bitmap_table(self, offset: int, entries: int) -> None:
        self._file.require(entries * c_qcow2.ENTRY_BYTES, offset, "a bitmap's table")
        self._region(offset, entries * c_qcow2.ENTRY_BYTES)
        for _index, count, entry in self._l1.runs(offset, entries, 0, entries, self._bitmap_step):
            place = entry & c_qcow2.BITMAP_TABLE_OFFSET_MASK
            if place % self._cluster or place >= self._file.size:
                self._wrong(f"the bitmap table at byte {offset} names byte {place}, where no cluster can be")
            elif place:
                self._region(place, count * self._cluster)

    def _bitmap_step(self, entry: int) -> int:
        return self._cluster if entry & c_qcow2.BITMAP_TABLE_OFFSET_MASK else 0


def _equal(_entry: int) -> int:
    return 0
