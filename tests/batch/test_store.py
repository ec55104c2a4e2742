"""The store: what becomes of jobs, who may change it, and that everything is told of in order."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from p2v.batch import kinds
from p2v.batch.jobs import Budget, Hook, Job, MachineJob, Share, State, Verify, Window
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.scheduling import Setting
from p2v.batch.store import Lease, Store
from p2v.batch.store_file import CHECKPOINT_WRITES, SCHEMA
from p2v.batch.store_rows import LONGEST_DATA
from p2v.batch.terms import Terms
from p2v.core.errors import BadStore, LeaseLost, NoSource, NoSuchJob, NotPermitted, P2vError
from tests.batch.machines import FAILURE, batch, machine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "batch.sqlite") as made:
        made.put(batch(tmp_path, "a", "b"), now=1.0)
        yield made


def taken(store: Store, name: str = "a", worker: str = "w1", now: float = 100.0, seconds: float = 30.0) -> Lease:
    lease = store.claim(name, worker, seconds, now)
    assert lease is not None
    return lease


def told(store: Store, name: str | None = None) -> list[str]:
    return [event.kind for event in store.events(job=name)]


# what is kept


def test_a_machine_comes_out_as_it_went_in(tmp_path: Path) -> None:
    full = MachineJob(
        name="Büro 1", sources=(Path("/src/a\udce4.vmdk"), Path("/src/b.vmdk")), folder=Path("/out"), disk_format="raw",
        options=("--map", "VM Network=user"), keys=("all:file:/key",), wave=2, priority=-1,
        window=Window(time(22, 30), time(5)), before=Hook(("/bin/true", "x")), after=Hook(("/bin/false",), 5.0),
        verify=Verify.BOOT, attempts=7, host="h", line=12,
    )  # fmt: skip
    with Store.create(tmp_path / "s") as store:
        store.put(batch(tmp_path, full))
    with Store.open(tmp_path / "s") as store:
        assert store.jobs() == (Job(full, State.WAITING),)
        assert store.job("Büro 1").machine == full


def test_what_ended_a_job_is_kept(store: Store, tmp_path: Path) -> None:
    done = store.finish(taken(store), 110.0, record=tmp_path / "a\udcff.json", seconds={"copy": 1.5}, verified=True)
    parked = store.park(taken(store, "b"), replace(FAILURE, bundle=tmp_path / "bundle"), 120.0)
    with Store.open(store.path) as again:
        assert again.jobs() == (done, parked)
    assert (done.state, done.verified, done.seconds, done.ended) == (State.DONE, True, {"copy": 1.5}, 110.0)
    assert (done.record, done.began, done.failure) == (tmp_path / "a\udcff.json", 100.0, None)
    assert (parked.state, parked.failure) == (State.PARKED, replace(FAILURE, bundle=tmp_path / "bundle"))
    assert (parked.worker, parked.lease_until, done.worker, done.lease_until) == ("", 0.0, "", 0.0)


def test_jobs_stand_in_the_order_of_the_manifest(store: Store, tmp_path: Path) -> None:
    store.put(batch(tmp_path, "z", "b", "a"))
    assert [job.machine.name for job in store.jobs()] == ["z", "b", "a"]


# the manifest again


def test_the_same_manifest_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    taken(store)
    before, events = store.jobs(), store.events()
    store.put(batch(tmp_path, "a", "b"))
    assert store.jobs() == before
    assert store.events() == events


def test_a_changed_manifest(store: Store, tmp_path: Path) -> None:
    store.finish(taken(store), 110.0, record=None, seconds={}, verified=None)
    store.put(batch(tmp_path, machine("a", priority=9), machine("b", priority=9), "c"))
    done, changed, new = store.jobs()
    assert (done.state, done.machine.priority) == (State.DONE, 0)  # what ended stays
    assert (changed.state, changed.machine.priority) == (State.WAITING, 9)
    assert new == Job(machine("c"), State.WAITING)
    assert told(store, "b") == [kinds.ADDED, kinds.CHANGED]


def test_a_machine_on_another_line_is_no_other_machine(store: Store, tmp_path: Path) -> None:
    store.put(batch(tmp_path, machine("a", line=40), "b"))
    assert store.job("a").machine.line == 40
    assert told(store, "a") == [kinds.ADDED]


def test_a_machine_that_runs_is_replaced_for_its_next_attempt(store: Store, tmp_path: Path) -> None:
    lease = taken(store)
    store.put(batch(tmp_path, machine("a", priority=9), "b"))
    assert store.job("a").state is State.RUNNING
    assert store.again(lease, FAILURE, 0.0, 101.0).machine.priority == 9


def test_machines_that_the_manifest_has_no_more(store: Store, tmp_path: Path) -> None:
    store.put(batch(tmp_path, "a", "b", "ran", "runs", "done"), now=2.0)
    store.again(taken(store, "ran"), FAILURE, 0.0, 101.0)
    lease = taken(store, "runs")
    store.finish(taken(store, "done"), 102.0, record=None, seconds={}, verified=None)
    store.put(batch(tmp_path, "b"), now=103.0)
    states = {job.machine.name: job.state for job in store.jobs()}
    assert states == {"b": State.WAITING, "ran": State.CANCELLED, "runs": State.RUNNING, "done": State.DONE}
    assert store.cancelled(lease)
    assert told(store, "a") == [kinds.ADDED, kinds.REMOVED]


def test_two_machines_of_one_name_are_refused_whole(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name"):
        store.put(batch(tmp_path, "c", "c"))
    assert [job.machine.name for job in store.jobs()] == ["a", "b"]


# leases


def test_a_job_is_had_by_one_at_a_time(store: Store) -> None:
    lease = taken(store)
    assert (lease.fence, lease.until, lease.job.attempts, lease.job.state) == (1, 130.0, 1, State.RUNNING)
    assert store.claim("a", "w2", 30.0, 129.9) is None
    second = taken(store, worker="w2", now=130.0)
    assert (second.fence, second.job.attempts, second.job.worker) == (2, 2, "w2")
    assert store.events(job="a")[-1].data == {"worker": "w2", "attempt": 2, "limit": 3, "lost_worker": "w1"}


def test_a_renewed_lease_lasts(store: Store) -> None:
    lease = store.renew(taken(store), 30.0, 120.0)
    assert lease.until == store.job("a").lease_until == 150.0
    assert store.claim("a", "w2", 30.0, 149.0) is None
    assert store.renew(lease, 1.0, 121.0).until == 150.0  # never shorter than was promised


def test_a_lease_that_nobody_took_since_is_good(store: Store) -> None:
    assert store.renew(taken(store), 30.0, 5000.0).until == 5030.0


def test_a_lost_lease_changes_nothing(store: Store) -> None:
    stale, now = taken(store), 200.0
    taken(store, worker="w2", now=now)
    before, events = store.jobs(), store.events()
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.renew(stale, 30.0, now),
        lambda: store.event(stale, "warning", {}, now),
        lambda: store.finish(stale, now, record=None, seconds={}, verified=None),
        lambda: store.park(stale, FAILURE, now),
        lambda: store.again(stale, FAILURE, now, now),
        lambda: store.release(stale, now),
    )
    for use in uses:
        with pytest.raises(LeaseLost, match="lease 2 was given since, to w2") as raised:
            use()
        assert raised.value.exit_code == 75
    assert (store.jobs(), store.events()) == (before, events)
    assert not store.cancelled(stale)


@pytest.mark.parametrize("end", ["finish", "park", "again", "release", "cancel"])
def test_a_lease_ends_with_its_job(store: Store, end: str) -> None:
    lease = taken(store)
    match end:
        case "finish":
            store.finish(lease, 101.0, record=None, seconds={}, verified=None)
        case "park":
            store.park(lease, FAILURE, 101.0)
        case "again":
            store.again(lease, FAILURE, 0.0, 101.0)
        case "release":
            store.release(lease, 101.0)
        case _:
            assert store.cancel("a", 131.0).state is State.CANCELLED  # its worker is gone
            assert store.cancelled(lease)
    with pytest.raises(LeaseLost):
        store.renew(lease, 30.0, 102.0)


def test_a_later_attempt_has_a_higher_number_whatever_ended_the_one_before(store: Store) -> None:
    store.release(taken(store, now=100.0), 101.0)
    store.again(taken(store, now=102.0), FAILURE, 0.0, 103.0)
    store.park(taken(store, now=104.0), FAILURE, 105.0)
    store.retry("a", 106.0)
    assert taken(store, now=107.0).fence == 4


def test_a_released_attempt_does_not_count_and_a_failed_one_does(store: Store) -> None:
    assert store.release(taken(store), 101.0).attempts == 0
    waiting = store.again(taken(store), FAILURE, 500.0, 102.0)
    assert (waiting.attempts, waiting.state, waiting.failure, waiting.not_before) == (1, State.WAITING, FAILURE, 500.0)


def test_a_job_is_not_had_before_its_time(store: Store) -> None:
    store.again(taken(store), FAILURE, 500.0, 102.0)
    assert store.claim("a", "w", 30.0, 499.0) is None
    assert taken(store, now=500.0).job.not_before == 0.0


@pytest.mark.parametrize("name", ["", "c", "\udcff", "a' OR 1=1 --"])
def test_unknown_jobs(store: Store, name: str) -> None:
    assert store.claim(name, "w", 30.0, 1.0) is None
    assert store.events(job=name) == ()
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.job(name),
        lambda: store.cancel(name, 1.0),
        lambda: store.retry(name, 1.0),
    )
    for use in uses:
        with pytest.raises(NoSuchJob):
            use()


# events and what they show


def test_events_come_in_their_order_and_by_pieces(store: Store) -> None:
    lease = taken(store)
    for number in range(5):
        store.event(lease, "warning", {"message": str(number)}, 101.0 + number)
    numbers = [event.number for event in store.events()]
    assert numbers == sorted(set(numbers))
    mine = store.events(job="a")
    assert [event.data["message"] for event in mine if event.kind == "warning"] == list("01234")
    assert {(event.job, event.fence) for event in mine[1:]} == {("a", 1)}
    assert store.events(after=mine[2].number, job="a", limit=2) == mine[3:5]


def test_phases_and_bytes_are_seen_at_the_job(store: Store) -> None:
    lease = taken(store)
    seen = []
    for kind, data in (
        (kinds.PHASE_STARTED, {"phase": "rewrite", "title": "", "total_bytes": None}),
        (kinds.PHASE_STARTED, {"phase": "copy", "title": "", "total_bytes": 100}),
        (kinds.PHASE_STARTED, {"phase": "apply", "title": "", "total_bytes": 7}),
        (kinds.BYTES_DONE, {"phase": "copy", "count": 60}),
        (kinds.BYTES_DONE, {"phase": "checksum", "count": 5}),
        (kinds.BYTES_DONE, {"phase": "copy", "count": 40}),
        (kinds.PHASE_FINISHED, {"phase": "copy", "seconds": 2.0, "failed": False}),
        (kinds.PHASE_FINISHED, {"phase": "apply", "seconds": 2.0}),
        (kinds.PHASE_FINISHED, {"phase": "rewrite", "seconds": 2.0}),
    ):
        store.event(lease, kind, data, 101.0)
        job = store.job("a")
        seen.append((job.phase, job.bytes_copied, job.bytes_total))
    assert seen == [
        ("rewrite", 0, 0), ("copy", 0, 100), ("copy", 0, 100), ("copy", 60, 100), ("copy", 60, 100), ("copy", 100, 100),
        ("apply", 100, 100), ("rewrite", 100, 100), ("", 100, 100),
    ]  # fmt: skip
    job = taken(store, now=500.0).job
    assert (job.phase, job.bytes_copied, job.bytes_total, job.began) == ("", 0, 0, 500.0)


@pytest.mark.parametrize(
    "data",
    [{}, {"phase": 7}, {"phase": "copy", "count": "x"}, {"phase": "copy", "count": -5}, {"phase": "copy", "count": True},
     {"phase": "copy", "count": 10**30}, {"phase": "copy\x00\udcff", "count": 1}, {"phase": "x" * 100_000}],
)  # fmt: skip
def test_what_a_child_says_is_not_trusted(store: Store, data: dict[str, object]) -> None:
    lease = taken(store)
    for kind in (kinds.PHASE_STARTED, kinds.BYTES_DONE, kinds.BYTES_DONE, kinds.PHASE_FINISHED):
        store.event(lease, kind, data, 101.0)
    assert 0 <= store.job("a").bytes_copied < 2**63
    assert len(store.events(job="a")) == 6


def test_an_event_that_is_too_long_is_told_of(store: Store) -> None:
    store.event(taken(store), "warning", {"message": "x" * LONGEST_DATA}, 101.0)
    assert set(store.events(job="a")[-1].data) == {"left_out_bytes"}


@pytest.mark.parametrize("kind", sorted(kinds.OWN_KINDS))
def test_nobody_else_writes_the_stores_own_events(store: Store, kind: str) -> None:
    lease = taken(store)
    with pytest.raises(ValueError, match="store alone"):
        store.event(lease, kind, {}, 101.0)
    with pytest.raises(ValueError, match="store alone"):
        store.note(kind, {}, 101.0)


def test_a_failure_is_told_of_with_its_fields(store: Store, tmp_path: Path) -> None:
    store.again(taken(store), FAILURE, 500.0, 101.0)
    store.park(taken(store, now=500.0), FAILURE, 501.0, record=tmp_path / "a.json")
    again, _, parked = store.events(job="a")[-3:]
    assert (again.kind, parked.kind) == (kinds.AGAIN, kinds.PARKED)
    fields = {"code": "io", "exit_code": 74, "message": FAILURE.message, "hint": FAILURE.hint, "may_help": True}
    # one that waits has no bundle
    assert again.data == fields | {"not_before": 500.0}
    assert parked.data == fields | {"bundle": None}
    assert store.job("a").record == tmp_path / "a.json"


def test_events_of_the_batch_are_of_no_job(store: Store) -> None:
    store.note("batch-began", {"machines": 2}, 50.0)
    (event,) = store.events(job="")
    assert (event.job, event.kind, event.at, event.data) == ("", "batch-began", 50.0, {"machines": 2})


# people


def test_cancelled_before_it_ran(store: Store) -> None:
    assert store.cancel("a", 50.0).state is State.CANCELLED
    assert store.claim("a", "w", 30.0, 100.0) is None


@pytest.mark.parametrize("way", ["release", "park", "again", "died"])
def test_a_running_job_is_cancelled_by_its_worker(store: Store, way: str) -> None:
    lease = taken(store)
    assert not store.cancelled(lease)
    assert store.cancel("a", 101.0).state is State.RUNNING
    assert store.cancelled(lease)
    match way:
        case "release":
            store.release(lease, 102.0)
        case "park":
            store.park(lease, FAILURE, 102.0)
        case "again":
            store.again(lease, FAILURE, 0.0, 102.0)
        case _:
            assert store.claim("a", "w2", 30.0, 131.0) is None
    assert store.job("a").state is State.CANCELLED
    assert told(store, "a")[-2:] == [kinds.CANCEL_WISHED, kinds.CANCELLED]


def test_what_was_done_when_it_was_to_be_cancelled_is_done(store: Store) -> None:
    lease = taken(store)
    store.cancel("a", 101.0)
    assert store.finish(lease, 102.0, record=None, seconds={}, verified=None).state is State.DONE
    assert store.cancel("a", 103.0).state is State.DONE
    assert store.retry("a", 104.0).state is State.DONE


def test_retried_jobs_begin_anew(store: Store) -> None:
    store.park(taken(store), FAILURE, 101.0)
    assert store.claim("a", "w", 30.0, 1000.0) is None
    job = store.retry("a", 102.0)
    assert (job.state, job.attempts, job.failure, job.fence, job.ended) == (State.WAITING, 0, None, 1, 0.0)
    store.cancel("b", 103.0)
    assert store.retry("b", 104.0).state is State.WAITING
    assert taken(store, "b").fence == 1


def test_a_wish_to_cancel_can_be_taken_back(store: Store) -> None:
    lease = taken(store)
    store.cancel("a", 101.0)
    store.retry("a", 102.0)
    assert not store.cancelled(lease)
    assert store.release(lease, 103.0).state is State.WAITING


def test_a_pause_lets_run_what_runs(store: Store) -> None:
    lease = taken(store)
    store.pause(101.0)
    store.pause(101.5)
    with Store.open(store.path) as other:
        assert other.is_paused()
    assert store.claim("b", "w", 30.0, 102.0) is None
    assert store.finish(lease, 103.0, record=None, seconds={}, verified=None).state is State.DONE
    store.resume(104.0)
    assert not store.is_paused()
    assert taken(store, "b").fence == 1
    assert told(store, "") == [kinds.PAUSED, kinds.RESUMED]


# the file


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoSource):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "begun").touch(0o600)  # killed before it made the tables
    with pytest.raises(NoSource):
        Store.open(tmp_path / "begun")
    Store.create(tmp_path / "begun").close()
    Store.open(tmp_path / "begun").close()
    (tmp_path / "text").write_text("machines: []\n" * 100)
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE guests (name TEXT)")
    connection.close()
    for name in ("text", "other"):
        before = (tmp_path / name).read_bytes()
        for use in (Store.open, Store.create):
            with pytest.raises(BadStore):
                use(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store.create(tmp_path / "s").close()
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(BadStore, match=f"schema {SCHEMA + 1}") as raised:
        Store.open(tmp_path / "s")
    assert "newer p2v" in raised.value.hint()


@pytest.mark.parametrize(
    "damage",
    ["machine = '{'", "machine = '{}'", "machine = '[]'", "seconds = '{\"a\": \"b\"}'", "failure = '7'", "record = '{}'",
     "phases = '{'", "phases = '[7]'", "phases = '7'", "machine = '" + "[" * 100_000 + "'", "began = 1e300", "ended = -1e300",
     "lease_until = 9e999", "not_before = -1"],
)  # fmt: skip
def test_a_damaged_row_is_an_error_with_a_sentence(store: Store, damage: str) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute(f"UPDATE jobs SET {damage} WHERE name = 'b'")
    connection.close()
    with pytest.raises(P2vError) as raised:
        store.jobs()
    assert isinstance(raised.value, BadStore)
    assert str(store.path) in str(raised.value)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET kind = 'x'", "DELETE FROM events", "UPDATE jobs SET fence = 0 WHERE name = 'a'",
     "DELETE FROM jobs WHERE name = 'a'", "UPDATE jobs SET state = 'lost'", "INSERT INTO jobs (name, place, machine, state) "
     "VALUES ('x', 'first', '{}', 'waiting')"],
)  # fmt: skip
def test_history_and_numbers_are_kept_by_the_file_itself(store: Store, statement: str) -> None:
    taken(store)
    connection = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError), connection:
        connection.execute(statement)
    connection.close()


TERMS = Terms(
    Budget(copies=3, memory_bytes=5, copies_per_storage=1),
    Setting({"a": Place(("8:1", "server x"), 5)}, "here", Lanes(Share(1), {"8:1": Share(2, 300)}), frozenset({"a"})),
    until=1e9,
)


def without_guards(path: Path, *statements: str) -> None:
    """Somebody else's hand: what the file itself keeps from happening, happens."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "damage",
    ["UPDATE jobs SET state = 'lost'", "UPDATE events SET at = 1e300", "UPDATE events SET data = '[7]'",
     "UPDATE events SET data = '" + "[" * 100_000 + "'", "DROP TABLE events", "ALTER TABLE jobs RENAME COLUMN fence TO fences",
     "INSERT OR REPLACE INTO settings VALUES ('terms', '{\"a\": \"b\"}')"],
)  # fmt: skip
def test_what_somebody_else_has_put_into_it_is_an_error_with_a_sentence(store: Store, damage: str) -> None:
    taken(store)
    assert store.terms() is None
    store.keep_terms(TERMS)
    assert store.terms() == TERMS
    without_guards(store.path, damage)
    with pytest.raises(P2vError) as raised:
        store.jobs(), store.events(), store.terms()
    assert isinstance(raised.value, BadStore)


def test_a_store_that_others_may_write_is_looked_at_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    Store.create(path).close()
    path.chmod(0o666)
    with pytest.raises(BadStore, match="everybody"):
        Store.create(path)
    Store.open(path).close()
    path.chmod(0o600)
    Store.create(path).close()
    # another's: by us where we are root, and else by saying that we are another
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: os.stat(path).st_uid + 1)
    with pytest.raises(BadStore, match="another user"):
        Store.create(path)


def test_a_folder_that_cannot_hold_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(P2vError):
        Store.create(tmp_path / "file" / "s")
    (tmp_path / "folder").mkdir()
    for use in (Store.create, Store.open):
        with pytest.raises(P2vError):
            use(tmp_path / "folder")


def test_odd_names_of_the_file(tmp_path: Path) -> None:
    for name in ("a?mode=memory", "b#c", "d%20e", "f\udcff", ":memory:"):
        with Store.create(tmp_path / name) as store:
            store.put(batch(tmp_path, "a"))
        with Store.open(tmp_path / name) as store:
            assert store.job("a").state is State.WAITING
        assert (tmp_path / name).is_file()


def test_the_log_does_not_grow_without_end(store: Store) -> None:
    lease, log = taken(store), store.path.with_name(store.path.name + "-wal")
    sizes = []
    for number in range(5 * CHECKPOINT_WRITES):
        store.event(lease, "warning", {"text": "x" * 2000}, float(number))
        sizes.append(log.stat().st_size)
    assert max(sizes) < 1.5 * sizes[CHECKPOINT_WRITES]
    assert store.path.stat().st_size > 4 * CHECKPOINT_WRITES * 2000
    store.close()
    assert not log.exists()


def test_others_may_not_read_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s") as store:
        store.put(batch(tmp_path, "a"))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_store_that_may_not_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    monkeypatch.setattr("p2v.batch.store.tell", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(NotPermitted):
        store.claim("a", "w", 30.0, 1.0)
    monkeypatch.undo()
    assert store.job("a").state is State.WAITING  # nothing of the transaction is left


# where a cluster converts


def test_the_host_that_has_an_attempt_is_kept_until_there_is_another(store: Store) -> None:
    lease = taken(store)
    assert lease.job.host == ""
    store.event(lease, kinds.WORKER, {"worker": "tls://10.0.0.2:4000", "host": "node2"}, 101.0)
    assert store.job("a").host == "node2"
    store.event(lease, kinds.WORKER, {"worker": "tls://10.0.0.2:4000", "host": 7}, 102.0)
    assert store.job("a").host == "node2"
    assert store.finish(lease, 110.0, record=None, seconds={}, verified=None).host == "node2"

    other = taken(store, "b")
    store.event(other, kinds.WORKER, {"worker": "tls://10.0.0.3:4000", "host": "node\udcff"}, 101.0)
    assert store.again(other, FAILURE, 120.0, 111.0).host == r"node\udcff"
    assert taken(store, "b", now=130.0).job.host == ""


def test_a_store_of_the_schema_before_hosts_is_brought_up_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "store_of_schema_1.sql").read_text("ascii"))
        before = connection.execute("SELECT * FROM events").fetchall()
    connection.close()

    with Store.open(path) as store:
        jobs = {job.machine.name: job for job in store.jobs()}
        assert [job.state.value for job in jobs.values()] == ["done", "running", "waiting", "waiting", "parked"]
        assert (jobs["done"].record, jobs["done"].seconds, jobs["done"].host) == (Path("/out/done.json"), {"copy": 1.5}, "")
        assert (jobs["runs"].worker, jobs["runs"].phase, jobs["runs"].bytes_total) == ("old:1", "copy", 1000)
        assert jobs["parked"].failure == FAILURE
        assert store.is_paused()
        store.resume(200.0)
        lease = taken(store, "runs", now=200.0)
        store.event(lease, kinds.WORKER, {"worker": "w", "host": "node2"}, 201.0)
        assert (store.job("runs").host, lease.fence) == ("node2", 2)
    Store.create(path).close()  # and once is enough
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA
        assert connection.execute("SELECT * FROM events").fetchall()[: len(before)] == before
    connection.close()


def test_failure_bundles_that_events_tell_of_are_known_by_name(tmp_path: Path) -> None:
    wished = batch(tmp_path, "a", "b")
    with Store.create(wished.store) as store:
        store.put(wished, 1.0)
        for name, bundle in (("a", tmp_path / "failures" / "a-1"), ("b", None)):
            lease = store.claim(name, "here", 60.0, 2.0)
            assert lease is not None
            store.park(lease, replace(FAILURE, bundle=bundle), 3.0)
        assert store.bundles() == {"a-1"}
