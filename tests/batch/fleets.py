"""Batches of machines that a stand-in for p2v converts, and one run of them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch, Budget, Job, JobEvent, MachineJob
from p2v.batch.marking import left_folders
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.batch.store import Store

FAKE = (sys.executable, "-ISE", str(Path(__file__).with_name("fake_p2v.py")))
QUICK = Settings(first_backoff=0.01, look=0.2, grace=5.0, worker="test", host="here")
ROOMY = Budget(copies=8, appliances=8, boots=8, jobs=8)


def machine(folder: Path, name: str, wish: Mapping[str, Any] | None = None, **fields: Any) -> MachineJob:
    """A machine whose source says what becomes of it."""
    source = folder / "sources" / f"{name}.json"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps(wish or {}), "utf-8")
    return MachineJob(name, (source,), folder / "out", **fields)


def batch(folder: Path, machines: Sequence[MachineJob], budget: Budget = ROOMY) -> Batch:
    """A batch of them."""
    return Batch(tuple(machines), budget, folder / "jobs.p2v", folder / "jobs.yaml")


@dataclass
class Ran:
    """A run: what it was told, and what came of it."""

    outcome: BatchOutcome
    told: list[JobEvent] = field(default_factory=list)

    def job(self, name: str) -> Job:
        """A job at the end."""
        return next(job for job in self.outcome.jobs if job.machine.name == name)

    def kinds(self, name: str) -> list[str]:
        """What was told of a job, in order, without its phases."""
        phases = ("phase-started", "phase-finished", "bytes-done")
        return [event.kind for event in self.told if event.job == name and event.kind not in phases]


def run(
    wished: Batch,
    when: Callable[[JobEvent, Store], None] = lambda event, store: None,
    settings: Settings = QUICK,
    program: tuple[str, ...] = FAKE,
    **changes: Any,
) -> Ran:
    """Run a batch; ``when`` gets each event as it is told, with a store of another opening."""
    told: list[JobEvent] = []
    settings = replace(settings, **changes)
    with Store.create(wished.store) as store, Store.open(wished.store) as other:

        def report(event: JobEvent) -> None:
            told.append(event)
            when(event, other)

        local = LocalStarter(wished.store, program, settings.grace)
        return Ran(run_batch(wished, store, report, local=local, settings=settings), told)


def remove_left(store: Path) -> None:
    """The temporary folders that runs left which were killed, as `p2v batch clean` does."""
    for folder in left_folders(store):
        shutil.rmtree(folder)


def runs(folder: Path, name: str) -> int:
    """How often the stand-in was started for a machine."""
    file = folder / "out" / f"{name}.runs"
    return file.stat().st_size if file.exists() else 0
