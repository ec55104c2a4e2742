"""Files whose contents need not travel, as somebody knows who knows the guest: swap files, page files.

Only where they stand is handed in. What is believed of it: that it lies in one file system which was understood, in bytes that
this does not call free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from converters.allocation import swap
from converters.allocation.findings import FileFinding
from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.allocation.runs import LEAST_RUN_BYTES, Runs
from converters.allocation.volume import Copies, NotUnderstood, Place, Volume
from p2v.core.disk import DiskReader


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that is not worth copying.

    ``places``: where its contents stand, in the file's order, each once (of a mirror, in any member). ``kind``: what is left
    out, as people say it. ``kept_bytes`` from its begin on travel. ``is_swap``: it has a swap area's header, which tells.
    """

    kind: str
    places: tuple[Place, ...]
    kept_bytes: int = 0
    is_swap: bool = False


class Understood:
    """The volumes whose file systems were read, and what each disk has free in them."""

    def __init__(self, volumes: Sequence[Volume], free: Sequence[LeftOut]) -> None:
        self._free = free
        self._stretches: list[list[tuple[int, int, int, Copies]]] = [[] for _ in free]
        for number, volume in enumerate(volumes):
            for copies in volume.stretches(0, volume.size):
                for place in copies:
                    self._stretches[place.disk].append((place.offset, place.end, number, copies))
        for stretches in self._stretches:
            stretches.sort(key=lambda each: each[0])

    def _home(self, place: Place) -> tuple[int, int, Copies]:
        """The number of the volume that a place is in, how far into a stretch of it, and that stretch."""
        stretches = self._stretches[place.disk] if 0 <= place.disk < len(self._stretches) else []
        index = bisect_right(stretches, place.offset, key=lambda each: each[0]) - 1
        if index < 0 or place.end > stretches[index][1]:
            raise NotUnderstood("the file system it is in is copied whole")
        begin, _, number, copies = stretches[index]
        return number, place.offset - begin, copies

    def ranges_of(self, readers: Sequence[DiskReader], file: KnownFile) -> list[tuple[Place, ...]]:
        """What of a file need not travel: each range with all its copies. Raises NotUnderstood."""
        for place in file.places:
            self._home(place)  # before anything of it is read
        volume = Volume(readers, [(place,) for place in file.places])
        found, homes = [], set()
        for offset, length in _runs(file, volume):
            for (place,) in volume.stretches(offset, length):
                number, within, copies = self._home(place)
                homes.add(number)
                if any(self._free[place.disk].within(place.offset, place.end)):
                    raise NotUnderstood("its file system calls a part of it free")
                if place.length >= LEAST_RUN_BYTES:
                    found.append(tuple(Place(copy.disk, copy.offset + within, place.length) for copy in copies))
        if len(homes) > 1:
            raise NotUnderstood("it is in several file systems")
        if not found:
            raise NotUnderstood("it is too small, or in pieces too small, to be worth it")
        return found


def _runs(file: KnownFile, volume: Volume) -> Runs:
    if file.is_swap:
        if not swap.is_swap(volume):
            raise NotUnderstood("it has no header of a swap area")
        return swap.free_runs(volume)
    runs = Runs()
    if volume.size > file.kept_bytes:
        runs.add(file.kept_bytes, volume.size - file.kept_bytes)
    return runs


def left_out_of(
    readers: Sequence[DiskReader], known: Sequence[KnownFile], understood: Understood
) -> tuple[list[list[LeftOutRange]], tuple[FileFinding, ...]]:
    """The ranges of each disk, and what became of each file."""
    ranges: list[list[LeftOutRange]] = [[] for _ in readers]
    findings = []
    for file in known:
        try:
            found = understood.ranges_of(readers, file)
        except NotUnderstood as why:
            findings.append(FileFinding(why_whole=str(why)))
            continue
        for place in chain.from_iterable(found):
            ranges[place.disk].append(LeftOutRange(place.offset, place.length, file.kind))
        findings.append(FileFinding(sum(copies[0].length for copies in found)))
    return ranges, tuple(findings)
