"""Bytes of a piece, straight from the files they stand in."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from converters.decompress import decompress
from converters.inflate import FASTEST, INFLATED_CODECS, Inflate
from converters.pieces import DataPiece, PieceBuffer, Segment
from converters.source_file import SourceFile, open_source
from p2v.core.disk import CompressedAt, DiskReader, Extent
from p2v.core.errors import BadImage
from p2v.core.io_errors import read_problem
from p2v.core.units import MIB

# A split VMDK has a file for every 2 GB; one thread keeps this many of them open.
_OPEN_FILES = 32
# What one thread will hold of a compressed extent; a larger one is left to the reader.
_LARGEST_INFLATED_BYTES = 16 * MIB


class PieceReader:
    """Fills piece buffers for one thread; owns the files it opened.

    Files are opened by each thread for itself: no lock, and no file closed under another thread's read.
    """

    def __init__(self, reader: DiskReader, inflate: Inflate = FASTEST) -> None:
        self._reader = reader
        self._inflate = inflate
        self._open: OrderedDict[Path, SourceFile] = OrderedDict()
        # A child disk cuts its parent's streams into several extents; each is inflated once.
        self._last: tuple[tuple[Path, int], bytes | bytearray] | None = None

    def __enter__(self) -> PieceReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file that was opened."""
        while self._open:
            self._open.popitem()[1].close()

    def fill(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        """Read a whole piece into the front of ``buffer``.

        Raises BadImage (a file or stream holds less than it should), ReadFailed, NotPermitted.
        """
        filled = 0
        for segment in piece.segments:
            start = segment.offset - piece.offset
            if start > filled:
                buffer.clear(filled, start)
            filled = start + segment.length
            self._fill_segment(segment, buffer.view[start:filled])
        if filled < piece.length:
            buffer.clear(filled, piece.length)

    def _fill_segment(self, segment: Segment, into: memoryview) -> None:
        compressed = segment.extent.compressed
        if segment.stored is not None:
            self._read_stored(segment.stored.file, segment.stored.offset, into)
        elif compressed is not None and _inflated_here(compressed):
            data = self._inflated(segment.extent, compressed)
            skip = compressed.skip + segment.offset - segment.extent.offset
            into[:] = memoryview(data)[skip : skip + segment.length]
        else:
            self._read_through_reader(segment, into)

    def _read_stored(self, file: Path, offset: int, into: memoryview) -> None:
        handle = self._handle(file)
        while into:
            try:
                count = os.preadv(handle, [into], offset)
            except OSError as error:
                raise read_problem(error, file, offset) from error
            if count == 0:
                end = min(offset, os.fstat(handle).st_size)
                missing = offset + len(into) - end
                raise BadImage(file, f"ends at byte {end}, where {missing} bytes more of the disk should stand")
            into = into[count:]
            offset += count

    def _inflated(self, extent: Extent, at: CompressedAt) -> bytes | bytearray:
        place = (at.file, at.offset)
        if self._last is not None and self._last[0] == place:
            return self._last[1]
        try:
            stored = os.pread(self._handle(at.file), at.length, at.offset)
        except OSError as error:
            raise read_problem(error, at.file, at.offset) from error
        data = decompress(at, stored, self._inflate)
        if len(data) < at.skip + extent.length:
            raise BadImage(
                at.file,
                f"the compressed data at byte {at.offset} hold {len(data)} bytes "
                f"where {at.skip + extent.length} should be",
            )
        self._last = (place, data)
        return data

    def _read_through_reader(self, segment: Segment, into: memoryview) -> None:
        file = segment.extent.compressed.file if segment.extent.compressed is not None else self._any_file()
        try:
            data = self._reader.pread(segment.length, segment.offset)
        except OSError as error:
            raise read_problem(error, Path(error.filename) if error.filename else file) from error
        if len(data) != segment.length:
            raise BadImage(
                file, f"{len(data)} of {segment.length} bytes could be read at byte {segment.offset} of the disk"
            )
        into[:] = data

    def _any_file(self) -> Path:
        return self._reader.files[0] if self._reader.files else Path("disk")

    def _handle(self, file: Path) -> int:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file].fd
        if len(self._open) >= _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[file] = opened = open_source(file)
        return opened.fd


def _inflated_here(at: CompressedAt) -> bool:
    return at.codec in INFLATED_CODECS and max(at.inflated_length, at.length) <= _LARGEST_INFLATED_BYTES
