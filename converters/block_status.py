"""What an NBD client may know of a range without reading it: which parts are zero, which are not even stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from converters.allocation.left_out import LeftOut
from converters.mapped import MappedDisk
from converters.raw import host_extents
from converters.sparse_view import parts_left
from p2v.core.disk import Extent

# A client asks on from where an answer ends, so none need be longer.
_MAX_RANGES = 4096


@dataclass(frozen=True, slots=True)
class StatusRange:
    """A range of the disk of which one thing is true; ``hole`` (nothing stored) only where it reads as ``zero``."""

    offset: int
    length: int
    zero: bool
    hole: bool


def block_status(
    disk: MappedDisk, offset: int, length: int, *, only_first: bool = False, left_out: LeftOut | None = None
) -> list[StatusRange]:
    """The status of a range of the disk, from its first byte on without gaps; it may end early, after one range at
    least. What is ``left_out`` is a hole.

    Costs a look-up of the range in the format's tables, and two system calls for each stored stretch.

    Raises BadImage, ReadFailed.
    """
    found: list[StatusRange] = []
    extents = _with_host_holes(disk, offset, offset + length)
    if left_out is not None:
        extents = (part for extent in extents for part in parts_left(extent, left_out))
    for extent in extents:
        status = StatusRange(extent.offset, extent.length, extent.zero, extent.zero and not extent.allocated)
        last = found[-1] if found else None
        if last is not None and (last.zero, last.hole) == (status.zero, status.hole):
            found[-1] = replace(last, length=last.length + status.length)
        elif last is not None and (only_first or len(found) == _MAX_RANGES):
            break
        else:
            found.append(status)
    return found


def _with_host_holes(disk: MappedDisk, start: int, end: int) -> Iterator[Extent]:
    """Extents of a range; a stored stretch where the host's file has a hole is one of the disk as well."""
    plain = {source.path: source for source in disk.host_files}
    for extent in disk.extents_in(start, end):
        source = plain.get(extent.stored.file) if extent.stored is not None else None
        if source is None or extent.stored is None:
            yield extent
            continue
        for part in host_extents(source, extent.stored.offset, extent.length):
            yield replace(part, offset=extent.offset + part.offset)
