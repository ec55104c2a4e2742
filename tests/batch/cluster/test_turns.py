"""How long a job keeps its turn at a storage that the whole cluster shares; without a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from p2v.batch.children import Ended, Order, Starter
from p2v.batch.cluster import worker
from p2v.batch.cluster.messages import Task
from p2v.batch.cluster.placing import Storage
from p2v.batch.jobs import MachineJob

Hear = Callable[[Mapping[str, Any]], None]


@dataclass
class _Semaphore:
    """One that nobody else asks, and how many of its turns are taken."""

    max_leases: int
    name: str
    taken: ClassVar[list[str]] = []
    renewing: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        self.renewing.append(self.name)

    @property
    def loop(self) -> _Semaphore:
        return self

    refresh_callback = loop

    def add_callback(self, callback: Callable[[], None]) -> None:
        callback()

    def stop(self) -> None:
        self.renewing.remove(self.name)

    def acquire(self, timeout: float) -> bool:
        self.taken.append(self.name)
        return True

    def release(self) -> None:
        self.taken.remove(self.name)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    _Semaphore.taken.clear()
    _Semaphore.renewing.clear()
    monkeypatch.setattr(worker, "Semaphore", _Semaphore)
    return _Semaphore.taken


def _task() -> Task:
    machine = MachineJob("a", (Path("/mnt/nfs/a"),), Path("/mnt/nfs/out"))
    order = Order("a", ("convert",), {}, 1, machine)
    return Task("k", "t", order, Path("/s"), (Storage("nfs", Path("/mnt/nfs"), 1), Storage("san", Path("/mnt"), 1)))


def _runs(monkeypatch: pytest.MonkeyPatch, body: Callable[[Hear], None]) -> None:
    def run_to_end(starter: Starter, order: Order, hear: Hear, *_: object) -> Ended:
        body(hear)
        return Ended(0, "", 1.0)

    monkeypatch.setattr(worker, "run_to_end", run_to_end)


def test_turns_are_given_back_when_the_copy_is_done_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, taken: list[str]
) -> None:
    seen: list[list[str]] = []

    def body(hear: Hear) -> None:
        for event in (
            {"event": "phase-started", "phase": "copy"},
            {"event": "phase-finished", "phase": "rewrite", "seconds": 1.0},
            {"event": "phase-finished", "phase": "copy", "seconds": 1.0},
        ):
            hear(event)
            seen.append(list(taken))

    _runs(monkeypatch, body)
    ended = worker.attempt(_task(), lambda event: None, threading.Event())

    both = ["p2v-storage-nfs", "p2v-storage-san"]
    assert seen == [both, both, []]
    assert ended.exit_status == 0
    assert _Semaphore.renewing == []


def test_turns_are_given_back_when_the_child_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, taken: list[str]
) -> None:
    def body(hear: Hear) -> None:
        raise OSError(12, "no memory")

    _runs(monkeypatch, body)
    with pytest.raises(OSError, match="no memory"):
        worker.attempt(_task(), lambda event: None, threading.Event())
    assert taken == []


def test_a_job_that_is_to_stop_takes_no_turn(monkeypatch: pytest.MonkeyPatch, taken: list[str]) -> None:
    stop = threading.Event()
    stop.set()

    assert worker.attempt(_task(), lambda event: None, stop).exit_status == 143
    assert taken == _Semaphore.renewing == []
