"""Whether a qcow2 image's refcounts say what its tables do; reading the disk needs none of them.

A refcount too low lets the next writer take a cluster that is in use; one too high is lost space and no harm. Bit 63 of
an entry says that its cluster's refcount is one: where it lies, a writer changes what a snapshot holds too.
"""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from converters import c_qcow2
from converters.c_qcow2 import Qcow2Header
from converters.qcow2 import read_extensions, read_header
from converters.qcow2_references import ClusterCounts, NotCounted, ReferenceWalk, Wrong
from converters.source_file import SourceFile
from converters.tables import EntryPages, Run
from p2v.core.errors import BadImage

# Clusters that are looked at together; less where a refcount block has less.
_PAGE_CLUSTERS = 4096
_MAX_PAGES = 4 * 1024 * 1024
_CACHED_PAGES = 256
_ADVICE = "Reading is safe. Before anything writes to it: qemu-img check -r all, on a copy."

Report = Callable[[BadImage], None]
Refcounts: TypeAlias = "bytes | bytearray | array[int]"


@dataclass(slots=True)
class RefcountCheck:
    """What was found, as ``qemu-img check`` counts it.

    ``leaks``: clusters whose refcount is too high. ``corruptions``: clusters whose refcount is too low, and bits 63 that
    are wrong; each was reported. ``not_checked`` says why there are no numbers, or nothing.
    """

    leaks: int = 0
    corruptions: int = 0
    first_leak_offset: int = 0
    not_checked: str = ""


def check_refcounts(file: SourceFile, report: Report) -> RefcountCheck:
    """Compare the refcounts of an image with its references. Raises BadImage (its header), ReadFailed.

    Memory: below 250 MB whatever the image says; what would take more is not checked.
    """
    header = read_header(file)
    if header.incompatible_features & c_qcow2.INCOMPAT_DIRTY:
        return RefcountCheck(not_checked="it is marked dirty: QEMU puts them right when it opens it for writing")
    found = RefcountCheck()
    try:
        comparison = _Comparison(file, header, report, found)
        comparison.count()
        comparison.compare()
    except NotCounted as reason:
        return RefcountCheck(not_checked=str(reason))
    except BadImage as error:
        report(error)
        return RefcountCheck(not_checked=error.problem)
    return found


class _Comparison:
    def __init__(self, file: SourceFile, header: Qcow2Header, report: Report, found: RefcountCheck) -> None:
        if header.refcount_order > c_qcow2.MAX_REFCOUNT_ORDER:
            problem = f"its refcounts have 2^{header.refcount_order} bits, at most 64 are possible"
            raise BadImage(file.path, problem)
        self._file = file
        self._header = header
        self._report = report
        self._found = found
        self._cluster = header.cluster_bytes
        self._clusters = -(-file.size // self._cluster)
        self._stored = _StoredRefcounts(file, header)
        self._counts = ClusterCounts(self._stored.page_clusters)
        self._run: tuple[int, int, int, int] | None = None

    def count(self) -> None:
        """Count the references, and look at every bit 63 on the way."""
        walk = ReferenceWalk(self._file, self._header, self._counts, self._wrong, self._flag)
        walk.count(read_extensions(self._file, self._header))
        self._stored.count_itself(self._counts, self._wrong)

    def compare(self) -> None:
        """Compare page by page; pages that are neither counted nor have a refcount block are left out."""
        for number in self._pages():
            refcounts, references = self._stored.page(number), self._counts.page(number)
            if refcounts is not None and refcounts != references:
                self._compare_page(number, refcounts, references)
        self._end_run()

    def _pages(self) -> Iterator[int]:
        counted, at = self._counts.pages(), 0
        for first, last in self._stored.page_ranges():
            stop = bisect_left(counted, first, at)
            yield from counted[at:stop]
            yield from range(first, last)
            at = bisect_left(counted, last, stop)
        yield from counted[at:]

    def _wrong(self, problem: str) -> None:
        self._found.corruptions += 1
        self._report(BadImage(self._file.path, problem, _ADVICE))

    def _compare_page(self, number: int, refcounts: Refcounts, references: Refcounts) -> None:
        first = number * self._stored.page_clusters
        for index, (refcount, named) in enumerate(zip(refcounts, references, strict=True)):
            if refcount != named and first + index < self._clusters:
                self._different(first + index, refcount, named)

    def _different(self, cluster: int, refcount: int, references: int) -> None:
        if refcount > references:
            if not self._found.leaks:
                self._found.first_leak_offset = cluster * self._cluster
            self._found.leaks += 1
            return
        # QEMU counts each reference above the largest refcount there can be, and then that the refcount is below that
        largest = self._stored.largest
        self._found.corruptions += max(0, references - largest) + (refcount < min(references, largest))
        if self._run is not None:
            begin, count, *numbers = self._run
            if begin + count == cluster and numbers == [refcount, references]:
                self._run = (begin, count + 1, refcount, references)
                return
            self._end_run()
        self._run = (cluster, 1, refcount, references)

    def _end_run(self) -> None:
        """Report the clusters in a row whose refcounts are too low in the same way."""
        if self._run is None:
            return
        (begin, count, refcount, references), self._run = self._run, None
        what = f"the cluster at byte {begin * self._cluster} is"
        if count > 1:
            what = f"each of the {count} clusters from byte {begin * self._cluster} on is"
        times = "once" if references == 1 else f"{references} times"
        self._report(BadImage(self._file.path, f"{what} in use {times}, but its refcount is {refcount}", _ADVICE))

    def _flag(self, is_set: bool, first: int | None, count: int, at: int) -> None:
        if first is None:
            self._found.corruptions += count
            problem = f"the table entry at byte {at} is of a compressed cluster, and has bit 63, which is for others"
            self._report(BadImage(self._file.path, problem, _ADVICE))
            return
        wrong = self._wrong_flags(is_set, first, count)
        if wrong:
            self._found.corruptions += wrong
            where = f"table entry at byte {at}" if count == 1 else f"{count} table entries from byte {at} on"
            those = "" if wrong == count else f" (in {wrong} of them)"
            says = "that its cluster's refcount is one" if is_set else "that its cluster's refcount is not one"
            problem = f"the {where} wrongly says by bit 63 {says}{those}"
            self._report(BadImage(self._file.path, problem, _ADVICE))

    def _wrong_flags(self, is_set: bool, first: int, count: int) -> int:
        wrong, size = 0, self._stored.page_clusters
        while count:
            number, begin = divmod(first, size)
            end = min(begin + count, size)
            page = self._stored.page(number)
            if page is not None:
                ones = page[begin:end].count(1)
                wrong += end - begin - ones if is_set else ones
            first, count = first + end - begin, count - (end - begin)
        return wrong


class _StoredRefcounts:
    """The refcount table and its blocks, read by pages of clusters."""

    def __init__(self, file: SourceFile, header: Qcow2Header) -> None:
        self._file = file
        self._header = header
        self._cluster = header.cluster_bytes
        self._block_clusters = self._cluster * 8 >> header.refcount_order
        self.page_clusters = min(_PAGE_CLUSTERS, self._block_clusters)
        self.largest = (1 << (1 << header.refcount_order)) - 1
        table_bytes = header.refcount_table_clusters * self._cluster
        if table_bytes > c_qcow2.MAX_REFCOUNT_TABLE_BYTES or header.refcount_table_offset % self._cluster:
            problem = f"its refcount table of {table_bytes} bytes at byte {header.refcount_table_offset} cannot be"
            raise BadImage(file.path, problem, _ADVICE)
        file.require(table_bytes, header.refcount_table_offset, "the refcount table")
        self._blocks = table_bytes // c_qcow2.ENTRY_BYTES
        self._table = EntryPages(file, 8, "big", "the refcount table")
        self._nothing = bytes(self.page_clusters)
        self._cached = functools.lru_cache(maxsize=_CACHED_PAGES)(self._read)

    def page(self, number: int) -> Refcounts | None:
        """The refcounts of a page of clusters; None where nobody can tell."""
        return self._cached(number)

    def page_ranges(self) -> Iterator[tuple[int, int]]:
        """The pages (first, last exclusive) that have a refcount block, in order; only those within the file's clusters.

        Raises NotCounted where there are too many of them.
        """
        per_block = self._block_clusters // self.page_clusters
        file_pages = -(-self._file.size // (self._cluster * self.page_clusters))
        left = _MAX_PAGES
        for index, count, entry in self._runs():
            first, last = index * per_block, min((index + count) * per_block, file_pages)
            if entry and first < last:
                left -= last - first
                if left < 0:
                    raise NotCounted(f"it has refcounts for more than {_MAX_PAGES * self.page_clusters} clusters")
                yield first, last

    def count_itself(self, counts: ClusterCounts, wrong: Wrong) -> None:
        """Count the clusters of the table and of the blocks; blocks that cannot be are told as wrong."""
        counts.add(self._header.refcount_table_offset // self._cluster, self._header.refcount_table_clusters, 1)
        for index, count, entry in self._runs():
            for number in range(index, index + count if entry else index):
                offset = entry + (number - index) * self._cluster
                if not self._is_place(offset):
                    wrong(f"refcount block {number} would be at byte {offset}, where none can be")
                    continue
                counts.add(offset // self._cluster, 1, 1)
                if counts.of(offset // self._cluster) > 1:
                    wrong(f"refcount block {number} at byte {offset} shares its cluster with something else")

    def _runs(self) -> Iterator[Run]:
        """Blocks that stand side by side."""
        table = self._header.refcount_table_offset
        return self._table.runs(table, self._blocks, 0, self._blocks, lambda entry: self._cluster if entry else 0)

    def _is_place(self, offset: int) -> bool:
        return offset % self._cluster == 0 and offset < self._file.size

    def _read(self, number: int) -> Refcounts | None:
        index, within = divmod(number * self.page_clusters, self._block_clusters)
        if index >= self._blocks:
            return self._nothing
        entry = self._table.entry(self._header.refcount_table_offset, self._blocks, index)
        if entry == 0 or entry >= self._file.size:
            return self._nothing
        if not self._is_place(entry):
            return None
        order = self._header.refcount_order
        length = (self.page_clusters << order) // 8
        # what a block misses past the end of the file is zero, as it is for QEMU
        raw = self._file.pread(length, entry + (within << order) // 8).ljust(length, b"\0")
        return c_qcow2.unpack_refcounts(raw, order)
