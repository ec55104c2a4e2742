"""Steps of the store's transactions: what becomes of a job's row, and the event that tells of it, always both."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2v.batch.event_data import Cancelled, CancelWished, data_of
from p2v.batch.jobs import Failure, Job, State
from p2v.batch.kinds import BYTES_DONE, CANCEL_WISHED, CANCELLED, COPY, PHASE_FINISHED, PHASE_STARTED, REMOVED
from p2v.batch.store_rows import LARGEST_COUNT, event_text, failure_text, stored, text_of
from p2v.core.errors import LeaseLost

NEXT_ATTEMPT = (
    "phases = '[]', bytes_copied = 0, bytes_total = 0, seconds = '{}', verified = NULL, record = NULL, ended = 0, host = ''"
)
"""Of a row that is begun anew: what the attempt before has left in it."""
PAUSED_ROW = "SELECT 1 FROM settings WHERE name = 'paused' AND value = '1'"
_PHASES_KEPT = 16
_LONGEST_PHASE = 100


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job until ``until``, or until another takes it after that. ``job``: as it was at the claim;
    ``job.attempts`` counts this attempt."""

    job: Job
    fence: int
    worker: str
    until: float

    @property
    def name(self) -> str:
        """The job's."""
        return self.job.machine.name


def is_paused(connection: sqlite3.Connection) -> bool:
    """Whether jobs may not begin."""
    return connection.execute(PAUSED_ROW).fetchone() is not None


def row_of(connection: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    """A job's row, None where there is no such job."""
    found: sqlite3.Row | None = connection.execute("SELECT * FROM jobs WHERE name = ?", (stored(name),)).fetchone()
    return found


def known_row(connection: sqlite3.Connection, name: str) -> sqlite3.Row:
    """The row of a job that is there."""
    row = row_of(connection, name)
    assert row is not None
    return row


def tell(
    connection: sqlite3.Connection, kind: str, job: str, fence: int, at: float, data: Mapping[str, Any] | None = None
) -> None:
    """Write an event; in the transaction of the change that it tells of."""
    statement = "INSERT INTO events (at, job, fence, kind, data) VALUES (?, ?, ?, ?, ?)"
    connection.execute(statement, (at, stored(job), fence, stored(kind), event_text(data or {})))


def can_be_had(row: sqlite3.Row, now: float) -> bool:
    """Whether a job waits and is due, or its lease has run out."""
    match State(row["state"]):
        case State.WAITING:
            return bool(row["not_before"] <= now)
        case State.RUNNING:
            return bool(row["lease_until"] <= now)
        case _:
            return False


def held(connection: sqlite3.Connection, lease: Lease) -> sqlite3.Row:
    """The job's row when the lease is the one that holds it. Raises LeaseLost."""
    row = row_of(connection, lease.name)
    if row is None:
        raise LeaseLost(lease.name, lease.fence, "the batch does not have it")
    if row["fence"] != lease.fence:
        raise LeaseLost(
            lease.name, lease.fence, f"lease {row['fence']} was given since, to {row['worker'] or 'nobody now'}"
        )
    if row["state"] != State.RUNNING.value:
        raise LeaseLost(lease.name, lease.fence, f"the job is {row['state']}")
    return row


def failed(connection: sqlite3.Connection, lease: Lease, failure: Failure) -> sqlite3.Row:
    """Note why the attempt of a lease ended; the row as it was. Raises LeaseLost."""
    row = held(connection, lease)
    connection.execute("UPDATE jobs SET failure = ? WHERE name = ?", (failure_text(failure), stored(lease.name)))
    return row


def end(connection: sqlite3.Connection, row: sqlite3.Row, state: State, kind: str, now: float, event: object) -> None:
    """Nothing more happens to a job by itself. ``event``: what is told of it, as of ``p2v.batch.event_data``."""
    connection.execute(
        "UPDATE jobs SET state = ?, worker = '', lease_until = 0, not_before = 0, cancel_wished = 0, phases = '[]', ended = ? "
        "WHERE name = ?",
        (state.value, now, row["name"]),
    )
    tell(connection, kind, row["name"], row["fence"], now, data_of(event))


def wait(
    connection: sqlite3.Connection, row: sqlite3.Row, kind: str, now: float, event: object, not_before: float, attempts: int
) -> None:
    """Let a job wait for its next attempt; ``event`` as of ``end``."""
    connection.execute(
        "UPDATE jobs SET state = 'waiting', worker = '', lease_until = 0, not_before = ?, attempts = ?, phases = '[]' "
        "WHERE name = ?",
        (not_before, attempts, row["name"]),
    )
    tell(connection, kind, row["name"], row["fence"], now, data_of(event))


def cancel(connection: sqlite3.Connection, row: sqlite3.Row, now: float, why: str = "") -> None:
    """Cancel a job, or tell its worker to; what is done stays done. ``why``: where nobody asked for it by name."""
    state = State(row["state"])
    if state is State.RUNNING and row["lease_until"] > now:
        if not row["cancel_wished"]:
            connection.execute("UPDATE jobs SET cancel_wished = 1 WHERE name = ?", (row["name"],))
            tell(connection, CANCEL_WISHED, row["name"], row["fence"], now, data_of(CancelWished(why)))
    elif state not in (State.DONE, State.CANCELLED):
        end(connection, row, State.CANCELLED, CANCELLED, now, Cancelled(why))


def leave_out(connection: sqlite3.Connection, row: sqlite3.Row, place: int, at: float) -> None:
    """What becomes of a job that the manifest has no more."""
    if row["fence"] == 0:
        connection.execute("DELETE FROM jobs WHERE name = ?", (row["name"],))
        tell(connection, REMOVED, row["name"], 0, at)
        return
    connection.execute("UPDATE jobs SET place = ? WHERE name = ?", (place, row["name"]))
    if not State(row["state"]).is_end:
        cancel(connection, row, at, "the manifest does not have it any more")


def shown_after(row: sqlite3.Row, phases: list[str], kind: str, data: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Phases under way, bytes copied and their total after an event; None when it changes none of them."""
    phase = data.get("phase")
    if kind not in (PHASE_STARTED, BYTES_DONE, PHASE_FINISHED) or not isinstance(phase, str):
        return None
    phase = phase[:_LONGEST_PHASE]
    copied, total = row["bytes_copied"], row["bytes_total"]
    if kind == PHASE_STARTED:
        phases = [*(each for each in phases if each != phase), phase][-_PHASES_KEPT:]
        total += _count(data.get("total_bytes")) if phase == COPY else 0
    elif kind == PHASE_FINISHED:
        phases = [each for each in phases if each != phase]
    else:
        copied += _count(data.get("count")) if phase == COPY else 0
    return text_of(phases), min(copied, LARGEST_COUNT), min(total, LARGEST_COUNT)


def _count(value: object) -> int:
    return min(value, LARGEST_COUNT) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
