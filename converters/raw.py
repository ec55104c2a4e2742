"""Raw disks, and raw bytes inside other formats (fixed VHD, flat VMDK extents).

Reading raw opens nothing else and trusts nothing in the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from converters.extents import data, hole
from converters.info import ImageFacts
from converters.mapped import MappedDisk, MetadataRange
from converters.references import Opening
from converters.source_file import SourceFile, open_source
from p2v.core.block_devices import look_at
from p2v.core.disk import Extent
from p2v.core.errors import UnfitDevice
from p2v.core.units import SECTOR_BYTES, round_up


class FlatLayout:
    """``length`` bytes from ``file_offset`` on are the disk; past the file's end it reads as zero."""

    block_bytes = 0

    def __init__(self, file: SourceFile, file_offset: int, length: int, virtual_size: int) -> None:
        self._file = file
        self._file_offset = file_offset
        self._length = length
        self._virtual_size = virtual_size

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """The stored bytes, without asking the host for holes: one system call a read."""
        if start < self._length:
            yield data(0, self._length, self._file.path, self._file_offset)
        if end > self._length:
            yield hole(self._length, self._virtual_size - self._length)

    def walk(self) -> Iterator[Extent]:
        """Data and holes as the host's file system tells them."""
        yield from host_extents(self._file, self._file_offset, self._length)
        if self._virtual_size > self._length:
            yield hole(self._length, self._virtual_size - self._length)

    def metadata(self) -> Iterator[MetadataRange]:
        """Raw bytes have none."""
        return iter(())


def host_extents(file: SourceFile, file_offset: int, length: int, at: int = 0) -> Iterator[Extent]:
    """A range of a file as extents from disk offset ``at`` on, holes by SEEK_DATA and SEEK_HOLE.

    Block devices, and file systems without these calls, are all data. Raises ReadFailed.
    """
    position, end = file_offset, file_offset + length
    while position < end:
        found = file.next_data(position)
        start, stop = (position, end) if found is None else (min(found[0], end), min(found[1], end))
        if start > position:
            yield hole(at + position - file_offset, start - position)
        if stop > start:
            yield data(at + start - file_offset, stop - start, file.path, start)
        position = max(stop, start)


def open_raw(file: SourceFile, _opening: Opening) -> MappedDisk:
    """A whole file or block device as a disk. Its size is rounded up to whole sectors with zeroes."""
    virtual_size = round_up(file.size, SECTOR_BYTES)
    notes = []
    if virtual_size != file.size:
        notes.append(f"{file.size} bytes are no whole number of sectors; {virtual_size - file.size} zeroes follow them")
    parts = len(file.host_sources)
    variant = "block device" if file.is_block_device else f"split in {parts} files" if parts > 1 else "file"
    layout = FlatLayout(file, 0, file.size, virtual_size)
    facts = ImageFacts("raw", variant, notes=tuple(notes))
    return MappedDisk(layout, (file,), _with_sectors(facts, file) if file.is_block_device else facts)


def _with_sectors(facts: ImageFacts, file: SourceFile) -> ImageFacts:
    try:
        device = look_at(file.path)
    except UnfitDevice:
        return facts  # the kernel tells nothing of it
    logical, physical = device.logical_sector_size, device.physical_sector_size
    return replace(facts, logical_sector_size=logical, physical_sector_size=physical, tells_sectors=True)


def open_beginning(path: Path, length: int) -> MappedDisk:
    """The first ``length`` bytes of a block device (or file) as a disk: a device may be larger than what is on it.

    Raises NoSource, NotPermitted, ReadFailed.
    """
    file = open_source(path)
    variant = "block device" if file.is_block_device else "file"
    return MappedDisk(FlatLayout(file, 0, min(length, file.size), length), (file,), ImageFacts("raw", variant))
