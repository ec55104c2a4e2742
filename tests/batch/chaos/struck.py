"""What the chaos test strikes at: the processes of a batch, and the cluster that it may run on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.marking import folder_prefix
from tests.batch.chaos.child import NOTES
from tests.batch.cluster.clusters import Cluster, Program

ENDS = (0, 5)
"""Exit statuses of a run that has come to its end."""
_STOPPED = (75, 128 + signal.SIGINT, 128 + signal.SIGTERM, *ENDS, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)
"""Killed, or told to end, some of them before they had begun to listen."""
_VERB_SECONDS = 300.0


@dataclass
class Dask:
    """A scheduler and workers, which are started again when they were killed."""

    running: Cluster
    scheduler: Program = field(init=False)
    workers: list[Program] = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = self.running.scheduler()
        self.workers = [self._worker() for _ in range(2)]

    def _worker(self) -> Program:
        return self.running.worker("convert=2 kvm=1")

    def kill_worker(self, number: int) -> None:
        self.workers.pop(number).kill()
        self.workers.append(self._worker())

    def kill_scheduler(self) -> None:
        self.scheduler.kill()
        for each in self.workers:
            each.end()
        self.scheduler = self.running.scheduler()
        self.workers = [self._worker() for _ in self.workers]


@dataclass
class Runs:
    """The processes of `p2v batch run`: one as a rule, two after one was stopped for so long that another had to come."""

    folder: Path
    jobs: Path
    engine: str
    alive: list[subprocess.Popen[bytes]] = field(default_factory=list)
    began: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(self.folder / "tmp"),
            NOTES: str(self.notes),
        }

    @property
    def notes(self) -> Path:
        """Errors that conversions ended with, a line each."""
        return self.folder / "notes"

    def start(self) -> None:
        words = [
            "run",
            str(self.jobs),
            "--progress",
            "json",
            "--report",
            str(self.folder / "fleet.html"),
            "--refresh",
            "3",
        ]
        words += ["--engine", self.engine] if self.engine else []
        with (self.folder / "runner.log").open("ab") as log:
            self.alive.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.batch.chaos.runner", *words], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True, env=self.environment,
                )
            )  # fmt: skip
        self.began += 1

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another verb of the same batch, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "p2v", "batch", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=self.environment, timeout=_VERB_SECONDS, check=False,
        )  # fmt: skip

    def ended(self) -> list[int]:
        """Statuses of those that have ended since the last call."""
        over = [each for each in self.alive if each.poll() is not None]
        self.alive = [each for each in self.alive if each not in over]
        statuses = [each.returncode for each in over]
        assert all(each in _STOPPED for each in statuses), (statuses, self.said())
        return statuses

    def said(self) -> str:
        lines = (self.folder / "runner.log").read_text().splitlines()
        return "\n".join([line for line in lines if not line.startswith("{")][-60:])

    def kill(self) -> None:
        for each in self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()
        self.alive.clear()

    def end(self) -> None:
        """All of it, also what a failed test left."""
        self.kill()
        send(list(marked(self.jobs)), signal.SIGKILL)
        for place in (Path("/tmp"), self.folder / "tmp"):
            for folder in place.glob(f"{folder_prefix(store_of(self.jobs))}*"):
                shutil.rmtree(folder, ignore_errors=True)


def fence_of(pid: int) -> tuple[str, int] | None:
    """The machine and the number of a conversion's lease, by its arguments."""
    with contextlib.suppress(OSError, KeyError):
        words = [os.fsdecode(each) for each in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        options = dict(each[2:].partition("=")[::2] for each in words if each.startswith("--"))
        return options["name"], int(options["fence"])
    return None


def marked(jobs: Path) -> dict[int, list[str]]:
    """Processes of the batch with their arguments, by their environment; zombies left out."""
    found: dict[int, list[str]] = {}
    mark = b"P2V_BATCH=" + os.fsencode(store_of(jobs))
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = [os.fsdecode(each) for each in words]
    return found


def store_of(jobs: Path) -> Path:
    """The store of the batch with this manifest."""
    return (jobs.parent / "jobs.batch.sqlite").resolve()


def send(pids: Sequence[int], number: signal.Signals) -> bool:
    """A signal to processes, of which some may have ended; whether there were any."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(pids)
