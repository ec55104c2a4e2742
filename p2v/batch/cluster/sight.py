"""Whether a host sees what a job is about: its sources, and the very folder that the runner's host puts results in.

A storage that is not mounted leaves an empty folder of the same name: sources are not there, and results would go to a disk of
the worker's that nobody looks at. So the runner's host raises the job's fence before it sends the job, and a worker that does not
find it in the folder sees another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p2v.audit.side_by_side import Bounds, side_by_side
from p2v.batch.jobs import MachineJob
from p2v.core.errors import P2vError
from p2v.core.fence import raise_fence, standing_fence
from p2v.core.workspace import make_output_folder

NOT_THERE, ANOTHER = "is not there", "is another folder than at the runner's host"
_SECONDS = 20.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Here:
    """What the runner's host sees. ``sources``: all of them; ``fenced``: the fence stands in the folder of the results."""

    sources: bool
    fenced: bool


def seen_here(machine: MachineJob, fence: int) -> Here:
    """Look, and raise the fence, from a process of its own: a mount may not answer, and then nothing is known of it.

    A machine that is pinned to a host may have its results there alone: its folder is left to that host.
    """

    def look(_: int) -> dict[str, bool]:
        return {"sources": all(map(_is_there, machine.sources)), "fenced": not machine.host and _raised(machine, fence)}

    (seen,) = side_by_side(look, 1, 1, Bounds(_SECONDS))
    match seen.data:
        case {"sources": bool(sources), "fenced": bool(fenced)}:
            return Here(sources, fenced)
    return Here(sources=True, fenced=False)


def unseen(machine: MachineJob, *, fenced: bool) -> tuple[Path, str] | None:
    """What a worker's host does not see, and in words how; None: nothing, or it does not answer (the child tells)."""
    return answered(lambda: next(_missing(machine, fenced), None), _SECONDS)


def _missing(machine: MachineJob, fenced: bool) -> Iterator[tuple[Path, str]]:
    for source in machine.sources:
        if not _is_there(source):
            yield _topmost(source), NOT_THERE
            return
    if fenced and not _is_there(machine.folder):
        yield _topmost(machine.folder), NOT_THERE
    elif fenced and not _has_fence(machine):
        yield machine.folder, ANOTHER


def _has_fence(machine: MachineJob) -> bool:
    try:
        return standing_fence(machine.folder, machine.name) is not None
    except P2vError:
        return True  # it is there, and what is wrong with it the child tells


def _is_there(path: Path) -> bool:
    """What cannot be looked at is for the child to tell of."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _topmost(path: Path) -> Path:
    """Of a path that is not there, the uppermost part that is not: what else is below it is not there either."""
    for above in reversed(path.parents):
        if not _is_there(above):
            return above
    return path


def _raised(machine: MachineJob, fence: int) -> bool:
    try:
        make_output_folder(machine.folder)
        raise_fence(machine.folder, machine.name, fence)
    except P2vError:
        return False
    return True


def answered(work: Callable[[], _T], seconds: float = _SECONDS) -> _T | None:
    """What a look at a folder gives; None when it raises an error of ours, or its mount does not answer in time."""
    found: list[_T] = []

    def look() -> None:
        with suppress(P2vError, OSError):
            found.append(work())

    # a thread that waits for a mount cannot be ended, and keeps nobody from ending
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
