"""A disk without what need not travel: ranges that are left out read as zero, and nothing is stored there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from converters.allocation.left_out import LeftOut
from converters.extents import hole, merge, part_of
from p2v.core.disk import DiskReader, Extent, told_sector_size


def parts_left(extent: Extent, left_out: LeftOut) -> Iterator[Extent]:
    """An extent in pieces, with holes in place of what is left out."""
    position = extent.offset
    for gone in left_out.within(extent.offset, extent.end):
        if gone.offset > position:
            yield part_of(extent, position, gone.offset)
        yield hole(gone.offset, gone.length)
        position = gone.end
    if position < extent.end:
        yield part_of(extent, position, extent.end)


class SparseView:
    """A ``DiskReader`` over another one, which it owns: closing it closes both."""

    def __init__(self, reader: DiskReader, left_out: LeftOut) -> None:
        self.reader = reader
        self.left_out = left_out

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        return self.reader.virtual_size

    @property
    def logical_sector_size(self) -> int:
        """As the other one tells it."""
        return told_sector_size(self.reader)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the disk's bytes come from."""
        return self.reader.files

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the disk. What is left out is not read.

        Raises what the reader raises.
        """
        end = min(offset + length, self.virtual_size)
        parts: list[bytes] = []
        position = offset
        for gone in self.left_out.within(offset, end):
            if gone.offset > position:
                parts.append(self.reader.pread(gone.offset - position, position))
            parts.append(bytes(gone.length))
            position = gone.end
        if position == offset:
            return self.reader.pread(length, offset)
        if position < end:
            parts.append(self.reader.pread(end - position, position))
        return b"".join(parts)

    def extents(self) -> Iterator[Extent]:
        """Walk the whole virtual disk in order; lazily, in bounded memory. Raises what the reader raises."""
        return merge(part for extent in self.reader.extents() for part in parts_left(extent, self.left_out))

    def close(self) -> None:
        """Give back every handle."""
        self.reader.close()

    def __enter__(self) -> SparseView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
