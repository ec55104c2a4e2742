"""A sample guest as a plan of the product's leaves it: our reader, our planners, our editor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from drivers.windows.contribution import WindowsContribution, joined
from drivers.windows.edits import HiveEdit, SetValue
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.hive_edit import edit
from drivers.windows.hive_log import LOG_SUFFIXES
from drivers.windows.reading import read_windows
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.windows_startup.guests import Sample

Planner = Callable[[WindowsFacts], WindowsContribution]
_SYSTEM = "system32/config/SYSTEM"
_LOGS = tuple(f"{_SYSTEM}{suffix}" for suffix in LOG_SUFFIXES)
_FILES = (_SYSTEM, *_LOGS, "system32/config/SOFTWARE", "system32/ntoskrnl.exe", "system32/cmd.exe")


def facts_of(found: Sample) -> WindowsFacts:
    """The guest's facts, read of the files that they are made of."""
    root = f"/{found.guest.version.folder}"
    volume = found.machine.volume(found.system)
    files: dict[str, Node] = {f"{root}/system32/drivers/{name}": b"" for name in volume.names(found.path("system32/drivers"))}
    for name in _FILES:
        content = volume.read(found.path(name))
        if content is not None:
            files[f"{root}/{name}"] = content
    return read_windows(InMemoryTree(files), root).facts


def planned(found: Sample, planners: Sequence[Planner]) -> WindowsContribution:
    """What the planners want of the guest, as one."""
    windows = facts_of(found)
    return joined(planner(windows) for planner in planners)


def edited(found: Sample, edits: Sequence[HiveEdit]) -> Sample:
    """The guest with edits made of its SYSTEM hive, what its logs hold put in first where it is dirty."""
    if not edits:
        return found
    volume = found.machine.volume(found.system)
    is_dirty = facts_of(found).registry[SYSTEM].state == "replayed"
    logs = [data for name in _LOGS if is_dirty and (data := volume.read(found.path(name))) is not None]
    path = found.path(_SYSTEM)
    return found.with_files({path: edit(found.read(path), logs, list(edits))})


def converted(found: Sample, planners: Sequence[Planner], taken_out: str = "") -> Sample:
    """The guest as these planners leave it.

    ``taken_out``: an expression (of the re module, on all of it) of edits that are not made, as ``KEY: NAME``.
    """
    every = planned(found, planners).edits.get(SYSTEM, ())
    wanted = re.compile(taken_out, re.IGNORECASE)
    made = [each for each in every if not wanted.fullmatch(described(each))]
    assert not taken_out or len(made) < len(every), "nothing was taken out"
    return edited(found, made)


def described(edit_: HiveEdit) -> str:
    """An edit's key and the value's name."""
    return f"{edit_.key}: {getattr(edit_, 'name', '')}"


def disabled(edits: Sequence[HiveEdit]) -> set[str]:
    """The services that edits disable, in lower case, in any control set."""
    return {
        each.key.rpartition("\\")[2].lower()
        for each in edits
        if isinstance(each, SetValue) and each.name == "Start" and each.data == "04000000"
    }
