"""Runs in the store: who answers for which leases, and letting go those of a run that has died."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.event_data import LetGo, data_of
from p2v.batch.jobs import State
from p2v.batch.kinds import LET_GO
from p2v.batch.store_changes import row_of, tell
from p2v.batch.store_file import StoreFile
from p2v.batch.store_rows import stored
from p2v.core.marks import HostName, this_host


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has begun and has not told of its end.

    ``number``: no other run of the store ever has it. ``process``: ``pid:started`` on ``host``. ``lock``: the name of the file
    beside the store that it holds locked while it lives; empty where the file system has no locks. ``is_local``: all that it
    starts is started on its own host, and ends with it.
    """

    number: int
    host: HostName
    process: str
    lock: str
    is_local: bool


@dataclass(frozen=True, slots=True)
class RunTable:
    """The runs of an open store."""

    file: StoreFile

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.file.path

    def begin(self, process: str, lock: str, *, is_local: bool) -> Run:
        """Note a run of this host, whose lock is held by now. Raises what writing raises."""
        host = this_host()
        with self.file.writing() as connection:
            statement = "INSERT INTO runs (host, machine, process, lock, is_local, began) VALUES (?, ?, ?, ?, ?, ?)"
            values = (stored(host.name), stored(host.machine), process, stored(lock), int(is_local), time.time())
            number = connection.execute(statement, values).lastrowid
        assert number is not None
        return Run(number, host, process, lock, is_local)

    def end(self, run: Run) -> None:
        """Forget a run that has no leases any more, or whose leases were let go."""
        with self.file.writing(durable=False) as connection:
            connection.execute("DELETE FROM runs WHERE number = ?", (run.number,))

    def all(self) -> tuple[Run, ...]:
        """Those that have not told of their end, the oldest first."""
        rows = self.file.rows("SELECT * FROM runs ORDER BY number")
        return tuple(
            Run(
                row["number"], HostName(row["host"], row["machine"]), row["process"], row["lock"], bool(row["is_local"])
            )
            for row in rows
        )

    def leased(self, run: Run) -> tuple[str, ...]:
        """Names of the jobs that a run has leases of."""
        statement = "SELECT name FROM jobs WHERE run = ? AND state = ? ORDER BY place"
        return tuple(row["name"] for row in self.file.rows(statement, (run.number, State.RUNNING.value)))

    def let_go(self, run: Run, names: Collection[str], now: float) -> tuple[str, ...]:
        """Let leases of a run that has died run out now, not later; the names of those that it still had.

        Twice, or by two at once, is no harm: what another has taken since is another run's.
        """
        gone = []
        with self.file.writing() as connection:
            for name in names:
                row = row_of(connection, name)
                if (
                    row is None
                    or row["run"] != run.number
                    or row["lease_until"] <= now
                    or row["state"] != State.RUNNING.value
                ):
                    continue
                connection.execute("UPDATE jobs SET lease_until = ? WHERE name = ?", (now, row["name"]))
                tell(connection, LET_GO, name, row["fence"], now, data_of(LetGo(row["worker"])))
                gone.append(name)
        return tuple(gone)

    def is_leased_elsewhere(self, now: float) -> str:
        """The name of another host whose run has leases that have not run out; empty: there is none."""
        here = this_host()
        statement = (
            "SELECT runs.host FROM runs JOIN jobs ON jobs.run = runs.number WHERE jobs.state = ? AND jobs.lease_until > ? "
            "AND NOT (runs.host = ? AND runs.machine = ?) LIMIT 1"
        )
        values = (State.RUNNING.value, now, stored(here.name), stored(here.machine))
        return next((str(row["host"]) for row in self.file.rows(statement, values)), "")
