"""The one ``DiskReader`` of this package: a layout says where bytes are, this reads them.

Formats differ only in their ``Layout``; reading, clipping, merging, inflating and closing are here, once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from converters.decompress import decompress
from converters.extents import Occupancy, clip, is_beneath, merge, part_of
from converters.info import ImageFacts
from converters.source_file import SourceFile
from p2v.core.disk import CompressedAt, Extent
from p2v.core.errors import BadImage, ReadFailed
from p2v.core.units import SECTOR_BYTES

# Guests are read in small pieces: the blocks just inflated are kept, up to this many bytes.
_INFLATED_CACHE_BYTES = 8 * 1024 * 1024
_LARGE_SECTOR_BYTES = 4096
_GPT_SIGNATURE = b"EFI PART"


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
        """Size of the unit of allocation no two of which may share their stored bytes; 0: do not check that."""
        ...

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Adjacent pieces that cover ``start`` to ``end`` of the disk; they may begin before ``start`` and
        reach past ``end`` and past the disk's end. ``StoredAt.file`` and ``CompressedAt.file`` are the ``path``
        of a source file, and offsets count in that."""
        ...

    def walk(self) -> Iterator[Extent]:
        """The whole disk as ``lookup`` has it, with holes of the host's file system where that is cheap."""
        ...

    def metadata(self) -> Iterator[MetadataRange]:
        """Headers and tables whose change means that the image changed."""
        ...


def checked_walk(layout: Layout) -> Iterator[Extent]:
    """A layout's walk, where blocks that share their stored bytes end it with BadImage."""
    occupancy = Occupancy(layout.block_bytes) if layout.block_bytes else None
    for piece in layout.walk():
        if occupancy is not None:
            occupancy.add(piece)
        yield piece


class _InflatedBlocks:
    """The blocks inflated last, up to a number of bytes; safe for threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], bytes | bytearray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, where: CompressedAt) -> bytes | bytearray | None:
        with self._lock:
            found = self._kept.get((where.file, where.offset))
            if found is not None:
                self._kept.move_to_end((where.file, where.offset))
            return found

    def put(self, where: CompressedAt, block: bytes | bytearray) -> None:
        with self._lock:
            replaced = self._kept.pop((where.file, where.offset), b"")
            self._kept[where.file, where.offset] = block
            self._bytes += len(block) - len(replaced)
            while self._bytes > _INFLATED_CACHE_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0


class MappedDisk:
    """A ``DiskReader`` over a layout; a context manager; owns its files."""

    def __init__(self, layout: Layout, files: tuple[SourceFile, ...], facts: ImageFacts) -> None:
        self.facts = facts
        self.layout = layout
        self._sources = files
        self._by_path = {file.path: file for file in files}
        self._closed = False
        self._inflated_blocks = _InflatedBlocks()

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        return self.layout.virtual_size

    @property
    def logical_sector_size(self) -> int:
        """Bytes of a sector as the guest sees it.

        Most formats do not tell. There a GUID partition table whose header stands where a second sector of 4096 bytes would begin,
        and not where one of 512 bytes does, shows a disk with such sectors (UEFI 2.10, 5.3.2).
        """
        if self.facts.tells_sectors or self.virtual_size < 2 * _LARGE_SECTOR_BYTES:
            return self.facts.logical_sector_size
        small, large = (self.pread(len(_GPT_SIGNATURE), size) for size in (SECTOR_BYTES, _LARGE_SECTOR_BYTES))
        return _LARGE_SECTOR_BYTES if large == _GPT_SIGNATURE != small else self.facts.logical_sector_size

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the host the disk's bytes come from."""
        return tuple(source.path for source in self.host_files)

    @property
    def host_files(self) -> tuple[SourceFile, ...]:
        """One source for each of ``files``."""
        found: dict[Path, SourceFile] = {}
        for source in self._by_path.values():
            for file in source.host_sources:
                found.setdefault(file.path, file)
        return tuple(found.values())

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """The open files behind ``files``."""
        return tuple(self._by_path.values())

    @property
    def kept_fds(self) -> tuple[int, ...]:
        """Descriptors on something that is no file, which a forked child must keep to read the disk."""
        return tuple(fd for source in self._sources for fd in source.kept_fds)

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
        pieces = clip(checked_walk(self.layout), self.virtual_size)
        return merge(public for piece in pieces for public in self._public(piece))

    def extents_in(self, start: int, end: int) -> Iterator[Extent]:
        """The extents of a part of the disk, cut to it, without a walk from its begin. Raises BadImage, ReadFailed.

        As ``extents`` has them, but that neither holes of the host's file system are told, nor blocks that share
        their stored bytes noticed.
        """
        end = min(end, self.virtual_size)
        pieces = self._pieces(start, end) if start < end else iter(())
        cut = (part_of(p, max(start, p.offset), min(end, p.end)) for p in pieces)
        return merge(public for piece in cut for public in self._public(piece))

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
        self._inflated_blocks.clear()
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

    def _public(self, piece: Extent) -> Iterator[Extent]:
        """A piece as readers of ``extents`` may see it: places are those of the host's files, or none."""
        where = piece.stored or piece.compressed
        source = None if where is None else self._source(where.file)
        if where is None or source is None or source.host_path is source.path:
            yield piece
        elif piece.compressed is not None:
            length, at = next(source.places(where.offset, piece.compressed.length))
            whole = at is not None and length >= piece.compressed.length
            moved = replace(piece.compressed, file=at.file, offset=at.offset) if whole and at is not None else None
            yield replace(piece, compressed=moved)
        else:
            begin = piece.offset
            for length, at in source.places(where.offset, piece.length):
                yield replace(part_of(piece, begin, begin + length), stored=at)
                begin += length

    def _read_piece(self, piece: Extent, start: int, end: int) -> bytes:
        start, end = max(start, piece.offset), min(end, piece.end)
        within, length = start - piece.offset, end - start
        if piece.zero:
            return bytes(length)
        if piece.compressed is not None:
            within += piece.compressed.skip
            return bytes(memoryview(self._inflated(piece.compressed, within + length))[within : within + length])
        if piece.stored is None:
            raise AssertionError(f"the layout says nothing about {piece}, {is_beneath(piece)=}")
        file = self._source(piece.stored.file)
        return file.read_exactly(length, piece.stored.offset + within, f"disk offset {start}")

    def _inflated(self, where: CompressedAt, needed: int) -> bytes | bytearray:
        """A whole block, of which ``needed`` bytes must be there: the last one of a disk may be stored shorter."""
        block = self._inflated_blocks.get(where)
        if block is None:
            stored = self._source(where.file).read_exactly(where.length, where.offset, "a compressed block")
            block = decompress(where, stored)
            self._inflated_blocks.put(where, block)
        if len(block) < needed:
            problem = f"the compressed block at byte {where.offset} holds {len(block)} bytes instead of {needed}"
            raise BadImage(where.file, problem)
        return block

    def _source(self, path: Path) -> SourceFile:
        return self._by_path[path]
