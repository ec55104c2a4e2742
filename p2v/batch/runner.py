"""Runs a batch on this host: begins what the budget has room for, hears the children, notes everything in the store.

One thread and no locks: all that it waits for are its children, signals, and the next look at the store. Everything that
has happened is in the store, so that a run that is killed at any moment is gone on with by the next.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from p2v.batch.attempt import Attempt
from p2v.batch.children import GRACE_SECONDS, LocalStarter, Starter, wait_for
from p2v.batch.estimate import Look
from p2v.batch.event_data import BatchBegan, Late, Stopping, data_of
from p2v.batch.jobs import Batch, Job, JobEvent, State
from p2v.batch.lanes import Lanes
from p2v.batch.looking import LOOK_SECONDS, Silences
from p2v.batch.marking import marked_environment
from p2v.batch.places import PLACES_SECONDS, PlacesLook
from p2v.batch.scheduling import (
    Beginning,
    Holding,
    Place,
    Setting,
    beginnings,
    changed_limits,
    is_open,
    is_reached,
    wave_of,
)
from p2v.batch.status import StateCounts
from p2v.batch.steps import Steps
from p2v.batch.stopping import Wishes, signals_as_wishes
from p2v.batch.store import Store
from p2v.batch.taking_over import TakeOver, registered
from p2v.batch.telling import Teller
from p2v.batch.terms import Terms
from p2v.core.events import Warned
from p2v.core.turns import appliance_turns, boot_turns

_LEAST_WAIT = 0.01
_LOOKS_PART = 20.0
_PACE = 0.02
_SIGHT_SECONDS = 3.0
"""As long a run waits for all machines' places, so that the first ones are chosen well."""


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a batch is run. Seconds, but for ``host``: which pinned machines are run; None: all, for they run elsewhere.

    ``lease``: of a job, renewed all the while; longer than a child needs to end after its runner was killed. ``look``: between
    looks at the store for what others wish. ``silent``: a child that says nothing for so long is ended. ``grace``: from asking a
    child to end until it is killed, and for a hook to end by itself before it is asked. ``patience``: how long a store that cannot
    be written is waited for. ``answer``: for a storage to answer, before a machine on it is begun; ``sight``: for paths to tell on
    which storages they are.
    ``chosen``: names of the machines that are run, None: all; their waves go by themselves. ``until``: nothing begins from then on
    (seconds since 1970); ``stop_at``: from then on what is under way is stopped as by a signal.
    """

    lease: float = 60.0
    look: float = 1.0
    silent: float = 3600.0
    first_backoff: float = 5.0
    grace: float = GRACE_SECONDS
    patience: float = 60.0
    inspection: float = 120.0
    answer: float = LOOK_SECONDS
    sight: float = PLACES_SECONDS
    worker: str = field(default_factory=_worker_name)
    host: str | None = field(default_factory=socket.gethostname)
    chosen: frozenset[str] | None = None
    until: float = math.inf
    stop_at: float = math.inf

    def takes(self, job: Job) -> bool:
        """Whether a job is among the chosen."""
        return self.chosen is None or job.machine.name in self.chosen


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a batch. ``signal``: the one that stopped it; 0: none did. ``chosen``: as of its settings."""

    jobs: tuple[Job, ...]
    seconds: float
    signal: int = 0
    chosen: frozenset[str] | None = None

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        return sum(job.state is state for job in self.jobs)

    @property
    def exit_code(self) -> int:
        """Of the chosen. 5: some are parked; 75: some wait (for another host, or beyond the time that was given); 128 and a
        signal's number: stopped, and goes on next time."""
        if self.signal:
            return 128 + self.signal
        jobs = [job for job in self.jobs if self.chosen is None or job.machine.name in self.chosen]
        if any(job.state is State.PARKED for job in jobs):
            return 5
        return 75 if any(not job.state.is_end for job in jobs) else 0


def run_batch(
    batch: Batch,
    store: Store,
    report: Callable[[JobEvent], None],
    *,
    starter: Starter | None = None,
    local: LocalStarter | None = None,
    settings: Settings | None = None,
    looked: Callable[[Look], None] = lambda look: None,
) -> BatchOutcome:
    """Run a batch to its end, or to SIGINT, SIGTERM or SIGHUP: then children are ended and leases given back. The batch is put into
    the store first.

    ``report`` gets what happens as it goes into the store, without numbers (docs/batch.md). ``starter``: where conversions
    run, on this host by default; hooks run here always, by ``local``. ``looked``: gets how all jobs stand, about once a second.
    Raises what the store raises when it cannot be written.
    """
    settings = settings or Settings()
    local = local or LocalStarter(batch.store, grace_seconds=settings.grace)
    store.put(batch, time.time())
    setting = Setting({}, settings.host, Lanes.of(batch.budget), settings.chosen)
    teller = Teller(store, report, settings.patience)
    began = time.monotonic()
    with (
        registered(store, is_local=starter is None) as own,
        marked_environment(batch.store, "") as marks,
        signals_as_wishes() as wishes,
        closing(PlacesLook(batch.machines, tuple(batch.budget.storages), settings.sight)) as places,
    ):
        places.wait(_SIGHT_SECONDS)
        folder = Path(marks["TMPDIR"])
        turns = boot_turns(batch.budget.boots, folder) | appliance_turns(batch.budget.appliances, folder)
        local = replace(local, environment=turns)
        steps = Steps(
            store, teller, starter or local, local, settings.first_backoff, settings.inspection, settings.silent,
            Silences.of(batch.machines, settings.answer),
        )  # fmt: skip
        over = TakeOver(store, own, settings.grace)

        def look(jobs: Sequence[Job], paused: bool) -> None:
            looked(Look(jobs, run.terms, paused, goes_on=True))

        run = _Run(batch, store, teller, steps, setting, settings, over, look, places)
        try:
            run.run(wishes)
        finally:
            run.close()
    return BatchOutcome(store.jobs(), time.monotonic() - began, wishes.number, settings.chosen)


@dataclass
class _Run:
    """A run of a batch."""

    batch: Batch
    store: Store
    teller: Teller
    steps: Steps
    setting: Setting
    settings: Settings
    taking_over: TakeOver
    looked: Callable[[Sequence[Job], bool], None]
    places: PlacesLook
    under_way: dict[str, Attempt] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    """As of the last look at the store, and what this run did since."""
    next_look: float = 0.0
    may_begin: bool = True
    """Whether something has changed since jobs were last chosen."""
    must_share: bool = False
    """Whether something has changed since copies were last told what they may use."""
    has_new_terms: bool = False
    """Whether what it goes by has changed since that was last kept."""
    paused: bool = False
    asked: int = 0
    is_late: bool = False
    """Nothing begins any more: it is later than that is wished."""

    @property
    def terms(self) -> Terms:
        """What it goes by, as far as that is known by now."""
        return Terms(self.batch.budget, self.setting, self.settings.until, self.settings.stop_at)

    def run(self, wishes: Wishes) -> None:
        """Until nothing is left that can be done here."""
        chosen = None if self.settings.chosen is None else tuple(sorted(self.settings.chosen))
        self.teller.fleet("batch-began", data_of(BatchBegan(len(self.batch.machines), chosen)), stored=True)
        also = [] if wishes.fd is None else [wishes.fd]
        self._know_places()
        self._keep_terms()
        while True:
            self._obey(wishes)
            if self.places.has_news():
                self._know_places()
            for attempt in list(self.under_way.values()):
                self._attend(attempt)
            if not self.asked:
                self._begin()
            if self.must_share:
                self._share()
            if not self.under_way and (self.asked or self.is_late or self._nothing_left()):
                break
            children = [each.child for each in self.under_way.values() if each.child is not None]
            wait_for(children, self._wait(), [*also, *self.places.fds()], _PACE)
        self._keep_terms()
        self.steps.fences.tidy(now=True)
        self.teller.fleet("batch-ended", data_of(StateCounts.of(self.store.jobs())), stored=True)

    def close(self) -> None:
        """End what still runs; where that is not the end of ``run``, leases run out by themselves, and hooks go on to their end."""
        for attempt in self.under_way.values():
            if attempt.child is not None and attempt.hook() is None:
                attempt.child.close()

    def _know_places(self) -> None:
        """Go by what is known by now of where machines' bytes are."""
        found = self.places.found
        lanes = Lanes.of(self.batch.budget, found.devices)
        self.setting = replace(self.setting, places=found.by_name, lanes=lanes, unseen=self.places.unseen)
        self.may_begin = self.must_share = self.has_new_terms = True

    def _keep_terms(self) -> None:
        """For those who watch: of a large fleet that is much to write, and not done for each word about its places."""
        if self.has_new_terms and self.teller.write(None, lambda: self.store.keep_terms(self.terms)):
            self.has_new_terms = False

    def _obey(self, wishes: Wishes) -> None:
        at = time.time()
        if not self.is_late and at >= min(self.settings.until, self.settings.stop_at):
            self.is_late = True  # for good: the host's clock may be set back
            waiting = sum(job.state is State.WAITING and self.settings.takes(job) for job in self.jobs.values())
            self.teller.fleet("late", data_of(Late(waiting)), stored=True)
        count = max(wishes.take(), self.asked, int(at >= self.settings.stop_at))
        if count == self.asked:
            return
        if not self.asked:
            self.teller.fleet("stopping", data_of(Stopping(wishes.number)), stored=True)
        self.asked = count
        for attempt in self.under_way.values():
            self.steps.stop(attempt, at_once=count > 1)

    def _attend(self, attempt: Attempt) -> None:
        """Hear what an attempt has to say, see to its lease, and go to its next step."""
        now = time.monotonic()
        child, held = attempt.child, attempt.holding
        if child is not None:
            ended = child.ended()
            for event in child.heard():
                attempt.heard_at = now
                self.teller.heard(attempt, event)
            if ended is None:
                self._watch(attempt, now)
            else:
                child.close()
                attempt.child = None
                self.teller.flush(attempt)
                if not attempt.is_lost:
                    self.steps.ended(attempt, ended, stopping=bool(self.asked))
        if attempt.child is None and (job := self.steps.note(attempt)) is not None:
            self.jobs[attempt.name] = job
        if attempt.child is None and (attempt.is_lost or attempt.ending is None):
            del self.under_way[attempt.name]
            self.next_look = 0.0 if attempt.is_lost else self.next_look
            self.may_begin = True
        if attempt.holding != held:
            self.may_begin = self.must_share = True

    def _watch(self, attempt: Attempt, now: float) -> None:
        self.teller.flush_now_and_then(attempt, now)
        self._renew(attempt)
        self.steps.look_at_time(attempt, now, self.settings.silent)

    def _renew(self, attempt: Attempt) -> None:
        now = time.time()
        if attempt.is_lost or attempt.lease.until - now > self.settings.lease * 2 / 3:
            return

        def renew() -> None:
            attempt.lease = self.store.renew(attempt.lease, self.settings.lease, time.time())

        self.teller.write(attempt, renew)

    def _begin(self) -> None:
        if time.monotonic() >= self.next_look and not self.teller.write(None, self._look, reads=True):
            self.next_look, self.may_begin = time.monotonic() + self.settings.look, False
            return
        self.steps.fences.tidy()
        if self.paused or self.is_late or not self.may_begin:
            return
        self.may_begin = False
        at = time.time()
        held: dict[str, Holding] = {name: each.holding.counted for name, each in self.under_way.items()}
        for beginning in beginnings(
            list(self.jobs.values()),
            held,
            self.batch.budget,
            at,
            datetime.fromtimestamp(at).time(),
            self.setting,
        ):
            self.teller.write(None, partial(self._begin_one, beginning))

    def _share(self) -> None:
        """Give what copies left to those that go on."""
        self.must_share = False
        held = {name: each.holding.counted for name, each in self.under_way.items()}
        for name, limit in changed_limits(held, self.batch.budget, self.setting).items():
            self.steps.limit(self.under_way[name], limit)

    def _look(self) -> None:
        """See what the store says now, and what others wish."""
        began = time.monotonic()
        for message in self.taking_over.look():
            self.teller.fleet("warning", data_of(Warned(message)), stored=True)
        self.jobs = {job.machine.name: job for job in self.store.jobs()}
        self.may_begin = True
        paused = self.store.is_paused()
        if paused != self.paused:
            self.paused = paused
            self.teller.fleet("paused" if paused else "resumed", {})
        for attempt in self.under_way.values():
            if not attempt.must_stop and self.store.cancelled(attempt.lease):
                self.steps.stop(attempt)
        self._keep_terms()
        self.looked([job for job in self.jobs.values() if self.settings.takes(job)], paused)
        # of a large fleet a look takes a while, and is no more than a small part of the time
        ended = time.monotonic()
        self.next_look = ended + max(self.settings.look, _LOOKS_PART * (ended - began))

    def _begin_one(self, beginning: Beginning) -> None:
        own = self.taking_over.own.number
        lease = self.store.claim(beginning.name, self.settings.worker, self.settings.lease, time.time(), own)
        if lease is None:
            self.next_look = 0.0  # somebody has changed something
            return
        machine = lease.job.machine
        self.jobs[machine.name] = lease.job
        place = self.setting.places.get(machine.name, Place())
        attempt = Attempt(lease, Holding.of(machine, place.storages, beginning.limit))
        self.under_way[machine.name] = attempt
        self.steps.begin(attempt)

    def _nothing_left(self) -> bool:
        """Whether no job can go on here, now or later."""
        jobs = [job for job in self.jobs.values() if self.settings.takes(job)]
        wave, host = wave_of(jobs), self.settings.host
        return not any(
            job.state is State.RUNNING or (job.machine.wave == wave and is_reached(job, host))
            for job in jobs
            if not job.state.is_end
        )

    def _wait(self) -> float:
        """Seconds until there is something to do that no child tells of."""
        if any(each.child is None for each in self.under_way.values()):
            return min(0.2, self.settings.look)  # the store could not be written: again soon
        if self.asked:
            return self.settings.look
        if self.may_begin and not self.paused and not self.is_late:
            return 0.0
        now = time.time()
        due = [job.not_before - now for job in self.jobs.values() if is_open(job, now) and job.not_before > now]
        ends = [] if self.is_late else [self.settings.until - now]
        wait = min([self.next_look - time.monotonic(), *due, *ends, self.settings.stop_at - now])
        # what is due then is to be looked for then
        self.may_begin = bool(due) and wait == min(due)
        return max(_LEAST_WAIT, wait)
