"""A disk of which not all can be read: zeroes take the place of the rest. For finding out what is in it, never for copying it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from converters.faults import BadRanges
from converters.mapped import MappedDisk
from p2v.core.disk import DiskReader, Extent, told_sector_size
from p2v.core.errors import Unreadable

# of a real disk each failure takes seconds
_FAILURES_AT_MOST = 256
_UNIT = 4096


class ForgivingDisk:
    """A ``DiskReader`` over another one. ``unread``: the ranges of it that were zeroes for want of anything better."""

    def __init__(self, reader: DiskReader) -> None:
        self._reader = reader
        self.unread = BadRanges()
        self._failures = 0

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        return self._reader.virtual_size

    @property
    def logical_sector_size(self) -> int:
        """As the other one tells it."""
        return told_sector_size(self._reader)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the disk's bytes come from."""
        return self._reader.files

    @property
    def kept_fds(self) -> tuple[int, ...]:
        """As ``MappedDisk`` has it."""
        return self._reader.kept_fds if isinstance(self._reader, MappedDisk) else ()

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the disk.

        Raises what the reader raises, Unreadable after many failures only.
        """
        if not self.unread.within(offset, offset + length):
            try:
                return self._reader.pread(length, offset)
            except Unreadable as error:
                self._count_failure(error)
        end = min(offset + length, self.virtual_size)
        parts: list[bytes] = []
        while offset < end:
            # up to the next multiple, so that what is lost is the same whoever asks
            stop = min(end, (offset // _UNIT + 1) * _UNIT)
            parts.append(self._small(stop - offset, offset))
            offset = stop
        return b"".join(parts)

    def _small(self, length: int, offset: int) -> bytes:
        unit = offset // _UNIT * _UNIT
        if self.unread.within(unit, unit + _UNIT):
            return bytes(length)
        try:
            return self._reader.pread(length, offset)
        except Unreadable as error:
            self._count_failure(error)
            self.unread.add(unit, min(_UNIT, self.virtual_size - unit))
            return bytes(length)

    def _count_failure(self, error: Unreadable) -> None:
        self._failures += 1
        if self._failures > _FAILURES_AT_MOST:
            raise error

    def extents(self) -> Iterator[Extent]:
        """Walk the whole virtual disk. Raises what the reader raises."""
        return self._reader.extents()

    def close(self) -> None:
        """Give back every handle."""
        self._reader.close()

    def __enter__(self) -> ForgivingDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
