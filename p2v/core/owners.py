"""What stands where in a file system: the one vocabulary for both engines' readers."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

Range = tuple[int, int]
"""Offset and length in bytes of a file system's device."""


class OwnerKind(enum.Enum):
    """What bytes are; the values are stable and appear in records."""

    FILE = "file"
    """Contents of a file."""
    FOLDER = "folder"
    """Names in a folder, and so what they lead to."""
    METADATA = "metadata"
    """A file system's own structures."""
    FREE = "free"
    """Space that nothing is in: no loss."""
    OUTSIDE = "outside"
    """Outside of all partitions: tables, boot loaders, gaps."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """Bytes of a file system's device and whose they are. ``name``: the path, what structure, or why it is not known."""

    offset: int
    length: int
    kind: OwnerKind
    name: str


class Wanted:
    """Ranges whose owners are looked for, and those found so far."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = sorted(ranges)
        self._left = list(self._ranges)
        self.found: list[Owner] = []

    def claim(self, offset: int, length: int, kind: OwnerKind, name: str) -> bool:
        """Somebody has these bytes; whether any are among those wanted. Several may have the same."""
        hits = list(overlaps(self._ranges, offset, length))
        for start, count in hits:
            self.found.append(Owner(start, count, kind, name))
            self._left = [part for each in self._left for part in without(each, (start, count))]
        return bool(hits)

    @property
    def left(self) -> Sequence[Range]:
        """What nobody has claimed yet."""
        return tuple(self._left)

    def rest(self, kind: OwnerKind, name: str) -> list[Owner]:
        """All that was found, in order, and ``kind`` for the rest."""
        rest = [Owner(offset, length, kind, name) for offset, length in self._left]
        return joined((*self.found, *rest))


def joined(owners: Iterable[Owner]) -> list[Owner]:
    """The same in order, neighbours of one owner as one."""
    found: list[Owner] = []
    last: dict[tuple[OwnerKind, str], int] = {}
    for owner in sorted(owners, key=lambda owner: (owner.offset, owner.name)):
        index = last.get((owner.kind, owner.name))
        if index is not None and found[index].offset + found[index].length == owner.offset:
            found[index] = replace(found[index], length=found[index].length + owner.length)
        else:
            last[owner.kind, owner.name] = len(found)
            found.append(owner)
    return found


def overlaps(ranges: Iterable[Range], offset: int, length: int) -> Iterator[Range]:
    """What of ranges lies in a further one."""
    for start, count in ranges:
        first, end = max(start, offset), min(start + count, offset + length)
        if first < end:
            yield first, end - first


def without(one: Range, other: Range) -> Iterator[Range]:
    """The parts of a range that do not lie in another."""
    (start, length), (gone, count) = one, other
    if gone >= start + length or gone + count <= start:
        yield one
        return
    if gone > start:
        yield start, gone - start
    if gone + count < start + length:
        yield gone + count, start + length - gone - count
