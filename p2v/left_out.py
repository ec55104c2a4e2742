"""What of a machine's disks is not copied: found before the copy, told in the record (``p2v.record.as_copied`` finds it again)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.allocation.left_out import LeftOut
from converters.allocation.unused import find_unused
from converters.sparse_view import SparseView
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.record import AllocationRecord, LeftOutRecord

_PHASE = "allocation"


@dataclass(frozen=True, slots=True)
class Selection:
    """What of each disk is left out, in the disks' order, and what was found of each volume."""

    disks: tuple[LeftOut, ...]
    volumes: tuple[AllocationRecord, ...]

    def views(self, readers: Sequence[DiskReader]) -> list[DiskReader]:
        """The disks without it."""
        return [SparseView(reader, left_out) for reader, left_out in zip(readers, self.disks, strict=True)]


def select(readers: Sequence[DiskReader], report: Reporter, *, all_blocks: bool) -> Selection:
    """Find what need not be copied; with ``all_blocks``: nothing. Raises what the readers raise."""
    if all_blocks:
        return Selection(tuple(LeftOut() for _ in readers), ())
    with events.phase(report, _PHASE, "Reading which blocks are in use"):
        found = find_unused(readers)
    volumes = tuple(
        AllocationRecord(each.name, each.kind, each.size_bytes, each.left_out_bytes, each.why_whole) for each in found.volumes
    )
    return Selection(found.disks, volumes)


def left_out_records(left_out: LeftOut) -> tuple[LeftOutRecord, ...]:
    """How much of one disk, by kind, as the record has it."""
    return tuple(LeftOutRecord(kind, length) for kind, length in left_out.by_kind().items())
