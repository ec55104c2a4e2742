"""What of a machine's disks is not copied: found before the copy, told in the record (``p2v.record.as_copied`` finds it again)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.allocation.left_out import LeftOut
from converters.sparse_view import SparseView
from drivers.facts import GuestFacts
from drivers.unneeded import unneeded_files
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.known_files import find_needless
from p2v.record import AllocationRecord, FileRecord, LeftOutRecord

_PHASE = "allocation"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of it: ``all_blocks`` leaves nothing out; ``skip_hibernation`` hiberfil.sys of a Windows too."""

    all_blocks: bool = False
    skip_hibernation: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What of each disk is left out, in the disks' order, what was found of each volume, and of files that nobody needs."""

    disks: tuple[LeftOut, ...]
    volumes: tuple[AllocationRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()

    def views(self, readers: Sequence[DiskReader]) -> list[DiskReader]:
        """The disks without it."""
        return [SparseView(reader, left_out) for reader, left_out in zip(readers, self.disks, strict=True)]


def select(readers: Sequence[DiskReader], facts: GuestFacts, report: Reporter, wanted: Wanted) -> Selection:
    """Find what of the disks that ``facts`` are of need not be copied. Raises what the readers raise."""
    if wanted.all_blocks:
        return Selection(tuple(LeftOut() for _ in readers))
    files = unneeded_files(facts, hibernation=wanted.skip_hibernation)
    with events.phase(report, _PHASE, "Reading which blocks are in use"):
        found, needless = find_needless(readers, files, facts)
    volumes = tuple(
        AllocationRecord(each.name, each.kind, each.size_bytes, each.left_out_bytes, each.why_whole) for each in found.volumes
    )
    return Selection(found.disks, volumes, tuple(FileRecord(n.file, n.left_out_bytes, n.why_whole) for n in needless))


def left_out_records(left_out: LeftOut) -> tuple[LeftOutRecord, ...]:
    """How much of one disk, by kind, as the record has it."""
    return tuple(LeftOutRecord(kind, length) for kind, length in left_out.by_kind().items())
