"""Ranges that are free, as many as memory allows: in order, neighbours joined, short ones left away."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from p2v.core.units import KIB

LEAST_RUN_BYTES = 64 * KIB
"""What the copy leaves out as zeroes (``pieces.SUBPIECE_BYTES``): a shorter run costs more than it gains."""
RUNS_AT_MOST = 512 * 1024
"""Ranges kept; 16 bytes each."""


class Runs:
    """Ranges in the order of their offsets (bytes), in bounded memory.

    Where there are more than ``at_most``, the shortest are given up: they are copied, which is never wrong.
    """

    def __init__(self, least_bytes: int = LEAST_RUN_BYTES, at_most: int = RUNS_AT_MOST) -> None:
        self.least_bytes = least_bytes
        self._at_most = at_most
        self._starts, self._lengths = array("Q"), array("Q")
        self._start = self._end = 0

    def add(self, offset: int, length: int) -> None:
        """Add a range that begins where the last one ended, or behind it."""
        if offset < self._end:
            raise ValueError(f"the range at {offset} comes before the end of the last one, {self._end}")
        if offset == self._end:
            self._end += length
            return
        self._keep()
        self._start, self._end = offset, offset + length

    def _keep(self) -> None:
        start, self._start = self._start, self._end
        if self._end - start < self.least_bytes:
            return
        self._starts.append(start)
        self._lengths.append(self._end - start)
        if len(self._starts) >= self._at_most:
            self.shrink(self._at_most // 2)

    def shrink(self, at_most: int) -> None:
        """Give up the shortest until there are no more than ``at_most``; of those as long as each other, the last."""
        if len(self) <= at_most:
            return
        limit = sorted(self._lengths, reverse=True)[at_most - 1]
        room = at_most - sum(length > limit for length in self._lengths)
        kept = []
        for index, length in enumerate(self._lengths):
            if length > limit or (length == limit and room > 0):
                kept.append(index)
                room -= length == limit
        self._starts = array("Q", (self._starts[index] for index in kept))
        self._lengths = array("Q", (self._lengths[index] for index in kept))
        self.least_bytes = max(self.least_bytes, limit)

    def __len__(self) -> int:
        self._keep()
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of each."""
        self._keep()
        return iter(zip(self._starts, self._lengths, strict=True))

    def touches(self, offset: int, length: int) -> bool:
        """Whether a range has a byte in one of them."""
        self._keep()
        index = bisect_left(self._starts, offset + length) - 1
        return index >= 0 and self._starts[index] + self._lengths[index] > offset

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        self._keep()
        return sum(self._lengths)


def clear_bits(bits: int, count: int, least: int) -> Iterator[tuple[int, int]]:
    """The runs of at least ``least`` clear bits among the lowest ``count`` bits of a number: (first bit, bits) each.

    Runs at both ends are told whatever their length, for they may go on in the neighbours.
    """
    bits &= (1 << count) - 1
    if not bits:
        yield 0, count
        return
    # the lowest bit first; padded, for leading zeroes are not written
    digits = f"{bits:0{count}b}"[::-1]
    wanted, begin, tail = "0" * max(1, least), digits.find("1"), digits.rfind("1") + 1
    if begin:
        yield 0, begin
    # str.find looks for a run as quickly as memory is read, where a pattern would try at every place
    while (start := digits.find(wanted, begin, tail)) >= 0:
        begin = digits.find("1", start)
        yield start, begin - start
    if tail < count:
        yield tail, count - tail
