"""Who lives: a run holds a lock as long as it does, and the next run of its host takes over at once from one that has died.

A lock tells of a death what nothing else does. It is gone only when every process that had the file open is, so that a process that
was being started, and has no mark yet, still holds it; a run that is stopped, or whose host is suspended, keeps it; numbers of
processes come again, and mean nothing in a container. Where there are no locks, on another host, and for a run whose conversions
are on other hosts, the lease's time tells, as ever.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2v.batch.jobs import Job
from p2v.batch.marking import MarkedProcess, marked_processes, own_name, send
from p2v.batch.store import Lease, Store
from p2v.batch.store_runs import Run
from p2v.core.errors import P2vError, TargetBusy
from p2v.core.marks import this_host
from p2v.core.text import listed, printable
from p2v.core.workspace import LockState, lock_state, remove_files, take_lock

_UNKILLABLE_SECONDS = 10.0
_NAMED = 5
_TRIES = 10


def lock_prefix(store: Path) -> str:
    """What the names of the locks of a store's runs begin with."""
    return f".{store.name}.run-"


@contextmanager
def registered(store: Store, *, is_local: bool) -> Iterator[Run]:
    """A run of this process, noted in the store while the context lasts, and known to live.

    ``is_local``: all that it starts is on this host. One that ends by an error stays noted: the next one finds it dead, and takes
    its leases over. Raises what writing the store raises.
    """
    # held before it is noted: whoever reads of this run finds it alive
    path, descriptor, held = _own_lock(store.path)
    try:
        run = store.runs.begin(own_name(), path.name if held else "", is_local=is_local)
        yield run
        # where that cannot be noted now, the next run finds one that has ended
        with suppress(P2vError, OSError):
            store.runs.end(run)
            path.unlink()
    finally:
        os.close(descriptor)


def _own_lock(store: Path) -> tuple[Path, int, bool]:
    for _ in range(_TRIES):
        path = store.with_name(f"{lock_prefix(store)}{secrets.token_hex(8)}")
        # who cleans up may look at it just now
        with suppress(TargetBusy):
            descriptor, held = take_lock(path, store)
            if not held:
                path.unlink()
            return path, descriptor, held
    raise TargetBusy(store)


def is_dead(store: Path, run: Run) -> bool:
    """Whether a run of this host has died, for sure: with all that it started, once that has got its signal."""
    # a lock that is not there any more leaves it to the lease
    return run.is_local and _lock_of(store, run) is LockState.FREE


def is_run(store: Store) -> bool:
    """Whether a run of this host is on, for sure."""
    return any(_lock_of(store.path, run) is LockState.HELD for run in store.runs.all())


def _lock_of(store: Path, run: Run) -> LockState:
    """What its lock tells of a run; of one of another host, or that could have none, nothing is known."""
    # of a store, a name: it says nothing of another folder
    name = Path(run.lock).name
    is_known = run.host == this_host() and name.startswith(lock_prefix(store))
    return lock_state(store.with_name(name)) if is_known else LockState.UNKNOWN


def dead_leases(store: Store) -> dict[str, Run]:
    """Jobs under the leases of runs of this host that have died, and whose processes have all ended."""
    found = {}
    for run in (each for each in store.runs.all() if is_dead(store.path, each)):
        living = {each.job for each in _started_by(store.path, run)}
        found.update({name: run for name in store.runs.leased(run) if name not in living})
    return found


def free_locks(store: Store) -> Iterator[Path]:
    """Locks that runs of this host left which have died, when nothing that they started lives."""
    dead, runs = dead_leases(store), {run.lock: run for run in store.runs.all()}
    for entry in sorted(store.path.parent.glob("." + _literal(store.path.name) + ".run-*")):
        run = runs.get(entry.name)
        if lock_state(entry) is not LockState.FREE:
            continue
        if run is None or (is_dead(store.path, run) and set(store.runs.leased(run)) <= dead.keys()):
            yield entry
        elif not run.is_local and run.host == this_host() and not store.runs.leased(run):
            # of a cluster: its leases, which alone could need it, have run out or were given back
            yield entry


def remove_lock(store: Store, lock: Path) -> str:
    """Remove one of them, and forget its run; in words why not."""
    run = next((each for each in store.runs.all() if each.lock == lock.name), None)
    if lock_state(lock) is not LockState.FREE:
        return "" if not lock.exists() else "its run lives"
    if run is not None and store.runs.leased(run):
        return "it tells that a lease is of a dead run"
    if run is not None:
        store.runs.end(run)
    remove_files([lock])
    return ""


@dataclass
class WithoutTheDead:
    """A store in which leases of this host's dead runs have run out, for who looks at what was left. Looking changes nothing."""

    store: Store
    _dead: dict[str, Run] = field(default_factory=dict)

    def jobs(self) -> tuple[Job, ...]:
        """See ``Store.jobs``."""
        self._dead = dead_leases(self.store)
        return tuple(self._seen(job) for job in self.store.jobs())

    def job(self, name: str) -> Job:
        """See ``Store.job``."""
        return self._seen(self.store.job(name))

    def claim(self, name: str, worker: str, seconds: float, now: float) -> Lease | None:
        """See ``Store.claim``."""
        if name in self._dead:
            self.store.runs.let_go(self._dead[name], [name], now)
        return self.store.claim(name, worker, seconds, now)

    def release(self, lease: Lease, now: float) -> Job:
        """See ``Store.release``."""
        return self.store.release(lease, now)

    def bundles(self) -> frozenset[str]:
        """See ``Store.bundles``."""
        return self.store.bundles()

    def _seen(self, job: Job) -> Job:
        name = job.machine.name
        run = self._dead.get(name)
        # another run may have taken it since
        return replace(job, lease_until=0.0) if run is not None and name in self.store.runs.leased(run) else job


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _started_by(store: Path, run: Run) -> Sequence[MarkedProcess]:
    # numbers and times begin anew with each boot: what has our name is ours
    if run.process == own_name():
        return []
    return [each for each in marked_processes(store) if each.runner == run.process]


@dataclass
class TakeOver:
    """Lets the leases of dead runs go, as soon as nothing works for them any more. ``own``: the run that this is.

    What they started was told to end with them. ``grace``: seconds until it is killed; what cannot even be killed (it waits for a
    disk) holds nothing up for longer, for its lock and its fence keep the next attempt from harm. Nothing here waits.
    """

    store: Store
    own: Run
    grace: float
    _since: dict[int, float] = field(default_factory=dict)
    _beside: set[int] = field(default_factory=set)

    def look(self) -> tuple[str, ...]:
        """Do what can be done now; what there is to tell. Raises what the store raises."""
        told: list[str] = []
        for run in self.store.runs.all():
            if run.number == self.own.number:
                continue
            is_untold = run.number < self.own.number and run.number not in self._beside
            if is_dead(self.store.path, run):
                told += self._from(run)
            elif is_untold and _lock_of(self.store.path, run) is LockState.HELD:
                # whoever began twice, by hand and by a timer, is to know
                self._beside.add(run.number)
                told.append(f"another run of this batch goes on ({_said(run)}): both take machines of it, until all have ended")
        return tuple(told)

    def _from(self, run: Run) -> Iterator[str]:
        path, now = self.store.path, time.monotonic()
        is_new = run.number not in self._since
        waited = now - self._since.setdefault(run.number, now)
        living, leased = _started_by(path, run), self.store.runs.leased(run)
        if waited > self.grace:
            for each in living:
                send(each, signal.SIGKILL)
        held = {each.job for each in living} if waited <= self.grace + _UNKILLABLE_SECONDS else set()
        gone = self.store.runs.let_go(run, [name for name in leased if name not in held], time.time())
        still = [name for name in leased if name in held]
        if gone:
            yield f"a run of this host was killed ({_said(run)}): going on with what it had under way: {_names(gone)}"
        if still and is_new:
            yield f"a run of this host was killed ({_said(run)}): waiting for the end of what it had started for {_names(still)}"
        if not still:
            self.store.runs.end(run)
            with suppress(OSError):
                path.with_name(run.lock).unlink()


def _said(run: Run) -> str:
    return f"process {printable(run.process.partition(':')[0], keep='')}"


def _names(names: Sequence[str]) -> str:
    return listed((printable(name, keep="") for name in names), _NAMED)
