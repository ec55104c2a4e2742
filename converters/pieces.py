"""A disk cut into pieces: the unit that is read, hashed, written and remembered.

A piece is an aligned 2 MiB range of the virtual disk (the last one may be shorter). Sub-pieces of 64 KiB
are the granularity at which zeroes are left out; ``data_map`` values say which of a piece's 32 sub-pieces
hold anything else, bit 0 being the first.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.disk import DiskReader, Extent, StoredAt
from p2v.core.errors import BadImage
from p2v.core.units import KIB, MIB

PIECE_BYTES = 2 * MIB
SUBPIECE_BYTES = 64 * KIB
SUBPIECES = PIECE_BYTES // SUBPIECE_BYTES
FULL_MAP = (1 << SUBPIECES) - 1

# The kernel's copy into memory that is not 32-byte aligned was measured at 2.4 times the time (16-byte
# aligned, which is what bytearray gives) to 5.5 times (odd).
_ALIGNMENT = 4096
# 128 MiB: where a device has to write them, they take a second or two
_SHORT_RUN = 64
_ZEROES = bytes(PIECE_BYTES)
_ZERO_SUBPIECE = bytes(SUBPIECE_BYTES)


def piece_count(virtual_size: int) -> int:
    """How many pieces a disk of ``virtual_size`` bytes has."""
    return -(-virtual_size // PIECE_BYTES)


def piece_length(index: int, virtual_size: int) -> int:
    """Bytes in piece ``index``: 2 MiB but for the last."""
    return min(PIECE_BYTES, virtual_size - index * PIECE_BYTES)


class PieceSet:
    """A set of piece numbers: one bit each."""

    def __init__(self, count: int) -> None:
        self._bits = bytearray(-(-count // 8))

    def __contains__(self, index: int) -> bool:
        return bool(self._bits[index >> 3] >> (index & 7) & 1)

    def add(self, index: int) -> None:
        """Put a piece in."""
        self._bits[index >> 3] |= 1 << (index & 7)

    def remove(self, index: int) -> None:
        """Take a piece out."""
        self._bits[index >> 3] &= ~(1 << (index & 7))


def untouched_words(count: int) -> memoryview:
    """``count`` 32-bit zeroes that take memory only where they are written."""
    return memoryview(mmap.mmap(-1, max(1, count) * 4)).cast("I")


def map_runs(data_map: int) -> Iterator[tuple[int, int]]:
    """The runs of set bits in a data map, as (first sub-piece, count)."""
    at = 0
    while data_map >> at:
        rest = data_map >> at
        at += (rest & -rest).bit_length() - 1
        rest = data_map >> at
        count = (~rest & (rest + 1)).bit_length() - 1
        yield at, count
        at += count


class PieceBuffer:
    """Memory for one piece, reused from piece to piece by one thread."""

    def __init__(self) -> None:
        # Filled rather than zeroed: the first touch of fresh memory is paid here, once.
        self._raw = bytearray(b"\xff") * (PIECE_BYTES + _ALIGNMENT)
        self._base = -ctypes.addressof(ctypes.c_char.from_buffer(self._raw)) % _ALIGNMENT
        self.view = memoryview(self._raw)[self._base : self._base + PIECE_BYTES]

    def clear(self, start: int, end: int) -> None:
        """Set a range to zeroes."""
        self.view[start:end] = _ZEROES[: end - start]

    def same_as(self, other: PieceBuffer, start: int, end: int) -> bool:
        """Whether both hold the same in a range: one memcmp, as in ``data_map``."""
        return self._raw.startswith(other.view[start:end], self._base + start)

    def data_map(self, length: int) -> int:
        """Which sub-pieces of the first ``length`` bytes are not all zero.

        Of all ways CPython has, ``startswith`` is the quickest: one memcmp, 1.7 us for 64 KiB of zeroes and
        next to nothing for data (memoryview comparison: 173 us; ``count``: 31 us).
        """
        raw, at, found = self._raw, self._base, 0
        whole, tail = divmod(length, SUBPIECE_BYTES)
        for bit in range(whole):
            if not raw.startswith(_ZERO_SUBPIECE, at):
                found |= 1 << bit
            at += SUBPIECE_BYTES
        if tail and not raw.startswith(_ZERO_SUBPIECE[:tail], at):
            found |= 1 << whole
        return found


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a piece that has to be read, at ``offset`` of the virtual disk.

    ``stored`` says where its own first byte stands; without it, ``extent`` says how to get at the bytes.
    """

    offset: int
    length: int
    stored: StoredAt | None
    extent: Extent


@dataclass(frozen=True, slots=True)
class DataPiece:
    """A piece with something to read; what its segments do not cover is zero."""

    index: int
    length: int
    segments: tuple[Segment, ...]

    @property
    def offset(self) -> int:
        """Where the piece begins in the virtual disk."""
        return self.index * PIECE_BYTES


@dataclass(frozen=True, slots=True)
class ZeroPieces:
    """A run of pieces that are known to be zero without reading."""

    first: int
    count: int
    length: int


def cut_pieces(reader: DiskReader) -> Iterator[DataPiece | ZeroPieces]:
    """Cut a disk into pieces, in order, holding no more than one piece's segments at a time.

    Raises BadImage when the reader's extents do not cover the disk exactly: a gap would be a silent loss.
    """
    size = reader.virtual_size
    segments: list[Segment] = []
    position = 0
    for extent in reader.extents():
        _check_follows(reader, extent, position)
        while position < extent.end:
            if extent.zero and not segments and position % PIECE_BYTES == 0:
                whole_end = extent.end if extent.end == size else extent.end // PIECE_BYTES * PIECE_BYTES
                if whole_end > position:
                    yield _zero_run(position, whole_end)
                    position = whole_end
                    continue
            piece_end = min(position // PIECE_BYTES * PIECE_BYTES + PIECE_BYTES, size)
            end = min(extent.end, piece_end)
            if not extent.zero:
                _append(segments, extent, position, end)
            position = end
            if position == piece_end:
                yield _close_piece(segments, position)
                segments = []
    if position != size:
        raise BadImage(first_file(reader), f"its extents end at byte {position} of {size}")


def in_short_runs(parts: Iterator[DataPiece | ZeroPieces], virtual_size: int) -> Iterator[DataPiece | ZeroPieces]:
    """The same parts with long runs of zeroes cut up, for whom each takes time: in between, it can be stopped."""
    for part in parts:
        if isinstance(part, DataPiece):
            yield part
            continue
        end = part.first + part.count
        for first in range(part.first, end, _SHORT_RUN):
            stop = min(first + _SHORT_RUN, end)
            yield _zero_run(first * PIECE_BYTES, min(stop * PIECE_BYTES, virtual_size))


def _check_follows(reader: DiskReader, extent: Extent, position: int) -> None:
    if extent.offset != position or extent.length <= 0 or extent.end > reader.virtual_size:
        raise BadImage(
            first_file(reader),
            f"an extent of {extent.length} bytes at {extent.offset} does not follow byte {position} "
            f"of {reader.virtual_size}",
        )


def first_file(reader: DiskReader) -> Path:
    """The file by which an error calls a disk."""
    return reader.files[0] if reader.files else Path("disk")


def _zero_run(start: int, end: int) -> ZeroPieces:
    first = start // PIECE_BYTES
    return ZeroPieces(first, piece_count(end) - first, end - start)


def _append(segments: list[Segment], extent: Extent, start: int, end: int) -> None:
    stored = None
    if extent.stored is not None:
        stored = StoredAt(extent.stored.file, extent.stored.offset + start - extent.offset)
        last = segments[-1] if segments else None
        # Neighbours in the disk that are neighbours in the file are one read.
        if (
            last is not None
            and last.stored is not None
            and last.offset + last.length == start
            and last.stored.offset + last.length == stored.offset
            and last.stored.file == stored.file
        ):
            segments[-1] = Segment(last.offset, end - last.offset, last.stored, last.extent)
            return
    segments.append(Segment(start, end - start, stored, extent))


def _close_piece(segments: list[Segment], end: int) -> DataPiece | ZeroPieces:
    index = (end - 1) // PIECE_BYTES
    length = end - index * PIECE_BYTES
    return DataPiece(index, length, tuple(segments)) if segments else ZeroPieces(index, 1, length)


def stored_bytes(disk: DiskReader, is_free: Callable[[Extent], bool] = lambda extent: False) -> int:
    """How much a copy of a disk takes at most: whole sub-pieces of what does not read as zero, but of what ``is_free``.

    Raises what the reader raises.
    """
    counted = total = 0
    for extent in disk.extents():
        if not extent.zero and extent.length and not is_free(extent):
            first = max(counted, extent.offset // SUBPIECE_BYTES)
            counted = max(counted, -(-extent.end // SUBPIECE_BYTES))
            total += counted - first
    return total * SUBPIECE_BYTES
