"""Where a job's bytes come from and go to, by the host's devices, and about how many they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from p2v.audit.side_by_side import Bounds, side_by_side
from p2v.batch.jobs import MachineJob
from p2v.batch.scheduling import Place
from p2v.core.units import MIB

# what is smaller describes a machine, and its disks are beside it
_DESCRIPTION_BYTES = 4 * MIB
_SECTOR = 512
_AT_ONCE, _TOGETHER = 4, 50


def places_of(machines: Sequence[MachineJob], seconds: float = 30.0) -> Mapping[str, Place]:
    """Of each machine by its name, looked at from processes of their own: a mount that does not answer costs only what it tells.

    Those of one process go without when it is not done in ``seconds``.
    """
    parts = [machines[begin : begin + _TOGETHER] for begin in range(0, len(machines), _TOGETHER)]
    found = {machine.name: Place() for machine in machines}

    def look(number: int) -> list[list[object]]:
        return [[list(place.storages), place.size] for place in map(place_of, parts[number])]

    for answered in side_by_side(look, len(parts), _AT_ONCE, Bounds(seconds)):
        for machine, (storages, size) in zip(parts[answered.number], answered.data or (), strict=False):
            found[machine.name] = Place(tuple(storages), size)
    return found


def place_of(machine: MachineJob) -> Place:
    """By what the host tells of the paths now; nothing is opened. What cannot be told is left out."""
    storages = [_device(path) for path in (*machine.sources, machine.folder)]
    return Place(tuple(dict.fromkeys(name for name in storages if name)), sum(_allocated(machine)))


def _device(path: Path) -> str:
    """The file system a path is on, or will be on when its folders are made."""
    for each in (path, *path.parents):
        try:
            found = os.stat(each)
        except OSError:
            continue
        return f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    return ""


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
