"""What becomes of a batch from now on: its rest gone through without time, with the decisions that the run itself makes. Pure.

Machines begin as ``p2v.batch.scheduling`` lets them: waves, windows of time, priorities, places and storages. Copies share the
rates of what they go over; appliances and boots are taken in turns. Every machine that waits is taken to succeed at once.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import cached_property

from p2v.batch.jobs import Budget, Job, State
from p2v.batch.kinds import COPY
from p2v.batch.lanes import Lanes
from p2v.batch.order import Demand, Place
from p2v.batch.pace import AFTER_COPY, BOOTS, LEAST_SHARE, Paces, copied_share
from p2v.batch.rates import Copying, Rates
from p2v.batch.scheduling import Dispatch, Holding, Setting, is_open, is_reached, wave_of
from p2v.batch.terms import Terms
from p2v.batch.windows import is_in, next_change
from p2v.core.turns import PHASE

_STEPS_AT_MOST, _STEPS_EACH = 10_000, 20
"""And of each machine: whatever a store says of how long things take, a look at it ends."""
_NOTHING_LEFT = 1e-3
"""Seconds of a copy; times in seconds since 1970 are no finer than a part of a thousandth of this."""
_STILL_LIKE_IT = 0.7
"""Part of a wave that was left when an order was made, below which it is made anew."""
_Ready = tuple[int, frozenset[object], frozenset[float]]


@dataclass(frozen=True, slots=True)
class Span:
    """When a machine begins and ends, in seconds since 1970."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Foresight:
    """``spans``: of the machines that end before the run does; ``later``: names of those that do not, or never begin here.
    ``end``: of the last of them, or of the run where it stops something; ``idle``: seconds in which nothing is under way before it.
    """

    spans: Mapping[str, Span]
    later: tuple[str, ...]
    end: float
    idle: float


@dataclass(slots=True)
class _Task:
    """A machine under way. Seconds that its parts still take; ``copy`` is of one that nothing holds back, ``size`` bytes long."""

    job: Job
    begin: float
    size: int
    lead: float
    copy: float
    alone: float
    """Seconds that all of its copy takes where nothing holds it back."""
    rewrite: float
    tail: float
    boot: float
    rate: float = 0.0
    """Parts of ``copy`` a second that it does now."""
    open_parts: int = 2
    """Of copying and rewriting."""


def foresee(
    jobs: Sequence[Job], sizes: Mapping[str, int], terms: Terms, paces: Paces, now: float, zone: tzinfo | None = None
) -> Foresight:
    """``jobs``: of the batch, ``sizes``: of all of them; of a run with ``terms`` that goes on, or begins now."""
    return _Run.of(jobs, sizes, terms, paces, now, zone).foreseen()


@dataclass
class _Run:
    """The rest of a run, gone through event by event. ``others``: names of machines that it does not take; ``booted``: when the
    last machine ended that was booted.
    """

    terms: Terms
    paces: Paces
    sizes: Mapping[str, int]
    zone: tzinfo | None
    jobs: dict[str, Job]
    others: list[str]
    booted: float
    now: float
    end: float
    free: dict[str, int]
    turns: dict[str, deque[str]] = field(default_factory=lambda: {"rewrite": deque(), "boot": deque()})
    tasks: dict[str, _Task] = field(default_factory=dict)
    held: dict[str, Holding] = field(default_factory=dict)
    copying: dict[str, _Task] = field(default_factory=dict)
    share_anew: bool = True
    spans: dict[str, Span] = field(default_factory=dict)
    idle: float = 0.0
    events: list[tuple[float, int, str, str]] = field(default_factory=list)
    number: int = 0
    begun: set[str] = field(default_factory=set)
    ready: list[Job] = field(default_factory=list)
    key: _Ready = (0, frozenset(), frozenset())
    """Of which wave they are ready, but for which windows, and for those that are to be tried again at which moments."""
    demand: Demand = field(default_factory=lambda: Demand({}, Budget()))
    dispatches: dict[tuple[object, ...], tuple[int, Dispatch]] = field(default_factory=dict)
    """Orders by what they go by, each with what was left of the wave when it was made."""
    wave: int | None = None
    left_of_wave: int = 0
    change: float = -math.inf
    """When others may be ready than now."""

    @classmethod
    def of(
        cls, jobs: Sequence[Job], sizes: Mapping[str, int], terms: Terms, paces: Paces, now: float, zone: tzinfo | None
    ) -> _Run:
        chosen = terms.setting.chosen
        left = {job.machine.name: job for job in jobs if not job.state.is_end}
        taken = {name: job for name, job in left.items() if chosen is None or name in chosen or not is_open(job, now)}
        booted = max((job.ended for job in jobs if job.state is State.DONE and job.verified), default=0.0)
        free = {"rewrite": terms.budget.appliances, "boot": terms.budget.boots}
        others = [name for name in left if name not in taken]
        return cls(terms, paces, sizes, zone, taken, others, booted, now, now, free)

    @property
    def setting(self) -> Setting:
        return self.terms.setting

    @cached_property
    def rates(self) -> Rates:
        return self.setting.rates(self.terms.budget)

    @property
    def lanes(self) -> Lanes:
        return self.rates.lanes

    @cached_property
    def has_rates(self) -> bool:
        return self.lanes.has_rates

    @cached_property
    def is_bounded(self) -> bool:
        """Whether anything is said of single storages: without that, none is what the end would wait for."""
        return self.has_rates or bool(self.lanes.said) or self.lanes.usual.copies is not None

    def foreseen(self) -> Foresight:
        for job in list(self.jobs.values()):
            if job.state is State.RUNNING and not is_open(job, self.now):
                self._go_on(job)
        self._turn()
        for _ in range(_STEPS_AT_MOST + _STEPS_EACH * len(self.jobs)):
            self._begin()
            at = self._next()
            if not math.isfinite(at) or self._is_over(at):
                break
            self._pass(at)
            while self.events and self.events[0][0] <= self.now:
                _, _, name, what = heapq.heappop(self.events)
                self._happen(name, what)
            self._turn()
        later = (*self.jobs, *self.others)
        return Foresight(self.spans, later, max(self.end, self.now if self.tasks else 0.0), self.idle)

    def _is_over(self, at: float) -> bool:
        """Whether the run ends before a moment: it stops what is under way, or nothing is and nothing begins any more."""
        if at >= self.terms.stop_at:
            if self.tasks:
                self._pass(self.terms.stop_at)
            return True
        return not self.tasks and at >= self.terms.until

    def _pass(self, at: float) -> None:
        if not self.tasks:
            self.idle += at - self.now
        if self.has_rates:
            for task in self.copying.values():
                task.copy = max(0.0, task.copy - task.rate * (at - self.now))
        self.now = at

    def _next(self) -> float:
        """The next moment at which anything happens."""
        found = self.events[0][0] if self.events else math.inf
        if self.has_rates:
            ends = [self.now + each.copy / each.rate for each in self.copying.values() if each.rate > 0]
            found = min([found, *ends])
        if self._waits() and self.now < self.terms.until:
            found = min(found, self.change)
        return found

    def _waits(self) -> bool:
        return len(self.jobs) > len(self.tasks)

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.has_rates:
            for name in [name for name, each in self.copying.items() if each.copy <= _NOTHING_LEFT]:
                self._happen(name, COPY)
            self._turn()
        if self.now < min(self.terms.until, self.terms.stop_at) and self._waits():
            if self.now >= self.change or self.left_of_wave == 0:
                self._look_anew()
            for name, _ in self._dispatch().begin():
                self.demand.begin(name)
                task = self.tasks[name] = self._whole(name)
                self._at(task.lead, name, "lead")
        self._share()

    def _whole(self, name: str) -> _Task:
        job, size, paces = self.jobs[name], self.sizes[name], self.paces
        copy, rewrite, boot = self._copy_seconds(name), paces.rewrite_seconds(job.machine), paces.boot_seconds(job.machine)
        return _Task(job, self.now, size, paces.lead, copy, copy, rewrite, paces.tail.seconds(size), boot)

    def _copy_seconds(self, name: str) -> float:
        place = self.setting.places.get(name, Place())
        return self.paces.copy_seconds(self.jobs[name].machine, place.storages, self.sizes[name])

    def _look_anew(self) -> None:
        """A wave has ended, a window has opened or closed, or a machine may be tried again: others are ready from now on."""
        chosen = self.setting.chosen
        every = [job for job in self.jobs.values() if chosen is None or job.machine.name in chosen]
        self.wave = wave_of(every)
        of_wave = [job for job in every if job.machine.wave == self.wave]
        self.left_of_wave = len(of_wave)
        waiting = [job for job in of_wave if job.machine.name not in self.tasks and is_reached(job, self.setting.host)]
        windows = {job.machine.window for job in waiting if job.machine.window is not None}
        shut = {window for window in windows if not is_in(window, self.now, self.zone)}
        due = {job.not_before for job in waiting if job.not_before > self.now}
        self.change = min([next_change(windows, self.now, self.zone), *due])
        self.ready = [job for job in waiting if job.machine.window not in shut and job.not_before <= self.now]
        self.key = self.wave, frozenset(shut), frozenset(due)
        self.demand = Demand.of(self.ready, self.setting.places, self.terms.budget, self.lanes)

    def _dispatch(self) -> Dispatch:
        """The order of those that are ready. It goes by what is left: by which storages the end would wait for, in their order, and
        by what is long beside the rest, for which it is made anew when much of that has changed.
        """
        narrow = self.demand.narrow if self.is_bounded else {}
        key = *self.key, tuple(sorted(narrow, key=lambda lane: -narrow[lane]))
        built_for, dispatch = self.dispatches.get(key, (0, None))
        if dispatch is None or self.left_of_wave < _STILL_LIKE_IT * built_for:
            ready = [job for job in self.ready if job.machine.name not in self.begun]
            dispatch = Dispatch.of(ready, self.held, self.terms.budget, self.setting, self.begun)
            self.dispatches[key] = self.left_of_wave, dispatch
        return dispatch

    def _go_on(self, job: Job) -> None:
        """Take up a machine that is under way already."""
        name = job.machine.name
        size = self.sizes[name]
        task = _under_way(job, size, self._copy_seconds(name), self.paces, self.now, self.booted)
        if self.has_rates:
            # how quick it was so far is what it had to itself, which others may have soon
            task.copy = min(task.copy, task.alone * (1 - copied_share(job)))
        self.tasks[name] = task
        place = self.setting.places.get(name, Place())
        self.held[name] = Holding.of(job.machine, place.storages)
        if task.lead > 0:
            self._at(task.lead, name, "lead")
        elif task.copy > 0 or task.rewrite > 0:
            self._happen(name, "lead")
        else:
            task.open_parts = 0
            self.held[name] = self.held[name].after("phase-started", "publish")
            self._at(task.tail, name, "tail")

    # --- what happens ------------------------------------------------------------------------------------------------

    def _happen(self, name: str, what: str) -> None:
        task = self.tasks[name]
        match what:
            case "lead":
                self.held[name] = self.held[name].after("phase-started", COPY)
                self.copying[name] = task
                self.share_anew = True
                if not self.has_rates:
                    self._at(task.copy, name, COPY)
                self._queue(name, "rewrite", task.rewrite)
            case "copy" | "rewrite":
                self._part_ended(name, task, what)
            case "tail":
                self._queue(name, "boot", task.boot)
            case _:
                self.free["boot"] += task.boot > 0
                self._end(name, task)

    def _queue(self, name: str, what: str, seconds: float) -> None:
        """Wait for one's turn, where that is needed at all."""
        if seconds > 0:
            self.turns[what].append(name)
            if what == "rewrite":
                self.held[name] = self.held[name].after("phase-started", "appliance-turn")
        else:
            self._at(0.0, name, what)

    def _part_ended(self, name: str, task: _Task, what: str) -> None:
        if what == COPY:
            self.copying.pop(name, None)
            self.share_anew = True
        elif task.rewrite > 0:
            self.free["rewrite"] += 1
        self.held[name] = self.held[name].after("phase-finished", what)
        task.open_parts -= 1
        if task.open_parts == 0:
            self.held[name] = self.held[name].after("phase-started", "publish")
            self._at(task.tail, name, "tail")

    def _end(self, name: str, task: _Task) -> None:
        del self.tasks[name], self.held[name], self.jobs[name]
        self.spans[name] = Span(task.begin, self.now)
        self.end = self.now
        self.left_of_wave -= task.job.machine.wave == self.wave

    def _turn(self) -> None:
        """Who has waited longest is next."""
        for what, queue in self.turns.items():
            while queue and self.free[what] > 0:
                self.free[what] -= 1
                name = queue.popleft()
                task = self.tasks[name]
                if what == "rewrite":
                    self.held[name] = self.held[name].after("phase-finished", "appliance-turn")
                self._at(task.rewrite if what == "rewrite" else task.boot, name, what)

    def _share(self) -> None:
        """How quick each copy is beside the others."""
        if not (self.has_rates and self.share_anew):
            return
        self.share_anew = False
        holdings = {name: self.held[name] for name in self.copying}
        shares = self.rates.shares({name: Copying(each.storages, True, most=each.most) for name, each in holdings.items()})
        for name, task in self.copying.items():
            share = shares.get(name)
            limited = task.size / share if share else 0.0
            task.rate = task.alone / max(task.alone, limited, _NOTHING_LEFT)

    def _at(self, seconds: float, name: str, what: str) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + max(0.0, seconds), self.number, name, what))


def _under_way(job: Job, size: int, alone: float, paces: Paces, now: float, booted: float) -> _Task:
    """What is left of a machine, by its phase and by what its copy has shown. ``alone``: seconds that its copy takes; ``booted``:
    when the last machine ended that was booted.
    """
    rewrite, boot = paces.rewrite_seconds(job.machine), paces.boot_seconds(job.machine)
    tail, taken, share = paces.tail.seconds(size), max(0.0, now - job.began), copied_share(job)
    task = _Task(job, job.began, size, 0.0, 0.0, alone, 0.0, tail, boot)
    before = paces.lead + max(alone, rewrite)
    if job.phase == PHASE:
        return replace(task, tail=0.0)
    if job.phase in BOOTS:
        # it may have waited for its turn: until the last one had ended that was booted
        return replace(task, tail=0.0, boot=_rest(boot, min(taken - before - tail, now - booted)))
    if job.phase in AFTER_COPY:
        return replace(task, tail=_rest(tail, taken - before))
    begun = max(0.0, taken - paces.lead)
    task.rewrite = _rest(rewrite, begun)
    if share >= 1:
        return task
    # of one that has copied a tenth in its time, the rest takes nine such times: what is seen goes before what was guessed
    seen = begun * (1 - share) / share if share > LEAST_SHARE else 0.0
    lead = 0.0 if job.phase else max(0.0, paces.lead - taken)
    return replace(task, lead=lead, copy=max(_rest(alone, begun), seen))


def _rest(whole: float, taken: float) -> float:
    """Seconds; of one that takes longer than it should, a quarter of what it took is a guess like others."""
    return max(whole - max(0.0, taken), 0.1 * whole, 0.25 * (taken if taken > whole > 0 else 0.0))
