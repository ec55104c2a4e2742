"""The one ``DiskReader`` of this package: a layout says where bytes are, this reads them.

Formats differ only in their ``Layout``; reading, clipping, merging, inflating and closing are here, once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from converters.decompress import decompress
from converters.extents import Occupancy, clip, merge
from converters.info import ImageFacts
from converters.source_file import SourceFile
from p2v.core.disk import CompressedAt, Extent
from p2v.core.errors import ReadFailed

# Guests are read in small pieces: the blocks just inflated are kept, up to this many bytes.
_INFLATED_CACHE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MetadataRange:
    """Where a part of an image's own headers and tables stands."""

    file: SourceFile
    offset: int
    length: int


class Layout(Protocol):
    """Where a format keeps the bytes of its disk."""

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        ...

    @property
    def block_bytes(self) -> int:
        """Size of the unit of allocation, or 0 where a disk has none."""
        ...

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Adjacent pieces that cover ``start`` to ``end`` of the disk; they may begin before ``start`` and
        reach past ``end`` and past the disk's end."""
        ...

    def walk(self) -> Iterator[Extent]:
        """The whole disk as ``lookup`` has it, with holes of the host's file system where that is cheap."""
        ...

    def metadata(self) -> Iterator[MetadataRange]:
        """Headers and tables whose change means that the image changed."""
        ...


class MappedDisk:
    """A ``DiskReader`` over a layout; a context manager; owns its files."""

    def __init__(self, layout: Layout, files: tuple[SourceFile, ...], facts: ImageFacts) -> None:
        self.facts = facts
        self.layout = layout
        self._sources = files
        self._by_path = {file.path: file for file in files}
        self._closed = False
        kept = max(2, _INFLATED_CACHE_BYTES // max(1, layout.block_bytes))
        self._inflated = functools.lru_cache(maxsize=kept)(self._inflate)

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        return self.layout.virtual_size

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the disk's bytes come from."""
        return tuple(self._by_path)

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """The open files behind ``files``."""
        return tuple(self._by_path.values())

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the disk.

        Raises BadImage, ReadFailed; ValueError for a negative length or offset.
        """
        if length < 0 or offset < 0:
            raise ValueError(f"cannot read {length} bytes at {offset}")
        if self._closed:
            # Tables and blocks still kept in memory must not make some reads work.
            raise ReadFailed(str(self._sources[0].path), "was read after it was closed")
        end = min(offset + length, self.virtual_size)
        if end <= offset:
            return b""
        parts = [self._read_piece(piece, offset, end) for piece in self._pieces(offset, end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def extents(self) -> Iterator[Extent]:
        """Walk the whole virtual disk in order; lazily, in bounded memory. Raises BadImage, ReadFailed."""
        return merge(self._checked_pieces())

    def stored_bytes(self, length: int, offset: int) -> Iterator[bytes]:
        """The bytes that stand in the files for a range of the disk, not inflated; zeroes give nothing.

        Two reads of an unchanged image give the same; for identities, where inflating would cost too much.
        """
        end = min(offset + length, self.virtual_size)
        if end <= offset:
            return
        for piece in self._pieces(offset, end):
            if piece.compressed is not None:
                where = piece.compressed
                yield self._source(where.file).pread(min(where.length, length), where.offset)
            elif not piece.zero:
                yield self._read_piece(piece, offset, end)

    def close(self) -> None:
        """Give back every handle."""
        self._closed = True
        self._inflated.cache_clear()
        for file in self._sources:
            file.close()

    def __enter__(self) -> MappedDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pieces(self, start: int, end: int) -> Iterator[Extent]:
        # A block of several pieces comes whole, so some of them may lie beside what was asked for.
        return (piece for piece in self.layout.lookup(start, end) if piece.offset < end and piece.end > start)

    def _checked_pieces(self) -> Iterator[Extent]:
        occupancy = Occupancy(self.layout.block_bytes) if self.layout.block_bytes else None
        for piece in clip(self.layout.walk(), self.virtual_size):
            if occupancy is not None and piece.stored is not None:
                occupancy.add(piece, self._source(piece.stored.file).size)
            yield piece

    def _read_piece(self, piece: Extent, start: int, end: int) -> bytes:
        start, end = max(start, piece.offset), min(end, piece.end)
        within, length = start - piece.offset, end - start
        if piece.zero:
            return bytes(length)
        if piece.compressed is not None:
            return self._inflated(piece.compressed, self._inflated_size(piece))[within : within + length]
        if piece.stored is None:
            raise AssertionError(f"the layout says nothing about {piece}")
        file = self._source(piece.stored.file)
        return file.read_exactly(length, piece.stored.offset + within, f"disk offset {start}")

    def _inflated_size(self, piece: Extent) -> int:
        # The last block of a disk may be stored shorter than the others.
        return min(piece.length, self.virtual_size - piece.offset)

    def _inflate(self, where: CompressedAt, size: int) -> bytes:
        stored = self._source(where.file).read_exactly(where.length, where.offset, "a compressed block")
        return decompress(where, stored, size)

    def _source(self, path: Path) -> SourceFile:
        return self._by_path[path]
