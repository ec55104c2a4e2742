"""The store's SQLite file: its tables, how it is opened, and its transactions.

SQLite in WAL mode: readers never wait for the writer, a process that is killed loses nothing that was committed, and the
file must stay on one host. One writer at a time: each change is one ``BEGIN IMMEDIATE`` transaction, so that what is read in
it holds until it is committed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from p2v.batch.store_host import require_ours
from p2v.core.errors import BadStore, NoSource, NoSpace, NotPermitted, P2vError, ReadFailed, StoreBusy
from p2v.core.io_errors import write_problem
from p2v.core.workspace import free_bytes, make_output_folder

APPLICATION_ID = 0x70327662  # "p2vb": tells the file from another program's
BUSY_SECONDS = 60.0
_RETRY_SECONDS = 0.05
CHECKPOINT_WRITES = 200
"""After so many changes by one connection the log is moved into the file."""
_CHECKPOINT_MILLISECONDS = 2000
# the last one: another process was stopped, or is slow, at a step of a few microseconds that SQLite waits ten seconds for
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)

# One script a version, in order: a new one is added at the end, and none is ever changed.
_SCRIPTS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            name TEXT NOT NULL PRIMARY KEY,
            place INTEGER NOT NULL,
            machine TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'parked', 'cancelled')),
            attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
            fence INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0),
            worker TEXT NOT NULL DEFAULT '',
            lease_until REAL NOT NULL DEFAULT 0,
            not_before REAL NOT NULL DEFAULT 0,
            cancel_wished INTEGER NOT NULL DEFAULT 0,
            phases TEXT NOT NULL DEFAULT '[]',
            bytes_copied INTEGER NOT NULL DEFAULT 0,
            bytes_total INTEGER NOT NULL DEFAULT 0,
            seconds TEXT NOT NULL DEFAULT '{}',
            failure TEXT,
            verified INTEGER,
            record TEXT,
            began REAL NOT NULL DEFAULT 0,
            ended REAL NOT NULL DEFAULT 0
        ) STRICT""",
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            job TEXT NOT NULL,
            fence INTEGER NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX events_of_job ON events (job, number)",
        "CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT",
        # what must hold whatever a program does: history stays as it was, and numbers of leases only grow
        "CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END",
        "CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never removed'); END",
        """CREATE TRIGGER fences_grow BEFORE UPDATE OF fence ON jobs WHEN NEW.fence < OLD.fence
            BEGIN SELECT RAISE(ABORT, 'numbers of leases only grow'); END""",
        """CREATE TRIGGER leased_jobs_are_kept BEFORE DELETE ON jobs WHEN OLD.fence > 0
            BEGIN SELECT RAISE(ABORT, 'a job that was leased stays'); END""",
    ),
    ("ALTER TABLE jobs ADD COLUMN host TEXT NOT NULL DEFAULT ''",),
    (
        # AUTOINCREMENT: a number is never given twice, so that a lease names one run only
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            host TEXT NOT NULL,
            machine TEXT NOT NULL,
            process TEXT NOT NULL,
            lock TEXT NOT NULL,
            is_local INTEGER NOT NULL,
            began REAL NOT NULL
        ) STRICT""",
        "ALTER TABLE jobs ADD COLUMN run INTEGER NOT NULL DEFAULT 0",
    ),
)
SCHEMA = len(_SCRIPTS)


class StoreFile:
    """An open store. May be used by several threads, not across a fork."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._durable: bool | None = None
        self._written = 0

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, whole or not at all. ``durable``: on return also a power cut does not undo it.

        What is not durable outlives any death of processes; a power cut may take the last seconds of it.
        Raises StoreBusy, NoSpace, ReadFailed, BadStore.
        """
        with self._lock, _told(self.path):
            if self._connection.in_transaction:  # a signal handler in the middle of one
                raise RuntimeError("a transaction of the store within another")
            self._sync(durable)
            _retried(self.path, self._connection, "BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):  # the first error is the one to tell
                        self._connection.execute("ROLLBACK")
                raise
            self._written += 1
            if self._written % CHECKPOINT_WRITES == 0:
                self._checkpoint()

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        """What one SELECT finds, of one moment."""
        with self._lock, _told(self.path):
            return _retried(self.path, self._connection, statement, parameters).fetchall()

    def close(self) -> None:
        """The last one to close moves the log into the file."""
        with self._lock:
            self._connection.close()

    def _checkpoint(self) -> None:
        """Move the log into the file, with the write lock held as a FULL checkpoint does.

        SQLite's own checkpoints after a commit do not hold it, and until 3.51.3 one of them that meets a writer who begins the
        log anew can lose what is written then (https://www.sqlite.org/wal.html#walresetbug).
        """
        # all is committed: when it cannot be moved now (no space, a reader that was stopped), the next time does it
        with suppress(sqlite3.Error):
            self._connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MILLISECONDS}")
            self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        with suppress(sqlite3.Error):
            self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def _sync(self, durable: bool) -> None:
        if self._durable is not durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def open_store(path: Path, *, make: bool) -> StoreFile:
    """Open a store, and make it where that is wished and there is none.

    Raises NoSource (there is none), BadStore (it is something else, or newer), StoreElsewhere, NotPermitted, NoSpace, ReadFailed,
    StoreBusy.
    """
    if make:
        make_output_folder(path.parent)
        require_ours(path, make=True)
        _make_file(path)
        _refuse_others(path)
    elif not path.is_file():
        raise NoSource(str(path), "there is no store of a batch", "`p2v batch run` makes it.")
    else:
        require_ours(path, make=False)
    with _told(path):
        # of an URI it does not make the file; the answer of PRAGMA says whether locks and logs can be had
        uri = "file:" + quote(os.fsencode(path.absolute())) + "?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # see StoreFile._checkpoint
            version = _version(path, connection)
            if version == 0 and not make:
                raise NoSource(str(path), "the store of a batch that was never begun", "`p2v batch run` begins it.")
            mode = _retried(path, connection, "PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise BadStore(
                    path, "its file system cannot hold a write-ahead log", "Put the store on a local file system."
                )
            store = StoreFile(path, connection)
            if version < SCHEMA:
                _bring_up(store)
            return store
        except BaseException:
            connection.close()
            raise


def _make_file(path: Path) -> None:
    """An empty file is an empty database. One that exists is not touched: closing it would drop this process's locks on it."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise write_problem(error, path) from error


def _refuse_others(path: Path) -> None:
    """Raise BadStore for one that others may have written: it names programs that a run starts."""
    found = os.stat(path)
    if found.st_mode & stat.S_IWOTH or found.st_uid not in (0, os.geteuid()):
        who = "everybody may write it" if found.st_mode & stat.S_IWOTH else "it is another user's"
        raise BadStore(
            path, f"{who}, and it names programs that a run starts", "See that only you may write it (chmod, chown), or remove it."
        )


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The schema's number, 0 for an empty file. Raises BadStore for what is no store, or a newer one."""
    with _one_moment(connection):
        made_by = _retried(path, connection, "PRAGMA application_id").fetchone()[0]
        version: int = _retried(path, connection, "PRAGMA user_version").fetchone()[0]
        is_empty = not _retried(path, connection, "SELECT 1 FROM sqlite_master").fetchall()
    if made_by == 0 and version == 0 and is_empty:
        return 0
    if made_by != APPLICATION_ID:
        raise BadStore(path, "is a database of another program", "Name another file as the batch's store.")
    if not 1 <= version <= SCHEMA:
        problem = f"has schema {version}; this p2v knows {SCHEMA} at most"
        raise BadStore(path, problem, "It was made by a newer p2v: use that one for this batch.")
    return version


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read is of one moment: else another process might make the tables between two looks."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # nothing was written
        connection.execute("ROLLBACK")


def _bring_up(store: StoreFile) -> None:
    """Make the tables, or bring an older schema up to this one: the same steps."""
    with store.writing() as connection:
        # another process may have done it since
        version = _version(store.path, connection)
        for script in _SCRIPTS[version:]:
            for statement in script:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _retried(
    path: Path, connection: sqlite3.Connection, statement: str, parameters: Sequence[object] = ()
) -> sqlite3.Cursor:
    """Execute; again where the file is locked in one of the cases that SQLite's own waiting does not cover (recovery, a change
    of the mode). Raises StoreBusy."""
    began = time.monotonic()
    while True:
        try:
            return connection.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY:
                raise
            if time.monotonic() - began >= BUSY_SECONDS:
                raise StoreBusy(path, BUSY_SECONDS) from error
        time.sleep(_RETRY_SECONDS)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as ours; what is none of the host's or the file's is a bug, and stays what it is."""
    try:
        yield
    except sqlite3.Error as error:
        problem = _problem(path, error)
        if problem is None:
            raise
        raise problem from error


def _is_read_only(folder: Path) -> bool:
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return True
        # newer kernels do not say so of an ext4 that they take nothing for any more. Not the store itself: closing it would drop
        # this process's locks on it
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def _problem(path: Path, error: sqlite3.Error) -> P2vError | None:
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreBusy(path, BUSY_SECONDS)
        case sqlite3.SQLITE_FULL:
            return NoSpace(
                path.parent, 0, free_bytes(path.parent), "Free some space; the batch goes on where it ended."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN if _is_read_only(path.parent):
            words = "the store cannot be written: its file system is read-only; the kernel makes one so whose disk gives errors"
            return ReadFailed(str(path), words)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return NotPermitted(str(path), "write")
        case sqlite3.SQLITE_CANTOPEN if not os.access(path, os.R_OK | os.W_OK):
            return NotPermitted(str(path), "open")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return ReadFailed(str(path), f"the store cannot be read or written: {error}")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return BadStore(path, f"is no store of a batch, or is damaged: {error}")
        case sqlite3.SQLITE_ERROR if str(error).startswith("no such "):
            return BadStore(path, f"is damaged: {error}")
        case _:
            return None
