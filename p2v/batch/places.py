"""Where a job's bytes come from and go to, by the host's devices and the servers of its mounts, and about how many they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2v.audit.side_by_side import Bounds, side_by_side
from p2v.batch.jobs import MachineJob
from p2v.batch.lanes import server_lane
from p2v.batch.mounts import Mounts
from p2v.batch.order import Place
from p2v.core.units import MIB

# what is smaller describes a machine, and its disks are beside it
_DESCRIPTION_BYTES = 4 * MIB
_SECTOR = 512
_AT_ONCE, _TOGETHER = 4, 50


@dataclass(frozen=True, slots=True)
class Places:
    """Of machines by their names; ``devices``: the storage that each path is on, and nothing for one that is not there."""

    by_name: Mapping[str, Place]
    devices: Mapping[Path, tuple[str, ...]]

    def lanes_of(self, name: str) -> tuple[str, ...]:
        """The storages and servers of a machine, as far as they are known."""
        place = self.by_name.get(name)
        return () if place is None else place.storages


def places_of(machines: Sequence[MachineJob], storages: Sequence[Path] = (), seconds: float = 30.0) -> Places:
    """Of machines, and of paths that name storages; looked at from processes of their own: a mount that does not answer costs only
    what it tells. Those of one process go without when it is not done in ``seconds``.
    """
    parts = [machines[begin : begin + _TOGETHER] for begin in range(0, len(machines), _TOGETHER)]
    found = {machine.name: Place() for machine in machines}
    devices: dict[Path, tuple[str, ...]] = dict.fromkeys(storages, ())

    def look(number: int) -> list[list[object]]:
        if number >= len(parts):
            return [[storage_at(storages[number - len(parts)])]]
        mounts = Mounts.of()
        return [[list(place.storages), place.size] for place in (place_of(each, mounts) for each in parts[number])]

    for answered in side_by_side(look, len(parts) + len(storages), _AT_ONCE, Bounds(seconds)):
        if answered.number >= len(parts):
            path = storages[answered.number - len(parts)]
            devices[path] = tuple(each for (each,) in answered.data or () if each)
            continue
        for machine, (names, size) in zip(parts[answered.number], answered.data or (), strict=False):
            found[machine.name] = Place(tuple(names), size)
    return Places(found, devices)


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
