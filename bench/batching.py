"""The row of batches: what scheduler and store cost a job, beside the program that converts it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.measuring import Outcome, Row, Say, scratch_folder, timed
from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch, Budget, JobEvent, MachineJob, State
from p2v.batch.runner import run_batch
from p2v.batch.store import Store

_MACHINES = 200
_MANY = 1000
_WANTED_SECONDS = 0.050
# it converts nothing, and takes next to no time
_PROGRAM = ("true",)


def _overhead(say: Say) -> Outcome:
    """Ours: seconds a job takes beside its program, one after the other; other: the limit of 50 ms."""
    ours = [_beside_the_program(_MACHINES) for _ in range(6)][1:]
    say(f"ours: {[round(s * 1000, 1) for s in ours]} ms a job of {_MACHINES}")
    many = _beside_the_program(_MANY)
    detail = f"jobs one after the other, {_MACHINES} machines; of {_MANY} machines {many * 1000:.1f} ms a job"
    return Outcome(statistics.median(ours), _WANTED_SECONDS, (len(ours), 1), detail)


def _beside_the_program(count: int) -> float:
    alone = statistics.median(timed(_PROGRAM) for _ in range(50))
    with scratch_folder() as folder:
        batch = _batch(folder, count)
        with Store.create(batch.store) as store:
            began = time.monotonic()
            outcome = run_batch(batch, store, _unheard, local=LocalStarter(batch.store, _PROGRAM))
            seconds = time.monotonic() - began
    if outcome.count(State.DONE) != count:
        raise RuntimeError(f"{count - outcome.count(State.DONE)} jobs were not done")
    return seconds / count - alone


def _batch(folder: Path, count: int) -> Batch:
    source = folder / "disk.raw"
    source.write_bytes(b"x")
    machines = tuple(MachineJob(f"machine{number:04}", (source,), folder / "out") for number in range(count))
    return Batch(machines, Budget(copies=1, appliances=1, jobs=1), folder / "jobs.p2v", folder / "jobs.yaml")


def _unheard(event: JobEvent) -> None:
    pass


ROWS = (Row("batch-overhead", "scheduler and store of p2v batch, a job, against 50 ms", "s", 1, _overhead),)
