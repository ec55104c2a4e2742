"""What a crash of a batch left beside processes, leases, files and folders: snapshots of live volumes, locks of runs; and who else
worked for it, on whose hosts something may have been left, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.cleaning import Left, LeftKind, Removed, left_behind, remove
from p2v.batch.jobs import Job
from p2v.batch.store import Lease, Store
from p2v.batch.taking_over import free_locks, remove_lock
from p2v.core.errors import NoSuchJob, P2vError
from p2v.core.marks import this_host
from p2v.core.run import Runner, SystemRunner, find_program
from p2v.lvm_snapshots import left_snapshots, remove_snapshot

FURTHER = (LeftKind.SNAPSHOT, LeftKind.RUN)
_LIVE = "--live"


def further_left(store: Store, runner: Runner | None = None) -> Iterator[Left]:
    """Locks that dead runs left, and snapshots of which a dead conversion of this batch was taking a copy. Nothing is changed.

    LVM is asked only where a machine was to be copied live. One that gives no answer has none to show.
    """
    for lock in free_locks(store):
        yield Left(LeftKind.RUN, "", str(lock), lock)
    if any(_LIVE in job.machine.options for job in store.jobs()) and (runner or find_program("lvs")):
        for name in _snapshots(store.path, runner or SystemRunner()):
            yield Left(LeftKind.SNAPSHOT, "", name)


def remove_further(store: Store, left: Iterable[Left], runner: Runner | None = None) -> Iterator[Removed]:
    """Remove them; each is looked at once more."""
    for each in left:
        yield Removed(each, _remove(store, each, runner or SystemRunner()))


def left_here(store: Path, runner: Runner | None = None) -> Iterator[Left]:
    """What a batch of another host left on this one, by its store's path there: all that is known by marks. Nothing is changed."""
    yield from left_behind(store, _NoJobs(), 0.0)
    if runner or find_program("lvs"):
        for name in _snapshots(store, runner or SystemRunner()):
            yield Left(LeftKind.SNAPSHOT, "", name)


def remove_here(store: Path, left: Iterable[Left], runner: Runner | None = None) -> Iterator[Removed]:
    """Remove that."""
    left = list(left)
    yield from remove(_NoJobs(), [each for each in left if each.kind is not LeftKind.SNAPSHOT], 0.0)
    for each in left:
        if each.kind is LeftKind.SNAPSHOT:
            yield Removed(each, _remove_snapshot(store, each.said, runner or SystemRunner()))


@dataclass(frozen=True, slots=True)
class _NoJobs:
    """For a host that has no store."""

    def jobs(self) -> tuple[Job, ...]:
        return ()

    def job(self, name: str) -> Job:
        raise NoSuchJob(name, Path())

    def claim(self, name: str, worker: str, seconds: float, now: float) -> Lease | None:
        return None

    def release(self, lease: Lease, now: float) -> Job:
        return lease.job

    def bundles(self) -> frozenset[str]:
        return frozenset()


def other_hosts(jobs: Iterable[Job]) -> tuple[str, ...]:
    """Names of the other hosts that worked on a batch: its runs', as far as jobs name them, and its workers'."""
    runners = {job.worker.rpartition(":")[0] for job in jobs}
    found = {job.host for job in jobs} | {job.machine.host for job in jobs if job.fence} | runners
    return tuple(sorted(name for name in found if _is_another(name)))


def own_disks(store: Store, jobs: Iterable[Job]) -> Mapping[str, tuple[Job, ...]]:
    """Machines whose files may lie on a disk that another host alone has, by the names of such hosts.

    Results of a machine that is pinned to a host may lie there alone; of others this host sees them. Hosts are those that began an
    attempt, as far as was heard, and the one that it is pinned to, of which nothing may have been heard.
    """
    found: dict[str, list[Job]] = {}
    pinned = [job for job in jobs if job.machine.host and job.fence]
    told = store.worker_hosts() if pinned else {}
    for job in pinned:
        for host in told.get(job.machine.name, frozenset()) | {job.machine.host}:
            found.setdefault(host, []).append(job)
    return {host: tuple(found[host]) for host in sorted(found) if _is_another(host)}


def _is_another(host: str) -> bool:
    """Whether a host's name means another than this one."""
    return bool(host) and host.partition(".")[0] != this_host().name.partition(".")[0]


def _remove(store: Store, left: Left, runner: Runner) -> str:
    try:
        if left.kind is LeftKind.RUN:
            assert left.path is not None
            return remove_lock(store, left.path)
    except P2vError as error:
        return error.sentence()
    return _remove_snapshot(store.path, left.said, runner)


def _remove_snapshot(store: Path, name: str, runner: Runner) -> str:
    try:
        if name in left_snapshots(runner, batch=store):
            remove_snapshot(name, runner)
    except P2vError as error:
        return error.sentence()
    return ""


def _snapshots(store: Path, runner: Runner) -> tuple[str, ...]:
    try:
        return left_snapshots(runner, batch=store)
    except P2vError:
        return ()
