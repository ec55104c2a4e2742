"""What the chaos test does to a batch while it runs, and what it counts."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.store import Store
from tests.batch.chaos.machines import Wanted
from tests.batch.chaos.runner import LEASE, SILENT
from tests.batch.chaos.storages import Storages
from tests.batch.chaos.struck import Dask, Runs, fence_of, marked, send, store_of
from tests.batch.cluster.clusters import until

_ASLEEP_SECONDS = 60.0
_IDLE_SECONDS = 20.0


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
        send([runner.pid, *child], signal.SIGSTOP)
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
        send(list(fences), signal.SIGCONT)
        self._wake_runner(runner, fences, time.monotonic() + _ASLEEP_SECONDS)

    def _wake_runner(self, runner: int, fences: Mapping[int, tuple[str, int]], until: float) -> None:
        """When its child has ended by itself."""
        lives = any(fence_of(pid) == fence for pid, fence in fences.items())
        if lives and time.monotonic() < until and not self._is_over:
            self._afterwards(0.5, 1.0, lambda: self._wake_runner(runner, fences, until))
            return
        send([runner], signal.SIGCONT)
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
        return send(self._some_child(), number)

    def _stop_child(self) -> bool:
        sleeping = self._some_child()
        return send(sleeping, signal.SIGSTOP) and self._afterwards(
            1, SILENT + 8, lambda: send(sleeping, signal.SIGCONT)
        )

    # --- the cluster

    def _kill_worker(self) -> bool:
        assert self.dask is not None
        self.dask.kill_worker(self.dice.randrange(len(self.dask.workers)))
        return True

    def _stop_worker(self) -> bool:
        assert self.dask is not None
        sleeping = [self.dice.choice(self.dask.workers).process.pid]
        return send(sleeping, signal.SIGSTOP) and self._afterwards(
            1, LEASE + 8, lambda: send(sleeping, signal.SIGCONT)
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
