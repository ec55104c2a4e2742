"""What the chaos test does to a batch while it runs, and what it counts."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.marking import folder_prefix
from p2v.batch.store import Store
from tests.batch.chaos.child import NOTES
from tests.batch.chaos.machines import Wanted
from tests.batch.chaos.runner import LEASE, SILENT
from tests.batch.chaos.storages import Storages
from tests.batch.cluster.clusters import Cluster, Program, until

ENDS = (0, 5)
"""Exit statuses of a run that has come to its end."""
_STOPPED = (75, 128 + signal.SIGINT, 128 + signal.SIGTERM, *ENDS, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)
"""Killed, or told to end, some of them before they had begun to listen."""
_VERB_SECONDS = 300.0
_ASLEEP_SECONDS = 60.0
_IDLE_SECONDS = 20.0


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
        _signal(list(marked(self.jobs)), signal.SIGKILL)
        for place in (Path("/tmp"), self.folder / "tmp"):
            for folder in place.glob(f"{folder_prefix(store_of(self.jobs))}*"):
                shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Chaos:
    """Strikes at random, in an order that its seed gives; what is stopped goes on after a while, which it draws as well."""

    folder: Path
    machines: Sequence[Wanted]
    storages: Storages
    runs: Runs
    dice: random.Random
    dask: Dask | None = None
    tally: Counter[str] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)
    """Machines whose last word from us was `cancel`."""
    tried_anew: set[str] = field(default_factory=set)
    _later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _is_over: bool = False
    _sleeps: bool = False
    """A runner does, with a conversion; whoever ended them would spoil what is to be seen when they are awake."""
    _order: list[str] = field(default_factory=list)

    def strike(self) -> str:
        """One strike, of the kind whose turn it is; its name, empty where there was nothing to strike at."""
        kinds = self._kinds()
        if not self._order:
            # each kind comes as often as the others
            self._order = list(kinds)
            self.dice.shuffle(self._order)
        kind = self._order.pop()
        struck = kinds[kind]()
        if struck:
            self.tally[kind] += 1
        return kind if struck else ""

    def wait(self, seconds: float) -> None:
        """Let time pass; what was stopped goes on when it is due."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._let_go(now)
            time.sleep(min(0.1, max(0.0, end - now)))

    def wait_for_work(self) -> None:
        """Until something is being converted, or is not going to be soon."""
        end = time.monotonic() + _IDLE_SECONDS
        while not self._children() and self.runs.alive and time.monotonic() < end:
            self.wait(0.2)

    def calm(self) -> None:
        """Everything that was stopped goes on, and works again."""
        self._is_over = True
        while self._later:
            self._let_go(float("inf"))
        self.storages.calm()

    def _let_go(self, now: float) -> None:
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, action in due:
            action()

    def _afterwards(self, least: float, most: float, action: Callable[[], object]) -> bool:
        self._later.append((time.monotonic() + self.dice.uniform(least, most), action))
        return True

    def _kinds(self) -> dict[str, Callable[[], bool]]:
        here: dict[str, Callable[[], bool]] = {
            "runner killed": self._kill_runner,
            "runner: SIGTERM": lambda: self._end_runner(signal.SIGTERM),
            "runner: SIGINT": lambda: self._end_runner(signal.SIGINT),
            "runner and child stopped past the lease": self._stop_runner,
            "child killed": lambda: self._signal_child(signal.SIGKILL),
            "child killed again": lambda: self._signal_child(signal.SIGKILL),
            "child stopped": self._stop_child,
            "storage full": self._fill,
            "storage frozen": self._freeze,
            "source's server stopped": lambda: self._stop_server(self.storages.far_source),
            "target's server stopped": lambda: self._stop_server(self.storages.far_target),
            "paused": self._pause,
            "cancelled": self._cancel,
            "retried": self._retry,
        }
        if self.dask is None:
            return here
        return {
            **here,
            "worker killed": self._kill_worker,
            "worker killed again": self._kill_worker,
            "worker stopped": self._stop_worker,
            "scheduler killed": self._kill_scheduler,
        }

    # --- the runner

    def _kill_runner(self) -> bool:
        if self._sleeps:
            return False
        self.runs.kill()
        self.runs.start()
        return True

    def _end_runner(self, number: signal.Signals) -> bool:
        """It must end though nothing that was stopped goes on meanwhile."""
        if self._sleeps:
            return False
        for each in self.runs.alive:
            each.send_signal(number)
            each.send_signal(signal.SIGCONT)
        until(self._none_runs, f"the runner's end after {number.name}")
        self.runs.start()
        return True

    def _none_runs(self) -> bool:
        self.runs.ended()
        return not self.runs.alive

    def _stop_runner(self) -> bool:
        """It sleeps with a child of its own past its lease; another one comes, and both are awake then."""
        if len(self.runs.alive) != 1:
            return False
        (runner,) = self.runs.alive
        child = self._some_child()
        self._sleeps = True
        _signal([runner.pid, *child], signal.SIGSTOP)
        fences = {pid: fence for pid in child if (fence := fence_of(pid)) is not None}
        self.runs.start()
        return self._afterwards(
            LEASE, LEASE + 8, lambda: self._wake(runner.pid, fences, time.monotonic() + _ASLEEP_SECONDS)
        )

    def _wake(self, runner: int, fences: Mapping[int, tuple[str, int]], until: float) -> None:
        """When others have come for what the child works at; the child first: nobody ends it then before it comes to its fence."""
        with Store.open(store_of(self.runs.jobs)) as store:
            is_early = any(store.job(name).fence <= number for name, number in fences.values())
        if is_early and time.monotonic() < until and not self._is_over:
            self._afterwards(0.5, 1.0, lambda: self._wake(runner, fences, until))
            return
        _signal(list(fences), signal.SIGCONT)
        self._wake_runner(runner, fences, time.monotonic() + _ASLEEP_SECONDS)

    def _wake_runner(self, runner: int, fences: Mapping[int, tuple[str, int]], until: float) -> None:
        """When its child has ended by itself."""
        lives = any(fence_of(pid) == fence for pid, fence in fences.items())
        if lives and time.monotonic() < until and not self._is_over:
            self._afterwards(0.5, 1.0, lambda: self._wake_runner(runner, fences, until))
            return
        _signal([runner], signal.SIGCONT)
        self._sleeps = False

    # --- children

    def _children(self) -> list[int]:
        return sorted(
            pid for pid, words in marked(self.runs.jobs).items() if any(each.startswith("--fence=") for each in words)
        )

    def _some_child(self) -> list[int]:
        found = self._children()
        return self.dice.sample(found, min(1, len(found)))

    def _signal_child(self, number: signal.Signals) -> bool:
        return _signal(self._some_child(), number)

    def _stop_child(self) -> bool:
        sleeping = self._some_child()
        return _signal(sleeping, signal.SIGSTOP) and self._afterwards(
            1, SILENT + 8, lambda: _signal(sleeping, signal.SIGCONT)
        )

    # --- the cluster

    def _kill_worker(self) -> bool:
        assert self.dask is not None
        self.dask.kill_worker(self.dice.randrange(len(self.dask.workers)))
        return True

    def _stop_worker(self) -> bool:
        assert self.dask is not None
        sleeping = [self.dice.choice(self.dask.workers).process.pid]
        return _signal(sleeping, signal.SIGSTOP) and self._afterwards(
            1, LEASE + 8, lambda: _signal(sleeping, signal.SIGCONT)
        )

    def _kill_scheduler(self) -> bool:
        assert self.dask is not None
        self.dask.kill_scheduler()
        return True

    # --- storages

    def _fill(self) -> bool:
        little = self.storages.small
        if little.is_full or little.is_frozen:
            return False
        little.fill()
        return self._afterwards(2, 12, self._free)

    def _free(self) -> None:
        if self.storages.small.is_frozen:
            # who writes to it, waits for it
            if not self._is_over:
                self._afterwards(1, 2, self._free)
        else:
            self.storages.small.free()

    def _freeze(self) -> bool:
        little = self.storages.small
        if little.is_frozen:
            return False
        little.freeze()
        return self._afterwards(2, SILENT + 15, little.thaw)

    def _stop_server(self, server: object) -> bool:
        from tests.batch.chaos.storages import Server

        assert isinstance(server, Server)
        if server.is_stopped:
            return False
        server.stop()
        return self._afterwards(2, SILENT + 15, server.go_on)

    # --- people

    def _pause(self) -> bool:
        self._done(self.runs.verb("pause", str(self.runs.jobs)))
        return self._afterwards(1, 6, lambda: self._done(self.runs.verb("resume", str(self.runs.jobs))))

    def _cancel(self) -> bool:
        name = self.dice.choice(self.machines).name
        self.given_up.add(name)
        self._done(self.runs.verb("cancel", name, "--batch", str(self.runs.jobs)))
        if self.dice.random() < 0.7:
            self._afterwards(1, 10, lambda: self.retry(name))
        return True

    def _retry(self) -> bool:
        return self.retry(self.dice.choice(self.machines).name)

    def retry(self, name: str) -> bool:
        """Let a machine be tried anew."""
        self._done(self.runs.verb("retry", name, "--batch", str(self.runs.jobs)))
        self.given_up.discard(name)
        self.tried_anew.add(name)
        return True

    def _done(self, ran: subprocess.CompletedProcess[str]) -> None:
        """Who steers a batch never waits for a storage, nor fails because a run goes on."""
        assert ran.returncode == 0, (ran.args, ran.returncode, ran.stdout, ran.stderr)


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


def _signal(pids: Sequence[int], number: signal.Signals) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(pids)
