"""Random histories of a store against a model of what it promises, by two handles of one file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from p2v.batch.jobs import JobEvent, State
from p2v.batch.store import Lease, Store
from p2v.core.errors import LeaseLost, NoSuchJob
from tests.batch.machines import FAILURE, batch, machine

NAMES = ("a", "b", "c")
SECONDS = st.sampled_from((1.0, 5.0, 20.0))


@dataclass
class Known:
    """A job as it must be."""

    priority: int
    state: State = State.WAITING
    fence: int = 0
    attempts: int = 0
    worker: str = ""
    until: float = 0.0
    not_before: float = 0.0
    wish: bool = False
    events: list[str] = field(default_factory=list)

    def wait(self, not_before: float = 0.0) -> None:
        self.state, self.worker, self.until, self.not_before = State.WAITING, "", 0.0, not_before

    def is_free(self, now: float) -> bool:
        """Whether it can be had, but for a pause."""
        if self.state is State.WAITING:
            return self.not_before <= now
        return self.state is State.RUNNING and self.until <= now

    def end(self, state: State) -> None:
        self.wait()
        self.state, self.wish = state, False


class Histories(RuleBasedStateMachine):
    """Any calls in any order by any worker, also by those that lost their lease long ago."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="p2v-test-")
        path = Path(self.folder.name) / "store"
        self.stores = (Store.create(path), Store.open(path))
        self.now = 1000.0
        self.known: dict[str, Known] = {}
        self.paused = False
        self.leases: list[Lease] = []
        self.seen: tuple[JobEvent, ...] = ()
        self.turn = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    @property
    def store(self) -> Store:
        """By turns the one and the other."""
        self.turn += 1
        return self.stores[self.turn % 2]

    @initialize()
    def all_are_put(self) -> None:
        """Without this most histories come to their end before a machine is there that can be claimed."""
        self.put(dict.fromkeys(NAMES, 0))

    @rule(seconds=SECONDS)
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @rule(chosen=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1)))
    def put(self, chosen: dict[str, int]) -> None:
        made = [machine(name, priority=priority) for name, priority in chosen.items()]
        self.store.put(batch(Path(self.folder.name), *made), now=self.now)
        for name, priority in chosen.items():
            known = self.known.setdefault(name, Known(priority))
            if not known.state.is_end:
                known.priority = priority
        for name in set(self.known) - set(chosen):
            if self.known[name].fence == 0:
                del self.known[name]
            elif not self.known[name].state.is_end:
                self._cancel(self.known[name])

    @rule(name=st.sampled_from(NAMES), worker=st.sampled_from(("w1", "w2")), seconds=SECONDS)
    def claim(self, name: str, worker: str, seconds: float) -> None:
        lease, known = self.store.claim(name, worker, seconds, self.now), self.known.get(name)
        if known is None or not known.is_free(self.now) or self.paused:
            assert lease is None
            return
        if known.wish:
            known.end(State.CANCELLED)
            assert lease is None
            return
        assert lease is not None
        known.state, known.worker, known.until, known.not_before = State.RUNNING, worker, self.now + seconds, 0.0
        known.fence, known.attempts = known.fence + 1, known.attempts + 1
        assert (lease.fence, lease.job.attempts) == (known.fence, known.attempts)
        self.leases.append(lease)

    @precondition(lambda self: self._free())
    @rule(data=st.data(), worker=st.sampled_from(("w1", "w2")), seconds=SECONDS)
    def claim_what_is_free(self, data: st.DataObject, worker: str, seconds: float) -> None:
        """By chance alone few machines come to their second attempt."""
        self.claim(data.draw(st.sampled_from(self._free()), "free"), worker, seconds)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), seconds=SECONDS)
    def renew(self, data: st.DataObject, seconds: float) -> None:
        lease = self._one(data)
        known = self._use(lease, lambda: self.leases.append(self.store.renew(lease, seconds, self.now)))
        if known is not None:
            known.until = self.leases[-1].until
            assert known.until >= self.now + seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), text=st.text(max_size=3))
    def event(self, data: st.DataObject, text: str) -> None:
        lease = self._one(data)
        known = self._use(lease, lambda: self.store.event(lease, "warning", {"message": text}, self.now))
        if known is not None:
            known.events.append(text)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        lease = self._one(data)
        known = self._use(lease, lambda: self.store.finish(lease, self.now, record=None, seconds={}, verified=None))
        if known is not None:
            known.end(State.DONE)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        lease = self._one(data)
        known = self._use(lease, lambda: self.store.park(lease, FAILURE, self.now))
        if known is not None:
            known.end(State.CANCELLED if known.wish else State.PARKED)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), seconds=SECONDS)
    def again(self, data: st.DataObject, seconds: float) -> None:
        lease, later = self._one(data), self.now + seconds
        known = self._use(lease, lambda: self.store.again(lease, FAILURE, later, self.now))
        if known is not None:
            known.end(State.CANCELLED) if known.wish else known.wait(later)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self._one(data)
        known = self._use(lease, lambda: self.store.release(lease, self.now))
        if known is not None and known.wish:
            known.end(State.CANCELLED)
        elif known is not None:
            known.wait()
            known.attempts = max(0, known.attempts - 1)

    @rule(name=st.sampled_from(NAMES))
    def cancel(self, name: str) -> None:
        if name not in self.known:
            with pytest.raises(NoSuchJob):
                self.store.cancel(name, self.now)
            return
        self.store.cancel(name, self.now)
        self._cancel(self.known[name])

    @rule(name=st.sampled_from(NAMES))
    def retry(self, name: str) -> None:
        if name not in self.known:
            with pytest.raises(NoSuchJob):
                self.store.retry(name, self.now)
            return
        self.store.retry(name, self.now)
        known = self.known[name]
        known.wish = False
        if known.state in (State.PARKED, State.CANCELLED, State.WAITING):
            known.wait()
            known.attempts = 0

    @rule(wanted=st.sampled_from((False, False, False, True)))
    def pause(self, wanted: bool) -> None:
        (self.store.pause if wanted else self.store.resume)(self.now)
        self.paused = wanted

    @invariant()
    def jobs_are_as_they_must_be(self) -> None:
        found = {
            job.machine.name: Known(
                job.machine.priority, job.state, job.fence, job.attempts, job.worker, job.lease_until, job.not_before
            )
            for job in self.store.jobs()
        }
        assert found == {name: replace(known, wish=False, events=[]) for name, known in self.known.items()}
        assert self.store.is_paused() == self.paused

    @invariant()
    def history_only_grows(self) -> None:
        events = self.store.events(limit=10_000)
        assert events[: len(self.seen)] == self.seen
        assert all(first.number < second.number for first, second in pairwise(events))
        self.seen = events
        for name, known in self.known.items():
            mine = [event for event in events if event.job == name]
            assert [event.data["message"] for event in mine if event.kind == "warning"] == known.events
            claims = [event.fence for event in mine if event.kind == "claimed"]
            assert claims == list(range(1, known.fence + 1))

    @invariant()
    def a_job_has_one_holder(self) -> None:
        for lease in self.leases:
            known = self.known.get(lease.name)
            wished = known is not None and known.fence == lease.fence and (known.wish or known.state is State.CANCELLED)
            assert self.store.cancelled(lease) == wished

    def _one(self, data: st.DataObject) -> Lease:
        """Mostly one of the last, which may be good."""
        return data.draw(st.sampled_from(self.leases[-2:]) | st.sampled_from(self.leases), "lease")

    def _free(self) -> list[str]:
        return [] if self.paused else [name for name, known in self.known.items() if known.is_free(self.now)]

    def _use(self, lease: Lease, use: Callable[[], object]) -> Known | None:
        """The job when the lease is good; else the use must be refused."""
        known = self.known.get(lease.name)
        if known is not None and known.state is State.RUNNING and known.fence == lease.fence:
            use()
            return known
        with pytest.raises(LeaseLost):
            use()
        return None

    def _cancel(self, known: Known) -> None:
        if known.state is State.RUNNING and known.until > self.now:
            known.wish = True
        elif known.state not in (State.DONE, State.CANCELLED):
            known.end(State.CANCELLED)


def live(examples: int, steps: int) -> None:
    """So many histories."""
    bounds = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Histories, settings=bounds)


def test_histories() -> None:
    live(80, 50)


@pytest.mark.matrix
def test_many_long_histories() -> None:
    live(600, 100)
