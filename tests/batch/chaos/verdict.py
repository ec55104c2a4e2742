"""What must hold when the chaos is over, and what is told of it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.looking import SILENT
from p2v.batch.marking import folder_prefix
from p2v.batch.store import Store
from p2v.record import load_record
from tests.batch.chaos.machines import Wanted, holds
from tests.batch.chaos.strikes import Chaos
from tests.batch.chaos.struck import Runs, marked, store_of
from tests.batch.cluster.clusters import processes_with, until
from tests.pipeline.running import sha256

# of a machine whose runner or whose child died too often
_BY_STORM = frozenset({"workers-died"})
_ALL = 10_000_000


def mounts_below(folder: Path) -> set[str]:
    """File systems that are mounted below a folder, and loop devices over its files."""
    below = f"{folder}/"
    # the kernel writes a space in a path as \\040; there is none in ours
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    files = [each.read_text().strip() for each in Path("/sys/block").glob("loop*/loop/backing_file")]
    return {each for each in (*places, *files) if each.startswith(below)}


@dataclass
class Verdict:
    """Looks at everything. What is not as it must be is an AssertionError that names it."""

    chaos: Chaos
    before: Mapping[Path, str]
    """Digests of the sources, before anything began."""
    removed: Counter[str] = field(default_factory=Counter)
    jobs: tuple[Job, ...] = ()
    events: tuple[JobEvent, ...] = ()

    def all(self) -> None:
        """Everything, in the order of what explains most."""
        with Store.open(store_of(self.chaos.runs.jobs)) as store:
            self.jobs, self.events = store.jobs(), store.events(limit=_ALL)
        by_name = {job.machine.name: job for job in self.jobs}
        assert by_name.keys() == {each.name for each in self.chaos.machines}
        wrong = [text for each in self.chaos.machines if (text := self._end(each, by_name[each.name]))]
        assert not wrong, "\n".join(wrong)
        for each in self.chaos.machines:
            if by_name[each.name].state is State.DONE:
                self._result(each, by_name[each.name])
        assert {path: sha256(path) for path in self.before} == self.before
        self._cleaned()
        assert {name for each in self.chaos.machines for name in self._left(each)} == set()

    def _end(self, wanted: Wanted, job: Job) -> str:
        """In words what is wrong with a machine's end."""
        kinds = Counter(event.kind for event in self.events if event.job == wanted.name)
        code = job.failure.code if job.failure is not None else ""
        said = f"{wanted.name}: {job.state.value} {code} {job.failure}, attempts {job.attempts}, {dict(kinds)}"
        if kinds["done"] > 1 or (kinds["done"] == 1) is not (job.state is State.DONE):
            return f"not done once: {said}"
        if job.worker or job.lease_until:
            return f"a lease is left: {said}"
        if kinds["parked"] > 1 + kinds["retried"]:
            return f"parked more often than tried anew: {said}"
        if job.state is State.DONE:
            return "" if wanted.disk is not None else f"cannot be converted: {said}"
        if job.state is State.PARKED:
            # a server may stay away for longer than this run has patience with it
            allowed = wanted.codes | _BY_STORM | ({SILENT} if wanted.is_far else frozenset())
            return "" if code in allowed else f"not for such a reason: {said}"
        is_wished = job.state is State.CANCELLED and wanted.name in self.chaos.given_up
        return "" if is_wished else f"nobody wished that: {said}"

    def _result(self, wanted: Wanted, job: Job) -> None:
        record = load_record(wanted.real_folder / f"{wanted.name}.json")
        for output in record.outputs:
            path = wanted.real_folder / output.name
            assert path.stat().st_size == output.size, path
            assert output.sha256 is None or sha256(path) == output.sha256, path
        disk = wanted.real_folder / record.disks[0].target
        assert wanted.disk is not None
        assert holds(disk, str(wanted.keys["format"]), wanted.disk), disk

    # --- what is left

    def _named(self, wanted: Wanted) -> set[str]:
        """Files that a machine's results consist of."""
        record = wanted.real_folder / f"{wanted.name}.json"
        if not record.exists():
            return set()
        return {record.name, *(output.name for output in load_record(record).outputs)}

    def _left(self, wanted: Wanted) -> Iterator[str]:
        """Files in a machine's folder that are named after it, and are no results."""
        if wanted.real_folder.exists():
            results = self._named(wanted)
            for path in wanted.real_folder.iterdir():
                if path.name.lstrip(".").startswith(wanted.name) and path.name not in results:
                    yield str(Path(str(wanted.keys["target"])) / path.name)

    def _there(self) -> set[str]:
        """All that crashes have left, as the host tells of it."""
        runs = self.chaos.runs
        processes = {f"process {pid}" for pid in marked(runs.jobs)}
        prefix = folder_prefix(store_of(runs.jobs))
        folders = {str(path) for place in (runs.folder / "tmp", Path("/tmp")) for path in place.glob(f"{prefix}*")}
        files = {name for each in self.chaos.machines for name in self._left(each)}
        store = store_of(runs.jobs)
        files |= {str(path) for path in store.parent.glob(f".{store.name}.run-*")}
        return processes | folders | files | _unnamed_bundles(runs, self.events)

    def _cleaned(self) -> None:
        """`p2v batch clean` shows what is there, all of it and nothing else, and removes it."""
        runs = self.chaos.runs
        settled(runs)
        there = self._there()
        shown = _clean(runs)
        names = {_name_of(each) for each in shown["left"]}
        assert names == there, f"not shown: {sorted(there - names)}; shown and not there: {sorted(names - there)}"
        self.removed.update(each["kind"] for each in shown["left"])
        removed = _clean(runs, "--remove")["removed"]
        assert [each for each in removed if each["refused"]] == []
        kept = [each for each in shown["left"] if each["kept"]]
        assert [each for each in kept if not self._may_be_kept(each)] == []
        assert self._there() == {_name_of(each) for each in kept}
        self.removed.update(["kept until it was asked for"] * len(kept))
        if kept:
            _clean(runs, "--remove", "--everything")
        assert self._there() == set()
        ran = runs.verb("clean", str(runs.jobs), "--remove")
        assert (ran.returncode, ran.stdout) == (0, "nothing was left\n"), ran.stdout + ran.stderr
        # also those that have no mark, as the looks of a run
        until(lambda: not self._strays(), "the end of all that was ever started")
        others = list((runs.folder / "tmp").iterdir())
        assert others == []

    def _may_be_kept(self, left: Mapping[str, Any]) -> bool:
        """A result that lacked only its names when its storage went away for good: `p2v batch retry` gives them."""
        (job,) = (each for each in self.jobs if each.machine.name == left["machine"])
        return job.state is State.PARKED and job.failure is not None and job.failure.code in {SILENT, *_BY_STORM}

    def _strays(self) -> set[int]:
        """Processes with our folder among their words that are none of the harness."""
        chaos = self.chaos
        ours = {server.process.pid for server in (chaos.storages.far_source, chaos.storages.far_target)}
        ours |= {each.process.pid for each in chaos.dask.running.programs} if chaos.dask is not None else set()
        return {*processes_with(f"{chaos.folder}/")} - ours

    # --- what is told

    def told(self, seed: int, engine: str, seconds: float) -> Mapping[str, Any]:
        """The tally, as values."""
        ends: dict[str, Counter[str]] = defaultdict(Counter)
        kinds = {each.name: each.kind for each in self.chaos.machines}
        for job in self.jobs:
            code = f" ({job.failure.code})" if job.state is State.PARKED and job.failure is not None else ""
            ends[f"{job.state.value}{code}"][kinds[job.machine.name]] += 1
        again = Counter(str(e.data.get("code")) for e in self.events if e.kind == "again")
        return {
            "seed": seed,
            "engine": engine,
            "seconds": round(seconds, 1),
            "machines": len(self.jobs),
            "runs": self.chaos.runs.began,
            "strikes": dict(self.chaos.tally),
            "attempts": sum(event.kind == "claimed" for event in self.events),
            "failed attempts": dict(again),
            "leases taken over": sum("lost_worker" in e.data for e in self.events if e.kind == "claimed"),
            "leases lost": _count_said(self.chaos.runs, '"event": "lease-lost"'),
            "fence refusals": _noted(self.chaos.runs)["lease-lost"],
            "results of an attempt that nobody heard": sum(
                "an earlier attempt" in str(e.data.get("message")) for e in self.events if e.kind == "warning"
            ),
            "ends": {end: dict(count) for end, count in sorted(ends.items())},
            "cleaned": dict(self.removed),
        }


def table(told: Mapping[str, Any]) -> str:
    """The tally for people."""
    lines = []
    for name, value in told.items():
        if isinstance(value, Mapping):
            lines.append(f"{name}:")
            lines += [f"    {each:<42} {count}" for each, count in value.items()]
        else:
            lines.append(f"{name:<46} {value}")
    return "\n".join(lines)


def _clean(runs: Runs, *words: str) -> Mapping[str, Any]:
    ran = runs.verb("clean", str(runs.jobs), "--json", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: Mapping[str, Any] = json.loads(ran.stdout)
    return found


def _name_of(left: Mapping[str, Any]) -> str:
    return f"process {left['pid']}" if left["kind"] == "process" else str(left["path"] or left["said"])


def _unnamed_bundles(runs: Runs, events: Sequence[JobEvent]) -> set[str]:
    """Failure bundles of attempts that came to no end: nothing leads to them."""
    folder = store_of(runs.jobs)
    folder = folder.with_name(f"{folder.stem}-failures")
    named = {str(event.data.get("bundle")) for event in events}
    with contextlib.suppress(FileNotFoundError):
        return {str(path) for path in folder.iterdir() if str(path) not in named}
    return set()


def _noted(runs: Runs) -> Counter[str]:
    """Errors that conversions on this host ended with."""
    return Counter(runs.notes.read_text().split() if runs.notes.exists() else [])


def _count_said(runs: Runs, words: str) -> int:
    return sum(words in line for line in (runs.folder / "runner.log").read_text().splitlines())


def settled(runs: Runs) -> None:
    """Wait until those are gone that were killed while they waited for a storage; strays would stay."""

    def dying() -> bool:
        return any(_is_dying(pid) for pid in marked(runs.jobs))

    until(lambda: not dying(), "the end of all that was killed")


def _is_dying(pid: int) -> bool:
    """Whether a process has been killed and has not taken note of it yet."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("SigPnd", "ShdPnd") and int(value, 16) >> (signal.SIGKILL - 1) & 1:
                return True
    return False
