"""What of a source cannot be read: finding out how much it really is, in bounded time, and remembering it.

A range that fails is read again in halves down to the smallest unit that can fail by itself, each of those a few times more. That
takes as long as the disk takes to give up, so there is a budget: when it is used up, ranges of 64 KiB are given up whole; when that
has gone on for too long as well, so is the source.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from converters.care import drop
from converters.source_file import SourceFile, close_source
from p2v.core.errors import BadSectors, SourceFailing, SourceGone, Unreadable
from p2v.core.io_errors import read_problem
from p2v.core.units import KIB, format_seconds

Range = tuple[int, int]
"""Offset and length in bytes."""

_PROBE_BYTES = 4096


class BadRanges:
    """Ranges (offset and length) that lie apart, in order; neighbours are joined. Safe for threads."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lock = threading.Lock()
        for offset, length in ranges:
            self.add(offset, length)

    def add(self, offset: int, length: int) -> None:
        """Put a range in; what of it is there already stays."""
        if length <= 0:
            return
        end = offset + length
        with self._lock:
            first, stop = bisect_left(self._ends, offset), bisect_right(self._starts, end)
            if first < stop:
                offset, end = min(offset, self._starts[first]), max(end, self._ends[stop - 1])
            self._starts[first:stop], self._ends[first:stop] = [offset], [end]

    def within(self, start: int, end: int) -> list[Range]:
        """The parts of ranges between two offsets."""
        with self._lock:
            found, index = [], bisect_right(self._ends, start)
            while index < len(self._starts) and self._starts[index] < end:
                first, last = max(self._starts[index], start), min(self._ends[index], end)
                found.append((first, last - first))
                index += 1
            return found

    @property
    def ranges(self) -> tuple[Range, ...]:
        """All of them, in order."""
        with self._lock:
            return tuple((start, end - start) for start, end in zip(self._starts, self._ends, strict=True))

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(length for _, length in self.ranges)

    def __len__(self) -> int:
        return len(self._starts)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is tried. Seconds are those that reads took which failed."""

    attempts: int = 3
    """Of the smallest unit; larger ranges are halved at once."""
    exact_seconds: float = 600.0
    """After this, ranges of ``coarse_bytes`` are given up at their first failure."""
    coarse_bytes: int = 64 * KIB
    most_seconds: float = 3600.0
    """After this, the source is given up."""
    most_ranges: int = 100_000


@dataclass
class Faults:
    """What of one disk could not be read, and what is to be done about it; shared by all threads that read it.

    ``skip``: zeroes take the place of such ranges. ``known``: ranges that an earlier run found, which are not tried again then.
    ``lost``: ranges of the disk that are zeroes in the target for that. ``found`` is told each range, and whether zeroes took its
    place, before the piece that it is in is written.
    """

    skip: bool = False
    disk: int = 0
    known: BadRanges = field(default_factory=BadRanges)
    lost: BadRanges = field(default_factory=BadRanges)
    patience: Patience = Patience()
    found: Callable[[int, int, bool], None] = lambda offset, length, filled: None
    clock: Callable[[], float] = time.monotonic
    failing_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, offset: int, length: int) -> None:
        """A range of the disk that cannot be read."""
        self.known.add(offset, length)
        if self.skip:
            self.lost.add(offset, length)
        self.found(offset, length, self.skip)

    def spent(self, seconds: float, file: Path) -> None:
        """A read failed and took so long. Raises SourceFailing when it is too much."""
        with self._lock:
            self.failing_seconds += seconds
        if self.failing_seconds > self.patience.most_seconds or len(self.known) > self.patience.most_ranges:
            problem = f"{len(self.known)} ranges ({self.known.total} bytes) of it could not be read"
            raise SourceFailing(str(file), f"{problem}, which took {format_seconds(self.failing_seconds)}; given up")

    @property
    def is_exact(self) -> bool:
        """Whether there is time to find out how small a range is that cannot be read."""
        return self.failing_seconds < self.patience.exact_seconds


class Rescue:
    """Reads what can be read of a range of a file in which something cannot."""

    def __init__(self, file: SourceFile, faults: Faults, reading: Callable[[int], object]) -> None:
        """``reading`` is told the offset of each read before it begins."""
        self._file = file
        self._faults = faults
        self._reading = reading
        self._unit = file.unit_bytes
        self._direct = file.open_direct() if file.is_block_device else None
        # a device reads into whole pages only
        self._memory = mmap.mmap(-1, max(_PROBE_BYTES, faults.patience.coarse_bytes))

    def close(self) -> None:
        """Give back what was opened besides."""
        direct, self._direct = self._direct, None
        if direct is not None:
            close_source(direct)

    def read(self, into: memoryview, offset: int) -> Iterator[Range]:
        """Fill ``into`` from ``offset`` on, with zeroes for what cannot be read; the ranges of those (in bytes of the file).

        Only the first with faults that are not to be skipped. Raises SourceGone, SourceFailing and what else reading raises.
        """
        self.require_there()
        waiting = list(reversed(list(self._cut(offset, len(into), self._faults.patience.coarse_bytes))))
        while waiting:
            at, length = waiting.pop()
            part = into[at - offset : at - offset + length]
            if self._try(part, at):
                continue
            if length <= self._unit or not self._faults.is_exact:
                if self._faults.is_exact and any(self._try(part, at) for _ in range(self._faults.patience.attempts - 1)):
                    continue
                part[:] = bytes(length)
                yield at, length
                if not self._faults.skip:
                    return
                continue
            waiting += reversed(list(self._cut(at, length, max(self._unit, length // 2 // self._unit * self._unit))))

    def _cut(self, offset: int, length: int, step: int) -> Iterator[Range]:
        """A range in parts that end at multiples of ``step``."""
        end = offset + length
        while offset < end:
            stop = min(end, (offset // step + 1) * step)
            yield offset, stop - offset
            offset = stop

    def _try(self, part: memoryview, at: int) -> bool:
        started = self._faults.clock()
        self._reading(at)
        try:
            if not self._read_direct(part, at):
                # what failed is not kept, but its neighbours in the same page may be
                drop(self._file.fd, at, len(part))
                _read_fully(self._file.fd, part, at, self._file.path)
        except OSError as error:
            problem = read_problem(error, self._file.path, at, len(part))
            if not isinstance(problem, Unreadable):
                raise problem from error
            self._faults.spent(self._faults.clock() - started, self._file.path)
            return False
        return True

    def _read_direct(self, part: memoryview, at: int) -> bool:
        if self._direct is None or at % self._unit or len(part) % self._unit:
            return False
        memory = memoryview(self._memory)[: len(part)]
        _read_fully(self._direct, memory, at, self._file.path)
        part[:] = memory
        return True

    def require_there(self) -> None:
        """Raise SourceGone unless something of the source can still be read from where it really is."""
        size = self._file.size
        if self._file.is_block_device and os.lseek(self._file.fd, 0, os.SEEK_END) == 0:
            raise SourceGone(str(self._file.path), "has no size any more: it was removed")
        places = (0, size // 2 // _PROBE_BYTES * _PROBE_BYTES, max(0, size - _PROBE_BYTES) // _PROBE_BYTES * _PROBE_BYTES)
        failed: OSError | None = None
        for place in places:
            part = memoryview(bytearray(min(_PROBE_BYTES, size - place)))
            self._reading(place)
            try:
                if not self._read_direct(part, place):
                    drop(self._file.fd, place, len(part))
                    _read_fully(self._file.fd, part, place, self._file.path)
                return
            except OSError as error:
                failed = error
        problem = f"does not answer any more: nothing of it can be read, its first bytes neither ({failed and failed.strerror})"
        raise SourceGone(str(self._file.path), problem)


def _read_fully(handle: int, into: memoryview, offset: int, file: Path) -> None:
    while into:
        count = os.preadv(handle, [into], offset)
        if count == 0:
            raise SourceGone(str(file), f"ends at byte {offset} now: it was cut, or is gone")
        into, offset = into[count:], offset + count


def bad_sectors(problem: str, file: Path, place: Range, at: int, faults: Faults) -> BadSectors:
    """The error for a range that is not to be skipped; ``place`` in bytes of the file, ``at`` in the disk."""
    return BadSectors(str(file), problem, *place, disk=faults.disk, at=at, known=faults.known.ranges)
