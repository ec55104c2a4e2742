"""Which jobs may begin now: waves, windows of time, priorities, and places by phase; pure.

A job holds a place for copying until it has copied, so that phases of different machines overlap. How many appliances run and how
many guests boot at once is seen to by the children themselves (``p2v.core.turns``), which wait for their turn: most guests that
need no rewriting are known as such only when they have been looked at. On a cluster that is each worker's affair.

In which order they begin: ``p2v.batch.order``. What their copies may use meanwhile: ``p2v.batch.rates``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from functools import cached_property
from types import MappingProxyType

from p2v.batch.jobs import Budget, Job, MachineJob, State, Verify
from p2v.batch.lanes import Lanes
from p2v.batch.order import Kind, Line, Pick, Place, kind_of
from p2v.batch.rates import Copying, Rates
from p2v.core.turns import APPLIANCE_PHASE
from p2v.core.units import GIB, MIB, parse_size

__all__ = ["Beginning", "Dispatch", "Holding", "Place", "Setting", "beginnings", "changed_limits", "choose"]

_READING_BYTES, _APPLIANCE_BYTES, _BOOT_BYTES = 256 * MIB, GIB, 2 * GIB
_BOOTS_WAITING = 2
"""For each place to boot: when more have copied and are to boot, others may begin first."""
_COPYING = "copy"
_REWRITING = "rewrite"
_BOOTING = ("turn", "instrument", "boot")
_AFTER_BOTH = frozenset({"commit", "checksum", "publish", *_BOOTING})


@dataclass(frozen=True, slots=True)
class Holding:
    """What a job under way still needs. ``has_begun``: it copies now; ``boots``: it will boot, or does.

    ``waits``: for its turn at an appliance. ``limit``: bytes a second that its copy was told last;
    ``unheard``, ``most``: see ``rates.Copying``. ``hangs``: on a storage that does not answer.
    """

    storages: tuple[str, ...] = ()
    copies: bool = True
    rewrites: bool = True
    boots: bool = False
    limit: int | None = None
    has_begun: bool = False
    unheard: int = 0
    most: int | None = None
    waits: bool = False
    hangs: bool = False

    @classmethod
    def of(cls, machine: MachineJob, storages: tuple[str, ...] = (), limit: int | None = None) -> Holding:
        """What a machine's job holds when it begins."""
        return cls(storages, boots=machine.verify is Verify.BOOT, limit=limit, most=own_limit(machine))

    def after(self, kind: str, phase: str) -> Holding:
        """What it needs after an event of a phase (``phase-started``, ``phase-finished``)."""
        ended = kind == "phase-finished"
        if phase == APPLIANCE_PHASE:
            return replace(self, waits=not ended)
        if phase == _COPYING:
            return replace(self, copies=not ended, has_begun=not ended)
        if phase == _REWRITING:
            return replace(self, rewrites=not ended)
        if phase in _AFTER_BOTH:
            still = self.boots and not (ended and phase == _BOOTING[-1])
            return replace(self, copies=False, has_begun=False, rewrites=False, boots=still)
        return self

    def told(self, limit: int) -> Holding:
        """After it was told another limit."""
        return replace(self, limit=limit, unheard=max(self.unheard, self.limit or 0))

    def heard(self, limit: int) -> Holding:
        """After it said that it goes by a limit; earlier ones that it tells of late count for nothing."""
        return replace(self, unheard=0) if limit == self.limit else self

    def freed(self) -> Holding:
        """What it needs when the conversion has ended: nothing that others wait for."""
        return replace(self, copies=False, has_begun=False, rewrites=False, boots=False)

    @property
    def counted(self) -> Holding:
        """What it keeps from others: while it hangs, no place, for it does nothing there."""
        return replace(self.freed(), waits=False) if self.hangs else self

    @property
    def memory_bytes(self) -> int:
        """What it may come to use from now on at most, as a rule."""
        later = (_APPLIANCE_BYTES if self.rewrites else 0, _BOOT_BYTES if self.boots else 0)
        return _READING_BYTES + max(later)


@dataclass(frozen=True, slots=True)
class Beginning:
    """A job that may begin, and how many bytes a second it may copy; None: as fast as it goes."""

    name: str
    limit: int | None = None


_NO_PLACES: Mapping[str, Place] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """Where jobs run. ``host``: this host's name, for machines that are pinned; None: all hosts are reached. ``lanes``: what may go
    over storages and servers; None: what the budget says of all of them. ``chosen``: machines beside which all others are as if
    they were not in the batch, but for what they take while they run.
    ``unseen``: machines that are not begun yet, for it is not known where their bytes are.
    """

    places: Mapping[str, Place] = field(default_factory=lambda: _NO_PLACES)
    host: str | None = ""
    lanes: Lanes | None = None
    chosen: Container[str] | None = None
    unseen: Container[str] = ()

    def rates(self, budget: Budget) -> Rates:
        """How copies share."""
        return Rates(self.lanes or Lanes.of(budget), budget.copies)


def choose(
    jobs: Sequence[Job],
    running: Mapping[str, Holding],
    budget: Budget,
    now: float,
    local_time: time,
    setting: Setting | None = None,
) -> tuple[str, ...]:
    """Names of the jobs that may begin now, beside those that run, in the order in which they should."""
    return tuple(each.name for each in beginnings(jobs, running, budget, now, local_time, setting))


def beginnings(
    jobs: Sequence[Job],
    running: Mapping[str, Holding],
    budget: Budget,
    now: float,
    local_time: time,
    setting: Setting | None = None,
) -> tuple[Beginning, ...]:
    """The same with the rate that each may use at first.

    Jobs that another runner has leases of count as what their phase needs.
    """
    setting = setting or Setting()
    room = _Room(budget, setting, {**_of_others(jobs, running, now, setting.places), **running})
    if room.is_full:
        return ()
    wished = jobs if setting.chosen is None else [job for job in jobs if job.machine.name in setting.chosen]
    ready = [job for job in _ready(wished, running, now, local_time, setting.host) if job.machine.name not in setting.unseen]
    chosen = Dispatch.of(ready, room.held, budget, setting).begin()
    return tuple(Beginning(name, holding.limit) for name, holding in chosen)


def changed_limits(running: Mapping[str, Holding], budget: Budget, setting: Setting | None = None) -> Mapping[str, int]:
    """What copies are to be told now, by names: bytes a second. Those that must go slower first."""
    rates = (setting or Setting()).rates(budget)
    if not rates.lanes.has_rates:
        return {}
    copying = {
        name: Copying(each.storages, each.has_begun, each.limit, each.unheard, each.most)
        for name, each in running.items()
        if each.copies and each.limit is not None
    }
    return rates.changes(copying)


def own_limit(machine: MachineJob) -> int | None:
    """Bytes a second that a machine's own options allow its copy; None: they say nothing (or nothing that `p2v convert` takes)."""
    said = [each.removeprefix("--limit=") for each in machine.options if each.startswith("--limit=")]
    try:
        return max(1, parse_size(said[-1])) if said else None
    except (ValueError, OverflowError):
        return None


def is_open(job: Job, now: float) -> bool:
    """Whether nobody works at a job that has not ended: it waits, or the lease of who worked is over."""
    return job.state is State.WAITING or (job.state is State.RUNNING and job.lease_until <= now)


def wave_of(jobs: Sequence[Job]) -> int:
    """The wave that is on: the first that has not ended."""
    return min((job.machine.wave for job in jobs if not job.state.is_end), default=0)


def is_reached(job: Job, host: str | None) -> bool:
    """Whether a host may run a job; None: all hosts are reached."""
    return host is None or job.machine.host in ("", host)


def _ready(
    jobs: Sequence[Job], running: Mapping[str, Holding], now: float, local_time: time, host: str | None
) -> list[Job]:
    wave = wave_of(jobs)
    return [
        job
        for job in jobs
        if is_open(job, now)
        and job.machine.name not in running
        and job.machine.wave == wave
        and is_reached(job, host)
        and job.not_before <= now
        and (job.machine.window is None or job.machine.window.holds(local_time))
    ]


def _of_others(
    jobs: Sequence[Job], running: Mapping[str, Holding], now: float, places: Mapping[str, Place]
) -> dict[str, Holding]:
    others = [job for job in jobs if job.state is State.RUNNING and job.lease_until > now]
    return {
        job.machine.name: Holding.of(job.machine, places.get(job.machine.name, Place()).storages).after(
            "phase-started", job.phase
        )
        for job in others
        if job.machine.name not in running
    }


@dataclass
class Dispatch:
    """Jobs that are ready, which begin whenever there is room beside what is held (by names; it changes between calls)."""

    _line: Line
    _room: _Room

    @classmethod
    def of(
        cls,
        ready: Sequence[Job],
        held: dict[str, Holding],
        budget: Budget,
        setting: Setting,
        taken: set[str] | None = None,
    ) -> Dispatch:
        """Jobs in the manifest's order. ``taken``: names of those that have begun meanwhile; those that begin are added."""
        sizes = [setting.places.get(job.machine.name, Place()).size for job in ready]
        boots = any(job.machine.verify is Verify.BOOT for job in ready)
        room = _Room(budget, setting, held, sum(sizes) / max(1, len(sizes)), boots)
        line = Line.of(ready, setting.places, budget, room.rates.lanes)
        line.taken = set() if taken is None else taken
        return cls(line, room)

    def begin(self) -> Iterator[tuple[str, Holding]]:
        """Those that begin now, in their order; each is held from then on."""
        room, line = self._room, self._line
        refused = set[Kind]()
        while not room.is_full:
            job = line.first(room.pick, boots_wait=room.boots_wait, barred=refused)
            if job is None:
                return
            holding = room.admit(job.machine, room.setting.places.get(job.machine.name, Place()))
            if holding is None:
                # room only becomes less
                refused.add(kind_of(job, room.setting.places))
                continue
            line.taken.add(job.machine.name)
            room.held[job.machine.name] = holding
            yield job.machine.name, holding


@dataclass
class _Room:
    """What is left of the budget beside what is held. ``usual_size``, ``boots_at_all``: of the jobs that are ready."""

    budget: Budget
    setting: Setting
    held: dict[str, Holding]
    usual_size: float = 0.0
    boots_at_all: bool = False

    @cached_property
    def rates(self) -> Rates:
        """How copies share."""
        return self.setting.rates(self.budget)

    @property
    def is_full(self) -> bool:
        """Whether no job at all can begin."""
        held, budget = self.held.values(), self.budget
        # so many may hang beside those that work: each is a process that all go on when the storage comes back
        hanging = min(sum(each.hangs for each in held), budget.jobs)
        return bool(held) and (
            len(held) - hanging >= budget.jobs
            or sum(each.copies for each in held) >= budget.copies
        )

    @property
    def _at_boots(self) -> int:
        """Jobs that nothing but their boot is left of."""
        return sum(each.boots and not each.copies and not each.rewrites for each in self.held.values())

    @property
    def boots_wait(self) -> bool:
        """Whether enough have copied that are to boot."""
        return self._at_boots > _BOOTS_WAITING * self.budget.boots

    @property
    def pick(self) -> Pick:
        """Whether a small or a large one begins next."""
        sizes = [self.setting.places.get(name, Place()).size for name, each in self.held.items() if each.copies]
        large = sum(size > self.usual_size for size in sizes)
        waiting = sum(each.waits for each in self.held.values())
        if waiting >= self.budget.appliances or self.boots_wait:
            return Pick.LARGE if large < max(1, self.budget.copies - 1) else Pick.SMALL
        if self.boots_at_all and self._at_boots <= self.budget.boots:
            return Pick.SMALL
        return Pick.SMALL if large else Pick.LARGE

    def admit(self, machine: MachineJob, place: Place) -> Holding | None:
        """What a job will hold when it begins; None: there is no room for it.

        One that is too large for all of the budget runs alone rather than never.
        """
        wanted = Holding.of(machine, place.storages)
        if self.held and not self._fits(wanted):
            return None
        return replace(wanted, limit=self.rates.first(place.storages, wanted.most)) if self.rates.lanes.has_rates else wanted

    def _fits(self, wanted: Holding) -> bool:
        memory, held = self.budget.memory_bytes, self.held.values()
        if memory is not None and sum(each.memory_bytes for each in held) + wanted.memory_bytes > memory:
            return False
        return all(self._has_place_on(lane) for lane in wanted.storages)

    def _has_place_on(self, lane: str) -> bool:
        copies = self.rates.lanes.over(lane).copies
        return copies is None or sum(each.copies and lane in each.storages for each in self.held.values()) < copies
