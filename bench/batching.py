"""The rows of batches: what scheduler and store cost a job, beside the program that converts it; and how well a night is packed."""

from __future__ import annotations

import heapq
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import Outcome, Row, Say, scratch_folder, timed
from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch, Budget, JobEvent, MachineJob, State
from p2v.batch.runner import BatchOutcome, run_batch
from p2v.batch.store import Store
from tests.batch.tiny_fleet import tiny_fleet

_MACHINES = 200
_MANY = 1000
WANTED_SECONDS = 0.050
_PLACES = 2
_WORST_RATIO = 1.15
# it converts nothing, and takes next to no time
_PROGRAM = ("true",)


def _overhead(say: Say) -> Outcome:
    """Ours: seconds a job takes beside its program, one after the other; other: the limit of 50 ms."""
    ours = [_beside_the_program(_MACHINES) for _ in range(6)][1:]
    say(f"ours: {[round(s * 1000, 1) for s in ours]} ms a job of {_MACHINES}")
    many = _beside_the_program(_MANY)
    detail = f"jobs one after the other, {_MACHINES} machines; of {_MANY} machines {many * 1000:.1f} ms a job"
    return Outcome(statistics.median(ours), WANTED_SECONDS, (len(ours), 1), detail)


def _beside_the_program(count: int) -> float:
    with scratch_folder() as folder:
        batch = made_batch(folder, count, Budget(copies=1, appliances=1, jobs=1))
        local = LocalStarter(batch.store, _PROGRAM)
        return beside_the_program(batch, lambda store: run_batch(batch, store, unheard, local=local))


def beside_the_program(batch: Batch, run: Callable[[Store], BatchOutcome]) -> float:
    """Seconds that each job of a batch takes beside the program that converts nothing, where all of them are done."""
    count, alone = len(batch.machines), statistics.median(timed(_PROGRAM) for _ in range(50))
    with Store.create(batch.store) as store:
        began = time.monotonic()
        outcome = run(store)
        seconds = time.monotonic() - began
    if outcome.count(State.DONE) != count:
        raise RuntimeError(f"{count - outcome.count(State.DONE)} jobs were not done")
    return seconds / count - alone


def made_batch(folder: Path, count: int, budget: Budget) -> Batch:
    """A batch of machines that nothing is read of."""
    source = folder / "disk.raw"
    source.write_bytes(b"x")
    machines = tuple(MachineJob(f"machine{number:04}", (source,), folder / "out") for number in range(count))
    return Batch(machines, budget, folder / "jobs.p2v", folder / "jobs.yaml")


def unheard(event: JobEvent) -> None:
    """What is told to nobody."""


def _packing(say: Say) -> Outcome:
    """Ours: a night of real conversions; other: 1.15 times what its own jobs take at best at its places."""
    ratios = []
    nights = []
    for _ in range(2):
        night = _night()
        nights.append(night)
        ratios.append(night.seconds / night.best)
        say(f"{night.seconds:.1f} s, best {night.best:.1f} s, ratio {ratios[-1]:.3f}, {night.cores:.2f} cores busy")
    night = nights[ratios.index(min(ratios))]
    detail = (
        f"{_MACHINES} machines ({night.done} converted, {night.parked} parked), {_PLACES} copies at a time; ideal: the greater of "
        f"all copy places' seconds by places ({night.bound:.1f} s) and the longest job ({night.longest:.1f} s); longest-first "
        f"packing {night.packed:.1f} s; ratio {min(ratios):.3f}, {night.cores:.2f} cores busy, "
        f"a job holds its place {night.median:.2f} s"
    )
    return Outcome(night.seconds, night.best * _WORST_RATIO, (2, 1), detail)


@dataclass(frozen=True, slots=True)
class _Night:
    """Seconds: of the whole run, and what its jobs need. ``cores``: processors that were busy on average."""

    seconds: float
    cores: float
    held: tuple[float, ...]
    """How long each job had its place for copying."""
    longest: float
    done: int
    parked: int

    @property
    def bound(self) -> float:
        """What no packing can better, of the places for copies."""
        return sum(self.held) / _PLACES

    @property
    def packed(self) -> float:
        """The longest first, each at the place that is free first."""
        ends = [0.0] * _PLACES
        for each in sorted(self.held, reverse=True):
            heapq.heapreplace(ends, ends[0] + each)
        return max(ends)

    @property
    def best(self) -> float:
        """The proven bound: a packing may reach it, and nothing less."""
        return max(self.bound, self.longest)

    @property
    def median(self) -> float:
        """Of a place's time."""
        return statistics.median(self.held)


def _night() -> _Night:
    told: list[JobEvent] = []
    with scratch_folder() as folder:
        fleet = [MachineJob(name, (source,), folder / "out") for name, source in tiny_fleet(folder, _MACHINES)]
        batch = Batch(tuple(fleet), Budget(copies=_PLACES), folder / "jobs.p2v", folder / "jobs.yaml")
        before, began = _processor_seconds(), time.monotonic()
        with Store.create(batch.store) as store:
            outcome = run_batch(batch, store, told.append)
        seconds = time.monotonic() - began
        cores = (_processor_seconds() - before) / seconds
    if not all(job.state.is_end for job in outcome.jobs):
        raise RuntimeError("some machines have come to no end")
    ends = outcome.count(State.DONE), outcome.count(State.PARKED)
    held, longest = _times(told)
    return _Night(seconds, cores, held, longest, *ends)


def _times(told: Sequence[JobEvent]) -> tuple[tuple[float, ...], float]:
    """How long each job had its place for copying (from its lease to the end of its copy, or of all), and the longest job."""
    begun: dict[str, float] = {}
    copied: dict[str, float] = {}
    ended: dict[str, float] = {}
    for event in told:
        if event.kind == "claimed":
            begun[event.job] = event.at
        elif event.kind == "phase-finished" and event.data["phase"] == "copy":
            copied[event.job] = event.at
        elif event.kind in ("done", "parked"):
            ended[event.job] = event.at
    # one that is parked gives its place back when its conversion has ended, which nothing tells of: counted to the end of its
    # last phase, or else not at all, which can only make the ideal less
    last = {event.job: event.at for event in told if event.kind.startswith("phase-")}
    held = [copied.get(name, last.get(name, at)) - at for name, at in begun.items()]
    return tuple(held), max(ended[name] - at for name, at in begun.items())


def _processor_seconds() -> float:
    used: Iterable[resource.struct_rusage] = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


ROWS = (
    Row("batch-overhead", "scheduler and store of p2v batch, a job, against 50 ms", "s", 1, _overhead),
    Row("batch-packing", "200 tiny machines on two cores against 1.15 x the ideal packing of their job times", "s", 1, _packing),
)
