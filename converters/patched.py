"""A disk with some ranges taken from another one of the same size."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.extents import part_of
from p2v.core.disk import DiskReader, Extent


@dataclass(frozen=True)
class PatchedDisk:
    """Reads as ``below``, but within ``ranges`` (offset, length; in order, apart, inside the disk) as ``patch``.

    Closing closes neither.
    """

    below: DiskReader
    patch: DiskReader
    ranges: tuple[tuple[int, int], ...]

    @property
    def virtual_size(self) -> int:
        """That of both."""
        return self.below.virtual_size

    @property
    def files(self) -> tuple[Path, ...]:
        """Of both."""
        return (*self.below.files, *self.patch.files)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``DiskReader.pread``."""
        end = min(offset + length, self.virtual_size)
        pieces = []
        while offset < end:
            disk, until = self._at(offset)
            step = min(until, end) - offset
            pieces.append(disk.pread(step, offset))
            offset += step
        return b"".join(pieces)

    def _at(self, offset: int) -> tuple[DiskReader, int]:
        """Whose byte that is, and up to where."""
        number = bisect_right(self.ranges, offset, key=lambda r: r[0]) - 1
        if number >= 0 and offset < sum(self.ranges[number]):
            return self.patch, sum(self.ranges[number])
        following = self.ranges[number + 1 : number + 2]
        return self.below, following[0][0] if following else self.virtual_size

    def extents(self) -> Iterator[Extent]:
        """See ``DiskReader.extents``: an extent that a range touches is cut; the ranges themselves are read."""
        at = 0
        for extent in self.below.extents():
            while at < extent.end:
                disk, until = self._at(at)
                if disk is self.patch:
                    yield Extent(at, until - at, zero=False, allocated=True)
                    at = until
                    continue
                end = min(until, extent.end)
                yield part_of(extent, at, end)
                at = end

    def close(self) -> None:
        """Nothing: the two disks belong to others."""


def sorted_apart(ranges: Sequence[tuple[int, int]], virtual_size: int) -> tuple[tuple[int, int], ...] | None:
    """The ranges in order; None where they overlap, are empty or negative, or do not lie within the disk."""
    ordered = tuple(sorted(ranges))
    at = 0
    for offset, length in ordered:
        if offset < at or length < 1 or offset + length > virtual_size:
            return None
        at = offset + length
    return ordered
