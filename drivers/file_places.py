"""Where the contents of some of a guest's files stand on its disks.

For files that are not worth copying: what is told here is left out, so a file of which anything is odd (a link, holes, blocks
that it shares, ...) is told of with the reason instead. To be used inside ``confined``: ``places_confined`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drivers import ntfs_files, posix_files
from drivers.confinement import Limits, confined
from drivers.facts import GuestFacts, Partition, Segment
from drivers.layout import Device, Layout
from drivers.unneeded import UnneededFile
from drivers.volumes import MappedVolume, part_of_segments
from p2v.core import jsonio
from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.errors import ReaderCrashed, ReadFailed

_PIECES_AT_MOST = 4096
_LIMITS = Limits(seconds=60.0)

Run = tuple[int, int]
"""Offset in the file system and length, in bytes."""
_FINDERS: dict[str, Callable[[MappedVolume, str, UnneededFile], Sequence[Run]]] = {
    "ext2": posix_files.runs_in_ext,
    "ext3": posix_files.runs_in_ext,
    "ext4": posix_files.runs_in_ext,
    "xfs": posix_files.runs_in_xfs,
    "ntfs": ntfs_files.runs_in_ntfs,
}


@dataclass(frozen=True, slots=True)
class FilePlaces:
    """Where a file stands, in its own order; or why that is not told."""

    file: UnneededFile
    segments: tuple[Segment, ...] = ()
    why_whole: str = ""


@dataclass(frozen=True, slots=True)
class FoundPlaces:
    """Those of the files that are there."""

    files: tuple[FilePlaces, ...]


def places_confined(
    files: Sequence[UnneededFile], facts: GuestFacts, readers: Sequence[DiskReader], keep_fds: Sequence[int] = ()
) -> tuple[FilePlaces, ...]:
    """Where files stand on the disks that ``facts`` are of; those that are not there are left away.

    In a child without privileges (see ``confined``); what it dies of is the reason why nothing is told.
    """
    if not files:
        return ()
    layout, conv = Layout.of(facts), jsonio.converter()

    def find(disks: Sequence[DiskReader]) -> object:
        found = (_find(file, layout, disks) for file in files)
        return jsonio.encode(jsonio.converter(), FoundPlaces(tuple(each for each in found if each is not None)))

    try:
        return jsonio.decode(conv, confined(find, readers, limits=_LIMITS, keep_fds=keep_fds), FoundPlaces).files
    except (ReaderCrashed, jsonio.BadDocument):
        return tuple(FilePlaces(file, why_whole="its file system could not be read") for file in files)


def _find(file: UnneededFile, layout: Layout, readers: Sequence[DiskReader]) -> FilePlaces | None:
    device = _device(file, layout)
    if device is None or device.filesystem is None:
        return FilePlaces(file, why_whole="its file system is not there")
    try:
        if device.filesystem.why_not_host:
            raise NotUnderstood(device.filesystem.why_not_host)
        finder = _FINDERS.get(device.filesystem.kind)
        if finder is None:
            raise NotUnderstood(f"where files stand is not read of {device.filesystem.kind}")
        segments = _segments(device)
        volume = MappedVolume(segments, sum(segment.length for segment in segments), readers)
        return FilePlaces(file, _on_disks(finder(volume, device.filesystem.kind, file), segments))
    except FileNotFoundError:
        return None
    except NotUnderstood as why:
        return FilePlaces(file, why_whole=str(why))
    except ReadFailed:
        return FilePlaces(file, why_whole="a part of its disk cannot be read")


def _device(file: UnneededFile, layout: Layout) -> Device | None:
    if file.volume:
        return next((volume for volume in layout.volumes if volume.device == file.volume), None)
    return next((p for p in layout.partitions if (p.disk, p.number) == (file.disk, file.partition)), None)


def _segments(device: Device) -> tuple[Segment, ...]:
    if isinstance(device, Partition):
        return (Segment(0, device.length, device.disk, device.offset),)
    if not device.segments:
        raise NotUnderstood("its volume is not in plain pieces on the disks")
    return device.segments


def _on_disks(runs: Sequence[Run], device: Sequence[Segment]) -> tuple[Segment, ...]:
    found: list[Segment] = []
    position = 0
    for offset, length in runs:
        pieces = part_of_segments(device, offset, length)
        if not pieces or len(found) + len(pieces) > _PIECES_AT_MOST:
            raise NotUnderstood("it is in too many pieces" if pieces else "it lies behind the end of its file system")
        found += [Segment(position + each.offset, each.length, each.disk, each.disk_offset) for each in pieces]
        position += length
    return tuple(found)
