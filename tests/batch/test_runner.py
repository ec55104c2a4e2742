"""A batch is run to its end: each machine once, what may help is tried again, the rest is parked, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.jobs import Budget, Failure, Hook, JobEvent, State, Verify
from p2v.batch.marking import left_folders, marked_processes
from p2v.batch.store import Lease, Store
from p2v.cli.batch.status_text import why_waiting
from tests.batch.fleets import FAKE, batch, machine, remove_left, run, runs

IO = {"error": {"code": "io", "exit_code": 74, "message": "disk.vmdk: cannot read: Input/output error", "hint": ""}}
BAD = {
    "error": {"code": "bad-image", "exit_code": 65, "message": "disk.vmdk: no grain directory", "hint": "Look at it."}
}
KILL = {"signal": int(signal.SIGKILL)}
FAR = 10.0**6


def begins(event: JobEvent, phase: str = "waiting") -> bool:
    return event.kind == "phase-started" and event.data["phase"] == phase


def test_two_hundred_machines_some_of_which_fail_end_each_done_or_parked_exactly_once(tmp_path: Path) -> None:
    wishes: dict[str, tuple[dict[str, Any], State, int]] = {
        "good": ({}, State.DONE, 1),
        "io-once": ({"first": IO}, State.DONE, 2),
        "killed-once": ({"first": KILL}, State.DONE, 2),
        "io": ({"always": IO}, State.PARKED, 3),
        "killed": ({"always": KILL}, State.PARKED, 3),
        "bad": ({"always": BAD}, State.PARKED, 1),
        "mute": ({"always": {"exit": 70}}, State.PARKED, 1),
    }
    kinds = (["good"] * 14 + list(wishes)[1:]) * 10
    machines = [machine(tmp_path, f"{kind}-{number}", wishes[kind][0]) for number, kind in enumerate(kinds)]
    wished = batch(tmp_path, machines, Budget(copies=4, appliances=4, jobs=4))
    ran = run(wished)

    assert len(ran.outcome.jobs) == 200
    for job in ran.outcome.jobs:
        name = job.machine.name
        _, state, attempts = wishes[name.rpartition("-")[0]]
        assert (name, job.state, runs(tmp_path, name)) == (name, state, attempts)
        assert (tmp_path / "out" / f"{name}.made").exists() == (state is State.DONE)
        with Store.open(wished.store) as store:
            ends = [event.kind for event in store.events(job=name) if event.kind in ("done", "parked")]
        assert ends == [state.value]
    assert ran.outcome.exit_code == 5
    assert not list(marked_processes(wished.store))
    assert not list(left_folders(wished.store))
    # a second run finds nothing to do
    again = run(wished)
    assert [event.kind for event in again.told] == ["batch-began", "batch-ended"]


def test_a_failure_that_cannot_help_is_parked_at_once_with_a_bundle_that_names_nobody(tmp_path: Path) -> None:
    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": BAD})]))
    failure = ran.job("a").failure
    assert failure is not None
    assert failure.bundle is not None
    assert (failure.code, failure.exit_code, failure.hint, failure.may_help) == ("bad-image", 65, "Look at it.", False)
    assert ran.kinds("a") == ["claimed", "parked"]
    kept = {path.name: path.read_text() for path in failure.bundle.iterdir()}
    assert set(kept) == {"failure.json", "events.jsonl", "said.txt", "versions.json", "facts.json"}
    assert json.loads(kept["failure.json"])["message"] == "disk.vmdk: no grain directory"
    assert json.loads(kept["facts.json"])["os"] == {"kind": "linux", "id": "debian"}
    assert "p2v" in json.loads(kept["versions.json"])


def test_a_job_tells_of_its_phases_and_bytes_in_the_store(tmp_path: Path) -> None:
    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"copies": 12345})]))
    job = ran.job("a")
    assert (job.bytes_copied, job.bytes_total, list(job.seconds)) == (12345, 12345, ["copy"])
    assert ran.kinds("a") == ["claimed", "done"]
    assert ran.outcome.exit_code == 0


def test_a_child_gets_its_fence_and_a_small_share_that_grows_when_it_copies(tmp_path: Path) -> None:
    machines = [
        machine(tmp_path, "a", {"until": 1_000_000}),
        machine(tmp_path, "b", {"until": 65536}, options=("--limit=65536",)),
    ]
    budget = Budget(copies=1, appliances=2, bytes_per_second=1_000_000)
    ran = run(batch(tmp_path, machines, budget))
    for name, most in (("a", 1_000_000), ("b", 65536)):
        made = json.loads((tmp_path / "out" / f"{name}.made").read_text())
        assert (made["fence"], made["share"], made["told"]) == ("1", "50000", [most])
        assert [e.data for e in ran.told if e.kind == "began" and e.job == name] == [{"limit": 50_000}]
        assert [e.data for e in ran.told if e.kind == "limit" and e.job == name] == [{"limit": most}]
    # its own limit is for p2v convert to heed as well
    assert made["limit"] == "65536"


def test_what_a_copy_leaves_goes_to_the_other_and_they_never_have_more_than_all_together(tmp_path: Path) -> None:
    total = 1_000_000
    most_alone, half = total * 39 // 40, total // 2
    wish = {"until": most_alone, "after": str(tmp_path / "out" / "b.made")}
    machines = [machine(tmp_path, "a", wish), machine(tmp_path, "b", {"until": half})]
    ran = run(batch(tmp_path, machines, Budget(copies=2, appliances=2, bytes_per_second=total)))
    assert ran.outcome.exit_code == 0
    may, most = {"a": 0, "b": 0}, 0
    for event in ran.told:
        if event.kind in ("began", "limit"):
            may[event.job] = event.data["limit"]
        elif event.kind == "phase-finished" and event.data["phase"] == "copy":
            may[event.job] = 0
        most = max(most, sum(may.values()))
    assert most <= total
    # half of it each while both copy; what the other left afterwards, but for a place that somebody may want
    told = {name: json.loads((tmp_path / "out" / f"{name}.made").read_text())["told"] for name in "ab"}
    assert (told["a"][-1], told["b"][-1]) == (most_alone, half)


def test_a_boot_check_that_fails_parks_where_it_was_wished(tmp_path: Path) -> None:
    machines = [
        machine(tmp_path, name, {"boots": boots}, verify=Verify.BOOT) for name, boots in (("up", True), ("down", False))
    ]
    ran = run(batch(tmp_path, machines))
    assert (ran.job("up").state, ran.job("up").verified) == (State.DONE, True)
    down = ran.job("down")
    assert down.state is State.PARKED
    assert down.failure is not None
    assert down.failure.code == "not-booted"


def test_sigterm_ends_the_children_gives_the_leases_back_and_the_next_run_goes_on(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, name, {"first": "hang"}) for name in "ab"])
    waiting: set[str] = set()

    def stop(event: JobEvent, store: Store) -> None:
        if begins(event):
            waiting.add(event.job)
            if len(waiting) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    stopped = run(wished, stop)
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped.outcome.exit_code == 143
    assert [(job.state, job.attempts, job.fence) for job in stopped.outcome.jobs] == [(State.WAITING, 0, 1)] * 2
    assert not list(marked_processes(wished.store))
    assert run(wished).outcome.exit_code == 0
    assert [runs(tmp_path, name) for name in "ab"] == [2, 2]


def test_a_second_signal_kills_a_child_that_does_not_listen(tmp_path: Path) -> None:
    def stop(event: JobEvent, store: Store) -> None:
        if begins(event) or event.kind == "stopping":
            os.kill(os.getpid(), signal.SIGINT)

    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": "deaf"})]), stop, grace=3600.0)
    assert ran.outcome.exit_code == 130
    assert ran.job("a").state is State.WAITING


def test_a_job_that_is_cancelled_while_it_runs_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    def cancel(event: JobEvent, store: Store) -> None:
        if begins(event):
            store.cancel("a", time.time())

    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": "hang"}), machine(tmp_path, "b")]), cancel)
    assert (ran.job("a").state, ran.job("b").state) == (State.CANCELLED, State.DONE)
    assert ran.kinds("a") == ["claimed", "cancelled"]
    assert ran.outcome.exit_code == 0


def test_nothing_begins_while_a_batch_is_paused(tmp_path: Path) -> None:
    machines = [machine(tmp_path, name) for name in "ab"]
    wished = batch(tmp_path, machines, Budget(copies=1, jobs=1))

    def pause(event: JobEvent, store: Store) -> None:
        if begins(event, "copy") and event.job == "a":
            store.pause(time.time())
        if event.kind == "paused":
            assert store.job("b").state is State.WAITING
            store.resume(time.time())

    ran = run(wished, pause)
    assert [event.kind for event in ran.told if not event.job] == ["batch-began", "paused", "resumed", "batch-ended"]
    kinds = [(event.kind, event.job) for event in ran.told]
    assert kinds.index(("claimed", "b")) > kinds.index(("resumed", ""))
    assert ran.outcome.exit_code == 0


def test_a_worker_that_lost_its_lease_ends_its_child_and_notes_nothing_more(tmp_path: Path) -> None:
    taken: list[Lease] = []

    def take(event: JobEvent, store: Store) -> None:
        if begins(event):
            lease = store.claim("a", "another", 60.0, time.time() + FAR)
            assert lease is not None
            taken.append(lease)
        if event.kind == "lease-lost":
            store.finish(taken[0], time.time(), record=None, seconds={}, verified=None)

    # a short lease is renewed soon, which tells
    wished = batch(tmp_path, [machine(tmp_path, "a", {"always": "hang"})])
    ran = run(wished, take, lease=0.5)
    assert ran.kinds("a") == ["claimed", "lease-lost"]
    assert (ran.job("a").state, ran.job("a").fence) == (State.DONE, 2)
    assert not list(marked_processes(wished.store))


def test_a_child_that_says_nothing_for_too_long_is_ended_and_tried_again(tmp_path: Path) -> None:
    # on a busy host one that only begins slowly may be silent for as long
    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"first": "deaf"}, attempts=50)]), silent=2.0, grace=0.2)
    assert ran.job("a").state is State.DONE
    failures = {(event.data["code"], event.data["message"]) for event in ran.told if event.kind == "again"}
    assert {code for code, _ in failures} == {"silent"}, failures


KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def test_hooks_get_a_document_before_and_after(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    hook = Hook((sys.executable, "-c", KEEP, str(kept)))
    machines = [machine(tmp_path, "a", before=hook, after=hook), machine(tmp_path, "b", {"always": BAD}, after=hook)]
    ran = run(batch(tmp_path, machines, Budget(copies=1, jobs=1)))
    documents = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(d["job"], d["when"], d["outcome"]) for d in documents] == [
        ("a", "before", None), ("a", "after", "done"), ("b", "after", "parked"),
    ]  # fmt: skip
    assert documents[1]["record"] == str(tmp_path / "out" / "a.json")
    assert documents[2]["failure"]["code"] == "bad-image"
    assert ran.kinds("a") == ["claimed", "hook-began", "hook", "hook-began", "hook", "done"]


def test_a_hook_before_that_fails_parks_and_one_after_is_told_of(tmp_path: Path) -> None:
    failing, missing = Hook(("false",)), Hook((str(tmp_path / "none"),))
    machines = [
        machine(tmp_path, "a", before=failing),
        machine(tmp_path, "b", before=missing),
        machine(tmp_path, "c", after=failing),
        machine(tmp_path, "d", before=Hook(("sleep", "3600"), seconds=0.2)),
    ]
    ran = run(batch(tmp_path, machines))
    states = [job.state for job in ran.outcome.jobs]
    assert states == [State.PARKED, State.PARKED, State.DONE, State.PARKED]
    assert [runs(tmp_path, name) for name in "abcd"] == [0, 0, 1, 0]
    assert [e.data["failed"] for e in ran.told if e.kind == "hook" and e.job == "c"] == [True]
    absent, late = ran.job("b").failure, ran.job("d").failure
    assert absent is not None
    assert f"{tmp_path / 'none'}: not found" in absent.message
    assert str(os.getpid()) not in absent.message.replace(str(tmp_path), "")
    assert late is not None
    assert late.message == "the hook before it took too long"


LEAVES = """\
setsid -f sh -c 'echo $$ > "$0"; exec sleep 3600' "$1"
until [ -s "$1" ]; do sleep 0.05; done
env > "$1.env"
"""


def test_what_a_hook_leaves_running_is_not_the_batchs(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    wished = batch(tmp_path, [machine(tmp_path, "a", after=Hook(("sh", "-c", LEAVES, "sh", str(file))))])
    try:
        assert run(wished).outcome.exit_code == 0
        assert "P2V_BATCH=" not in file.with_suffix(".env").read_text()
        assert not list(marked_processes(wished.store))
        assert Path(f"/proc/{file.read_text().strip()}").exists()
    finally:
        if file.exists():
            os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_wave_begins_when_the_one_before_it_has_ended(tmp_path: Path) -> None:
    machines = [
        machine(tmp_path, "last", wave=2),
        machine(tmp_path, "bad", {"always": BAD}),
        machine(tmp_path, "slow", {"seconds": 0.5}),
    ]
    ran = run(batch(tmp_path, machines))
    order = [(e.kind, e.job) for e in ran.told if e.kind in ("claimed", "done", "parked")]
    assert order.index(("claimed", "last")) > max(order.index(("parked", "bad")), order.index(("done", "slow")))


def test_machines_of_another_host_are_left_waiting(tmp_path: Path) -> None:
    ran = run(batch(tmp_path, [machine(tmp_path, "a", host="elsewhere"), machine(tmp_path, "b", host="here")]))
    assert [job.state for job in ran.outcome.jobs] == [State.WAITING, State.DONE]
    assert ran.outcome.exit_code == 75


RUNNER = """\
import sys
from pathlib import Path
from typing import Any
from tests.batch import fleets
wished = fleets.batch(Path(sys.argv[1]), [fleets.machine(Path(sys.argv[1]), "a", {"first": "hang"})])
fleets.run(wished, lambda event, store: print(event.kind, flush=True), lease=1.0)
"""


def test_a_run_that_was_killed_is_gone_on_with_and_its_child_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            while "phase-started" not in first.stdout.readline():
                assert first.poll() is None
        finally:
            first.kill()
    wished = batch(tmp_path, [machine(tmp_path, "a", {"first": "hang"})])
    ran = run(wished)
    assert ran.job("a").state is State.DONE
    assert (ran.job("a").fence, runs(tmp_path, "a")) == (2, 2)
    for _ in range(300):
        if not list(marked_processes(wished.store)):
            break
        time.sleep(0.1)
    assert not list(marked_processes(wished.store))
    remove_left(wished.store)


def test_an_attempt_that_is_counted_for_a_dead_runner_does_not_park(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a", {"first": IO}, attempts=2)])
    with Store.create(wished.store) as store:
        store.put(wished)
        for number in range(3):
            assert store.claim("a", "dead", 1.0, number * 10.0) is not None
    assert run(wished).job("a").state is State.DONE


def test_a_job_whose_runners_die_again_and_again_is_parked(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a")])
    with Store.create(wished.store) as store:
        store.put(wished)
        for number in range(12):
            assert store.claim("a", "dead", 1.0, number * 10.0) is not None
    failure = run(wished).job("a").failure
    assert isinstance(failure, Failure)
    assert failure.code == "workers-died"


def test_what_cannot_be_started_counts_as_the_attempts_failure(tmp_path: Path) -> None:
    ran = run(batch(tmp_path, [machine(tmp_path, "a")]), program=(str(tmp_path / "none"), *FAKE[1:]))
    failure = ran.job("a").failure
    assert failure is not None
    assert failure.code == "no-answer"


BUSY = {"error": {"code": "target-busy", "exit_code": 75, "message": "out/a: another run is writing it", "hint": ""}}


def test_somebody_else_at_it_still_is_no_failed_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than it has attempts; and what fails besides has them all."""
    monkeypatch.setattr("p2v.batch.steps.STILL_AT_IT_AT_MOST", 7)
    said: list[str] = []

    def look(event: JobEvent, store: Store) -> None:
        job = store.job("a")
        if event.kind == "again":
            said.append(why_waiting(job, time.time()))
            assert job.attempts == 0
        if event.kind == "again" and len(said) == 5:
            (tmp_path / "sources" / "a.json").write_text(json.dumps({}))

    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": BUSY}, attempts=2)]), look)
    assert (ran.job("a").state, ran.job("a").attempts) == (State.DONE, 1)
    assert len(said) == 5
    assert all("another run is writing it" in words and "not counted" in words for words in said)


def test_somebody_else_at_it_without_an_end_is_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2v.batch.steps.STILL_AT_IT_AT_MOST", 4)
    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": BUSY}, attempts=2)]))
    failure = ran.job("a").failure
    assert (ran.job("a").state, runs(tmp_path, "a")) == (State.PARKED, 5)
    assert failure is not None
    assert (failure.code, failure.may_help) == ("target-busy", False)
    assert "5 times" in failure.message


def test_failures_are_counted_beside_what_is_not(tmp_path: Path) -> None:
    """Busy, then an error twice of two attempts: parked by the errors."""

    def change(event: JobEvent, store: Store) -> None:
        if event.kind == "again":
            (tmp_path / "sources" / "a.json").write_text(json.dumps({"always": IO}))

    ran = run(batch(tmp_path, [machine(tmp_path, "a", {"always": BUSY}, attempts=2)]), change)
    assert (ran.job("a").state, ran.job("a").attempts, runs(tmp_path, "a")) == (State.PARKED, 2, 3)
