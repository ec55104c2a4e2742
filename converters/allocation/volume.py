"""What the readers of allocation read from: a partition, a logical volume, an array, wherever its bytes stand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.errors import Unreadable
from p2v.core.units import MIB

__all__ = ["Copies", "NotUnderstood", "Place", "Volume"]

_LARGEST_READ = 64 * MIB


@dataclass(frozen=True, slots=True)
class Place:
    """``length`` bytes at ``offset`` of the disk with the number ``disk``."""

    disk: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.length


Copies = tuple[Place, ...]
"""Where the same bytes stand: one place, or one in each member of a mirror. All have one length."""


class Volume:
    """Stretches of disks, one behind the other. Offsets count from the volume's own begin, in bytes."""

    def __init__(self, readers: Sequence[DiskReader], stretches: Sequence[Copies]) -> None:
        self._readers = readers
        self._stretches = tuple(copies for copies in stretches if copies[0].length > 0)
        self._starts: list[int] = []
        self.size = 0
        for copies in self._stretches:
            self._starts.append(self.size)
            self.size += copies[0].length

    @classmethod
    def of_disk(cls, readers: Sequence[DiskReader], disk: int) -> Volume:
        """A whole disk."""
        return cls(readers, [(Place(disk, 0, readers[disk].virtual_size),)])

    @classmethod
    def joined(cls, parts: Sequence[Volume]) -> Volume:
        """Volumes one behind the other."""
        return cls(parts[0]._readers, [copies for part in parts for copies in part._stretches])

    @classmethod
    def mirrored(cls, members: Sequence[Volume]) -> Volume:
        """Volumes of one size with the same bytes, the first of which is read. Raises NotUnderstood for scattered ones."""
        if any(len(member._stretches) != 1 or member.size != members[0].size for member in members):
            raise NotUnderstood("its members are not in one piece each")
        copies = tuple(place for member in members for place in member._stretches[0])
        return cls(members[0]._readers, [copies])

    def stretches(self, offset: int, length: int) -> Iterator[Copies]:
        """Where a range of the volume stands. Raises NotUnderstood when it does not lie in it."""
        if length < 0 or offset < 0 or offset + length > self.size:
            raise NotUnderstood("a structure lies behind its end")
        index = bisect_right(self._starts, offset) - 1
        while length > 0:
            within = offset - self._starts[index]
            copies = self._stretches[index]
            count = min(length, copies[0].length - within)
            yield tuple(Place(copy.disk, copy.offset + within, count) for copy in copies)
            offset, length, index = offset + count, length - count, index + 1

    @property
    def disks(self) -> frozenset[int]:
        """The numbers of the disks it stands on."""
        return frozenset(copy.disk for copies in self._stretches for copy in copies)

    def part(self, offset: int, length: int) -> Volume:
        """A range of it as a volume of its own. Raises NotUnderstood when it does not lie in it."""
        return Volume(self._readers, list(self.stretches(offset, length)))

    def read(self, length: int, offset: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``. Raises NotUnderstood when they do not lie in it, and what the disk raises."""
        if length > _LARGEST_READ:
            raise NotUnderstood(f"one of its structures has {length} bytes")
        try:
            parts = [self._readers[at.disk].pread(at.length, at.offset) for at, *_ in self.stretches(offset, length)]
        except Unreadable as error:
            raise NotUnderstood(f"one of its structures cannot be read ({error.reason})") from error
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(data) != length:
            raise NotUnderstood("it is cut off")
        return data

    def peek(self, length: int, offset: int) -> bytes:
        """As ``read``, but nothing where the range does not lie in the volume; for signatures."""
        return self.read(length, offset) if offset >= 0 and offset + length <= self.size else b""

    @property
    def virtual_size(self) -> int:
        """As a disk has it."""
        return self.size

    def pread(self, length: int, offset: int) -> bytes:
        """As a disk is read: short at the end, empty behind it."""
        length = min(length, self.size - offset, _LARGEST_READ)
        return self.read(length, offset) if length > 0 and offset >= 0 else b""
