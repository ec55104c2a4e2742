"""Several processes at one store: at once, stopped, and killed (kill -9) anywhere."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from p2v.batch import kinds, store_file
from p2v.batch.jobs import JobEvent, State
from p2v.batch.store import Store
from p2v.core.errors import NoSource, NoSpace, StoreBusy
from p2v.core.fence import standing_fence
from tests.batch.machines import batch
from tests.batch.store_workers import JOBS

Told = list[dict[str, Any]]


@contextmanager
def workers(what: str, folder: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that do the same; what they say goes to files, so that none waits for a reader. They end with the context."""
    made: list[subprocess.Popen[str]] = []
    try:
        for number in range(count):
            made.append(started(what, folder, str(number)))
        yield made
    finally:
        for process in made:
            process.kill()  # one that is stopped, too
            process.wait()


def started(what: str, folder: Path, name: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.batch.store_workers", what, str(folder), name]
    with (folder / f"{what}.{name}.told").open("a") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, text=True)


def told_by(folder: Path, what: str) -> dict[str, Told]:
    return {
        path.name.split(".")[1]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob(f"{what}.*.told")
    }


def everything(store: Store) -> list[JobEvent]:
    events: list[JobEvent] = []
    while page := store.events(after=events[-1].number if events else 0):
        events += page
    return events


def require_sound(path: Path) -> list[JobEvent]:
    """What must hold of any store after anything: SQLite finds no damage, and rows say what their events say."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    with Store.open(path) as store:
        events, jobs = everything(store), store.jobs()
    assert all(first.number < second.number for first, second in pairwise(events))
    for job in jobs:
        mine = [event for event in events if event.job == job.machine.name]
        own = [event for event in mine if event.kind in kinds.OWN_KINDS and event.kind != kinds.CANCEL_WISHED]
        assert [event.fence for event in mine if event.kind == kinds.CLAIMED] == list(range(1, job.fence + 1))
        assert all(first.fence <= second.fence for first, second in pairwise(mine))
        assert job.state is STATES[own[-1].kind], job.machine.name
    return events


STATES = {
    kinds.ADDED: State.WAITING, kinds.CLAIMED: State.RUNNING, kinds.RELEASED: State.WAITING, kinds.AGAIN: State.WAITING,
    kinds.DONE: State.DONE, kinds.PARKED: State.PARKED, kinds.CANCELLED: State.CANCELLED, kinds.RETRIED: State.WAITING,
}  # fmt: skip


def test_a_store_is_made_by_several_at_once(tmp_path: Path) -> None:
    with workers("create", tmp_path, 6) as processes:
        assert [process.wait() for process in processes] == [0] * 6
    events = require_sound(tmp_path / "store")
    assert sorted(event.data["by"] for event in events if event.kind == "created") == list("012345")
    assert [event.job for event in events if event.kind == kinds.ADDED] == list(JOBS)  # each once


def test_each_lease_goes_to_one_of_those_who_claim_at_once(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        store.put(batch(tmp_path, *JOBS))
    with workers("claim_all", tmp_path, 4) as processes:
        assert [process.wait() for process in processes] == [0] * 4
    given: dict[str, list[int]] = defaultdict(list)
    for told in told_by(tmp_path, "claim_all").values():
        for line in told:
            given[line["job"]].append(line["fence"])
    require_sound(tmp_path / "store")
    with Store.open(tmp_path / "store") as store:
        assert {job.machine.name: list(range(1, job.fence + 1)) for job in store.jobs()} == {
            name: sorted(fences) for name, fences in given.items()
        }
    assert all(sorted(set(fences)) == sorted(fences) for fences in given.values())


def test_one_that_another_makes_while_it_is_looked_at_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, retried = tmp_path / "store", store_file._retried
    came: list[str] = []

    def another_comes(its: Path, connection: sqlite3.Connection, statement: str, *rest: Any) -> sqlite3.Cursor:
        if "user_version" in statement and not came:
            came.append(statement)
            # it may have to wait until we have looked
            with suppress(StoreBusy):
                Store.create(path).close()
        return retried(its, connection, statement, *rest)

    monkeypatch.setattr(store_file, "_retried", another_comes)
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.2)
    with Store.create(path) as store:
        assert store.jobs() == ()
    assert came


def test_killed_before_any_statement(tmp_path: Path) -> None:
    """Each change is there with its event, or neither."""
    subprocess.run(
        [sys.executable, "-m", "tests.batch.store_workers", "die_everywhere", str(tmp_path)],
        check=True, stdin=subprocess.DEVNULL, stdout=(tmp_path / "die_everywhere.x.told").open("w"),
    )  # fmt: skip
    ((line,),) = told_by(tmp_path, "die_everywhere").values()
    assert line["places"] > 40
    grown: list[list[tuple[str, str, int, object]]] = []
    for place in range(line["places"] + 1):
        path = tmp_path / f"store{place}"
        try:
            Store.open(path).close()
        except NoSource:
            assert not grown  # only before its tables were made
            with Store.create(path) as store:
                assert store.jobs() == ()
            continue
        grown.append([(event.kind, event.job, event.fence, event.data) for event in require_sound(path)])
        if place % 5 == 0:
            with Store.open(path) as store:  # and it goes on
                store.put(batch(tmp_path, "a", "new"))
                assert store.claim("new", "w", 1.0, 1000.0) is not None
    # a later death has seen the same history, and maybe more of it
    assert all(second[: len(first)] == first for first, second in pairwise(grown))
    assert grown[0] == []
    assert [kind for kind, job, _, _ in grown[-1] if job == "a"][-1] == kinds.DONE


def killed_at_random(folder: Path, rounds: int, seed: int) -> None:
    with Store.create(folder / "store") as store:
        store.put(batch(folder, *JOBS))
    chance, before = random.Random(seed), 0
    names = [str(number) for number in range(3)]
    for _ in range(rounds):
        with workers("work", folder, len(names)) as processes:
            wait_for_lines(folder, "work", before + 60)
            time.sleep(chance.random() * 0.2)
            for process in processes:
                process.kill()
        told = told_by(folder, "work")
        before = sum(map(len, told.values()))
        require_told(require_sound(folder / "store"), told)


def wait_for_lines(folder: Path, what: str, count: int) -> None:
    until = time.monotonic() + 300
    while sum(path.read_bytes().count(b"\n") for path in folder.glob(f"{what}.*.told")) < count:
        assert time.monotonic() < until, "the workers do nothing"
        time.sleep(0.01)


def require_told(events: Sequence[JobEvent], told: dict[str, Told]) -> None:
    """All that was committed is there, in the order in which it was."""
    for name, lines in told.items():
        mine = iter(events)
        for line in lines:
            assert any(
                (event.kind, event.job, event.fence) == (line["kind"], line["job"], line["fence"])
                and (
                    line["kind"] not in (kinds.CLAIMED, "warning")
                    or name in (event.data.get("worker"), event.data.get("by"))
                )
                and (line["kind"] != "warning" or event.data["turn"] == line["turn"])
                for event in mine
            ), line


def test_what_was_committed_outlives_kill_9(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 3, seed=1)


@pytest.mark.matrix
def test_what_was_committed_outlives_many_kills(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 40, seed=2)


def converted_under_chaos(folder: Path, disturbances: int, seed: int) -> None:
    """Stop, wake and kill workers of a batch at random; each result is given its name once, by a lease that was good."""
    (folder / "results").mkdir()
    with Store.create(folder / "store") as store:
        store.put(batch(folder, *JOBS))
    chance = random.Random(seed)
    with workers("convert_all", folder, 4) as processes:
        for turn in range(disturbances):
            at = chance.randrange(len(processes))
            if chance.random() < 0.2:
                processes[at].kill()
                processes[at].wait()
                processes[at] = started("convert_all", folder, f"{at}-{turn}")
            else:
                processes[at].send_signal(signal.SIGSTOP)
                time.sleep(chance.random() * 0.2)
                processes[at].send_signal(signal.SIGCONT)
        for process in processes:
            assert process.wait(300) == 0
    require_sound(folder / "store")
    with Store.open(folder / "store") as store:
        jobs = store.jobs()
    for job in jobs:
        name = job.machine.name
        made = int((folder / "results" / name).read_text())
        assert job.state is State.DONE
        assert made <= job.fence == standing_fence(folder / "results", name)
        log = folder / "results" / f"{name}.log"
        given = log.read_text().split() if log.exists() else []  # it was killed before it wrote that
        assert given in ([], [str(made)]), name


def test_a_batch_whose_workers_are_stopped_and_killed(tmp_path: Path) -> None:
    converted_under_chaos(tmp_path, 25, seed=1)


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(2, 8))
def test_batches_whose_workers_are_stopped_and_killed(tmp_path: Path, seed: int) -> None:
    converted_under_chaos(tmp_path, 150, seed)


def test_a_process_that_is_stopped_in_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "store") as store:
        store.put(batch(tmp_path, "a"))
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.2)
    with workers("hold", tmp_path, 1) as (process,), Store.open(tmp_path / "store") as store:
        os.waitpid(process.pid, os.WUNTRACED)
        assert store.job("a").attempts == 0  # who reads does not wait
        with pytest.raises(StoreBusy) as raised:
            store.claim("a", "w", 1.0, 1.0)
        assert raised.value.exit_code == 75
        process.kill()
        process.wait()
        lease = store.claim("a", "w", 1.0, 1.0)
        assert lease is not None
        assert lease.job.attempts == 1


def test_threads_of_one_process(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        store.put(batch(tmp_path, *JOBS))

        def live(name: str) -> None:
            lease = store.claim(name, name, 1.0, 1.0)
            assert lease is not None
            for number in range(30):
                store.event(lease, "warning", {"number": number}, 2.0)
            store.finish(lease, 3.0, record=None, seconds={}, verified=None)

        threads = [threading.Thread(target=live, args=(name,)) for name in JOBS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(job.state is State.DONE for job in store.jobs())
        for name in JOBS:
            told = store.events(job=name)
            assert [event.data["number"] for event in told if event.kind == "warning"] == list(range(30))
    require_sound(tmp_path / "store")


def test_a_full_file_system_leaves_nothing_half(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        store.put(batch(tmp_path, "a"))
        lease = store.claim("a", "w", 1.0, 1.0)
        assert lease is not None
        before = store.jobs(), store.events()
        (pages,) = store._file.rows("PRAGMA page_count")[0]
        store._file.rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(NoSpace) as raised:
            store.event(lease, "phase-started", {"phase": "copy", "text": "x" * 60_000}, 2.0)
        assert raised.value.folder == tmp_path
        assert (store.jobs(), store.events()) == before
        store._file.rows("PRAGMA max_page_count = 1000000")
        store.event(lease, "warning", {}, 2.0)
    require_sound(tmp_path / "store")


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_PROTOCOL])
def test_what_sqlite_does_not_wait_for_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refusals = [code] * 3

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *words: Any) -> sqlite3.Cursor:
            if statement == "BEGIN IMMEDIATE" and refusals:
                error = sqlite3.OperationalError("it is locked")
                error.sqlite_errorcode = refusals.pop()
                raise error
            return super().execute(statement, *words)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **more: real(*words, factory=Connection, **more))
    with Store.create(tmp_path / "store") as store:
        store.put(batch(tmp_path, "a"))
        assert len(store.jobs()) == 1
    assert not refusals
