"""Streams of extents: joining neighbours, cutting at the disk's end, checking what every stream must keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from p2v.core.disk import Extent, StoredAt
from p2v.core.errors import BadImage

# Data extents end here at the latest, so that consumers see progress and a walk stays lazy.
MAX_DATA_EXTENT = 1024 * 1024 * 1024
# One byte a block, over all files of a disk; what lies beyond is not looked at (see ``Occupancy``).
_MAX_OCCUPANCY = 32 * 1024 * 1024


def hole(offset: int, length: int) -> Extent:
    """Reads as zero, nothing stored."""
    return Extent(offset, length, zero=True, allocated=False)


def beneath(offset: int, length: int) -> Extent:
    """A differencing layout's "ask my parent": only ``ChainLayout`` may see it, no ``DiskReader`` hands it out."""
    return Extent(offset, length, zero=False, allocated=False)


def is_beneath(extent: Extent) -> bool:
    """Whether a piece says nothing but that the parent knows."""
    return not extent.zero and not extent.allocated


def data(offset: int, length: int, file: Path, file_offset: int) -> Extent:
    """Plain bytes in a file."""
    return Extent(offset, length, zero=False, allocated=True, stored=StoredAt(file, file_offset))


def merge(extents: Iterable[Extent], max_data_bytes: int = MAX_DATA_EXTENT) -> Iterator[Extent]:
    """Join neighbours with one story: adjacent zeroes of one kind, data contiguous in one file.

    Data is joined up to ``max_data_bytes``, zeroes without limit; compressed extents stay as they are.
    """
    pending: Extent | None = None
    for extent in extents:
        joined = None if pending is None else _joined(pending, extent, max_data_bytes)
        if joined is None and pending is not None:
            yield pending
        pending = joined or extent
    if pending is not None:
        yield pending


def _joined(first: Extent, second: Extent, max_data_bytes: int) -> Extent | None:
    if first.end != second.offset or (first.zero, first.allocated) != (second.zero, second.allocated):
        return None
    length = first.length + second.length
    if first.zero:
        return Extent(first.offset, length, zero=True, allocated=first.allocated)
    if first.stored is None or second.stored is None or length > max_data_bytes:
        return None
    one_file = first.stored.file is second.stored.file or first.stored.file == second.stored.file
    if not one_file or first.stored.offset + first.length != second.stored.offset:
        return None
    return Extent(first.offset, length, zero=False, allocated=True, stored=first.stored)


def clip(extents: Iterable[Extent], virtual_size: int) -> Iterator[Extent]:
    """Cut a stream at the disk's end."""
    for extent in extents:
        if extent.offset >= virtual_size:
            return
        if extent.end <= virtual_size:
            yield extent
            continue
        yield part_of(extent, extent.offset, virtual_size)


def part_of(extent: Extent, start: int, end: int) -> Extent:
    """The part of an extent from disk offset ``start`` to ``end``, both within it."""
    within, length = start - extent.offset, end - start
    stored, compressed = extent.stored, extent.compressed
    if within and stored is not None:
        stored = StoredAt(stored.file, stored.offset + within)
    if within and compressed is not None:
        compressed = replace(compressed, skip=compressed.skip + within)
    return Extent(start, length, extent.zero, extent.allocated, stored, compressed)


class Occupancy:
    """Notices two data blocks that share their stored bytes, within one walk of a disk.

    All blocks have one size, so two that begin in the same aligned piece of that size overlap. Blocks
    that overlap across such pieces are not noticed, nor anything behind the first 32 Mi blocks.
    """

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._seen: dict[Path, bytearray] = {}
        self._room = _MAX_OCCUPANCY

    def add(self, extent: Extent) -> None:
        """Remember the blocks of a data extent; raises BadImage when one of them was seen before."""
        if extent.stored is None:
            return
        first = extent.stored.offset // self._block_bytes
        last = first + -(-extent.length // self._block_bytes)
        seen = self._seen.setdefault(extent.stored.file, bytearray())
        missing = last - len(seen)
        if missing > 0:
            if missing > self._room:
                return
            self._room -= missing
            seen.extend(bytes(missing))
        shared = seen.find(1, first, last)
        if shared >= 0:
            at = extent.stored.offset + (shared - first) * self._block_bytes
            virtual = extent.offset + (shared - first) * self._block_bytes
            problem = f"the data stored at byte {at} for disk offset {virtual} also serves another part of the disk"
            raise BadImage(extent.stored.file, problem, "The image's allocation table is damaged.")
        seen[first:last] = b"\1" * (last - first)


def invariant_broken(extents: Iterable[Extent], virtual_size: int) -> str | None:
    """What a stream of extents does that it must not (see ``Extent``), or None; for tests and `doctor`."""
    position = 0
    for extent in extents:
        if extent.offset != position:
            return f"an extent begins at {extent.offset} instead of {position}"
        if extent.length <= 0:
            return f"the extent at {extent.offset} has the length {extent.length}"
        if extent.zero and (extent.stored or extent.compressed):
            return f"the extent at {extent.offset} reads as zero and has stored bytes"
        if extent.stored and extent.compressed:
            return f"the extent at {extent.offset} is stored twice"
        if not extent.zero and not extent.allocated:
            return f"the extent at {extent.offset} has data that is not allocated"
        position = extent.end
    return None if position == virtual_size else f"the extents end at {position} instead of {virtual_size}"
