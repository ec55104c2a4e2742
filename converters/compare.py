"""Comparing what two disks hold, whatever they are stored in: what is zero in both is not read.

Disks of different sizes are compared as if the shorter one ended in zeroes; whether that counts as different is for the
caller to say.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from converters.piece_reader import PieceReader
from converters.piece_walk import CopyCancelled
from converters.pieces import (
    PIECE_BYTES,
    SUBPIECE_BYTES,
    DataPiece,
    PieceBuffer,
    ZeroPieces,
    cut_pieces,
    first_file,
    piece_count,
    piece_length,
)
from p2v.core.disk import DiskReader
from p2v.core.events import BytesDone, Reporter, silent
from p2v.core.units import SECTOR_BYTES

RANGES_KEPT = 1000
"""Of ranges that are for people; bytes are counted to the last one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two disks have in common; bytes of the virtual disks.

    ``different_bytes`` differ, in runs of whole sectors of which ``ranges`` (offset, length) has the first ones, and all
    with ``ranges_complete``; ``first_difference`` is the first byte that differs, None when none does. ``read_bytes``
    were read of both together.
    """

    first_size: int
    second_size: int
    first_difference: int | None
    different_bytes: int
    ranges: tuple[tuple[int, int], ...]
    ranges_complete: bool
    read_bytes: int

    @property
    def same_contents(self) -> bool:
        """Whether they hold the same, but for zeroes that one of them has at its end and the other not."""
        return self.first_difference is None

    @property
    def same(self) -> bool:
        """Whether they also have one size."""
        return self.same_contents and self.first_size == self.second_size


@dataclass(frozen=True, slots=True)
class _Pair:
    """One piece of both disks; None where a disk is zero."""

    index: int
    first: DataPiece | None
    second: DataPiece | None


@dataclass
class _Found:
    """What was found so far; pieces come in any order. Of runs only the first ones are kept, those before ``cut``."""

    ranges_kept: int
    different_bytes: int = 0
    read_bytes: int = 0
    first: int | None = None
    runs: list[tuple[int, int]] = field(default_factory=list)
    cut: int | None = None

    def add(self, first: int, different_bytes: int, runs: list[tuple[int, int]]) -> None:
        self.different_bytes += different_bytes
        self.first = first if self.first is None else min(self.first, first)
        cut = self.cut
        kept = _joined(sorted(self.runs + [run for run in runs if cut is None or run[0] < cut]))
        self.runs = kept[: 2 * self.ranges_kept]
        if len(kept) > len(self.runs):
            self.cut = kept[len(self.runs)][0]

    def comparison(self, first_size: int, second_size: int) -> Comparison:
        complete = self.cut is None and len(self.runs) <= self.ranges_kept
        ranges = tuple(self.runs[: self.ranges_kept])
        return Comparison(
            first_size, second_size, self.first, self.different_bytes, ranges, complete, self.read_bytes
        )


@dataclass
class _Work:
    """What the threads share."""

    first: DiskReader
    second: DiskReader
    pairs: Iterator[_Pair | int]
    report: Reporter
    phase: str
    found: _Found
    stop: threading.Event
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> _Pair | None:
        with self.lock:
            while not self.stop.is_set():
                pair = next(self.pairs, None)
                if not isinstance(pair, int):
                    return pair
                self.report(BytesDone(self.phase, pair))
        return None


def compare_disks(
    first: DiskReader,
    second: DiskReader,
    *,
    report: Reporter = silent,
    threads: int = 2,
    phase: str = "compare",
    ranges_kept: int = RANGES_KEPT,
    cancelled: threading.Event | None = None,
) -> Comparison:
    """Compare two disks to their ends. BytesDone events sum up to the larger size; at most ``ranges_kept`` are told.

    ``cancelled``: setting it in another thread ends the work. Raises what the readers raise (the first error of any thread,
    when all have stopped), and CopyCancelled.
    """
    stop = cancelled or threading.Event()
    work = _Work(first, second, _pairs(first, second), report, phase, _Found(ranges_kept), stop)
    with ThreadPoolExecutor(threads, thread_name_prefix=phase) as pool:
        try:
            tasks = [pool.submit(_compare_pieces, work) for _ in range(threads)]
            wait(tasks)
        except BaseException:
            work.stop.set()
            raise
    for task in tasks:
        task.result()
    if stop.is_set():
        raise CopyCancelled(str(first_file(second)))
    return work.found.comparison(first.virtual_size, second.virtual_size)


def _pairs(first: DiskReader, second: DiskReader) -> Iterator[_Pair | int]:
    """Pieces that one of the disks has data in, and between them the bytes that are zero in both."""
    size = max(first.virtual_size, second.virtual_size)
    count = piece_count(size)
    walks = (_Ahead(cut_pieces(first), count), _Ahead(cut_pieces(second), count))
    index = 0
    while index < count:
        pieces = [walk.at(index) for walk in walks]
        if isinstance(pieces[0], int) and isinstance(pieces[1], int):
            stop = min(pieces[0], pieces[1])
            yield min(stop * PIECE_BYTES, size) - index * PIECE_BYTES
            index = stop
            continue
        one, other = (None if isinstance(piece, int) else piece for piece in pieces)
        if one is not None and other is not None and _same_place(one, other):
            yield one.length
        else:
            yield _Pair(index, one, other)
        index += 1


def _same_place(one: DataPiece, other: DataPiece) -> bool:
    """Whether both are read from the same bytes of the same files: two children of one parent mostly are."""
    if one.length != other.length or len(one.segments) != len(other.segments):
        return False
    return all(
        a.stored is not None and (a.offset, a.length, a.stored) == (b.offset, b.length, b.stored)
        for a, b in zip(one.segments, other.segments, strict=True)
    )


class _Ahead:
    """A walk of pieces that can be asked what stands at an index: a piece with data, or up to where all is zero."""

    def __init__(self, parts: Iterator[DataPiece | ZeroPieces], count: int) -> None:
        self._parts = parts
        self._count = count
        self._part = next(parts, None)

    def at(self, index: int) -> DataPiece | int:
        while self._part is not None and _stop(self._part) <= index:
            self._part = next(self._parts, None)
        if self._part is None:
            return self._count
        return self._part if isinstance(self._part, DataPiece) else _stop(self._part)


def _stop(part: DataPiece | ZeroPieces) -> int:
    return part.index + 1 if isinstance(part, DataPiece) else part.first + part.count


def _compare_pieces(work: _Work) -> None:
    try:
        size = max(work.first.virtual_size, work.second.virtual_size)
        with PieceReader(work.first) as one, PieceReader(work.second) as other:
            buffers = PieceBuffer(), PieceBuffer()
            while (pair := work.next()) is not None:
                length = piece_length(pair.index, size)
                for source, piece, buffer in zip((one, other), (pair.first, pair.second), buffers, strict=True):
                    _fill(source, piece, buffer, length)
                _note(work, pair, buffers, length)
    except BaseException:
        work.stop.set()
        raise


def _fill(source: PieceReader, piece: DataPiece | None, buffer: PieceBuffer, length: int) -> None:
    filled = 0
    if piece is not None:
        source.fill(piece, buffer)
        filled = piece.length
    if filled < length:
        buffer.clear(filled, length)


def _note(work: _Work, pair: _Pair, buffers: tuple[PieceBuffer, PieceBuffer], length: int) -> None:
    runs: list[tuple[int, int]] = []
    first, differing = 0, 0
    # Almost everything is the same: one look at the whole, and a closer one only where that finds something.
    if not buffers[0].same_as(buffers[1], 0, length):
        for start in range(0, length, SUBPIECE_BYTES):
            end = min(start + SUBPIECE_BYTES, length)
            if not buffers[0].same_as(buffers[1], start, end):
                changed = _difference(buffers[0].view[start:end], buffers[1].view[start:end])
                at = pair.index * PIECE_BYTES + start
                first = first if differing else at + len(changed) - len(changed.lstrip(b"\0"))
                differing += len(changed) - changed.count(0)
                runs += [(at + within, count) for within, count in _sector_runs(changed)]
    with work.lock:
        work.found.read_bytes += sum(s.length for p in (pair.first, pair.second) if p is not None for s in p.segments)
        if differing:
            work.found.add(first, differing, runs)
        work.report(BytesDone(work.phase, length))


def _difference(one: memoryview, other: memoryview) -> bytes:
    """Not zero where two ranges differ."""
    both = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


def _sector_runs(changed: bytes) -> list[tuple[int, int]]:
    sectors = range(0, len(changed), SECTOR_BYTES)
    return _joined([(at, len(part)) for at in sectors if any(part := changed[at : at + SECTOR_BYTES])])


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for offset, length in runs:
        if found and sum(found[-1]) == offset:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((offset, length))
    return found
