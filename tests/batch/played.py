"""Whole nights of batches without time, played with the real scheduler, to look at from any moment: what the store would say then.

An independent witness of ``p2v.batch.foresight``: machines take what chance makes of them, windows are looked at by the clock,
and every beginning is chosen anew from all machines. Nothing of the estimate is used.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, tzinfo
from pathlib import Path

from p2v.batch.jobs import Budget, Job, MachineJob, State, Verify, Window
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.scheduling import Holding, Setting, beginnings
from p2v.batch.terms import Terms

_TICK = 300.0
"""Windows of these nights begin and end at such times."""
_LEASE = 10.0**10


@dataclass(frozen=True)
class Machine:
    """Seconds that its parts take; ``copy``: where nothing holds it back. ``tail``: checked and committed."""

    size: int
    copy: float
    lead: float = 2.0
    rewrite: float = 0.0
    tail: float = 0.0
    boot: float = 0.0
    storages: tuple[str, ...] = ()
    wave: int = 0
    priority: int = 0
    window: Window | None = None
    fails: float = 0.0
    """It is parked after so many seconds."""


@dataclass
class _Lived:
    """What became of a machine: when each of its parts began and ended, and how far its copy was at which time."""

    began: float
    ended: float = 0.0
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    copied: list[tuple[float, float]] = field(default_factory=list)
    left: dict[str, float] = field(default_factory=dict)


@dataclass
class Played:
    """A fleet from ``begin`` (seconds since 1970) on, to its end or until nothing can begin any more."""

    fleet: Mapping[str, Machine]
    budget: Budget
    begin: float
    until: float = float("inf")
    stop_at: float = float("inf")
    zone: tzinfo | None = None
    lanes: Lanes | None = None
    lived: dict[str, _Lived] = field(default_factory=dict)
    end: float = 0.0

    def __post_init__(self) -> None:
        places = {name: Place(each.storages, each.size) for name, each in self.fleet.items()}
        self.terms = Terms(self.budget, Setting(places, "", self.lanes), self.until, self.stop_at)
        self.draw = random.Random(1)
        self._play()

    def jobs(self, at: float) -> list[Job]:
        """As the store would have them at a moment."""
        return [self._job(name, each, at) for name, each in self.fleet.items()]

    # --- playing -----------------------------------------------------------------------------------------------------

    def _play(self) -> None:
        self.now, self.held, self.waiting = (
            self.begin,
            dict[str, Holding](),
            {"rewrite": list[str](), "boot": list[str]()},
        )
        self.free = {"rewrite": self.budget.appliances, "boot": self.budget.boots}
        seen: object = None
        while True:
            windows = tuple(each.window is None or each.window.holds(self._clock()) for each in self.fleet.values())
            standing = (windows, tuple(self.held.items()))
            if standing != seen and self.now < min(self.until, self.stop_at):
                self._choose()
            seen = (windows, tuple(self.held.items()))
            self._turns()
            if not self.held:
                waits = any(name not in self.lived for name in self.fleet)
                if not waits or self.now >= min(self.until, self.stop_at) or self.now > self.begin + 30 * 86400:
                    break
            if self.now >= self.stop_at:
                break
            self._step()
        self.end = max([self.begin, *(each.ended for each in self.lived.values())])
        if self.held:
            self.end = self.stop_at

    def _clock(self) -> time:
        return datetime.fromtimestamp(self.now, self.zone).time()

    def _choose(self) -> None:
        jobs = self.jobs(self.now)
        for each in beginnings(jobs, self.held, self.budget, self.now, self._clock(), self.terms.setting):
            machine = self.fleet[each.name]
            self.held[each.name] = Holding.of(machine_job(each.name, machine), machine.storages, each.limit)
            lived = self.lived[each.name] = _Lived(self.now)
            lived.left = {"fails": machine.fails} if machine.fails else {"lead": machine.lead}
            lived.parts["lead"] = (self.now, 0.0)

    def _turns(self) -> None:
        for what, queue in self.waiting.items():
            while queue and self.free[what]:
                self.free[what] -= 1
                name = queue.pop(self.draw.randrange(len(queue)))
                self.lived[name].left[what] = getattr(self.fleet[name], what)
                self.lived[name].parts[what] = (self.now, 0.0)
                if what == "rewrite":
                    self.held[name] = self.held[name].after("phase-finished", "appliance-turn")

    def _speed(self, name: str, what: str) -> float:
        """Seconds of work that a second does: copies share the rates of their lanes evenly."""
        machine = self.fleet[name]
        if what != "copy" or self.lanes is None:
            return 1.0
        copying = [other for other in self.held if "copy" in self.lived[other].left]
        shares = [
            rate / sum(lane in self.fleet[other].storages for other in copying)
            for lane in machine.storages
            if (rate := self.lanes.over(lane).bytes_per_second) is not None
        ]
        return min([1.0, *(share * machine.copy / machine.size for share in shares)])

    def _step(self) -> None:
        speeds = {(name, what): self._speed(name, what) for name in self.held for what in self.lived[name].left}
        tick = _TICK - (self.now % _TICK)
        waits = len(self.lived) < len(self.fleet)
        step = min(
            [left / speeds[name, what] for name in self.held for what, left in self.lived[name].left.items()]
            + [tick] * waits
        )
        step = min(step, max(0.0, self.stop_at - self.now), max(0.0, self.until - self.now) or step)
        self.now += step
        for name in list(self.held):
            lived = self.lived[name]
            for what in list(lived.left):
                lived.left[what] -= step * speeds[name, what]
                if what == "copy":
                    lived.copied.append((self.now, 1 - max(0.0, lived.left[what]) / self.fleet[name].copy))
                if lived.left[what] <= 1e-6:
                    del lived.left[what]
                    self._ended(name, what)

    def _ended(self, name: str, what: str) -> None:
        machine, lived = self.fleet[name], self.lived[name]
        lived.parts[what] = (lived.parts.get(what, (lived.began, 0.0))[0], self.now)
        if what in self.free:
            self.free[what] += 1
        if what in ("copy", "rewrite"):
            self.held[name] = self.held[name].after("phase-finished", what)
        if what == "lead":
            self._start(name, "copy")
            self.held[name] = self.held[name].after("phase-started", "copy")
            if machine.rewrite:
                self.waiting["rewrite"].append(name)
                self.held[name] = self.held[name].after("phase-started", "appliance-turn")
        elif what in ("copy", "rewrite"):
            if not lived.left and name not in self.waiting["rewrite"]:
                self._start(name, "commit", machine.tail)
                self.held[name] = self.held[name].after("phase-started", "publish")
        elif what == "commit" and machine.boot:
            self.waiting["boot"].append(name)
        else:
            lived.ended = self.now
            del self.held[name]

    def _start(self, name: str, what: str, seconds: float | None = None) -> None:
        lived = self.lived[name]
        lived.left[what] = getattr(self.fleet[name], what) if seconds is None else seconds
        lived.parts[what] = (self.now, 0.0)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _job(self, name: str, machine: Machine, at: float) -> Job:
        job = Job(machine_job(name, machine), State.WAITING)
        lived = self.lived.get(name)
        if lived is None or lived.began > at:
            return job
        total = machine.size * 2  # holes included
        if lived.ended and lived.ended <= at:
            if machine.fails:
                return replace(job, state=State.PARKED, began=lived.began, ended=lived.ended)
            times = {what: end - begin for what, (begin, end) in lived.parts.items() if what != "lead"}
            return replace(
                job, state=State.DONE, began=lived.began, ended=lived.ended, seconds=self._waits(lived, machine) | times,
                bytes_copied=total, bytes_total=total, verified=bool(machine.boot),
            )  # fmt: skip
        begun = [
            (begin, what)
            for what, (begin, end) in lived.parts.items()
            if begin <= at and not 0 < end <= at and what != "lead"
        ]
        share = _share(lived, at)
        over = [what for what, (_, end) in lived.parts.items() if 0 < end <= at]
        phase = max(begun)[1] if begun else "turn" if "commit" in over else "appliance-turn" if "copy" in over else ""
        return replace(
            job, state=State.RUNNING, began=lived.began, lease_until=_LEASE, phase=phase,
            bytes_copied=int(total * share), bytes_total=total if "copy" in lived.parts and lived.parts["copy"][0] <= at else 0,
        )  # fmt: skip

    def _waits(self, lived: _Lived, machine: Machine) -> dict[str, float]:
        found = {}
        if machine.rewrite:
            found["appliance-turn"] = lived.parts["rewrite"][0] - lived.parts["copy"][0]
        if machine.boot:
            found["turn"] = lived.parts["boot"][0] - lived.parts["commit"][1]
        return found


def _share(lived: _Lived, at: float) -> float:
    """How much was copied at a moment."""
    when, share = lived.parts["copy"][0] if "copy" in lived.parts else at, 0.0
    for then, done in lived.copied:
        if then >= at:
            return share + (done - share) * max(0.0, at - when) / (then - when) if then > when else done
        when, share = then, done
    return share


def machine_job(name: str, each: Machine) -> MachineJob:
    verify = Verify.BOOT if each.boot else Verify.NONE
    return MachineJob(
        name,
        (Path(f"/in/{name}"),),
        Path("/out"),
        verify=verify,
        wave=each.wave,
        priority=each.priority,
        window=each.window,
    )
