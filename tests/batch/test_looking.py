"""Machines on a storage that does not answer: others go on, they wait for it, and are parked when it was silent for too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, Hook, JobEvent, MachineJob, State
from p2v.batch.looking import Look, Silences
from p2v.batch.store import Store
from tests.batch.cluster.clusters import until
from tests.batch.fleets import batch, machine, run, runs

LONG = 60.0


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, storages with ``hung`` in their paths do not answer."""
    flag = tmp_path / "silent"

    def ask(path: Path) -> None:
        while "hung" in path.name and flag.exists():
            time.sleep(0.01)

    monkeypatch.setattr("p2v.batch.looking._ask", ask)
    return flag


def on(kind: str, name: str, action: Callable[[Store], object]) -> Callable[[JobEvent, Store], None]:
    """Do something at the first event of a kind."""
    done: list[JobEvent] = []

    def when(event: JobEvent, store: Store) -> None:
        if (event.kind, event.job) == (kind, name) and not done:
            done.append(event)
            action(store)

    return when


def test_it_is_parked_with_that_reason_after_a_while_and_nothing_was_begun_there(tmp_path: Path, silent: Path) -> None:
    silent.touch()
    hung = machine(tmp_path, "hung", before=Hook(("touch", str(tmp_path / "hooked"))), attempts=1)
    ran = run(batch(tmp_path, [hung, machine(tmp_path, "good")]), answer=3.0, silent=6.0)
    failure = ran.job("hung").failure
    assert failure is not None
    assert (ran.job("hung").state, failure.code, failure.exit_code) == (State.PARKED, "storage-silent", 75)
    assert str(tmp_path / "sources" / "hung.json") in failure.message
    assert failure.bundle is not None
    # nor is it inspected for the bundle, which would hang as well
    assert {path.name for path in failure.bundle.iterdir()} == {
        "failure.json",
        "events.jsonl",
        "said.txt",
        "versions.json",
    }
    # its attempts are not what ran out
    assert ran.kinds("hung").count("again") >= 1
    assert (runs(tmp_path, "hung"), (tmp_path / "hooked").exists()) == (0, False)
    assert ran.job("good").state is State.DONE


def test_it_is_converted_once_when_the_storage_answers_again_and_no_attempt_was_lost(
    tmp_path: Path, silent: Path
) -> None:
    silent.touch()
    wished = batch(tmp_path, [machine(tmp_path, "hung", {"copies": 5}, attempts=1)])
    ran = run(wished, on("again", "hung", lambda _: silent.unlink()), answer=3.0)
    assert (ran.job("hung").state, runs(tmp_path, "hung")) == (State.DONE, 1)


def test_the_run_does_not_wait_for_an_answer(tmp_path: Path, silent: Path) -> None:
    """Others are converted, and what people wish is done, while a look waits for longer than the test would."""
    silent.touch()
    wished = batch(tmp_path, [machine(tmp_path, "hung"), machine(tmp_path, "good")])
    ran = run(wished, on("done", "good", lambda store: store.cancel("hung", time.time())), answer=10 * LONG)
    assert (ran.job("good").state, ran.job("hung").state) == (State.DONE, State.CANCELLED)
    assert ran.outcome.seconds < 5 * LONG


def test_a_conversion_that_hangs_on_its_storage_gives_its_place_to_others(tmp_path: Path, silent: Path) -> None:
    hung, good = machine(tmp_path, "hung", {"always": "hang"}), machine(tmp_path, "good")
    wished = batch(tmp_path, [hung, good], Budget(copies=1, appliances=1, jobs=4))
    told: list[str] = []

    def when(event: JobEvent, store: Store) -> None:
        told.append(f"{event.job} {event.kind}")
        if told[-1] == "hung phase-started":
            silent.touch()
        if told[-1] == "good done":
            store.cancel("hung", time.time())

    ran = run(wished, when, answer=3.0)
    assert (ran.job("good").state, ran.job("hung").state) == (State.DONE, State.CANCELLED)
    assert told.index("hung warning") < told.index("good claimed")


def test_one_that_is_only_slow_to_speak_keeps_its_place(tmp_path: Path, silent: Path) -> None:
    for answer in (0.1, 1.0, 5.0):
        # it is silent for three times as long again and again; on a busy host an answer that comes at once takes long, too
        folder = tmp_path / str(answer)
        slow, good = machine(folder, "slow", {"seconds": 30 * answer}), machine(folder, "good")
        ran = run(batch(folder, [slow, good], Budget(copies=1, appliances=1, jobs=4)), answer=answer)
        order = [f"{event.job} {event.kind}" for event in ran.told]
        if not {"slow again", "slow warning"} & set(order):
            break
    # which is when it gives its place to the next
    assert order.index("slow phase-finished") < order.index("good claimed")


def test_where_one_had_no_answer_the_next_are_asked_shortly_for_a_while(tmp_path: Path) -> None:
    first, same_target, same_source, other = (
        MachineJob(name, (tmp_path / source / name,), tmp_path / target)
        for name, source, target in (
            ("a", "in", "out"),
            ("b", "far", "out"),
            ("c", "in", "far"),
            ("d", "else", "where"),
        )
    )
    silences = Silences(20.0)
    assert silences.patience(first, 1000.0) == 20.0
    silences.heard_nothing(first, 20.0, 1000.0)
    assert [silences.patience(each, 1050.0) for each in (same_target, same_source, other)] == [2.0, 2.0, 20.0]
    # a short look is no proof for others: the next one is a whole one again
    silences.heard_nothing(same_target, 2.0, 1050.0)
    assert silences.patience(same_target, 1061.0) == 20.0


def test_a_look_is_ended_when_it_is_to_stop(tmp_path: Path, silent: Path) -> None:
    silent.touch()
    look = Look.begun(machine(tmp_path, "hung"), None, at_sources=True, seconds=LONG)
    assert look.ended() is None
    look.stop()
    assert look.ended() is not None
    assert not look.is_silent
    assert look.fds() == ()


def children() -> set[str]:
    """Of this thread, also those that have ended and that nobody has asked for."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def has_ended(pid: str) -> bool:
    return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_was_left_of_a_look_that_hung_is_taken_away_by_the_next(
    tmp_path: Path, silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may go on for a night, and storages hang: the host's numbers of processes are not without end."""
    # as if the kernel had let it go only when nobody waited any more
    monkeypatch.setattr("p2v.audit.side_by_side._MOMENT", 0.0)
    silent.touch()
    silences, before = Silences(), children()
    silences.look(machine(tmp_path, "hung"), None, at_sources=True, seconds=LONG).stop()
    (left,) = children() - before
    until(lambda: has_ended(left), "the end of a process")
    silent.unlink()
    good = silences.look(machine(tmp_path, "good"), None, at_sources=True, seconds=LONG)
    good.stop()
    assert left not in children()
    until(lambda: good.is_gone, "the end of the other one")
