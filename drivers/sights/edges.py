"""A disk whose two ends are read once, for most of what is looked for stands there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from p2v.core.disk import DiskReader, Extent, told_sector_size
from p2v.core.units import KIB

HEAD_BYTES = 72 * KIB
# the rarest of what is at the end of a disk (see raids) begins farther from it, and is read by itself
TAIL_BYTES = 512 * KIB


class Edges:
    """A ``DiskReader`` over another one."""

    def __init__(self, reader: DiskReader) -> None:
        self._reader = reader
        self._size = reader.virtual_size
        self._tail_at = max(0, self._size - TAIL_BYTES)

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        return self._size

    @property
    def logical_sector_size(self) -> int:
        """As the other one tells it."""
        return told_sector_size(self._reader)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the disk's bytes come from."""
        return self._reader.files

    @cached_property
    def _head(self) -> bytes:
        return self._reader.pread(min(HEAD_BYTES, self._size), 0)

    @cached_property
    def _tail(self) -> bytes:
        return self._reader.pread(self._size - self._tail_at, self._tail_at)

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the disk. Raises what the reader raises."""
        length = min(length, self._size - offset)
        if length <= 0 or offset < 0:
            return b""
        if offset + length <= HEAD_BYTES:
            return self._head[offset : offset + length]
        if offset >= self._tail_at:
            return self._tail[offset - self._tail_at :][:length]
        return self._reader.pread(length, offset)

    def exactly(self, length: int, offset: int) -> bytes:
        """``length`` bytes at ``offset``; zeroes where the disk has none."""
        return self.pread(length, offset).ljust(length, b"\0")

    def extents(self) -> Iterator[Extent]:
        """Walk the whole virtual disk."""
        return self._reader.extents()

    def close(self) -> None:
        """Nothing: the disk belongs to the caller."""
