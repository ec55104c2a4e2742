"""What an earlier run left of a target: which pieces of it are done, by its journal, and whether they still are, by their sums."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from converters.faults import BadRanges, Range
from converters.inflate import crc32
from converters.journal import CannotRead, Committing, Copied, Forgotten, JournalFile, Naming, PiecesDone
from converters.pieces import PIECE_BYTES, PieceBuffer, PieceSet, piece_count, piece_length, untouched_words
from converters.target_writer import PlacedWriter


def checksum(data: memoryview, data_map: int) -> int:
    """By which a piece is known again: its CRC-32; 0 for one that is all zero."""
    return crc32(data) if data_map else 0


class Filled:
    """What of the source could not be read and is zeroes in the target, by the piece that it is in."""

    def __init__(self) -> None:
        self.by_piece: dict[int, list[Range]] = {}

    def add(self, record: CannotRead) -> None:
        """Zeroes took the place of ranges; of those that only stopped a copy, there are none."""
        for offset, length in record.ranges if record.filled else ():
            self.by_piece.setdefault(offset // PIECE_BYTES, []).append((offset, length))

    def forget(self, runs: Iterable[tuple[int, int]]) -> None:
        """Pieces are copied again."""
        for first, count in runs:
            for index in range(first, first + count):
                self.by_piece.pop(index, None)


class Resumed:
    """What a target has of an earlier run, if there was one; ``done`` are the pieces that it recorded.

    ``dirty``: runs of pieces that a commit may have written. ``damaged_bytes``: of pieces that turned out not to be what was
    recorded of them. ``unreadable``: ranges of the source; ``filled``: what is zeroes for that.
    """

    def __init__(self, writer: PlacedWriter) -> None:
        count = piece_count(writer.virtual_size)
        self.writer = writer
        self.done = PieceSet(count)
        self.done_bytes = 0
        self.damaged_bytes = 0
        self.dirty: list[tuple[int, int]] = []
        self.unreadable = BadRanges()
        self.filled = Filled()
        self._sums = untouched_words(count)
        self._unseen = PieceSet(count)
        self._changing = threading.Lock()
        self._buffers = threading.local()

    @property
    def is_empty(self) -> bool:
        """Nothing was recorded, or all of it was forgotten: as good as no run at all."""
        return not self.done_bytes and not self.dirty and not self.unreadable

    @property
    def lost(self) -> BadRanges:
        """What could not be read, of all pieces that are done."""
        return BadRanges(each for index, ranges in self.filled.by_piece.items() if index in self.done for each in ranges)

    def replay(self, journal: JournalFile, *, skip_unreadable: bool = False) -> None:
        """Believe the journal. Pieces in which something could not be read are copied again, unless ``skip_unreadable``.

        Raises ValueError where it contradicts itself.
        """
        self._replay(journal)
        if not skip_unreadable:
            self.dirty.extend((index, 1) for index in self.filled.by_piece if index in self.done)

    def _replay(self, journal: JournalFile) -> None:
        count = piece_count(self.writer.virtual_size)
        for record in journal.records():
            match record:
                case PiecesDone():
                    for index, place, data_map, known_by in record:
                        self._restore(index, place, data_map, known_by, count)
                case Committing(runs):
                    self.dirty.extend(runs)
                case Forgotten(runs):
                    self._forget(runs)
                    self.dirty.clear()
                case CannotRead():
                    self._note_unreadable(record)
                case Copied() | Naming():
                    pass

    def tidy(self, journal: JournalFile) -> None:
        """Rid the file of what was not recorded, and of the pieces an interrupted commit may have written."""
        self._forget(self.dirty)
        self.writer.tidy(self.dirty)
        if self.dirty:
            # The pieces are erased only once: later on they will have been copied again.
            self.writer.sync()
            journal.append(Forgotten(tuple(self.dirty)))
            self.dirty.clear()

    def is_intact(self, index: int, buffer: PieceBuffer) -> bool:
        """Read a piece that was recorded: whether it is what was written then. Raises ReadFailed."""
        length = piece_length(index, self.writer.virtual_size)
        view = buffer.view[:length]
        return self.writer.read_piece(index, view) and self._sums[index] == checksum(view, buffer.data_map(length))

    def seen(self, index: int) -> None:
        """A piece that is done was looked at."""
        with self._changing:
            self._unseen.remove(index)

    def still_done(self, index: int) -> bool:
        """Whether a piece is done; the first who asks has it read, and it is dropped when it is not what was recorded.

        Each piece is one thread's. Raises ReadFailed.
        """
        if index not in self.done:
            return False
        if index not in self._unseen:
            return True
        if not hasattr(self._buffers, "own"):
            self._buffers.own = PieceBuffer()
        if intact := self.is_intact(index, self._buffers.own):
            self.seen(index)
        else:
            self.writer.drop(index)
            with self._changing:
                self._remove(index)
                self.damaged_bytes += piece_length(index, self.writer.virtual_size)
        return intact

    def _note_unreadable(self, record: CannotRead) -> None:
        for offset, length in record.ranges:
            if offset + length > self.writer.virtual_size:
                raise ValueError(f"the range at {offset} that could not be read lies behind the end")
            self.unreadable.add(offset, length)
        self.filled.add(record)

    def _restore(self, index: int, place: int, data_map: int, known_by: int, count: int) -> None:
        if index >= count or index in self.done:
            raise ValueError(f"piece {index} is recorded twice or lies behind the end")
        if data_map and not known_by:
            return  # by nothing could it be known again: it is copied once more
        self.writer.restore(index, place, data_map)
        if (index, 1) in self.dirty:
            self.dirty.remove((index, 1))  # it was held back, and written after all
        self._sums[index] = known_by
        self.done.add(index)
        self._unseen.add(index)
        self.done_bytes += piece_length(index, self.writer.virtual_size)

    def _forget(self, runs: Sequence[tuple[int, int]]) -> None:
        self.filled.forget(runs)
        for first, count in runs:
            for index in range(first, first + count):
                if index in self.done:
                    self._remove(index)
                self.writer.forget(index)

    def _remove(self, index: int) -> None:
        self.done.remove(index)
        self._unseen.remove(index)
        self.done_bytes -= piece_length(index, self.writer.virtual_size)
