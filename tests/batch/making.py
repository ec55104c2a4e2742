"""Jobs and batches, for tests of what stands on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Budget, Job, JobEvent, MachineJob, State
from p2v.batch.order import Place
from p2v.batch.scheduling import Setting
from p2v.batch.terms import Terms


def machine(name: str, folder: Path = Path("/nowhere/results"), **rest: Any) -> MachineJob:
    """A machine with one disk."""
    return MachineJob(name, (Path(f"/nowhere/{name}.vmdk"),), folder, **rest)


def job(name: str, state: State = State.WAITING, folder: Path = Path("/nowhere/results"), **rest: Any) -> Job:
    """A job of such a machine."""
    return Job(machine(name, folder), state, **rest)


def event(kind: str, name: str = "web", at: float = 1000.0, number: int = 1, **data: Any) -> JobEvent:
    """Something that happened to one."""
    return JobEvent(number, at, name, 1, kind, data)


def terms_of_sizes(sizes: Mapping[str, int], budget: Budget | None = None) -> Terms:
    """Of machines of which only this is known: about how many bytes each has to copy, by its name."""
    return Terms(budget or Budget(), Setting({name: Place((), size) for name, size in sizes.items()}, host=None))
