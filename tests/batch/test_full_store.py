"""A store that cannot be written is waited for, for as long as was said, and told of once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, cast

import pytest

from p2v.batch.jobs import JobEvent, State
from p2v.batch.store import Store
from p2v.batch.telling import Teller
from p2v.core.errors import NoSpace
from tests.batch.fleets import QUICK, batch, machine, remove_left, run

LIMIT = 60.0


def full() -> None:
    raise NoSpace(Path("/srv"), 0, 0)


def looked() -> None:
    """Of a disk that is full everything can be read."""


def refused_again_and_again(teller: Teller) -> None:
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        assert not teller.write(None, full)
        assert teller.write(None, looked, reads=True)
        time.sleep(0.01)


def test_looks_at_a_store_that_is_full_do_not_begin_the_wait_for_it_anew() -> None:
    told: list[JobEvent] = []
    teller = Teller(cast(Store, None), told.append, patience=0.3)
    with pytest.raises(NoSpace):
        refused_again_and_again(teller)
    assert [event.kind for event in told] == ["warning"]


def test_what_was_written_ends_a_trouble() -> None:
    told: list[JobEvent] = []
    teller = Teller(cast(Store, None), told.append, patience=0.0)
    for _ in range(3):
        assert not teller.write(None, full)
        assert teller.write(None, looked)
    assert [event.kind for event in told] == ["warning"] * 3


def test_a_run_whose_store_is_full_ends_and_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_full: list[bool] = []

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *words: Any) -> sqlite3.Cursor:
            if statement == "BEGIN IMMEDIATE" and is_full:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(statement, *words)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **more: real(*words, factory=Connection, **more))
    wished = batch(tmp_path, [machine(tmp_path, "web", {"first": "hang"})])
    warnings: list[str] = []

    def when(event: JobEvent, store: Store) -> None:
        if event.kind == "phase-started":
            is_full.append(True)
        if event.kind == "warning" and not event.job:
            warnings.append(str(event.data["message"]))

    # a lease that is renewed while the store is full
    with pytest.raises(NoSpace):
        run(wished, when, QUICK, patience=1.0, lease=1.5)
    assert len(warnings) == 1
    assert "there is no room left" in warnings[0]
    is_full.clear()
    remove_left(wished.store)
    again = run(wished)
    assert [(job.state, job.failure) for job in again.outcome.jobs] == [(State.DONE, None)]
