"""Nights of fleets without time: what a batch's scheduler makes of them, and what no scheduler can better."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from pathlib import Path

from p2v.batch.jobs import Budget, Job, MachineJob, State, Verify
from p2v.batch.scheduling import Holding, Place, Setting, choose
from p2v.core.turns import APPLIANCE_PHASE, PHASE

SPEED = 1000
"""Bytes a second of a copy."""
TURNS = {"rewrite": APPLIANCE_PHASE, "boot": PHASE}
_LATER = 10.0**9


@dataclass(frozen=True)
class Work:
    """Seconds that a machine's phases take: it is copied and rewritten at the same time (0: it needs no appliance), then booted
    (0: it is not). ``storages``: that it copies from and to.
    """

    copy: float
    rewrite: float = 0.0
    boot: float = 0.0
    storages: tuple[str, ...] = ()
    priority: int = 0


Choose = Callable[..., Sequence[str]]


@dataclass
class Night:
    """Runs a fleet in the manifest's order; each job begins as soon as it is chosen, and waits for its turns like a child."""

    work: Mapping[str, Work]
    budget: Budget
    choose: Choose = choose
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    now: float = 0.0
    most_waiting: int = 0
    _free: dict[str, int] = field(default_factory=dict)
    _wait: dict[str, list[str]] = field(default_factory=lambda: {"rewrite": [], "boot": []})
    _queue: list[tuple[float, int, str, str]] = field(default_factory=list)
    _number: int = 0

    def seconds(self) -> float:
        """When the last job ends."""
        jobs = {name: job_of(name, each) for name, each in self.work.items()}
        setting = Setting({n: Place(each.storages, int(each.copy * SPEED)) for n, each in self.work.items()})
        running: dict[str, Holding] = {}
        left: dict[str, int] = {}
        self._free = {"rewrite": self.budget.appliances, "boot": self.budget.boots}
        while True:
            for name in self.choose(list(jobs.values()), running, self.budget, self.now, time(12), setting):
                running[name] = Holding.of(jobs[name].machine, setting.places[name].storages)
                jobs[name] = replace(jobs[name], state=State.RUNNING, lease_until=_LATER)
                left[name] = 1 + (self.work[name].rewrite > 0)
                self._begin(name, "copy")
                if left[name] == 2:
                    self._wait["rewrite"].append(name)
            self._turns(running)
            if not self._queue:
                assert all(job.state is State.DONE for job in jobs.values())
                return self.now
            self.now, _, name, phase = heapq.heappop(self._queue)
            running[name] = running[name].after("phase-finished", phase)
            if phase != "boot":
                left[name] -= 1
            if phase in self._free:
                self._free[phase] += 1
            if phase != "boot" and not left[name] and self.work[name].boot:
                self._wait["boot"].append(name)
                running[name] = running[name].after("phase-started", "publish")
            elif not left[name]:
                del running[name]
                jobs[name] = replace(jobs[name], state=State.DONE)

    def _begin(self, name: str, phase: str) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + getattr(self.work[name], phase), self._number, name, phase))

    def _turns(self, running: dict[str, Holding]) -> None:
        """Whoever looks first has the turn: that is chance."""
        for phase, waiting in self._wait.items():
            while waiting and self._free[phase]:
                self._free[phase] -= 1
                name = waiting.pop(self.draw.randrange(len(waiting)))
                running[name] = running[name].after("phase-finished", TURNS[phase])
                self._begin(name, phase)
            for name in waiting:
                running[name] = running[name].after("phase-started", TURNS[phase])


def job_of(name: str, work: Work) -> Job:
    """A job that waits."""
    verify = Verify.BOOT if work.boot else Verify.NONE
    machine = MachineJob(name, (Path(f"/in/{name}"),), Path("/out"), verify=verify, priority=work.priority)
    return Job(machine, State.WAITING)


def best(work: Mapping[str, Work], budget: Budget) -> float:
    """Seconds that no schedule can better: the longest job; and for each resource all that needs it at all of its places, after the
    least that must come before it and before the least that must come after it.
    """
    fleet = work.values()
    bounds = [max(max(each.copy, each.rewrite) + each.boot for each in fleet)]
    bounds.append(_stage([(0.0, each.copy, each.boot) for each in fleet], budget.copies))
    bounds.append(_stage([(0.0, each.rewrite, each.boot) for each in fleet if each.rewrite], budget.appliances))
    bounds.append(_stage([(max(each.copy, each.rewrite), each.boot, 0.0) for each in fleet if each.boot], budget.boots))
    for storage in {name for each in fleet for name in each.storages}:
        over = [(0.0, each.copy, each.boot) for each in fleet if storage in each.storages]
        bounds.append(_stage(over, min(budget.copies, budget.copies_per_storage or budget.copies)))
    return max(bounds)


def _stage(times: Sequence[tuple[float, float, float]], places: int) -> float:
    """Of what comes before, itself, and what comes after."""
    if not times:
        return 0.0
    own = sum(each[1] for each in times)
    return min(each[0] for each in times) + own / places + min(each[2] for each in times)
