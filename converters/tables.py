"""Allocation tables (BAT, L1/L2, grain directories and tables) read a page at a time.

A 64 TiB disk's tables can be larger than memory should be; a bounded number of pages is kept.
"""

from __future__ import annotations

import functools
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Literal

from converters.source_file import SourceFile

PAGE_ENTRIES = 4096
_CACHED_PAGES = 128

Run = tuple[int, int, int]


class EntryPages:
    """Fixed-width unsigned entries of one file's tables; ``what`` names the table in errors."""

    def __init__(self, file: SourceFile, width: Literal[4, 8], byteorder: Literal["big", "little"], what: str) -> None:
        self._file = file
        self._width = width
        self._typecode = "I" if width == 4 else "Q"
        self._swap = byteorder != sys.byteorder
        self._what = what
        self._page = functools.lru_cache(maxsize=_CACHED_PAGES)(self._load)

    def entry(self, table_offset: int, entries: int, index: int) -> int:
        """Entry ``index`` of the table of ``entries`` entries at byte ``table_offset``."""
        page, within = divmod(index, PAGE_ENTRIES)
        return self._page(table_offset, entries, page)[within]

    def runs(
        self, table_offset: int, entries: int, first: int, last: int, step_of: Callable[[int], int]
    ) -> Iterator[Run]:
        """Entries ``first`` to ``last`` (exclusive) as (index, count, value of the first) runs.

        Within a run each entry is its predecessor plus ``step_of(value of the first)``; a step of 0 joins
        equal entries. Runs end at page boundaries.
        """
        index = first
        while index < last:
            page_number = index // PAGE_ENTRIES
            base = page_number * PAGE_ENTRIES
            page = self._page(table_offset, entries, page_number)
            end = min(last - base, len(page))
            for start, count, value in _page_runs(page, index - base, end, step_of):
                yield base + start, count, value
            index = base + end

    def pair_runs(
        self, table_offset: int, pairs: int, first: int, last: int, step_of: Callable[[int, int], int]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Pairs ``first`` to ``last`` (exclusive) of a table of pairs, as (index, count, entry, second entry) runs.

        Within a run the second entries are equal, and each entry is its predecessor plus ``step_of(both)``.
        """
        index = first
        while index < last:
            page_number, within = divmod(2 * index, PAGE_ENTRIES)
            page = self._page(table_offset, 2 * pairs, page_number)[within : within + 2 * (last - index)]
            start, value, second, step, expected = index, -1, -1, 0, -1
            for entry, other in zip(page[::2], page[1::2], strict=True):
                if entry != expected or other != second:
                    if index > start:
                        yield start, index - start, value, second
                    start, value, second, step = index, entry, other, step_of(entry, other)
                    expected = entry
                expected += step
                index += 1
            yield start, index - start, value, second

    def _load(self, table_offset: int, entries: int, page: int) -> array[int]:
        first = page * PAGE_ENTRIES
        count = min(PAGE_ENTRIES, entries - first)
        raw = self._file.read_exactly(count * self._width, table_offset + first * self._width, self._what)
        loaded = array(self._typecode, raw)
        if self._swap:
            loaded.byteswap()
        return loaded


def _page_runs(page: array[int], start: int, end: int, step_of: Callable[[int], int]) -> Iterator[Run]:
    while start < end:
        value = page[start]
        step = step_of(value)
        stop = start + 1
        if step == 0 and start == 0 and page.count(value) == len(page):
            # Empty stretches of large disks: one look at the page instead of one at each entry.
            stop = end
        expected = value + step
        while stop < end and page[stop] == expected:
            expected += step
            stop += 1
        yield start, stop - start, value
        start = stop
