"""What is slow and why, what waits and for what: sentences from numbers, no guesses. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from statistics import median

from p2v.batch.jobs import Batch, Job, State
from p2v.batch.report.chronicle import FAILED
from p2v.batch.report.figures import Places, attempts_of, copy_rate, run_seconds, spans_of, worked_seconds
from p2v.batch.report.history import History, Span
from p2v.batch.report.limits import SLOW
from p2v.batch.report.words import Work, clock, lasted, rate, work_of
from p2v.core.units import parse_size
from p2v.pages.words import counted

SLOW_TIMES = 1.5
"""Times the fleet's median, from which on it is told of."""
_APART = 0.67
"""Of the others' median rate, below which a storage or worker is told of."""
LEAST = 3
"""Machines that a median needs."""
_FULL = 0.9
_TURNS = {"turn": ("to boot", "boots"), "appliance-turn": ("with an appliance", "appliances")}
"""Phases in which a machine waits for others: for what, and by which number of the budget."""
_LONG_WAITS = 60.0
_LEAST_SECONDS = 1.0
"""That a copy or failed attempts must have cost to be told of."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Something that took longer than it had to. ``job``: a machine's name, empty for the fleet. ``seconds``: that it cost."""

    job: str
    what: str
    why: tuple[str, ...]
    seconds: float


def slow_machines(jobs: Sequence[Job], history: History, shared: int | None = None) -> tuple[Slow, ...]:
    """Machines whose phases took much longer than the fleet's median, those first that lost most time.

    ``shared``: bytes per second that the budget gives all copies of a storage together.
    """
    ended = [job for job in jobs if job.state is State.DONE]
    speeds = [speed for job in ended if (speed := copy_rate(job)) is not None]
    found = [*_slow_copies(ended, median(speeds), history, shared)] if len(speeds) >= LEAST else []
    found += _slow_phases(ended)
    found += _failed_attempts(history)
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.job))[:SLOW])


def _slow_copies(ended: Sequence[Job], usual: float, history: History, shared: int | None) -> Iterator[Slow]:
    found = []
    for job in ended:
        speed = copy_rate(job)
        if speed is None or speed * SLOW_TIMES > usual:
            continue
        lost = job.seconds["copy"] * (1 - speed / usual)
        if lost >= _LEAST_SECONDS:
            found.append((-lost, job.machine.name, job, speed))
    beside = _Beside(history)
    # reasons take time to find: of those alone that are told of
    for lost, name, job, speed in heapq.nsmallest(SLOW, found, key=lambda each: each[:2]):
        what = f"Its copy went at {rate(speed)}; the fleet's median is {rate(usual)}."
        yield Slow(name, what, tuple(_why_slow(job, history, beside, shared)), -lost)


def _why_slow(job: Job, history: History, beside: _Beside, shared: int | None) -> Iterator[str]:
    """Limits are told of without comparing: they count what is moved, the rate counts holes as well."""
    last = history.of(job.machine.name).last
    own = [each.removeprefix("--limit=") for each in job.machine.options if each.startswith("--limit=")]
    if own:
        yield f"Its own limit is {_limit(own[-1])}."
    elif last is not None and last.limit:
        yield f"Its share of the budget was at most {rate(last.limit)}."
    elif shared:
        yield f"All copies of a storage share {rate(shared)} of the budget."
    if last is None:
        return
    (copy,) = [span for span in last.spans if span.phase == "copy"][-1:] or (None,)
    if copy is not None and (others := beside.copies(copy)) > beside.usual + 0.5:
        yield f"On average {others:.1f} other copies ran beside it; beside a copy of this fleet it is {beside.usual:.1f}."


def _limit(text: str) -> str:
    try:
        return rate(parse_size(text))
    except ValueError:
        return text


class _Beside:
    """How many copies run beside one."""

    def __init__(self, history: History) -> None:
        self._copies = [span for span in spans_of(history) if span.phase == "copy" and span.seconds > 0]
        total = sum(span.seconds for span in self._copies)
        ends = sorted([(s.begin, 1) for s in self._copies] + [(s.end, -1) for s in self._copies])
        area, level, before = 0.0, 0, 0.0
        for at, step in ends:
            area += level * max(level - 1, 0) * (at - before)
            level, before = level + step, at
        self.usual = area / total if total else 0.0

    def copies(self, copy: Span) -> float:
        """Others that ran while it did, on average."""
        inside = sum(max(min(each.end, copy.end) - max(each.begin, copy.begin), 0.0) for each in self._copies)
        return max(inside / copy.seconds - 1, 0.0) if copy.seconds else 0.0


def _slow_phases(ended: Sequence[Job]) -> Iterator[Slow]:
    times: dict[str, list[float]] = {}
    for job in ended:
        for phase, seconds in worked_seconds(job).items():
            times.setdefault(phase, []).append(seconds)
    usual = {phase: median(each) for phase, each in times.items() if len(each) >= LEAST and phase != "copy"}
    for job in ended:
        for phase, seconds in job.seconds.items():
            normal = usual.get(phase, seconds)
            if seconds > max(SLOW_TIMES * normal, normal + 5):
                what = f"Its phase {phase} took {lasted(seconds)}; the fleet's median is {lasted(normal)}."
                yield Slow(job.machine.name, what, (), seconds - normal)


def _failed_attempts(history: History) -> Iterator[Slow]:
    for name, told in history.machines.items():
        if told.failed and told.failed_seconds >= _LEAST_SECONDS:
            messages = (each.message for each in told.attempts if each.kind in FAILED and each.message)
            what = f"{counted(told.failed, 'attempt')} of it failed and took {lasted(told.failed_seconds)}."
            yield Slow(name, what, tuple(dict.fromkeys(messages))[:3], told.failed_seconds)


def slow_places(jobs: Sequence[Job], history: History) -> Iterator[Slow]:
    """Folders of sources, folders of results and workers whose copies are much slower than all the others'."""
    ended = [job for job in jobs if copy_rate(job) is not None]
    kinds: tuple[tuple[str, Callable[[Job], str]], ...] = (
        ("from", lambda job: str(_above(job.machine.sources[0])) if job.machine.sources else ""),
        ("to", lambda job: str(job.machine.folder)),
        ("by the worker", history.host),
    )
    for word, place_of in kinds:
        by_place: dict[str, list[float]] = {}
        for job in ended:
            by_place.setdefault(place_of(job), []).append(copy_rate(job) or 0.0)
        for place, speeds in by_place.items():
            if not place or len(speeds) < LEAST:
                continue
            others = [each for other, theirs in by_place.items() if other != place for each in theirs]
            if len(others) >= LEAST and median(speeds) < _APART * median(others):
                what = f"Copies {word} {place} went at {rate(median(speeds))}, the others at {rate(median(others))}."
                yield Slow("", what, (f"{counted(len(speeds), 'machine')} there, {len(others):,} elsewhere.",), 0.0)


def _above(path: PurePath) -> PurePath:
    """The folder of the machines' own folders: where a fleet lies is told better by it."""
    return path.parent.parent if len(path.parents) > 2 else path.parent


def full_places(places: Sequence[Places]) -> Iterator[Slow]:
    """What of the budget was used up, so that more of it would shorten the run, as far as the host can bear it."""
    for each in places:
        if each.share >= _FULL:
            what = f"All places for {each.name} ({each.count:,}) were taken {each.share:.0%} of the time."
            yield Slow("", what, ("A larger budget would shorten the run, if host and storage can bear it.",), 0.0)


def turns(history: History) -> Iterator[Slow]:
    """Time that machines under way waited for others, where it is more than a tenth of all that they took."""
    under_way = sum(attempt.end - attempt.begin for attempt in attempts_of(history))
    for phase, (word, name) in _TURNS.items():
        waits = [span.seconds for span in spans_of(history) if span.phase == phase and span.seconds >= _LEAST_SECONDS]
        if sum(waits) >= max(_LONG_WAITS, 0.1 * under_way):
            what = f"{counted(len(waits), 'machine')} waited {lasted(sum(waits))} in all for a turn {word}."
            why = f"More {name} in the budget would shorten that, if the host can bear it."
            yield Slow("", what, (why,), sum(waits))


def idle_time(history: History) -> Iterator[Slow]:
    """Time between beginning and end in which nothing ran."""
    idle = history.end - history.begin - run_seconds(history)
    if not any(attempts_of(history)) or idle < 60 or idle < 0.02 * (history.end - history.begin):
        return
    paused = sum(end - begin for begin, end in history.pauses)
    why = (f"The batch was paused for {lasted(paused)}.",) if paused >= 1 else ()
    yield Slow("", f"For {lasted(idle)} between beginning and end nothing ran.", why, idle)


def waits(batch: Batch, jobs: Sequence[Job], history: History, now: float) -> Mapping[str, str]:
    """Of each machine that waits, by its name: for what."""
    waiting = [job for job in jobs if job.state is State.WAITING]
    taken = [job for job in jobs if history.chosen is None or job.machine.name in history.chosen]
    waves = [job.machine.wave for job in taken if not job.state.is_end]
    wave = min(waves, default=0)
    busy = Counter(_work_now(history, job) for job in jobs if job.state is State.RUNNING)
    return {job.machine.name: _wait(batch, job, history, now, wave, busy) for job in waiting}


def _work_now(history: History, job: Job) -> Work:
    return Work.COPY if "copy" in history.of(job.machine.name).open_phases else work_of(job.phase)


def _wait(batch: Batch, job: Job, history: History, now: float, wave: int, busy: Counter[Work]) -> str:
    machine = job.machine
    if history.is_paused:
        return "the batch to be resumed"
    if not history.is_run:
        return "the next run: none is under way"
    if history.is_late:
        return "the next run: this one begins nothing more"
    if history.chosen is not None and machine.name not in history.chosen:
        return "another run: this one is of other machines"
    if machine.wave > wave:
        return f"the end of wave {wave:,}"
    if job.not_before > now:
        return "the time of another attempt"
    if machine.window is not None and not machine.window.holds(datetime.fromtimestamp(now).time()):
        return f"the window from {machine.window.begin:%H:%M} to {machine.window.end:%H:%M}"
    if busy.total() >= batch.budget.jobs or busy[Work.COPY] >= batch.budget.copies:
        return "a free place"
    return "a turn"


def next_attempt(job: Job, now: float) -> str:
    """When it is tried again, where it waits for that."""
    return f"not before {clock(job.not_before, seconds=True)}" if job.not_before > now else ""
