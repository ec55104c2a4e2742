"""The store of a batch: what became of each machine, who has it now, and everything that happened, in order.

Used by several processes of one host at once. A job is held by one lease at a time. Each lease has a number (its fence) that is
higher than all before it for that job; whoever comes with another number, or for a job that is not running, changes nothing
and gets ``LeaseLost``. A lease that ran out but was taken by nobody is still good: its worker may have slept.

Times are seconds since 1970, given by the caller. Events are written in the transaction of the change that they tell of, so
that there is neither without the other, and their numbers grow in the order of the changes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from p2v.batch.event_data import Again, Cancelled, Claimed, Done, Parked, Released, data_of
from p2v.batch.jobs import Batch, Failure, Job, JobEvent, MachineJob, State
from p2v.batch.kinds import (
    ADDED,
    AGAIN,
    CANCELLED,
    CHANGED,
    CLAIMED,
    DONE,
    OWN_KINDS,
    PARKED,
    PAUSED,
    RELEASED,
    RESUMED,
    RETRIED,
    WORKER,
)
from p2v.batch.store_changes import (
    NEXT_ATTEMPT,
    PAUSED_ROW,
    Lease,
    can_be_had,
    cancel,
    end,
    failed,
    held,
    is_paused,
    known_row,
    leave_out,
    row_of,
    shown_after,
    tell,
    wait,
)
from p2v.batch.store_file import StoreFile, open_store
from p2v.batch.store_host import network_file_system
from p2v.batch.store_rows import Rows, cut_failure, machine_text, path_text, stored, text_of
from p2v.batch.store_runs import Run, RunTable
from p2v.batch.terms import Terms, terms_data
from p2v.core.errors import NoSuchJob, RunElsewhere

__all__ = ["Lease", "Run", "Store"]

_PAGE = 10_000


class Store:
    """An open store; close it, or use it as a context. May be used by several threads, not across a fork."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._rows = Rows(file.path)
        self.runs = RunTable(file)

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open the store of a batch, made where there is none.

        Raises BadStore, StoreElsewhere, RunElsewhere, NotPermitted, NoSpace, ReadFailed, StoreBusy.
        """
        made = cls(open_store(path, make=True))
        try:
            if network_file_system(path.parent) and (host := made.runs.is_leased_elsewhere(time.time())):
                raise RunElsewhere(path, host)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store of a batch that was begun. Raises NoSource where there is none, and as ``create``."""
        return cls(open_store(path, make=False))

    @property
    def path(self) -> Path:
        """Its file."""
        return self._file.path

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is lost without it, but the log's file stays beside the store."""
        self._file.close()

    # What the manifest says

    def put(self, batch: Batch, now: float | None = None) -> None:
        """Take over a manifest; again and again is no harm.

        New machines are added and changed ones that have not ended are replaced (one that runs: for its next attempt). Ended
        ones stay as they are. Of those that the manifest has no more, what never ran is removed, and what ran is cancelled.
        ValueError when two machines have one name.
        """
        at = time.time() if now is None else now
        names = [machine.name for machine in batch.machines]
        if len(set(names)) != len(names):
            raise ValueError("two machines of a batch have one name")
        with self._file.writing() as connection:
            known = {row["name"]: row for row in connection.execute("SELECT * FROM jobs")}
            for place, machine in enumerate(batch.machines):
                self._put_machine(connection, machine, place, known.pop(stored(machine.name), None), at)
            for place, row in enumerate(known.values(), len(names)):
                leave_out(connection, row, place, at)
        self._rows.forget()

    def _put_machine(
        self, connection: sqlite3.Connection, machine: MachineJob, place: int, row: sqlite3.Row | None, at: float
    ) -> None:
        text = machine_text(machine)
        if row is None:
            statement = "INSERT INTO jobs (name, place, machine, state) VALUES (?, ?, ?, 'waiting')"
            connection.execute(statement, (stored(machine.name), place, text))
            tell(connection, ADDED, machine.name, 0, at)
            return
        connection.execute("UPDATE jobs SET place = ? WHERE name = ?", (place, stored(machine.name)))
        if row["machine"] == text or State(row["state"]).is_end:
            return
        connection.execute("UPDATE jobs SET machine = ? WHERE name = ?", (text, stored(machine.name)))
        if replace(self._rows.machine(row["machine"]), line=machine.line) != machine:
            tell(connection, CHANGED, machine.name, row["fence"], at)

    # What there is

    def jobs(self) -> tuple[Job, ...]:
        """All, in the manifest's order. Raises BadStore."""
        return tuple(self._rows.job(row) for row in self._file.rows("SELECT * FROM jobs ORDER BY place, name"))

    def job(self, name: str) -> Job:
        """One of them. Raises NoSuchJob."""
        rows = self._file.rows("SELECT * FROM jobs WHERE name = ?", (stored(name),))
        if not rows:
            raise NoSuchJob(name, self.path)
        return self._rows.job(rows[0])

    def events(self, after: int = 0, job: str | None = None, limit: int = 1000) -> tuple[JobEvent, ...]:
        """Up to ``limit`` of those with a number above ``after``, oldest first; of one job, or of all."""
        which, parameters = ("", ()) if job is None else ("AND job = ?", (stored(job),))
        statement = f"SELECT * FROM events WHERE number > ? {which} ORDER BY number LIMIT ?"
        return tuple(self._rows.event(row) for row in self._file.rows(statement, (after, *parameters, limit)))

    def every_event(self, after: int = 0, job: str | None = None) -> Iterator[JobEvent]:
        """All of them, read as many at a time as memory bears; also those that are told meanwhile."""
        while page := self.events(after, job, _PAGE):
            yield from page
            after = page[-1].number

    def bundles(self) -> frozenset[str]:
        """Names of the folders of all failure bundles that events tell of. Raises BadStore."""
        rows = self._file.rows("SELECT * FROM events WHERE kind IN (?, ?)", (PARKED, CANCELLED))
        told = (self._rows.event(row).data.get("bundle") for row in rows)
        return frozenset(Path(path).name for path in told if isinstance(path, str))

    def worker_hosts(self) -> Mapping[str, frozenset[str]]:
        """By jobs' names, the names of all hosts of a cluster that ever began an attempt at one. Raises BadStore."""
        found: dict[str, set[str]] = {}
        for row in self._file.rows("SELECT * FROM events WHERE kind = ?", (WORKER,)):
            event = self._rows.event(row)
            if host := event.data.get("host"):
                found.setdefault(event.job, set()).add(str(host))
        return {job: frozenset(hosts) for job, hosts in found.items()}

    # What a worker does

    def claim(self, name: str, worker: str, seconds: float, now: float, run: int = 0) -> Lease | None:
        """Take a job for ``seconds``: one that waits and is due, or one whose lease ran out. None when it cannot be had.

        It cannot while the batch is paused, either. A job that was to be cancelled, and whose worker is gone, is cancelled by this.
        ``run``: the number of the run that answers for the lease; 0: none, it holds by its time alone.
        """
        with self._file.writing() as connection:
            row = row_of(connection, name)
            if row is None or is_paused(connection) or not can_be_had(row, now):
                return None
            if row["cancel_wished"]:
                end(connection, row, State.CANCELLED, CANCELLED, now, Cancelled("wished, and its worker is gone"))
                return None
            fence, attempt = row["fence"] + 1, row["attempts"] + 1
            connection.execute(
                "UPDATE jobs SET state = 'running', fence = ?, attempts = ?, worker = ?, lease_until = ?, not_before = 0, "
                f"run = ?, began = ?, {NEXT_ATTEMPT} WHERE name = ?",
                (fence, attempt, stored(worker), now + seconds, run, now, row["name"]),
            )
            lost = row["worker"] if row["state"] == State.RUNNING.value else ""
            job = self._rows.job(known_row(connection, name))
            tell(connection, CLAIMED, name, fence, now, data_of(Claimed(worker, attempt, job.machine.attempts, lost)))
        return Lease(job, fence, worker, now + seconds)

    def renew(self, lease: Lease, seconds: float, now: float) -> Lease:
        """The lease until ``seconds`` from now. Raises LeaseLost."""
        until = max(lease.until, now + seconds)
        with self._file.writing(durable=False) as connection:
            held(connection, lease)
            connection.execute("UPDATE jobs SET lease_until = ? WHERE name = ?", (until, stored(lease.name)))
        return replace(lease, until=until)

    def event(self, lease: Lease, kind: str, data: Mapping[str, Any], now: float, *, durable: bool = False) -> None:
        """Note what happened to a job; ``durable``: on return also a power cut does not undo it.

        Raises LeaseLost; ValueError for kinds that are the store's own.
        """
        if kind in OWN_KINDS:
            raise ValueError(f"{kind}: such events are written by the store alone")
        with self._file.writing(durable=durable) as connection:
            row = held(connection, lease)
            tell(connection, kind, lease.name, lease.fence, now, data)
            shown = shown_after(row, self._rows.phases(row), kind, data)
            if shown is not None:
                statement = "UPDATE jobs SET phases = ?, bytes_copied = ?, bytes_total = ? WHERE name = ?"
                connection.execute(statement, (*shown, stored(lease.name)))
            host = data.get("host") if kind == WORKER else None
            if isinstance(host, str):
                connection.execute("UPDATE jobs SET host = ? WHERE name = ?", (stored(host), stored(lease.name)))

    def finish(
        self, lease: Lease, now: float, *, record: Path | None, seconds: Mapping[str, float], verified: bool | None
    ) -> Job:
        """The job is done, also when it was to be cancelled meanwhile. Raises LeaseLost."""
        with self._file.writing() as connection:
            row = held(connection, lease)
            statement = "UPDATE jobs SET record = ?, seconds = ?, verified = ?, failure = NULL WHERE name = ?"
            connection.execute(statement, (path_text(record), text_of(dict(seconds)), verified, stored(lease.name)))
            end(connection, row, State.DONE, DONE, now, Done(record, dict(seconds), verified))
            return self._rows.job(known_row(connection, lease.name))

    def park(self, lease: Lease, failure: Failure, now: float, *, record: Path | None = None) -> Job:
        """Give the job up until somebody looks, or cancelled where that was wished. Raises LeaseLost.

        ``record``: of a conversion that came to its end and is not good enough (it does not boot).
        """
        with self._file.writing() as connection:
            row, told = failed(connection, lease, failure), cut_failure(failure)
            connection.execute("UPDATE jobs SET record = ? WHERE name = ?", (path_text(record), row["name"]))
            if row["cancel_wished"]:
                end(connection, row, State.CANCELLED, CANCELLED, now, Cancelled.of(told))
            else:
                end(connection, row, State.PARKED, PARKED, now, Parked.of(told))
            return self._rows.job(known_row(connection, lease.name))

    def again(self, lease: Lease, failure: Failure, not_before: float, now: float, *, counted: bool = True) -> Job:
        """Let the job wait for its next attempt, or cancelled where that was wished. Without ``counted`` this was none.

        Raises LeaseLost.
        """
        with self._file.writing() as connection:
            row, told = failed(connection, lease, failure), cut_failure(failure)
            attempts = max(0, row["attempts"] - (not counted))
            if row["cancel_wished"]:
                end(connection, row, State.CANCELLED, CANCELLED, now, Cancelled.of(told))
            else:
                wait(connection, row, AGAIN, now, Again.of(told, not_before, counted=counted), not_before, attempts)
            return self._rows.job(known_row(connection, lease.name))

    def release(self, lease: Lease, now: float) -> Job:
        """Give the job back, the attempt not counted; cancelled where that was wished. Raises LeaseLost."""
        with self._file.writing() as connection:
            row = held(connection, lease)
            if row["cancel_wished"]:
                end(connection, row, State.CANCELLED, CANCELLED, now, Cancelled())
            else:
                wait(connection, row, RELEASED, now, Released(), 0.0, max(0, row["attempts"] - 1))
            return self._rows.job(known_row(connection, lease.name))

    def cancelled(self, lease: Lease) -> bool:
        """Whether the job is to be cancelled, or was: its worker ends what it does and releases it."""
        statement = "SELECT cancel_wished, state FROM jobs WHERE name = ? AND fence = ?"
        rows = self._file.rows(statement, (stored(lease.name), lease.fence))
        return bool(rows) and (bool(rows[0]["cancel_wished"]) or rows[0]["state"] == State.CANCELLED.value)

    # What people do meanwhile, from other processes

    def cancel(self, name: str, now: float) -> Job:
        """Nothing more is done about a job. One that runs is told, and cancelled by its worker; what is done stays done.

        Raises NoSuchJob.
        """
        with self._file.writing() as connection:
            row = self._required(connection, name)
            cancel(connection, row, now)
            return self._rows.job(known_row(connection, name))

    def retry(self, name: str, now: float) -> Job:
        """Let a job that is parked or cancelled, or that waits for a later time, wait for its first attempt anew.

        One that runs is not cancelled any more; what is done stays done. Raises NoSuchJob.
        """
        with self._file.writing() as connection:
            row = self._required(connection, name)
            state = State(row["state"])
            if state is State.RUNNING and row["cancel_wished"]:
                connection.execute("UPDATE jobs SET cancel_wished = 0 WHERE name = ?", (row["name"],))
                tell(connection, RETRIED, name, row["fence"], now)
            elif state in (State.PARKED, State.CANCELLED, State.WAITING):
                connection.execute(
                    "UPDATE jobs SET state = 'waiting', attempts = 0, not_before = 0, cancel_wished = 0, failure = NULL, "
                    f"{NEXT_ATTEMPT} WHERE name = ?",
                    (row["name"],),
                )
                tell(connection, RETRIED, name, row["fence"], now)
            return self._rows.job(known_row(connection, name))

    def pause(self, now: float) -> None:
        """No job is begun any more; those that run go on."""
        self._pause("1", PAUSED, now)

    def resume(self, now: float) -> None:
        """Jobs may begin again."""
        self._pause("0", RESUMED, now)

    def is_paused(self) -> bool:
        """Whether jobs may not begin."""
        return bool(self._file.rows(PAUSED_ROW))

    def keep_terms(self, terms: Terms) -> None:
        """Keep what a run goes by, for those who watch it: what is known before anything has begun."""
        with self._file.writing(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES ('terms', ?)", (text_of(terms_data(terms)),))

    def terms(self) -> Terms | None:
        """What the last run went by; None where no run of this version was. Raises BadStore."""
        rows = self._file.rows("SELECT value FROM settings WHERE name = 'terms'")
        return self._rows.terms(rows[0]["value"]) if rows else None

    def note(self, kind: str, data: Mapping[str, Any], now: float, *, durable: bool = False) -> None:
        """An event of the batch itself, of no job (``""``); ``durable`` as of ``event``.

        ValueError for kinds that are the store's own.
        """
        if kind in OWN_KINDS:
            raise ValueError(f"{kind}: such events are written by the store alone")
        with self._file.writing(durable=durable) as connection:
            tell(connection, kind, "", 0, now, data)

    def _pause(self, value: str, kind: str, now: float) -> None:
        with self._file.writing() as connection:
            if is_paused(connection) != (value == "1"):
                connection.execute("INSERT OR REPLACE INTO settings VALUES ('paused', ?)", (value,))
                tell(connection, kind, "", 0, now)

    def _required(self, connection: sqlite3.Connection, name: str) -> sqlite3.Row:
        row = row_of(connection, name)
        if row is None:
            raise NoSuchJob(name, self.path)
        return row
