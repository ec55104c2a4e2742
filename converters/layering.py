"""A child disk over its parent: what the child does not say is the parent's, and zero past the parent's end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from converters.extents import clip, hole, is_beneath, part_of
from converters.info import ImageFacts
from converters.mapped import Layout, MappedDisk, MetadataRange, checked_walk
from converters.source_file import SourceFile
from p2v.core.disk import Extent


class ChainLayout:
    """The disk of a differencing layout whose ``beneath`` pieces are its parent's."""

    # Each of the two is checked for itself: their blocks have sizes of their own.
    block_bytes = 0

    def __init__(self, child: Layout, parent: MappedDisk) -> None:
        self._child = child
        self._parent = parent

    @property
    def child(self) -> Layout:
        """The layout of the child's own image."""
        return self._child

    @property
    def parent(self) -> MappedDisk:
        """The disk beneath."""
        return self._parent

    @property
    def virtual_size(self) -> int:
        """The child's; a parent may be smaller or larger."""
        return self._child.virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Pieces that cover a range, cut where one of the two disks begins to count."""
        for piece in self._child.lookup(start, end):
            if not is_beneath(piece):
                yield piece
                continue
            begin, stop = max(piece.offset, start), min(piece.end, end)
            reach = min(stop, self._parent.virtual_size)
            if begin < reach:
                for below in self._parent.layout.lookup(begin, reach):
                    if below.offset < reach and below.end > begin:
                        yield part_of(below, max(begin, below.offset), min(reach, below.end))
            if max(begin, reach) < stop:
                yield hole(max(begin, reach), stop - max(begin, reach))

    def walk(self) -> Iterator[Extent]:
        """The whole disk, in one pass over either."""
        below = clip(checked_walk(self._parent.layout), self._parent.virtual_size)
        under: Extent | None = next(below, None)
        for piece in clip(checked_walk(self._child), self.virtual_size):
            if not is_beneath(piece):
                yield piece
                continue
            position = piece.offset
            while position < piece.end:
                while under is not None and under.end <= position:
                    under = next(below, None)
                if under is None:
                    yield hole(position, piece.end - position)
                    break
                stop = min(piece.end, under.end)
                yield part_of(under, position, stop)
                position = stop

    def metadata(self) -> Iterator[MetadataRange]:
        """The child's, then the parent's."""
        yield from self._child.metadata()
        yield from self._parent.layout.metadata()


def chained(child: Layout, files: tuple[SourceFile, ...], facts: ImageFacts, parent: MappedDisk) -> MappedDisk:
    """A child disk that owns its own files and all of its parent's; do not close ``parent`` any more."""
    return MappedDisk(ChainLayout(child, parent), (*files, *parent.sources), replace(facts, parent=parent.facts))


@dataclass(frozen=True, slots=True)
class Link:
    """One image of a chain; the first of ``sources`` is the image, the others are its parts."""

    facts: ImageFacts
    layout: Layout
    sources: tuple[SourceFile, ...]


def links(disk: MappedDisk) -> Iterator[Link]:
    """The images of a chain, the disk's own first."""
    layout = disk.layout
    if not isinstance(layout, ChainLayout):
        yield Link(disk.facts, layout, disk.sources)
        return
    below = set(layout.parent.sources)
    yield Link(disk.facts, layout.child, tuple(source for source in disk.sources if source not in below))
    yield from links(layout.parent)
