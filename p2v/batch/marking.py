"""Marks by which a batch knows its own: in the environment of every process, on every temporary folder.

What a crash leaves is found again by them, and nothing else is taken for it. A process inherits its environment, so whatever
a child starts is marked as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.marks import BATCH_VARIABLE, batch_mark
from p2v.core.workspace import ELSEWHERE, SOCKETS_VARIABLE, LockState, lock_state_of

STORE_VARIABLE = BATCH_VARIABLE
JOB_VARIABLE = "P2V_BATCH_JOB"
RUNNER_VARIABLE = "P2V_BATCH_RUNNER"
# a UNIX socket's whole path must fit in 107 bytes
_SHORT = Path("/tmp")


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A process of a batch. ``started``: clock ticks since the host's boot; with ``pid`` it names one process only.

    ``runner``: the process that answers for it, by its ``pid:started``.
    """

    pid: int
    started: int
    job: str
    runner: str
    command: tuple[str, ...]

    @property
    def has_runner(self) -> bool:
        """Whether the one that answers for it lives."""
        pid, _, started = self.runner.partition(":")
        return pid.isdigit() and str(started_at(int(pid))) == started


def marks(store: Path, job: str, scratch: Path, sockets: Path) -> Mapping[str, str]:
    """What a job's child gets in its environment beside ours."""
    return {
        STORE_VARIABLE: str(store.resolve()),
        JOB_VARIABLE: job,
        RUNNER_VARIABLE: own_name(),
        "TMPDIR": str(scratch),
        SOCKETS_VARIABLE: str(sockets),
    }


def own_name() -> str:
    """This process, as ``pid:started``."""
    return f"{os.getpid()}:{started_at(os.getpid())}"


@contextmanager
def marked_environment(store: Path, job: str) -> Iterator[Mapping[str, str]]:
    """What a job's child gets in its environment beside ours, with temporary folders that go away when the context ends.

    However the child ended: what it left there goes too.
    """
    usual = Path(tempfile.gettempdir()).resolve()
    with _folder(store, usual) as scratch:
        if usual == _SHORT or not _SHORT.is_dir():
            yield marks(store, job, scratch, scratch)
            return
        with _folder(store, _SHORT) as sockets:
            yield marks(store, job, scratch, sockets)


def folder_places() -> tuple[Path, ...]:
    """Where such folders are made."""
    return tuple(dict.fromkeys([Path(tempfile.gettempdir()).resolve(), _SHORT]))


def folder_prefix(store: Path) -> str:
    """What the names of a batch's temporary folders begin with: the store's, and nobody else's."""
    return f"p2v-batch-{batch_mark(store)}-"


@contextmanager
def _folder(store: Path, parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=folder_prefix(store), dir=parent))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # who cannot take this lock knows that the folder is in use
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # a confined child may have given its user up
        folder.chmod(0o711)
        yield folder
    finally:
        for each in noted_folders(folder):
            shutil.rmtree(each, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def noted_folders(folder: Path) -> Iterator[Path]:
    """Temporary folders that libraries made elsewhere, as noted in one of the batch's, and that are there still."""
    try:
        notes = (folder / ELSEWHERE).read_bytes().splitlines()
    except OSError:
        return
    for note in notes:
        device, inode, path = (*note.split(b" ", 2), b"", b"")[:3]
        with contextlib.suppress(OSError):
            facts = os.lstat(path)
            # another one may have the name by now
            is_it = [device, inode] == [b"%d" % facts.st_dev, b"%d" % facts.st_ino]
            if is_it and stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid():
                yield Path(os.fsdecode(path))


def is_in_use(folder: Path) -> bool:
    """Whether a process that lives has made such a folder; what cannot be told counts as in use."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        is_ours = os.fstat(descriptor).st_uid == os.geteuid()
        return not is_ours or lock_state_of(descriptor) is not LockState.FREE
    finally:
        os.close(descriptor)


def left_folders(store: Path) -> Iterator[Path]:
    """Temporary folders of the batch that no living process answers for."""
    prefix = folder_prefix(store)
    for place in folder_places():
        with contextlib.suppress(OSError):
            for entry in sorted(place.iterdir()):
                if entry.name.startswith(prefix) and stat.S_ISDIR(entry.lstat().st_mode) and not is_in_use(entry):
                    yield entry


def marked_processes(store: Path) -> Iterator[MarkedProcess]:
    """Every process of the batch that we may look at, on this host."""
    wanted = str(store.resolve())
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        found = _environment(entry)
        if found.get(STORE_VARIABLE) != wanted:
            continue
        with contextlib.suppress(OSError):
            command = tuple(os.fsdecode(each) for each in (entry / "cmdline").read_bytes().split(b"\0") if each)
            started = started_at(int(entry.name))
            # an ended one that its parent has not looked at has neither
            if command and started:
                yield MarkedProcess(
                    int(entry.name), started, found.get(JOB_VARIABLE, ""), found.get(RUNNER_VARIABLE, ""), command
                )


@contextmanager
def handle_of(process: MarkedProcess) -> Iterator[int | None]:
    """A descriptor of a process, which never comes to be another's as its number may; None when it has ended. Raises OSError."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # the number may have gone to another process meanwhile; from here on it cannot
        yield handle if started_at(process.pid) == process.started else None
    finally:
        os.close(handle)


def send(process: MarkedProcess, number: int) -> None:
    """Send a signal to a process, and to no other one; what has ended, or is not ours to end, stays as it is."""
    with contextlib.suppress(OSError), handle_of(process) as handle:
        if handle is not None:
            signal.pidfd_send_signal(handle, number)


def _environment(process: Path) -> Mapping[str, str]:
    try:
        pairs = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    parts = (pair.partition(b"=") for pair in pairs if pair.startswith(b"P2V_BATCH"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in parts}


def started_at(pid: int) -> int:
    """When a process started, in clock ticks since the host's boot; 0 where there is none (also one that ended unlooked at)."""
    try:
        # the program's name, in brackets, may hold anything
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
