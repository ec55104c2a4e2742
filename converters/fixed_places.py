"""Pieces that stand side by side in a file, as in the disk: each has its place, written or not. Those of raw and laid out qcow2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from converters.host_file import make_zero, read_into, reserve, resize, stored_ranges
from converters.pieces import PIECE_BYTES, SUBPIECE_BYTES, PieceSet, map_runs, piece_count
from converters.reflink import Share, SharedRange
from converters.target_formats import Preallocation, TargetOptions

Write = Callable[[Sequence[memoryview], int], None]
"""``write(parts, offset)``: parts of a file one behind the other, from a byte of it on."""


class FixedPlaces:
    """The pieces of an open file (``handle``, written by ``write``), the first at byte ``base``, the last up to byte ``end``.

    What a ``PlacedWriter`` does with its pieces, where their places are always 0. Unless its space is reserved, what is not
    written is a hole of the file.
    """

    def __init__(
        self,
        path: Path,
        handle: Callable[[], int],
        write: Write,
        base: int,
        end: int,
        options: TargetOptions,
        *,
        resume: bool,
    ) -> None:
        self._path = path
        self._handle = handle
        self._write = write
        self._base = base
        self._end = end
        self._reserves = options.preallocation is Preallocation.FALLOC
        self._restored = PieceSet(piece_count(end - base) if resume else 0)

    def make_room(self) -> None:
        """Let the file end with the last piece, and reserve its space where that is asked for."""
        resize(self._handle(), self._path, self._end)
        if self._reserves:
            reserve(self._handle(), self._path, self._end)

    def write(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        for first, count in map_runs(data_map):
            start = first * SUBPIECE_BYTES
            self._write([data[start : start + count * SUBPIECE_BYTES]], self._at(index) + start)
        return 0

    def share(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``. Not where space is reserved: shared blocks would take up none of it."""
        if self._reserves:
            return None
        return 0 if all(share(each, self._handle(), self._at(index) + each.at) for each in ranges) else None

    def restore(self, index: int, place: int) -> None:
        """See ``PlacedWriter.restore``; the piece is where it always is."""
        if place != 0:
            raise ValueError(f"piece {index} has a place of its own and cannot be at {place}")
        self._restored.add(index)

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``."""
        self._restored.remove(index)

    def read(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``."""
        return read_into(self._handle(), self._path, into, self._at(index))

    def erase(self, first: int, count: int) -> None:
        """Make pieces read as zero."""
        start, stop = self._at(first), min(self._at(first + count), self._end)
        make_zero(self._handle(), self._path, start, stop - start)

    def erase_unknown(self) -> None:
        """Make holes of what was not restored: it is no part of the disk, and a copy writes only what is not zero."""
        for first, count in self._unknown_runs():
            self.erase(first, count)

    def _at(self, index: int) -> int:
        return self._base + index * PIECE_BYTES

    def _unknown_runs(self) -> Iterator[tuple[int, int]]:
        """Runs of pieces (first, count) that have something stored and were not restored. Raises ReadFailed."""
        begin = stop = 0
        for offset, length in stored_ranges(self._handle(), self._path):
            offset -= self._base
            for index in range(max(offset // PIECE_BYTES, stop), piece_count(max(offset + length, 0))):
                if index in self._restored:
                    continue
                if index > stop and stop > begin:
                    yield begin, stop - begin
                    begin = index
                begin = begin if stop > begin else index
                stop = index + 1
        if stop > begin:
            yield begin, stop - begin
