"""In the machine: a batch whose sources and targets are on NFS, its runs, and what must hold at their end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.store import Store
from p2v.core.units import MIB
from p2v.record import load_record
from tests.batch.chaos.struck import marked, send
from tests.batch.nfs.servers import EXPORT, run, until
from tests.drivers.making import make_disk

_HAIKU = "label: dos\nlabel-id: 0x12345678\nstart=2048, type=eb, bootable\n"
_SUFFIX = {"raw": "img", "vpc": "vhd"}
_ENDING_SECONDS = 1200.0
_TELL_SECONDS = 30.0
_ALL = 1_000_000
WORK = Path("/var/tmp/p2v-row")
"""On this machine's own disk."""


@dataclass(frozen=True)
class Made:
    """A machine: its disk as it is known, its source as it lies on the server's disk, and where its results lie there."""

    name: str
    disk: Path
    source: Path
    folder: Path
    form: str


@dataclass
class Batch:
    """Machines below one mount of the exports, and the runs that convert them. ``near``: the store's folder."""

    mount: Path
    near: Path = WORK
    machines: list[Made] = field(default_factory=list)
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    digests: dict[Path, str] = field(default_factory=dict)
    hidden: int = 0
    """Names of NFS' own for files that were removed while open, at the end of the last run."""

    def __post_init__(self) -> None:
        for each in (WORK / "tmp", WORK / "disks", self.near):
            each.mkdir(parents=True, exist_ok=True)

    @property
    def jobs(self) -> Path:
        return self.near / "jobs.yaml"

    @property
    def store(self) -> Path:
        return (self.near / "jobs.batch.sqlite").resolve()

    def add(
        self, name: str, megabytes: int, *, packed: str = "raw", form: str = "raw", place: str = "out", **keys: Any
    ) -> Made:
        """A machine full of noise, with a hole behind. ``place``: the folder of its results, below the export."""
        disk = WORK / "disks" / f"{name}.img"
        make_disk(disk, (megabytes + 4) * MIB, _HAIKU)
        with disk.open("r+b") as file:
            file.seek(MIB)
            file.write(random.Random(name).randbytes(megabytes * MIB))
        source = EXPORT / "sources" / f"{name}.{_SUFFIX.get(packed, packed)}"
        source.parent.mkdir(exist_ok=True)
        more = ("-o", "force_size=on") if packed == "vpc" else ()
        run("qemu-img", "convert", "-f", "raw", "-O", packed, *more, disk, source)
        made = Made(name, disk, source, EXPORT / place, form)
        self.machines.append(made)
        said = {"source": str(self._seen(source)), "target": str(self._seen(made.folder)), "format": form}
        self.keys.append({"name": name, **said, "attempts": 50, **keys})
        return made

    def _seen(self, real: Path) -> Path:
        return self.mount / real.relative_to(EXPORT)

    def write(self, **budget: Any) -> None:
        """The manifest; JSON is YAML."""
        document = {"schema": 1, "store": str(self.store), "budget": {"copies": 3, **budget}, "machines": self.keys}
        self.jobs.write_text(json.dumps(document))
        self.digests = {each.source: _sha256(each.source) for each in self.machines}

    # --- runs

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TMPDIR": str(WORK / "tmp"),
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }

    def start(self, *prefix: str) -> subprocess.Popen[bytes]:
        """Begin a run."""
        words = [*prefix, sys.executable, "-m", "tests.batch.nfs.runner", "run", str(self.jobs), "--progress", "json"]
        with (WORK / "runner.log").open("ab") as log:
            run_ = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self.environment,
                cwd=WORK,
            )
        self.runs.append(run_)
        return run_

    def ended(self, run_: subprocess.Popen[bytes], seconds: float = _ENDING_SECONDS) -> int:
        """Its exit status, when it has one."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                status = run_.wait(_TELL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                print(self.said().rpartition("\n")[2])
            assert time.monotonic() < deadline, f"no end of the run:\n{self.said()}"
        self.statuses.append(status)
        return status

    def verb(self, *words: str, status: int | None = 0, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Another verb, to its end."""
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "p2v", "batch", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=self.environment, timeout=_ENDING_SECONDS, check=False, cwd=WORK,
        )  # fmt: skip
        assert status is None or done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    def said(self) -> str:
        log = (WORK / "runner.log").read_text(errors="replace").splitlines()
        quiet = ("bytes-done", "phase-started", "phase-finished", '"limit"')
        return "\n".join([line for line in log if not any(each in line for each in quiet)][-60:])

    def heard(self, kind: str, name: str = "") -> list[Mapping[str, Any]]:
        """Events that runs told of so far, by their log, which waits for no server."""
        found: list[Mapping[str, Any]] = []
        with contextlib.suppress(FileNotFoundError):
            for line in (WORK / "runner.log").read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("event") == kind and name in ("", event.get("job")):
                        found.append(event)
        return found

    def codes(self) -> list[str]:
        """Why attempts were made again, each once."""
        return sorted({str(each["code"]) for each in self.heard("again")})

    def await_copying(self, name: str, least_bytes: int = MIB) -> None:
        """Until a machine is in the middle of its copy."""

        def copied() -> bool:
            assert all(each.poll() is None for each in self.runs[-1:]), self.said()
            told = [e for e in self.heard("bytes-done", name) if e.get("phase") == "copy"]
            return sum(int(e["count"]) for e in told) >= least_bytes

        until(copied, f"a copy of {name}\n{self.said()}")

    def kill(self, run_: subprocess.Popen[bytes]) -> None:
        """The runner, and it alone: what it started is told by the kernel."""
        run_.send_signal(signal.SIGKILL)

    def end_all(self) -> None:
        """Also after a failure."""
        for each in self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
        send(list(marked(self.jobs)), signal.SIGKILL)

    # --- what must hold

    def look(self) -> tuple[dict[str, Job], tuple[JobEvent, ...]]:
        """Jobs and events."""
        with Store.open(self.store) as store:
            return {job.machine.name: job for job in store.jobs()}, store.events(limit=_ALL)

    def verdict(self) -> Mapping[str, Any]:
        """Each machine is done once, its bytes are right, sources are as they were, nothing is left. Gives figures."""
        jobs, events = self.look()
        kinds = {name: Counter(event.kind for event in events if event.job == name) for name in jobs}
        for each in self.machines:
            job = jobs[each.name]
            assert job.state is State.DONE, (each.name, job, self.said())
            assert kinds[each.name]["done"] == 1, (each.name, kinds[each.name])
            assert (job.worker, job.lease_until) == ("", 0.0), job
            self._holds(each)
        assert {path: _sha256(path) for path in self.digests} == self.digests
        self._nothing_left()
        again = Counter(str(e.data.get("code")) for e in events if e.kind == "again")
        attempts = sum(e.kind == "claimed" for e in events)
        return {
            "machines": len(jobs),
            "attempts": attempts,
            "again": dict(again),
            "statuses": self.statuses,
            "hidden": self.hidden,
        }

    def _holds(self, each: Made) -> None:
        record = load_record(each.folder / f"{each.name}.json")
        for output in record.outputs:
            path = each.folder / output.name
            assert path.stat().st_size == output.size, path
        run("qemu-img", "compare", "-f", each.form, "-F", "raw", each.folder / record.disks[0].target, each.disk)

    def _are_there(self, folder: Path, wanted: set[str]) -> None:
        """What NFS hides until it is closed goes a moment after its process."""

        def others() -> set[str]:
            return {path.name for path in folder.iterdir()} ^ wanted

        hidden = {name for name in others() if name.startswith(".nfs")}
        self.hidden += len(hidden)
        until(
            lambda: not any(name.startswith(".nfs") for name in others()),
            "the end of files that were removed while open",
            60,
        )
        assert others() == set(), folder

    def _nothing_left(self) -> None:
        until(lambda: not marked(self.jobs), "the end of all that was started")
        if any(status < 0 for status in self.statuses):
            self.verb("clean", str(self.jobs), "--remove")
        said = self.verb("clean", str(self.jobs)).stdout
        assert said == "nothing was left\n", said
        for folder in {each.folder for each in self.machines}:
            wanted = set()
            for each in self.machines:
                if each.folder == folder:
                    record = load_record(folder / f"{each.name}.json")
                    wanted |= {f"{each.name}.json", *(output.name for output in record.outputs)}
            self._are_there(folder, wanted)
        locks = [path.name for path in self.near.glob(f".{self.store.name}*")]
        assert locks == [], locks
        assert list((WORK / "tmp").iterdir()) == []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
