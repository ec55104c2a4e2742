"""What of a machine's disks would be copied, and what left out: known before the copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.pieces import stored_bytes
from p2v.core.disk import DiskReader
from p2v.core.events import silent
from p2v.documents import PlanDocument
from p2v.left_out import Selection, Wanted, left_out_records, select
from p2v.record import AllocationRecord, FileRecord, LeftOutRecord
from p2v.rewriting import open_planned


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """What is copied of one disk. ``copy_bytes``: at most, for blocks of zeroes are found only when they are read."""

    source: Path
    virtual_bytes: int
    copy_bytes: int
    left_out: tuple[LeftOutRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyEstimate:
    """What is copied of a machine's disks, in their order, and which volumes and files that rests on."""

    disks: tuple[DiskCopy, ...]
    volumes: tuple[AllocationRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()

    @property
    def copy_bytes(self) -> int:
        """Of all disks."""
        return sum(disk.copy_bytes for disk in self.disks)


def estimate(document: PlanDocument, wanted: Wanted) -> CopyEstimate:
    """What of a machine's disks would be copied; they must not be in use. Raises what reading them raises."""
    with as_copied(document, wanted) as (selection, views):
        return estimated(document, selection, views)


@contextmanager
def as_copied(document: PlanDocument, wanted: Wanted) -> Iterator[tuple[Selection, list[DiskReader]]]:
    """What is left out of a machine's disks, and the disks without it."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_planned(source)) for source in document.sources]
        selection = select(readers, document.facts, silent, wanted)
        yield selection, selection.views(readers)


def estimated(document: PlanDocument, selection: Selection, views: Sequence[DiskReader]) -> CopyEstimate:
    """The same of disks that are open: ``views`` are what ``as_copied`` gives."""
    disks = tuple(
        DiskCopy(source.path, source.image.virtual_size, stored_bytes(view), left_out_records(left_out))
        for source, view, left_out in zip(document.sources, views, selection.disks, strict=True)
    )
    return CopyEstimate(disks, selection.volumes, selection.files)
