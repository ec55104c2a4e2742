"""Files of a guest that are not worth copying: what the guest side knows of them, as the engine of disks takes it.

Used twice: before a copy, and when a record's sources are read again as they were copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.allocation.findings import Unused
from converters.allocation.known_files import KnownFile
from converters.allocation.unused import find_unused
from converters.allocation.volume import Place
from converters.mapped import MappedDisk
from drivers.facts import GuestFacts
from drivers.file_places import FilePlaces, places_confined
from drivers.unneeded import Contents, UnneededFile
from p2v.core.disk import DiskReader
from p2v.core.units import KIB

# of hiberfil.sys: its header, which says whether Windows is asleep
_KEPT_BYTES = {Contents.HIBERNATION: 64 * KIB}


@dataclass(frozen=True, slots=True)
class NeedlessFile:
    """A file that was looked at. ``why_whole``: why all of it travels; empty when ``left_out_bytes`` of it are left out."""

    file: UnneededFile
    left_out_bytes: int
    why_whole: str


def find_needless(
    readers: Sequence[DiskReader], files: Sequence[UnneededFile], facts: GuestFacts
) -> tuple[Unused, tuple[NeedlessFile, ...]]:
    """What of the disks need not travel, with these files' contents. Raises what the readers raise."""
    kept = [fd for reader in readers if isinstance(reader, MappedDisk) for fd in reader.kept_fds]
    places = places_confined(files, facts, readers, kept)
    there = [each for each in places if not each.why_whole]
    found = find_unused(readers, [_known(each) for each in there])
    told = [NeedlessFile(each.file, 0, each.why_whole) for each in places if each.why_whole]
    told += [
        NeedlessFile(each.file, finding.left_out_bytes, finding.why_whole)
        for each, finding in zip(there, found.files, strict=True)
    ]
    return found, tuple(told)


def _known(places: FilePlaces) -> KnownFile:
    contents = places.file.contents
    where = tuple(Place(each.disk, each.disk_offset, each.length) for each in places.segments)
    return KnownFile(contents.value, where, _KEPT_BYTES.get(contents, 0), is_swap=contents is Contents.SWAP_FILE)
