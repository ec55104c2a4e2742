"""Bytes of a piece, straight from the files they stand in."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from converters.care import NO_CARE, Care, drop, is_cached, not_cached
from converters.decompress import decompress
from converters.faults import Faults, Range, Rescue, bad_sectors
from converters.inflate import FASTEST, Inflate
from converters.kept_open import KeptOpen
from converters.pieces import DataPiece, PieceBuffer, Segment, first_file
from converters.read_watch import ReadWatch
from converters.source_file import SourceFile, close_source, open_source
from p2v.core.disk import CompressedAt, DiskReader, Extent, StoredAt
from p2v.core.errors import BadImage, P2vError, Unreadable
from p2v.core.io_errors import read_problem
from p2v.core.units import MIB

# What one thread will hold of a compressed extent; a larger one is left to the reader.
_LARGEST_INFLATED_BYTES = 16 * MIB
# A split disk has hundreds of files; those behind are opened when they are met.
_OPENED_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Manner:
    """How a disk is read: how gently, what becomes of what cannot be read, and who watches for answers.

    ``stopped``: whether to wait for one's turn no longer.
    """

    care: Care = NO_CARE
    faults: Faults = field(default_factory=Faults)
    watch: ReadWatch = field(default_factory=ReadWatch)
    stopped: Callable[[], bool] = lambda: False


class _OpenFile:
    """A file of the source, and how it is read."""

    def __init__(self, source: SourceFile, care: Care) -> None:
        self.source = source
        self.rescue: Rescue | None = None
        # what is read around the page cache drives nothing out of it, and what is in it stays
        self._direct = source.open_direct() if care.spare_cache else None
        self._unit = source.unit_bytes
        self._spares = care.spare_cache

    def pread(self, into: memoryview, offset: int) -> int:
        """Fill as much of ``into`` as one read gives. Raises OSError."""
        if self._direct is not None and not (offset | len(into)) % self._unit and not self._is_cached(offset, len(into)):
            try:
                return os.preadv(self._direct, [into], offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # memory or place do not suit this file system
                close_source(self._direct)
                self._direct = None
        if not self._spares:
            return os.preadv(self.source.fd, [into], offset)
        with self._spared(offset, len(into)):
            return os.preadv(self.source.fd, [into], offset)

    def _is_cached(self, offset: int, length: int) -> bool:
        """Whether a file's range is in the page cache already, so that reading it there costs nobody anything."""
        return not self.source.is_block_device and is_cached(self.source.fd, offset, length) == length

    @contextmanager
    def _spared(self, offset: int, length: int) -> Iterator[None]:
        """What a read through the page cache brings into it goes out again."""
        brought = not_cached(self.source.fd, offset, length)
        try:
            yield
        finally:
            for at, count in brought:
                drop(self.source.fd, at, count)

    def read_bytes(self, length: int, offset: int) -> bytes:
        """The bytes of a range; fewer at the end of the file only. Raises OSError."""
        with self._spared(offset, length) if self._spares else nullcontext():
            data = os.pread(self.source.fd, length, offset)
            while len(data) < length and (more := os.pread(self.source.fd, length - len(data), offset + len(data))):
                data += more
            return data

    def close(self) -> None:
        """Close all that was opened."""
        if self.rescue is not None:
            self.rescue.close()
        if self._direct is not None:
            close_source(self._direct)
            self._direct = None
        self.source.close()


class PieceReader:
    """Fills piece buffers for one thread; owns the files it opened.

    Files are opened by each thread for itself: no lock, and no file closed under another thread's read.
    """

    def __init__(self, reader: DiskReader, inflate: Inflate = FASTEST, manner: Manner | None = None) -> None:
        self._reader = reader
        self._inflate = inflate
        self._manner = manner or Manner()
        self._open = KeptOpen(lambda path: _OpenFile(open_source(path), self._manner.care))
        # A child disk cuts its parent's streams into several extents; each is inflated once.
        self._last: tuple[tuple[Path, int], bytes | bytearray] | None = None

    def __enter__(self) -> PieceReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file that was opened."""
        self._open.close()

    def open_ahead(self) -> None:
        """Open the files that are likely to be read.

        On FUSE, opening a file waits for every read of it that is under way, and cannot be interrupted: it must not be left until
        one gets no answer. What cannot be opened is told by whoever reads it.
        """
        for path in self._reader.files[:_OPENED_AHEAD]:
            with suppress(P2vError):
                self._open.get(path)

    def fill(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        """Read a whole piece into the front of ``buffer``.

        Raises BadImage (a file or stream holds less than it should), BadSectors, SourceGone, SourceFailing, ReadFailed,
        NotPermitted.
        """
        filled = 0
        for segment in piece.segments:
            start = segment.offset - piece.offset
            if start > filled:
                buffer.clear(filled, start)
            filled = start + segment.length
            if self._manner.faults.skip:
                self._fill_without_known(segment, piece, buffer)
            else:
                self._fill_segment(segment, buffer.view[start:filled])
        if filled < piece.length:
            buffer.clear(filled, piece.length)

    def _fill_without_known(self, segment: Segment, piece: DataPiece, buffer: PieceBuffer) -> None:
        """Read a segment but for what an earlier run found that it cannot be read: that is not tried again."""
        faults, position, end = self._manner.faults, segment.offset, segment.offset + segment.length
        for offset, length in (*faults.known.within(position, end), (end, 0)):
            if offset > position:
                into = buffer.view[position - piece.offset : offset - piece.offset]
                self._fill_segment(_part(segment, position, offset), into)
            if length:
                buffer.clear(offset - piece.offset, offset + length - piece.offset)
                faults.note(offset, length)
            position = offset + length

    def _fill_segment(self, segment: Segment, into: memoryview) -> None:
        compressed = segment.extent.compressed
        if segment.stored is not None:
            self._read_stored(segment, segment.stored, into)
        elif compressed is not None and _inflated_here(compressed):
            try:
                data = self._inflated(segment.extent, compressed)
            except Unreadable as problem:
                self._give_up(segment, (compressed.offset, compressed.length), compressed.file, into, problem)
                return
            skip = compressed.skip + segment.offset - segment.extent.offset
            into[:] = memoryview(data)[skip : skip + segment.length]
        else:
            try:
                self._read_through_reader(segment, into)
            except Unreadable as problem:
                self._give_up(segment, (problem.offset, problem.length), Path(problem.file), into, problem)

    def _give_up(self, segment: Segment, place: Range, file: Path, into: memoryview, problem: Unreadable) -> None:
        """What cannot be read in part: all of it is lost."""
        faults = self._manner.faults
        faults.note(segment.offset, segment.length)
        if not faults.skip:
            raise bad_sectors(problem.problem, file, place, segment.offset, faults) from problem
        into[:] = bytes(segment.length)

    def _read_stored(self, segment: Segment, stored: StoredAt, into: memoryview) -> None:
        file, offset = stored.file, stored.offset
        opened = self._open.get(file)
        self._await_turn(len(into))
        self._manner.watch.begin(file, offset)
        try:
            while into:
                try:
                    count = opened.pread(into, offset)
                except OSError as error:
                    problem = read_problem(error, file, offset, len(into))
                    if not isinstance(problem, Unreadable):
                        raise problem from error
                    self._rescue(opened, into, offset, segment.offset + offset - stored.offset, problem)
                    return
                if count == 0:
                    end = min(offset, os.fstat(opened.source.fd).st_size)
                    missing = offset + len(into) - end
                    raise BadImage(file, f"ends at byte {end}, where {missing} bytes more of the disk should stand")
                into = into[count:]
                offset += count
                if into:
                    self._manner.watch.moved(offset)
        finally:
            self._manner.watch.end()

    def _rescue(self, opened: _OpenFile, into: memoryview, offset: int, at: int, problem: Unreadable) -> None:
        """Read in small pieces what could not be read in one; ``offset`` in the file, ``at`` in the disk."""
        faults, file = self._manner.faults, opened.source.path
        if opened.rescue is None:
            opened.rescue = Rescue(opened.source, faults, self._manner.watch.moved)
        for place in opened.rescue.read(into, offset):
            where = at + place[0] - offset
            faults.note(where, place[1])
            if not faults.skip:
                raise bad_sectors(problem.reason, file, place, where, faults) from problem

    def _await_turn(self, count: int) -> None:
        if self._manner.care.limit is not None:
            self._manner.care.limit.take(count, self._manner.stopped)

    def _inflated(self, extent: Extent, at: CompressedAt) -> bytes | bytearray:
        place = (at.file, at.offset)
        if self._last is not None and self._last[0] == place:
            return self._last[1]
        stored = self._stored_stream(at)
        data = decompress(at, stored, self._inflate)
        if len(data) < at.skip + extent.length:
            raise BadImage(
                at.file,
                f"the compressed data at byte {at.offset} hold {len(data)} bytes "
                f"where {at.skip + extent.length} should be",
            )
        self._last = (place, data)
        return data

    def _stored_stream(self, at: CompressedAt) -> bytes:
        """A compressed stream; shorter where the file ends before. Raises Unreadable when some of it cannot be read."""
        opened = self._open.get(at.file)
        self._await_turn(at.length)
        attempts = self._manner.faults.patience.attempts
        self._manner.watch.begin(at.file, at.offset)
        try:
            while True:
                try:
                    return opened.read_bytes(at.length, at.offset)
                except OSError as error:
                    problem = read_problem(error, at.file, at.offset, at.length)
                    attempts -= 1
                    if not isinstance(problem, Unreadable) or not attempts:
                        raise problem from error
                    drop(opened.source.fd, at.offset, at.length)
        finally:
            self._manner.watch.end()

    def _read_through_reader(self, segment: Segment, into: memoryview) -> None:
        file = segment.extent.compressed.file if segment.extent.compressed is not None else first_file(self._reader)
        self._await_turn(segment.length)
        self._manner.watch.begin(file, segment.offset)
        try:
            data = self._reader.pread(segment.length, segment.offset)
        except OSError as error:
            raise read_problem(error, Path(error.filename) if error.filename else file) from error
        finally:
            self._manner.watch.end()
        if len(data) != segment.length:
            raise BadImage(
                file, f"{len(data)} of {segment.length} bytes could be read at byte {segment.offset} of the disk"
            )
        into[:] = data


def _part(segment: Segment, start: int, end: int) -> Segment:
    """A part of a segment, by offsets in the disk."""
    stored = segment.stored
    moved = None if stored is None else StoredAt(stored.file, stored.offset + start - segment.offset)
    return Segment(start, end - start, moved, segment.extent)


def _inflated_here(at: CompressedAt) -> bool:
    return max(at.inflated_length, at.length) <= _LARGEST_INFLATED_BYTES
