"""What a crash of a batch left, and removing it: exactly that, and never what is somebody else's or still in use.

Processes and temporary folders are known by their marks (``p2v.batch.marking``), files by their names in the folders of the
store's machines, and whether a run lives by the locks that it holds, which no crash can leave behind.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import select
import signal
import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from p2v.audit.side_by_side import Bounds, side_by_side
from p2v.batch.failure_bundle import bundle_folder, bundles_folder
from p2v.batch.job_files import FileKind, JobFile, job_files, lock_path
from p2v.batch.jobs import Job, State
from p2v.batch.marking import (
    MarkedProcess,
    handle_of,
    is_in_use,
    left_folders,
    marked_processes,
    noted_folders,
    started_at,
)
from p2v.batch.store import Lease
from p2v.core.errors import P2vError, TargetBusy
from p2v.core.fence import LOCK_SECONDS, fence_path, raise_fence, remove_fence
from p2v.core.io_errors import write_problem
from p2v.core.workspace import LockState, lock_state, remove_files, take_lock

_WORKER = "p2v batch clean"
_GRACE_SECONDS = 10.0
_KILLED_SECONDS = 10.0
_ANSWER_SECONDS, _AT_ONCE = 20.0, 4
NO_ANSWER = "its storage does not answer"
_NUMBERED = re.compile(r"(.+-)([1-9][0-9]{0,18})", re.DOTALL)


class LeftKind(enum.Enum):
    """What was left."""

    PROCESS = "process"
    LEASE = "lease"
    FILE = "file"
    FOLDER = "temporary folder"
    BUNDLE = "failure bundle"
    """Begun by a run that died before it could note what it was for: no event leads to it."""
    SILENT = "folder that does not answer"
    """Nobody knows what was left in it."""
    SNAPSHOT = "LVM snapshot"
    RUN = "lock of a run"


@dataclass(frozen=True, slots=True)
class Left:
    """A thing that a crash left. ``machine``: empty where it is no single one's.

    ``kept``: in words, why it is not removed unless everything is to go; empty: nobody needs it. ``host``: on whose own disk it
    lies, where that is another one than this.
    """

    kind: LeftKind
    machine: str
    said: str
    path: Path | None = None
    process: MarkedProcess | None = None
    allocated: int = 0
    kept: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a thing. ``refused``: in words, why it is still there; empty: it is gone."""

    left: Left
    refused: str = ""


Elsewhere = Callable[[Left, Job, float], str]
"""Removes a file at its host, as ``remove_file`` does here, by the job as it stands now, and the time."""


class Jobs(Protocol):
    """What is asked of a store here."""

    def jobs(self) -> tuple[Job, ...]:
        """All of them."""
        ...

    def job(self, name: str) -> Job:
        """One of them."""
        ...

    def claim(self, name: str, worker: str, seconds: float, now: float) -> Lease | None:
        """Take a job that waits, or whose lease has run out."""
        ...

    def release(self, lease: Lease, now: float) -> Job:
        """Give it back as it was, waiting."""
        ...

    def bundles(self) -> frozenset[str]:
        """Names of the folders of all failure bundles that its events tell of."""
        ...


def left_behind(path: Path, store: Jobs, now: float) -> tuple[Left, ...]:
    """Everything that crashes left of the batch whose store is at ``path``, on this host. Nothing is changed.

    Files of a machine of which a process lives are not among it: end that, and look again.

    Raises what reading a folder of results raises, as NotPermitted or ReadFailed.
    """
    jobs = store.jobs()
    processes = list(marked_processes(path))
    return (
        *(_left_process(each) for each in processes if not each.has_runner),
        *(_left_lease(job) for job in jobs if _is_expired(job, now)),
        *_left_files(jobs, {each.job for each in processes}, now),
        *_left_folders(path),
        *_left_bundles(path, jobs, store.bundles(), now),
    )


def _left_folders(path: Path) -> Iterator[Left]:
    for folder in left_folders(path):
        # noted in it: it goes last
        for each in (*noted_folders(folder), folder):
            yield Left(LeftKind.FOLDER, "", str(each), each)


def _left_bundles(path: Path, jobs: Sequence[Job], named: Collection[str], now: float) -> Iterator[Left]:
    """Nobody looks for those of attempts that came to no end: the next one begins its own."""
    known = {bundle_folder(path, replace(job, fence=0)).name[:-1]: job for job in jobs}
    with contextlib.suppress(FileNotFoundError), os.scandir(bundles_folder(path)) as entries:
        for name in sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)):
            found = _NUMBERED.fullmatch(name)
            job = known.get(found[1]) if found is not None else None
            if found is None or job is None or not 0 < int(found[2]) <= job.fence:
                continue
            bundle = bundles_folder(path) / name
            if name not in named and not (int(found[2]) == job.fence and is_running(job, now)):
                yield Left(LeftKind.BUNDLE, job.machine.name, str(bundle), bundle)


def remove(
    store: Jobs, left: Sequence[Left], now: float, *, everything: bool = False, elsewhere: Elsewhere | None = None
) -> Iterator[Removed]:
    """Remove what was found, one after the other; ``everything``: also what is kept for the next run.

    Each is looked at once more: what has come to be in use meanwhile stays. Processes go first, then leases: they hold the rest.
    """
    order = {kind: number for number, kind in enumerate(LeftKind)}
    for each in sorted(left, key=lambda one: order[one.kind]):
        if each.kept and not everything:
            continue
        yield Removed(each, _remove_one(each, store, now, elsewhere))


def _remove_one(left: Left, store: Jobs, now: float, elsewhere: Elsewhere | None) -> str:
    try:
        if left.process is not None:
            return end_process(left.process)
        if left.kind is LeftKind.LEASE:
            return _expire(left.machine, store, now)
        assert left.path is not None
        if left.kind is LeftKind.BUNDLE:
            # an attempt that began meanwhile has another number
            if left.path.name not in store.bundles():
                remove_files([left.path])
            return ""
        if left.kind is LeftKind.FOLDER:
            if left.path.exists() and is_in_use(left.path):
                return "it is in use"
            remove_files([left.path])
            return ""
        if left.kind is LeftKind.SILENT:
            return NO_ANSWER
        path, job = left.path, store.job(left.machine)
        if left.host:
            return elsewhere(left, job, now) if elsewhere is not None else "it is another host's"
        return _apart(lambda: remove_file(path, path.parent, job, now))
    except P2vError as error:
        return error.sentence()


def _apart(work: Callable[[], str]) -> str:
    """Do something in a folder from a process of its own; in words why it was not done."""

    def said(_: int) -> str:
        try:
            return work()
        except P2vError as error:
            return error.sentence()

    # who else has the fence's lock is waited for
    (answered,) = side_by_side(said, 1, 1, Bounds(LOCK_SECONDS + _ANSWER_SECONDS))
    if answered.timed_out:
        return NO_ANSWER
    return answered.data if isinstance(answered.data, str) else answered.failure or "it ended without an answer"


def remove_file(path: Path, folder: Path, job: Job, now: float) -> str:
    """Remove a file of a machine's, unless a conversion of it is on; in words why it is still there, empty: it is gone.

    Raises NotPermitted, ReadFailed, NoSpace.
    """
    if is_running(job, now):
        return "its machine is being converted"
    lock = lock_path(folder, job.machine.name)
    try:
        descriptor, _ = take_lock(lock, folder / job.machine.name)
    except TargetBusy:
        return "its machine is being converted"
    try:
        if path == fence_path(folder, job.machine.name):
            return "" if remove_fence(folder, job.machine.name, job.fence) else "another batch has its number there"
        remove_files([path])
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)
    return ""


def not_yet(jobs: Iterable[Job], now: float) -> tuple[Job, ...]:
    """Jobs of runs of this host that have died, and whose leases have not run out yet: what they left is seen then."""
    return tuple(job for job in jobs if is_running(job, now) and _has_died(job.worker))


def _has_died(worker: str) -> bool:
    """Whether a worker, as ``HOST:PID``, was of this host and is no more; False where that cannot be told."""
    host, _, pid = worker.rpartition(":")
    return host == socket.gethostname() and pid.isascii() and pid.isdigit() and started_at(int(pid)) == 0


# --- leases and processes -------------------------------------------------------------------------------------------


def is_running(job: Job, now: float) -> bool:
    """Whether somebody has a lease of it that lives."""
    return job.state is State.RUNNING and job.lease_until > now


def _is_expired(job: Job, now: float) -> bool:
    return job.state is State.RUNNING and job.lease_until <= now


def _expire(name: str, store: Jobs, now: float) -> str:
    """Take a lease back: by taking the job, which its holder loses by that, and giving it back."""
    lease = store.claim(name, _WORKER, _GRACE_SECONDS, now)
    if lease is None:
        # one that was to be cancelled is, by the claim
        still = _is_expired(store.job(name), now)
        return "the batch is paused, and gives no leases: `p2v batch resume` first" if still else ""
    try:
        # whoever held it and still lives somewhere gives no names any more
        return _apart(lambda: _raised(lease.job.machine.folder, name, lease.fence))
    finally:
        store.release(lease, now)


def _raised(folder: Path, name: str, fence: int) -> str:
    if os.path.lexists(folder):  # nobody has made anything where there is none
        raise_fence(folder, name, fence)
    return ""


def _left_lease(job: Job) -> Left:
    return Left(
        LeftKind.LEASE, job.machine.name, f"number {job.fence} of {job.worker or 'a worker'}, which has run out"
    )


def _left_process(process: MarkedProcess) -> Left:
    command = " ".join(process.command)
    return Left(LeftKind.PROCESS, process.job, f"{process.pid}: {command}", process=process)


def end_process(process: MarkedProcess) -> str:
    """End a process, politely, then not; in words why it is still there, empty: it is gone."""
    try:
        with handle_of(process) as handle:
            if handle is None:
                return ""
            for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILLED_SECONDS)):
                # one that was stopped takes no signal but SIGKILL
                for each in (number, signal.SIGCONT):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, each)
                if _has_ended(handle, seconds):
                    return ""
    except PermissionError:
        return "this user may not end it"
    except OSError as error:
        return error.strerror or str(error)
    return "it does not end: it waits for a disk that gives no answer"


def _has_ended(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# --- files ----------------------------------------------------------------------------------------------------------


def _left_files(jobs: Sequence[Job], in_use: set[str], now: float) -> Iterator[Left]:
    """Folders are looked at from processes of their own: a mount may not answer, which is told as something that is left."""
    by_folder: dict[Path, dict[str, Job]] = defaultdict(dict)
    for job in jobs:
        by_folder[job.machine.folder][job.machine.name] = job
    folders = list(by_folder)
    looked = side_by_side(lambda n: listed(folders[n], by_folder[folders[n]]), len(folders), _AT_ONCE, Bounds(_ANSWER_SECONDS))
    for answered in sorted(looked, key=lambda each: each.number):
        folder = folders[answered.number]
        yield from judged(folder, by_folder[folder], answered.data, in_use, now)


def judged(
    folder: Path, machines: Mapping[str, Job], found: object, in_use: Collection[str], now: float
) -> Iterator[Left]:
    """What was left in a folder, of these machines. ``found``: what ``listed`` gave, of whichever host; anything else: no answer.

    Raises NotPermitted, ReadFailed where it cannot be read.
    """
    match found:
        case {"errno": int(number)}:
            raise write_problem(OSError(number, os.strerror(number)), folder)
        case {"files": list(files), "locked": list(locked)}:
            there = [JobFile(folder / name, FileKind(kind), machine, size) for name, kind, machine, size in files]
        case _:
            yield Left(LeftKind.SILENT, "", str(folder), folder)
            return
    for machine in dict.fromkeys(each.machine for each in there if each.machine in machines):
        if machine not in in_use and machine not in locked and not is_running(machines[machine], now):
            yield from _of_machine(machines[machine], [each for each in there if each.machine == machine])


def listed(folder: Path, machines: Collection[str]) -> dict[str, Any]:
    """The files of a folder that are of interest, as values, and the machines whose locks are held; or the error's number.

    ``machines``: all whose results go there, for one's name may be the beginning of another's.
    """
    try:
        found = list(job_files(folder, machines))
    except (FileNotFoundError, NotADirectoryError):
        found = []  # nothing was ever made there
    except OSError as error:
        return {"errno": error.errno or errno.EIO}
    named = dict.fromkeys(each.machine for each in found)
    return {
        "files": [(each.path.name, each.kind.value, each.machine, each.allocated) for each in found],
        # where a file system has no locks nobody holds one, and the leases alone tell
        "locked": [machine for machine in named if lock_state(lock_path(folder, machine)) is LockState.HELD],
    }


def _of_machine(job: Job, files: Sequence[JobFile]) -> Iterator[Left]:
    is_complete = any(each.kind is FileKind.RECORD for each in files)
    for each in files:
        if each.kind is FileKind.FENCE and not job.state.is_end:
            continue  # it holds off whoever lost the lease and still lives somewhere
        kept = _why_kept(job, each, is_complete=is_complete)
        yield Left(
            LeftKind.FILE, job.machine.name, f"{each.kind.value} {each.path}", each.path, None, each.allocated, kept
        )


def _why_kept(job: Job, file: JobFile, *, is_complete: bool) -> str:
    """What the next run needs of what a run left. Of a machine that has ended nothing is, but results that lack only names."""
    if file.kind in (FileKind.LOCK, FileKind.WORK, FileKind.FENCE, FileKind.TRIAL):
        return ""
    if file.kind is FileKind.UNDELIVERED:
        return "" if job.state in (State.DONE, State.CANCELLED) else "the next run tells libvirt of the machine"
    if is_complete and job.state is not State.DONE:
        return "complete but for its names, which the next run gives"
    if file.kind in (FileKind.COPY, FileKind.JOURNAL) and not job.state.is_end:
        return "the next run goes on with it"
    return ""
