"""Made-up nights for a store: machines with attempts, phases that overlap, and every end that there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from p2v.batch.jobs import Batch, Budget, Failure, MachineJob
from p2v.batch.store import Lease, Store

START = 1_795_000_000.0
FINISHED = ("done", "verified", "dark")
_LOST = Failure("read-failed", 74, "it cannot be read", "Look at its disk.", True)


@dataclass(frozen=True)
class Tried:
    """An attempt, in quarters of a second: ``after`` what was before it, what its phases take, when it is cut off (``cut``)."""

    after: int
    inspect: int
    copy: int
    rewrite: int
    boot: int
    pieces: tuple[int, ...]
    cut: int
    end: str


def _tried(end: st.SearchStrategy[str]) -> st.SearchStrategy[Tried]:
    some = st.integers(1, 400)
    # many are alike, so that those that are a little slower than others are among them
    pieces = st.sampled_from(((), (1 << 34,), (1 << 33, 1 << 33), (0, 1, 1 << 34, 77)))
    copy = st.sampled_from((1000, 1000, 1200, 1300, 1600, 4000)) | st.integers(1, 4000)
    return st.builds(Tried, some, some, copy, some, st.integers(0, 2000), pieces, st.integers(0, 3000), end)


LAST = st.sampled_from((*FINISHED, *FINISHED, "parked", "running", "again"))
EARLIER = st.lists(_tried(st.sampled_from(("again", "released"))), max_size=2)
MACHINES = st.lists(st.tuples(EARLIER, st.none() | _tried(LAST)), min_size=1, max_size=9)
"""Of each machine the attempts before the last, and the last; None: it has not begun."""

Act = tuple[float, Callable[[], object]]


@dataclass
class Made:
    """A night in a store. ``now``: when it is looked at."""

    batch: Batch
    now: float = START


def made(folder: Path, store: Store, machines: Sequence[tuple[list[Tried], Tried | None]]) -> Made:
    """Have all happen, in the order of its times."""
    jobs = tuple(MachineJob(f"m{n}", (folder / f"m{n}.raw",), folder / "out", line=n + 3) for n in range(len(machines)))
    night = Made(Batch(jobs, Budget(copies=2, appliances=1, boots=1, jobs=4), store.path, folder / "jobs.yaml"))
    store.put(night.batch, START)
    acts: list[Act] = [(START, lambda: store.note("batch-began", {}, START))]
    for job, (earlier, last) in zip(jobs, machines, strict=True):
        at = START
        for tried in [*earlier, *([] if last is None else [last])]:
            at = _attempt(store, job.name, tried, at + tried.after / 4, acts)
    night.now = max(at for at, _ in acts) + 5
    for _, act in sorted(acts, key=lambda each: each[0]):
        act()
    return night


def _attempt(store: Store, name: str, tried: Tried, begin: float, acts: list[Act]) -> float:
    """Add what an attempt does; when it ends."""
    held: list[Lease] = []

    def claim() -> None:
        lease = store.claim(name, "host-a", 60.0, begin)
        assert lease is not None
        held.append(lease)

    def tell(at: float, kind: str, **data: object) -> Act:
        return at, lambda: store.event(held[0], kind, data, at)

    told, whole = _phases(tried, begin, tell)
    end = whole if tried.end in FINISHED else min(whole, begin + tried.cut / 4)
    acts.append((begin, claim))
    acts.extend(act for act in told if act[0] <= end)
    if tried.end != "running":
        acts.append((end, lambda: _end(store, held[0], tried, end)))
    return end


def _phases(tried: Tried, begin: float, tell: Callable[..., Act]) -> tuple[list[Act], float]:
    """A machine is read, then copied and rewritten at the same time, then booted."""
    read = begin + tried.inspect / 4
    copied, rewritten = read + tried.copy / 4, read + tried.rewrite / 4
    told = [tell(begin, "phase-started", phase="inspect"), tell(read, "phase-finished", phase="inspect")]
    total = sum(tried.pieces)
    told.append(tell(read, "phase-started", phase="copy", total_bytes=total))
    told.append(tell(read, "phase-started", phase="rewrite", total_bytes=None))
    for number, count in enumerate(tried.pieces, 1):
        at = read + tried.copy * number // (len(tried.pieces) + 1) / 4
        told.append(tell(at, "bytes-done", phase="copy", count=count))
    told += [tell(copied, "phase-finished", phase="copy"), tell(rewritten, "phase-finished", phase="rewrite")]
    last = max(copied, rewritten)
    if tried.boot:
        told += [tell(last, "phase-started", phase="boot"), tell(last + tried.boot / 4, "phase-finished", phase="boot")]
    return told, last + tried.boot / 4


def _end(store: Store, lease: Lease, tried: Tried, at: float) -> None:
    if tried.end in FINISHED:
        seconds = {"inspect": tried.inspect / 4, "copy": tried.copy / 4, "rewrite": tried.rewrite / 4}
        seconds |= {"boot": tried.boot / 4} if tried.boot else {}
        verified = {"done": None, "verified": True, "dark": False}[tried.end]
        store.finish(lease, at, record=None, seconds=seconds, verified=verified)
    elif tried.end == "parked":
        store.park(lease, _LOST, at)
    elif tried.end == "again":
        store.again(lease, _LOST, at, at)
    else:
        store.release(lease, at)
