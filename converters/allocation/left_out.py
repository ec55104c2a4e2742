"""The ranges of one disk that do not travel: in order, apart from each other, each with what is in it."""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.io_errors import write_problem
from p2v.core.units import MIB

_MAGIC = b"P2VLEFT1"
_LARGEST_FILE = 64 * MIB


@dataclass(frozen=True, slots=True)
class LeftOutRange:
    """``length`` bytes at ``offset`` of a disk. ``kind``: what is in it, as people say it ("free blocks of ext4")."""

    offset: int
    length: int
    kind: str

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.length


class LeftOut:
    """Ranges of a disk; 17 bytes each."""

    def __init__(self, ranges: Iterable[LeftOutRange] = ()) -> None:
        """Any order; where ranges overlap, the one that begins first has the bytes."""
        starts, lengths, kinds = array("Q"), array("Q"), array("B")
        names: dict[str, int] = {}
        for each in ranges:
            starts.append(each.offset)
            lengths.append(each.length)
            kinds.append(min(names.setdefault(each.kind, len(names)), 255))
        self.kinds = tuple(names)
        self._starts, self._ends, self._kinds = array("Q"), array("Q"), array("B")
        end = 0
        for index in sorted(range(len(starts)), key=starts.__getitem__):
            start, stop = max(starts[index], end), starts[index] + lengths[index]
            if start < stop:
                self._starts.append(start)
                self._ends.append(stop)
                self._kinds.append(kinds[index])
                end = stop

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[LeftOutRange]:
        return self.within(0, self._ends[-1] if self._ends else 0)

    def within(self, start: int, end: int) -> Iterator[LeftOutRange]:
        """The parts of ranges between two offsets."""
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._starts) and self._starts[index] < end:
            first, last = max(self._starts[index], start), min(self._ends[index], end)
            if first < last:
                yield LeftOutRange(first, last - first, self.kinds[self._kinds[index]])
            index += 1

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(self._ends) - sum(self._starts)

    def by_kind(self) -> dict[str, int]:
        """Bytes of each kind."""
        found = dict.fromkeys(self.kinds, 0)
        for each in self:
            found[each.kind] += each.length
        return found

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the places."""
        return hashlib.sha256(self._places()).hexdigest()

    def _places(self) -> bytes:
        """Offset and length of each, little-endian numbers of 64 bits."""
        places = array("Q")
        for start, end in zip(self._starts, self._ends, strict=True):
            places.extend((start, end - start))
        if sys.byteorder == "big":
            places.byteswap()
        return places.tobytes()

    def save(self, path: Path) -> None:
        """Write the places (not the kinds) where another process may ``load`` them. Raises NoSpace, NotPermitted, ReadFailed."""
        try:
            path.write_bytes(_MAGIC + struct.pack("<Q", len(self)) + self._places())
        except OSError as error:
            raise write_problem(error, path) from error

    @classmethod
    def load(cls, path: Path, kind: str = "left out") -> LeftOut:
        """What ``save`` wrote. Raises ValueError for anything else."""
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE)
        if raw[:8] != _MAGIC or len(raw) < 16 or len(raw) != 16 + 16 * struct.unpack_from("<Q", raw, 8)[0]:
            raise ValueError(f"{path}: no list of ranges")
        pairs = struct.iter_unpack("<QQ", raw[16:])
        return cls(LeftOutRange(offset, length, kind) for offset, length in pairs)
