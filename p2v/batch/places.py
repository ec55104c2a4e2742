"""Where a job's bytes come from and go to, by the host's devices and the servers of its mounts, and about how many they are."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from p2v.audit.side_by_side import Answered, Aside, Bounds
from p2v.batch.children import wait_for
from p2v.batch.jobs import MachineJob
from p2v.batch.lanes import server_lane
from p2v.batch.mounts import Mounts
from p2v.batch.order import Place
from p2v.core.units import MIB

# what is smaller describes a machine, and its disks are beside it
_DESCRIPTION_BYTES = 4 * MIB
_SECTOR = 512
_AT_ONCE, _TOGETHER = 16, 50
_PACE = 0.2
PLACES_SECONDS = 30.0
"""For a path to tell where it is."""


@dataclass(frozen=True, slots=True)
class Places:
    """Of machines by their names; ``devices``: the storage that each path is on, and nothing for one that is not there."""

    by_name: Mapping[str, Place]
    devices: Mapping[Path, tuple[str, ...]]

    def lanes_of(self, name: str) -> tuple[str, ...]:
        """The storages and servers of a machine, as far as they are known."""
        place = self.by_name.get(name)
        return () if place is None else place.storages


@dataclass
class _Line:
    """Machines whose paths are on the same mounts, or a path that names a storage: what is asked one after the other."""

    points: frozenset[str]
    parts: deque[list[MachineJob]] = field(default_factory=deque)
    storage: Path | None = None


class PlacesLook:
    """Looks at where machines' bytes are, all of them begun at once, from processes of their own: a mount that does not answer
    holds up its own machines alone. Nothing here waits, but ``wait``; close it.

    ``storages``: paths that name storages. Of a mount of which nothing is heard for ``seconds`` nothing more is asked.
    """

    def __init__(self, machines: Sequence[MachineJob], storages: Sequence[Path] = (), seconds: float = PLACES_SECONDS) -> None:
        self._mounts, self._bounds = Mounts.of(), Bounds(seconds)
        self._by_name = {machine.name: Place() for machine in machines}
        self._devices: dict[Path, tuple[str, ...]] = dict.fromkeys(storages, ())
        self._points = {
            machine.name: frozenset(self._mounts.point_of(path) for path in (*machine.sources, machine.folder))
            for machine in machines
        }
        self._waiting = [_Line(frozenset([self._mounts.point_of(path)]), storage=path) for path in self._devices]
        self._waiting += self._lines_of(machines)
        self._asked: list[tuple[_Line, Aside]] = []
        self.has_news()

    @property
    def found(self) -> Places:
        """What was told so far."""
        return Places(dict(self._by_name), dict(self._devices))

    @property
    def unseen(self) -> frozenset[str]:
        """Names of the machines of which something may still be told: where their bytes are, or what their storages' names are."""
        lines = [*(line for line, _ in self._asked), *self._waiting]
        named = {point for line in lines if line.storage is not None for point in line.points}
        late = {machine.name for line in lines for part in line.parts for machine in part}
        if named:
            late |= {name for name, points in self._points.items() if points & named}
        return frozenset(late)

    def has_news(self) -> bool:
        """Hear what is there to be heard, and ask on; whether anything was told."""
        still: list[tuple[_Line, Aside]] = []
        for line, aside in self._asked:
            if (answered := aside.answered()) is None:
                still.append((line, aside))
                continue
            self._take(line, answered)
            if line.parts:
                self._waiting.append(line)
        told, self._asked = len(still) < len(self._asked), still
        while self._waiting and len(self._asked) < _AT_ONCE:
            line = self._waiting[0]
            try:
                self._asked.append((line, Aside(partial(self._look, line), self._bounds)))
            except OSError:  # the host starts no more programs
                break
            del self._waiting[0]
        return told

    def wait(self, seconds: float = math.inf) -> None:
        """Until all is told, or the time is over."""
        end = time.monotonic() + seconds
        while (self._asked or self._waiting) and (left := end - time.monotonic()) > 0:
            wait_for((), min(left, _PACE), self.fds())
            self.has_news()

    def fds(self) -> tuple[int, ...]:
        """Readable when there may be something to hear."""
        return tuple(aside.fd for _, aside in self._asked if aside.fd >= 0)

    def close(self) -> None:
        """Ask no more."""
        for _, aside in self._asked:
            aside.close()
        self._asked, self._waiting = [], []

    def _lines_of(self, machines: Sequence[MachineJob]) -> list[_Line]:
        lines: dict[frozenset[str], _Line] = {}
        for machine in machines:
            points = self._points[machine.name]
            parts = lines.setdefault(points, _Line(points)).parts
            if not parts or len(parts[-1]) >= _TOGETHER:
                parts.append([])
            parts[-1].append(machine)
        return list(lines.values())

    def _look(self, line: _Line) -> list[list[object]]:
        """In the process that looks."""
        if line.storage is not None:
            return [[storage_at(line.storage)]]
        return [[list(place.storages), place.size] for place in (place_of(each, self._mounts) for each in line.parts[0])]

    def _take(self, line: _Line, answered: Answered) -> None:
        data = answered.data if isinstance(answered.data, list) else []
        if line.storage is not None:
            self._devices[line.storage] = tuple(each for (each,) in data if each)
            return
        for machine, (names, size) in zip(line.parts.popleft(), data, strict=False):
            self._by_name[machine.name] = Place(tuple(names), size)
        if answered.timed_out:
            line.parts.clear()


def places_of(machines: Sequence[MachineJob], storages: Sequence[Path] = (), seconds: float = PLACES_SECONDS) -> Places:
    """All that is told in the end; see ``PlacesLook``."""
    look = PlacesLook(machines, storages, seconds)
    try:
        look.wait()
        return look.found
    finally:
        look.close()


def place_of(machine: MachineJob, mounts: Mounts) -> Place:
    """By what the host tells of the paths now; nothing is opened. What cannot be told is left out."""
    paths = (*machine.sources, machine.folder)
    lanes = [*map(_device, paths), *(server_lane(name) for path in paths if (name := mounts.server_of(path)))]
    return Place(tuple(dict.fromkeys(name for name in lanes if name)), sum(_allocated(machine)))


def storage_at(path: Path) -> str:
    """The file system that is at a path; empty where nothing is there."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return name_of(found.st_dev)


def name_of(device: int) -> str:
    """What a device is called among storages."""
    return f"{os.major(device)}:{os.minor(device)}"


def _device(path: Path) -> str:
    """The file system a path is on, or will be on when its folders are made."""
    return next((name for each in (path, *path.parents) if (name := storage_at(each))), "")


def _allocated(machine: MachineJob) -> Iterator[int]:
    for source in machine.sources:
        folder = source if source.is_dir() else source.parent
        own = _size(source)
        yield own if own >= _DESCRIPTION_BYTES else max(own, sum(_sizes_in(folder)))


def _sizes_in(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            yield from (_size(Path(entry.path)) for entry in entries)
    except OSError:
        return


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_blocks * _SECTOR if path.is_file() else 0
