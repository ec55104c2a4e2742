"""Raw disks, and raw bytes inside other formats (fixed VHD, flat VMDK extents).

Reading raw opens nothing else and trusts nothing in the bytes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack

from converters.extents import data, hole
from converters.info import ImageFacts
from converters.mapped import MappedDisk, MetadataRange
from converters.references import Opening
from converters.source_file import SourceFile
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, ReadFailed
from p2v.core.units import SECTOR_BYTES, round_up

_NO_MORE = 1 << 63
_FIRST_PART = re.compile(r"(.+)\.(00+[01])", re.DOTALL)
_PARTS_AT_MOST = 10_000


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
        found = _next_data(file, position) if file.tells_holes else None
        start, stop = (position, end) if found is None else (min(found[0], end), min(found[1], end))
        if start > position:
            yield hole(at + position - file_offset, start - position)
        if stop > start:
            yield data(at + start - file_offset, stop - start, file.path, start)
        position = max(stop, start)


def _next_data(file: SourceFile, position: int) -> tuple[int, int] | None:
    """Begin and end of the next stored bytes, or None where the host cannot tell."""
    if file.fd < 0:
        raise ReadFailed(str(file.path), "was read after it was closed")
    try:
        start = os.lseek(file.fd, position, os.SEEK_DATA)
        return start, max(start + 1, os.lseek(file.fd, start, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return _NO_MORE, _NO_MORE
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return None
        raise ReadFailed(str(file.path), f"cannot be searched for holes: {error.strerror}") from error


class SplitLayout:
    """The parts of a split raw disk, one after the other."""

    block_bytes = 0

    def __init__(self, parts: tuple[SourceFile, ...]) -> None:
        self._begins: list[tuple[int, SourceFile]] = []
        self._end = 0
        for part in parts:
            self._begins.append((self._end, part))
            self._end += part.size

    @property
    def virtual_size(self) -> int:
        """Bytes of all parts, in whole sectors."""
        return round_up(self._end, SECTOR_BYTES)

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """The parts that a range touches."""
        for begin, part in self._begins:
            if begin < end and start < begin + part.size:
                yield data(begin, part.size, part.path, 0)
        if end > self._end:
            yield hole(self._end, self.virtual_size - self._end)

    def walk(self) -> Iterator[Extent]:
        """Data and holes of all parts."""
        for begin, part in self._begins:
            yield from host_extents(part, 0, part.size, begin)
        if self.virtual_size > self._end:
            yield hole(self._end, self.virtual_size - self._end)

    def metadata(self) -> Iterator[MetadataRange]:
        """Raw bytes have none."""
        return iter(())


def open_raw(file: SourceFile, opening: Opening) -> MappedDisk:
    """A whole file or block device as a disk, or the parts of a split one (NAME.001, NAME.002, ...) by its first.

    Its size is rounded up to whole sectors with zeroes. Raises BadImage for parts that do not fit together.
    """
    parts = _parts(file, opening)
    if len(parts) > 1:
        return MappedDisk(SplitLayout(parts), parts, ImageFacts("raw", f"split in {len(parts)} files"))
    virtual_size = round_up(file.size, SECTOR_BYTES)
    notes = []
    if virtual_size != file.size:
        notes.append(f"{file.size} bytes are no whole number of sectors; {virtual_size - file.size} zeroes follow them")
    variant = "block device" if file.is_block_device else "file"
    layout = FlatLayout(file, 0, file.size, virtual_size)
    return MappedDisk(layout, (file,), ImageFacts("raw", variant, notes=tuple(notes)))


def _parts(file: SourceFile, opening: Opening) -> tuple[SourceFile, ...]:
    """The file and, where it is the first part of a split disk, all that follow it in its folder."""
    match = _FIRST_PART.fullmatch(file.path.name)
    if match is None or file.host_path != file.path:
        return (file,)
    parts = [file]
    with ExitStack() as on_failure:
        while (part := _part(file, opening, match, len(parts))) is not None:
            on_failure.callback(part.close)
            if parts[-1].size != file.size:
                problem = f"is part {len(parts)} of a split disk and has {parts[-1].size} bytes instead of {file.size}"
                raise BadImage(parts[-1].path, problem, "Every part but the last is as long as the first.")
            parts.append(part)
            if len(parts) > _PARTS_AT_MOST:
                raise BadImage(file.path, f"has more than {_PARTS_AT_MOST} parts")
        on_failure.pop_all()
    return tuple(parts)


def _part(file: SourceFile, opening: Opening, first: re.Match[str], number: int) -> SourceFile | None:
    width = len(first[2])
    names = [f"{first[1]}.{int(first[2]) + number + ahead:0{width}d}" for ahead in range(3)]
    there = [os.path.lexists(file.path.with_name(name)) for name in names]
    if not there[0]:
        if any(there):
            raise BadImage(file.path, f"is the first part of a split disk, of which {names[0]} is missing")
        return None
    part = opening.beside(file, names[0])
    if part.size == 0:
        part.close()
        raise BadImage(part.path, "is an empty part of a split disk")
    return part
