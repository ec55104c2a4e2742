"""A disk as it was before a conversion in place: its journal's pre-images over what stands there now.

For whoever compares before and after when there is no copy of before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.c_undo import Row
from converters.extents import data, part_of
from converters.image import open_disk
from converters.mapped import Layout, MappedDisk, MetadataRange, checked_walk
from converters.references import DiskSpec
from converters.source_file import open_source
from converters.storage import HostStorage
from converters.undo_journal import open_journal
from p2v.core.disk import Extent
from p2v.core.errors import BadJournal


class UndoLayout:
    """A layout's disk, where the ranges of a journal (``rows``, in order) come from ``journal``."""

    # Checked where the walk of the disk beneath is; a journal's ranges cannot overlap.
    block_bytes = 0

    def __init__(self, current: Layout, rows: Sequence[Row], journal: Path) -> None:
        self._current = current
        self._rows = rows
        self._begins = [row.disk_offset for row in rows]
        self._journal = journal

    @property
    def virtual_size(self) -> int:
        """The disk's."""
        return self._current.virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Pieces of the disk, cut where the journal knows better."""
        return self._over(self._current.lookup(start, end))

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        return self._over(checked_walk(self._current))

    def metadata(self) -> Iterator[MetadataRange]:
        """The disk's: a conversion in place changes none."""
        return self._current.metadata()

    def _over(self, pieces: Iterator[Extent]) -> Iterator[Extent]:
        for piece in pieces:
            position = piece.offset
            index = max(0, bisect_right(self._begins, position) - 1)
            while index < len(self._rows) and self._rows[index].disk_offset < piece.end:
                row = self._rows[index]
                begin, end = max(row.disk_offset, position), min(row.end, piece.end)
                if begin < end:
                    if position < begin:
                        yield part_of(piece, position, begin)
                    yield data(begin, end - begin, self._journal, row.image_offset + begin - row.disk_offset)
                    position = end
                index += 1
            if position < piece.end:
                yield part_of(piece, position, piece.end)


def open_spec(spec: DiskSpec) -> MappedDisk:
    """Open a disk, as it is or as it was before a conversion in place. Raises what ``open_disk`` and ``open_before`` raise."""
    if spec.undo_journal is None:
        return open_disk(spec.path, spec.input_format, spec.lookup)
    return open_before(spec, spec.undo_journal, spec.undo_disk)


def open_before(spec: DiskSpec, journal: Path, disk: int) -> MappedDisk:
    """Open a disk as it was before the conversion that ``journal`` belongs to; ``disk``: its place among the machine's disks.

    All pre-images are checked now. Whether the disk was used since is not: ``prove`` sees that by what differs.
    Raises BadJournal, NoSource, NotPermitted and what opening a disk raises.
    """
    source = open_source(journal)
    current: MappedDisk | None = None
    try:
        with open_journal(HostStorage(), journal) as known:
            if disk >= len(known.header.disks):
                raise BadJournal(journal, f"knows {len(known.header.disks)} disks, not {disk + 1}")
            rows = [row for row in known.rows if row.disk == disk]
            for row in rows:
                known.before(row)
            size = known.header.disks[disk].virtual_size
        current = open_disk(spec.path, spec.input_format, spec.lookup)
        if current.virtual_size != size:
            raise BadJournal(journal, f"is about a disk of {size} bytes; {spec.path} has {current.virtual_size}")
        layout = UndoLayout(current.layout, rows, source.path)
        return MappedDisk(layout, (*current.sources, source), current.facts)
    except BaseException:
        source.close()
        if current is not None:
            current.close()
        raise
