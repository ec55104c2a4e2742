"""Which clusters of a growing file are taken, kept as the few ranges that are not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator


class FreeRanges:
    """Free ranges below ``end``, the first number that was never taken; memory grows with the gaps only."""

    def __init__(self, end: int) -> None:
        self.end = end
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The free ranges in order, as (start, count)."""
        for start, end in zip(self._starts, self._ends, strict=True):
            yield start, end - start

    def append(self, count: int) -> int:
        """Take ``count`` numbers at the end and say which is the first."""
        start = self.end
        self.end += count
        return start

    def take(self, start: int, count: int) -> None:
        """Take exactly this range. Raises ValueError when part of it is taken already."""
        end = start + count
        # what was given back just before the end is free together with all that lies behind it
        last_free = self._starts[-1] if self._ends and self._ends[-1] == self.end else self.end
        if end > self.end and start >= last_free:
            self.release(self.end, end - self.end)
            self.end = end
        at = bisect_right(self._starts, start) - 1
        if at < 0 or end > self._ends[at]:
            raise ValueError(f"{start} to {end} is taken already")
        pieces = [(self._starts[at], start), (end, self._ends[at])]
        self._replace(at, at + 1, [(a, b) for a, b in pieces if a < b])

    def release(self, start: int, count: int) -> None:
        """Give a taken range back."""
        end = start + count
        at = bisect_right(self._starts, start)
        first = last = at
        if at and self._ends[at - 1] == start:
            first, start = at - 1, self._starts[at - 1]
        if at < len(self._starts) and self._starts[at] == end:
            last, end = at + 1, self._ends[at]
        self._replace(first, last, [(start, end)])

    def _replace(self, first: int, last: int, ranges: list[tuple[int, int]]) -> None:
        self._starts[first:last] = [start for start, _ in ranges]
        self._ends[first:last] = [end for _, end in ranges]
