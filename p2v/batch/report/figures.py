"""The numbers behind the page: counts, rates over time, what ran at the same time, how long phases take. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from p2v.batch.jobs import Budget, Job, State
from p2v.batch.report.history import Attempt, History, Span
from p2v.batch.report.limits import COLUMNS
from p2v.batch.report.words import Outcome, Work, outcome_of, work_of

_DID_SOMETHING = 0.1
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Column:
    """A piece of the run's time: when it begins, and its numbers."""

    begin: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """How long a phase took on the machines that ended. ``longest``: where. ``rate``: median bytes per second of a copy."""

    phase: str
    machines: int
    median_seconds: float
    ninth_seconds: float
    longest_seconds: float
    longest: str
    total_seconds: float
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Places of the budget: how many there are, and how many were taken on average while the batch was run (0 to 1)."""

    name: str
    count: int
    share: float


def outcomes(jobs: Sequence[Job]) -> Mapping[Outcome, int]:
    """Machines by how they stand, in the order of outcomes."""
    counts = Counter(map(outcome_of, jobs))
    return {each: counts[each] for each in Outcome}


def columns(begin: float, end: float) -> tuple[float, ...]:
    """Where the columns of a chart over time begin; all are equally long."""
    step = max(end - begin, 1.0) / COLUMNS
    return tuple(begin + index * step for index in range(COLUMNS))


def rates(history: History) -> tuple[Column, ...]:
    """Bytes per second that all copies together did."""
    begins = columns(history.begin, history.end)
    step = begins[1] - begins[0]
    sums = [0] * len(begins)
    for at, count in history.moved:
        sums[_place(at, history.begin, step)] += count
    return tuple(Column(begin, (count / step,)) for begin, count in zip(begins, sums, strict=True))


def at_once(history: History) -> tuple[Column, ...]:
    """How many machines were in which work, on average of each column."""
    begins = columns(history.begin, history.end)
    step = begins[1] - begins[0]
    order = {work: place for place, work in enumerate(Work)}
    sums = [[0.0] * len(order) for _ in begins]
    for span in spans_of(history):
        for place in range(_place(span.begin, history.begin, step), _place(span.end, history.begin, step) + 1):
            inside = min(span.end, begins[place] + step) - max(span.begin, begins[place])
            sums[place][order[work_of(span.phase)]] += max(inside, 0.0)
    return tuple(
        Column(begin, tuple(each / step for each in counts)) for begin, counts in zip(begins, sums, strict=True)
    )


def _place(at: float, begin: float, step: float) -> int:
    return min(max(int((at - begin) / step), 0), COLUMNS - 1)


def attempts_of(history: History) -> Iterator[Attempt]:
    """All attempts of all machines."""
    for told in history.machines.values():
        yield from told.attempts


def spans_of(history: History) -> Iterator[Span]:
    """All phases of all machines."""
    for attempt in attempts_of(history):
        yield from attempt.spans


def phase_figures(jobs: Sequence[Job]) -> tuple[PhaseFigures, ...]:
    """Phases of machines that were converted, those first that took most time together."""
    found: dict[str, list[tuple[float, Job]]] = {}
    for job in jobs:
        if job.state is State.DONE:
            for phase, seconds in job.seconds.items():
                found.setdefault(phase, []).append((seconds, job))
    made = [_phase(phase, taken) for phase, taken in found.items()]
    return tuple(sorted(made, key=lambda each: (-each.total_seconds, each.phase)))


def _phase(phase: str, taken: list[tuple[float, Job]]) -> PhaseFigures:
    times = sorted(seconds for seconds, _ in taken)
    longest, job = max(taken, key=lambda each: (each[0], each[1].machine.name))
    speeds = [speed for _, each in taken if (speed := copy_rate(each)) is not None] if phase == "copy" else []
    ninth = times[max(math.ceil(len(times) * 0.9) - 1, 0)]
    name = job.machine.name
    total = sum(times)
    return PhaseFigures(
        phase, len(times), median(times), ninth, longest, name, total, median(speeds) if speeds else None
    )


def copy_rate(job: Job) -> float | None:
    """Bytes per second of its copy (of the disks' whole size, holes included); None before it has copied."""
    seconds = job.seconds.get("copy", 0.0)
    done = job.bytes_copied or job.bytes_total
    return done / seconds if job.state is State.DONE and seconds > 0 and done else None


def worked_seconds(job: Job) -> dict[str, float]:
    """Of its phases that had something to do: of a fleet of which few need rewriting, the others' nothing is no measure."""
    return {phase: seconds for phase, seconds in job.seconds.items() if seconds >= _DID_SOMETHING}


def attempt_seconds(job: Job, now: float) -> float | None:
    """How long the attempt took that ended it, or that runs."""
    if job.began <= 0 or job.state is State.WAITING:
        return None
    return max((job.ended if job.state.is_end and job.ended > 0 else now) - job.began, 0.0)


def run_seconds(history: History) -> float:
    """How long anything was under way: times when nothing ran are not in it."""
    total, end = 0.0, -math.inf
    for attempt in sorted(attempts_of(history), key=lambda each: each.begin):
        total += max(attempt.end - max(attempt.begin, end), 0.0)
        end = max(end, attempt.end)
    return total


def places(budget: Budget, history: History) -> tuple[Places, ...]:
    """How far the budget was used while the batch was run. Nothing where nothing ran."""
    time = run_seconds(history)
    if time <= 0:
        return ()
    taken = dict.fromkeys(Work, 0.0)
    for span in spans_of(history):
        taken[work_of(span.phase)] += span.seconds
    under_way = sum(attempt.end - attempt.begin for attempt in attempts_of(history))
    counted = (
        ("copies", budget.copies, taken[Work.COPY]),
        ("appliances", budget.appliances, taken[Work.REWRITE]),
        ("boots", budget.boots, taken[Work.BOOT]),
        ("machines under way", budget.jobs, under_way),
    )
    return tuple(Places(name, count, min(seconds / (time * count), 1.0)) for name, count, seconds in counted if count)
