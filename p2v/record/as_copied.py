"""A conversion's sources as they were copied: without what was left out, which is found again.

A record has the amount of it and a digest of its places only: the places of a large disk would be most of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.sparse_view import SparseView
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.known_files import find_needless
from p2v.record.conversion import ConversionRecord, DiskRecord

NOTHING = LeftOut()
UNREADABLE = "could not be read"


@dataclass(frozen=True, slots=True)
class SourcesAsCopied:
    """What of each source is not in its result: left out, or not readable then.

    ``changed``: the numbers of those in which other blocks are free now.
    """

    left_out: tuple[LeftOut, ...]
    changed: tuple[int, ...] = ()

    def views(self, readers: Sequence[DiskReader]) -> tuple[DiskReader, ...]:
        """The sources without it."""
        return tuple(
            SparseView(reader, gone) if len(gone) else reader for reader, gone in zip(readers, self.left_out, strict=True)
        )


def sources_as_copied(
    readers: Sequence[DiskReader], record: ConversionRecord, report: Reporter = events.silent
) -> SourcesAsCopied:
    """Find what was left out again; what could not be read is in the record. Raises what the readers raise.

    Of files, those that the record names: but each has to be what it was called, as when it was left out.
    """
    disks = record.disks
    unread = [unreadable_of(disk) for disk in disks]
    if all(not disk.left_out for disk in disks):
        return SourcesAsCopied(tuple(unread))
    files = [each.file for each in record.unneeded if not each.why_whole]
    with events.phase(report, "allocation", "Reading which blocks are in use"):
        found = find_needless(readers, files, record.document.facts)[0].disks
    same = [disk.left_out_digest == gone.digest() for disk, gone in zip(disks, found, strict=True)]
    left_out = tuple(
        joined(gone if is_same else NOTHING, lost) for gone, is_same, lost in zip(found, same, unread, strict=True)
    )
    return SourcesAsCopied(left_out, tuple(index for index, is_same in enumerate(same) if not is_same))


def unreadable_of(disk: DiskRecord) -> LeftOut:
    """What of a disk could not be read when it was copied. It counts as zeroes, whether it can be read now or not."""
    return LeftOut(LeftOutRange(each.offset, each.length, UNREADABLE) for each in disk.unreadable)


def joined(left_out: LeftOut, unreadable: LeftOut) -> LeftOut:
    """Both."""
    return LeftOut((*left_out, *unreadable)) if len(unreadable) else left_out
