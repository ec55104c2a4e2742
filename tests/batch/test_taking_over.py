"""A run that was killed is gone on with at once by the next of its host, when nothing works for it; one that lives keeps all.

Leases are of an hour here: whatever goes on by a lease's time would not end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, JobEvent, State
from p2v.batch.marking import marked_processes
from p2v.batch.store import Store
from p2v.batch.taking_over import (
    TakeOver,
    dead_leases,
    free_locks,
    is_dead,
    is_run,
    lock_prefix,
    registered,
    remove_lock,
)
from p2v.core.marks import HostName
from tests.batch.fleets import Ran, batch, machine, remove_left, run, runs

HOUR = 3600.0
PATIENCE = 120.0
RUNNER = """\
import sys
from pathlib import Path
from tests.batch import fleets
folder, deed = Path(sys.argv[1]), sys.argv[2]
fleets.run(fleets.batch(folder, [fleets.machine(folder, "a", {"first": deed})]),
           lambda event, store: print(event.kind, event.data.get("phase", ""), flush=True), lease=3600.0,
           chosen=frozenset("a"))  # what another run puts into the store is left to that one
"""


def wished(folder: Path, deed: str = "hang") -> Batch:
    return batch(folder, [machine(folder, "a", {"first": deed})])


@contextmanager
def runner(folder: Path, deed: str = "hang") -> Iterator[subprocess.Popen[str]]:
    """A run of another process, whose conversion has begun and hangs; what it started ends with the context."""
    process = subprocess.Popen([sys.executable, "-c", RUNNER, str(folder), deed], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while "phase-started waiting" not in (line := process.stdout.readline()):
            assert line or process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()
        for each in marked_processes(folder / "jobs.p2v"):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        until(lambda: not list(marked_processes(folder / "jobs.p2v")))
        remove_left(folder / "jobs.p2v")


def until(holds: object) -> None:
    assert callable(holds)
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def locks(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(lock_prefix(folder / "jobs.p2v"))]


def warnings(ran: Ran) -> list[str]:
    return [event.data["message"] for event in ran.told if event.kind == "warning" and not event.job]


def test_what_a_killed_run_had_under_way_is_gone_on_with_though_its_lease_is_of_an_hour(tmp_path: Path) -> None:
    with runner(tmp_path) as first:
        first.kill()
        first.wait()
        ran = run(wished(tmp_path), lease=HOUR)
    assert (ran.job("a").state, ran.job("a").fence, runs(tmp_path, "a")) == (State.DONE, 2, 2)
    assert any("was killed" in words and "a" in words for words in warnings(ran))
    # nothing of either run stays
    assert not locks(tmp_path)
    with Store.open(tmp_path / "jobs.p2v") as store:
        assert store.runs.all() == ()
        assert [event.fence for event in store.events(job="a") if event.kind == "let-go"] == [1]


def test_a_child_that_does_not_end_by_itself_is_waited_for_and_ended_before_the_next_begins(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def look(event: JobEvent, store: Store) -> None:
        if event.kind == "claimed":
            seen.append([each.pid for each in marked_processes(tmp_path / "jobs.p2v") if each.job == "a"])

    with runner(tmp_path, "deaf") as first:
        first.kill()
        first.wait()
        assert [each for each in marked_processes(tmp_path / "jobs.p2v") if each.job == "a"]
        ran = run(wished(tmp_path, "deaf"), look, lease=HOUR, grace=0.5)
        assert (ran.job("a").state, ran.job("a").fence) == (State.DONE, 2)
        assert seen == [[]]
        assert any("waiting for the end" in words for words in warnings(ran))


def test_one_that_cannot_even_be_killed_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2v.batch.taking_over.send", lambda process, number: None)
    monkeypatch.setattr("p2v.batch.taking_over._UNKILLABLE_SECONDS", 0.5)
    with runner(tmp_path, "deaf") as first:
        first.kill()
        first.wait()
        ran = run(wished(tmp_path, "deaf"), lease=HOUR, grace=0.2)
        assert [each for each in marked_processes(tmp_path / "jobs.p2v") if each.job == "a"]
    assert (ran.job("a").state, ran.job("a").fence) == (State.DONE, 2)


def test_that_a_run_is_on_is_known_as_long_as_it_lives(tmp_path: Path) -> None:
    with runner(tmp_path) as process, Store.open(tmp_path / "jobs.p2v") as store:
        assert is_run(store)
        process.kill()
        process.wait()
        until(lambda: not is_run(store))


def test_a_run_that_is_stopped_lives_and_keeps_its_lease(tmp_path: Path) -> None:
    with runner(tmp_path) as first, Store.open(tmp_path / "jobs.p2v") as store:
        first.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        (its,) = store.runs.all()
        assert not is_dead(store.path, its)
        with registered(store, is_local=True) as own:
            assert not any("killed" in each for each in TakeOver(store, own, 1.0).look())
        assert dead_leases(store) == {}
        assert (store.job("a").state, store.job("a").fence) == (State.RUNNING, 1)
        assert store.claim("a", "second", HOUR, time.time()) is None


def test_two_runs_that_live_each_keep_what_they_have(tmp_path: Path) -> None:
    """The second finds the first alive, does what is left, and waits for the rest."""
    both = batch(tmp_path, [machine(tmp_path, "a", {"first": "hang"}), machine(tmp_path, "b")])
    with runner(tmp_path) as first:

        def stop(event: JobEvent, store: Store) -> None:
            if event.kind == "done" and event.job == "b":
                assert (store.job("a").fence, store.job("a").state) == (1, State.RUNNING)
                first.terminate()

        ran = run(both, stop, lease=HOUR)
    assert [ran.job(name).state for name in "ab"] == [State.DONE, State.DONE]
    # it gave its lease back: nobody took it away
    with Store.open(both.store) as store:
        assert [e.kind for e in store.events(job="a") if e.kind in ("released", "let-go")] == ["released"]
    assert ["another run of this batch" in each for each in warnings(ran)] == [True]


def test_who_begins_a_run_beside_another_is_told_of_it_once(tmp_path: Path) -> None:
    with runner(tmp_path):
        both = batch(tmp_path, [machine(tmp_path, "a"), machine(tmp_path, "b")])
        with Store.open(both.store) as store:
            (first,) = store.runs.all()
            store.put(both, time.time())
            with registered(store, is_local=True) as own:
                over, of_the_first = TakeOver(store, own, 1.0), TakeOver(store, first, 1.0)
                assert [f"process {first.process.partition(':')[0]}" in each for each in over.look()] == [True]
                assert (over.look(), of_the_first.look()) == ((), ())


def test_two_runs_that_find_the_same_one_dead_at_one_moment_convert_its_machine_once(tmp_path: Path) -> None:
    with runner(tmp_path) as first:
        first.kill()
        first.wait()
        begin = threading.Barrier(2)
        ran: list[Ran] = []

        def second() -> None:
            begin.wait(PATIENCE)
            ran.append(run(wished(tmp_path), lease=HOUR))

        threads = [threading.Thread(target=second) for _ in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(PATIENCE)
    assert [each.job("a").state for each in ran] == [State.DONE] * 2
    assert (ran[0].job("a").fence, runs(tmp_path, "a")) == (2, 2)
    assert not locks(tmp_path)


@dataclass
class Killed:
    """A run in a store, of which its process is gone and its lock is free."""

    store: Store

    def note(self, *, is_local: bool = True, lock: str | None = None) -> None:
        name = f"{lock_prefix(self.store.path)}0" if lock is None else lock
        if lock is None:
            self.store.path.with_name(name).touch()
        its = self.store.runs.begin("1:1", name, is_local=is_local)
        assert self.store.claim("a", "gone:1", HOUR, time.time(), its.number) is not None


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    with Store.create(tmp_path / "jobs.p2v") as store:
        store.put(wished(tmp_path))
        yield Killed(store)


def let_go(store: Store) -> bool:
    with registered(store, is_local=True) as own:
        TakeOver(store, own, 1.0).look()
    return store.job("a").lease_until <= time.time()


def test_a_lease_goes_when_its_runs_lock_is_free(killed: Killed) -> None:
    killed.note()
    assert set(dead_leases(killed.store)) == {"a"}
    assert let_go(killed.store)
    assert not locks(killed.store.path.parent)


def test_a_run_whose_conversions_are_on_other_hosts_keeps_its_leases_to_their_time(killed: Killed) -> None:
    killed.note(is_local=False)
    assert not let_go(killed.store)


@pytest.mark.parametrize("lock", ["", ".jobs.p2v.run-removed", "../elsewhere", "jobs.p2v"])
def test_what_cannot_be_told_by_a_lock_is_left_to_time(killed: Killed, lock: str) -> None:
    killed.note(lock=lock)
    assert not let_go(killed.store)


@pytest.mark.parametrize("other", [HostName("elsewhere", "m"), HostName("here", "other")])
def test_a_run_of_another_host_keeps_its_leases(
    killed: Killed, monkeypatch: pytest.MonkeyPatch, other: HostName
) -> None:
    monkeypatch.setattr("p2v.batch.store_runs.this_host", lambda: other)
    killed.note()
    monkeypatch.setattr("p2v.batch.taking_over.this_host", lambda: HostName("here", "m"))
    assert not let_go(killed.store)


def test_a_lease_that_another_run_has_taken_since_is_not_let_go(killed: Killed) -> None:
    killed.note()
    (dead,) = killed.store.runs.all()
    with registered(killed.store, is_local=True) as own:
        far = time.time() + 2 * HOUR
        assert killed.store.claim("a", "second", HOUR, far, own.number) is not None
        assert killed.store.runs.let_go(dead, ["a"], time.time()) == ()
    assert killed.store.job("a").lease_until > far


def test_a_run_of_which_an_error_made_an_end_is_found_dead(killed: Killed) -> None:
    def fail() -> None:
        with registered(killed.store, is_local=True) as own:
            assert killed.store.claim("a", "w", HOUR, time.time(), own.number) is not None
            assert not let_go(killed.store)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert set(dead_leases(killed.store)) == {"a"}
    (lock,) = free_locks(killed.store)
    assert "lease" in remove_lock(killed.store, lock)  # it tells whose the lease is
    assert let_go(killed.store)


def test_the_lock_of_a_dead_run_of_a_cluster_is_free_when_its_leases_have_gone(killed: Killed) -> None:
    killed.note(is_local=False)
    assert list(free_locks(killed.store)) == []
    with registered(killed.store, is_local=True) as own:
        # its lease has run out, and another run has the machine now
        assert killed.store.claim("a", "second", HOUR, time.time() + 2 * HOUR, own.number) is not None
        (lock,) = free_locks(killed.store)
        assert remove_lock(killed.store, lock) == ""
        assert [run.number for run in killed.store.runs.all()] == [own.number]
    assert not locks(killed.store.path.parent)
