"""Processes that use a store at once, for tests that kill and stop them: ``python -m tests.batch.store_workers WHAT FOLDER ...``.

What they did is told on standard output when it is committed, a JSON line each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2v.batch.jobs import State
from p2v.batch.store import Lease, Store
from p2v.core.errors import LeaseLost, TargetBusy
from p2v.core.fence import fenced, raise_fence
from tests.batch.machines import FAILURE, batch

JOBS = tuple(f"vm{number}" for number in range(12))


def say(**told: Any) -> None:
    """One write, so that no line is torn where the process is killed."""
    os.write(1, (json.dumps(told) + "\n").encode())


def create(folder: Path, number: str) -> None:
    """Make the store and the batch, as others do at the same moment."""
    with Store.create(folder / "store") as store:
        store.put(batch(folder, *JOBS), now=1.0)
        store.note("created", {"by": number}, 1.0)


def claim_all(folder: Path, number: str) -> None:
    """Take whatever can be had at a time that all agree on, until nothing can; each lease has run out for the next round."""
    with Store.open(folder / "store") as store:
        for now in range(1000, 1010):
            for name in JOBS:
                lease = store.claim(name, number, 1.0, float(now))
                if lease is not None:
                    say(job=name, fence=lease.fence, now=now)


def work(folder: Path, number: str) -> None:
    """Change the store without an end: leases of no length, so that workers take jobs from each other all the time."""
    chance = random.Random(number)
    with Store.open(folder / "store") as store:
        leases: list[Lease] = []
        for turn in range(10**9):
            now = time.time()
            lease = store.claim(chance.choice(JOBS), number, chance.choice((0.0, 0.01, 0.1)), now)
            if lease is not None:
                say(kind="claimed", job=lease.name, fence=lease.fence)
                leases = [*leases[-3:], lease]
            for each in leases:
                with suppress(LeaseLost):
                    store.event(
                        each, "warning", {"by": number, "turn": turn, "text": "x" * chance.randrange(3000)}, now
                    )
                    say(kind="warning", job=each.name, fence=each.fence, turn=turn)
                with suppress(LeaseLost):
                    ended = _ended(store, each, chance, now)
                    if ended:
                        say(kind=ended, job=each.name, fence=each.fence)


def _ended(store: Store, lease: Lease, chance: random.Random, now: float) -> str:
    match chance.randrange(6):
        case 0:
            store.release(lease, now)
            return "released"
        case 1:
            store.again(lease, FAILURE, now, now)
            return "again"
        case 2:
            store.park(lease, FAILURE, now)
            store.retry(lease.name, now)
            return "parked"
        case _:
            return ""


def convert_all(folder: Path, number: str) -> None:
    """Make every job's result under the rules of leases and fences, as a batch's worker does, however often it is stopped."""
    chance = random.Random(number)
    results = folder / "results"
    with Store.open(folder / "store") as store:
        while any(not job.state.is_end for job in store.jobs()):
            lease = store.claim(chance.choice(JOBS), number, 0.05, time.time())
            if lease is not None:
                with suppress(LeaseLost, TargetBusy):
                    _convert(store, results, lease, chance)
        say(kind="all", job="", fence=0)


def _convert(store: Store, results: Path, lease: Lease, chance: random.Random) -> None:
    raise_fence(results, lease.name, lease.fence)
    final, partial = results / lease.name, results / f"{lease.name}.{lease.fence}.{os.getpid()}.partial"
    if not final.exists():  # else a lease before this one had come to its end, and not to the store
        partial.write_text(str(lease.fence))
        time.sleep(chance.random() * 0.1)
        try:
            with fenced(results, lease.name, lease.fence):
                os.replace(partial, final)  # nothing but the fence keeps it from replacing another's
                with (results / f"{lease.name}.log").open("a") as log:
                    log.write(f"{lease.fence}\n")
        finally:
            partial.unlink(missing_ok=True)
    store.finish(lease, time.time(), record=final, seconds={}, verified=None)
    say(kind="done", job=lease.name, fence=lease.fence)


def hold(folder: Path, number: str) -> None:
    """Stop in the middle of a transaction."""
    with Store.open(folder / "store") as store, store._file.writing() as connection:
        connection.execute("UPDATE jobs SET attempts = attempts + 7")
        say(number=number)
        os.kill(os.getpid(), signal.SIGSTOP)


def die_everywhere(folder: Path, number: str) -> None:
    """Children that are killed before the first, the second, ... statement of a whole life of a batch, each with its own store."""
    for place in range(10_000):
        child = os.fork()
        if child == 0:
            _live_until(folder / f"store{place}", place)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            say(places=place)
            return
        assert os.WIFSIGNALED(status), status
    raise AssertionError("it has no end")


def _live_until(path: Path, place: int) -> None:
    counted = 0

    def count(statement: str) -> None:
        nonlocal counted
        if counted == place:
            os.kill(os.getpid(), signal.SIGKILL)
        counted += 1

    real = sqlite3.connect

    def connect(*words: Any, **more: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = real(*words, **more)
        made.set_trace_callback(count)
        return made

    sqlite3.connect = connect  # type: ignore[assignment]  # in this child alone
    with Store.create(path) as store:
        store.put(batch(path.parent, "a", "b"), now=1.0)
        lease = store.claim("a", "w", 5.0, 10.0)
        assert lease is not None
        store.event(lease, "phase-started", {"phase": "copy", "total_bytes": 9}, 11.0)
        store.renew(lease, 50.0, 12.0)
        store.again(lease, FAILURE, 20.0, 13.0)
        lease = store.claim("a", "w", 5.0, 21.0)
        assert lease is not None
        store.event(lease, "bytes-done", {"phase": "copy", "count": 9}, 22.0)
        store.cancel("b", 23.0)
        store.finish(lease, 24.0, record=Path("/out/a.json"), seconds={"copy": 1.0}, verified=True)
        store.put(batch(path.parent, "a", "c"), now=25.0)
        assert [job.state for job in store.jobs()] == [State.DONE, State.WAITING]


WAYS: tuple[Callable[[Path, str], None], ...] = (create, claim_all, work, convert_all, hold, die_everywhere)

if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    (way,) = [each for each in WAYS if each.__name__ == what]
    way(Path(place), rest[0] if rest else "")
