"""Which jobs may begin now: waves, windows of time, priorities, and places by phase; pure.

A job holds a place for copying until it has copied and one for an appliance until it is rewritten, so that phases of different
machines overlap. How many boot at once is seen to by the children themselves (``p2v.core.turns``), which wait for their turn.

Among equals what is longer than its share of all that is left begins first: begun late, it is what a night ends with. The others
begin in the manifest's order: large and small machines side by side keep copying, rewriting and booting busy all along.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from types import MappingProxyType

from p2v.batch.jobs import Budget, Job, MachineJob, State, Verify
from p2v.core.units import GIB, KIB, MIB

LEAST_RATE = 64 * KIB
"""Bytes a second; `p2v convert --limit` takes no less."""
_READING_BYTES, _APPLIANCE_BYTES, _BOOT_BYTES = 256 * MIB, GIB, 2 * GIB
_LONG = 2.0
_COPYING = "copy"
_REWRITING = "rewrite"
_BOOTING = ("turn", "instrument", "boot")
_AFTER_BOTH = frozenset({"commit", "checksum", "publish", *_BOOTING})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's bytes come from and go to. ``storages``: names of devices; ``size``: about how many bytes to copy."""

    storages: tuple[str, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """What a job under way still needs. ``limit``: bytes a second that its copy may use; ``boots``: it will boot, or does."""

    storages: tuple[str, ...] = ()
    copies: bool = True
    rewrites: bool = True
    boots: bool = False
    limit: int | None = None

    @classmethod
    def of(cls, machine: MachineJob, storages: tuple[str, ...] = (), limit: int | None = None) -> Holding:
        """What a machine's job holds when it begins."""
        return cls(storages, boots=machine.verify is Verify.BOOT, limit=limit)

    def after(self, kind: str, phase: str) -> Holding:
        """What it needs after an event of a phase (``phase-started``, ``phase-finished``)."""
        ended = kind == "phase-finished"
        if phase == _COPYING:
            return replace(self, copies=not ended)
        if phase == _REWRITING:
            return replace(self, rewrites=not ended)
        if phase in _AFTER_BOTH:
            still = self.boots and not (ended and phase == _BOOTING[-1])
            return replace(self, copies=False, rewrites=False, boots=still)
        return self

    def freed(self) -> Holding:
        """What it needs when the conversion has ended: nothing that others wait for."""
        return replace(self, copies=False, rewrites=False, boots=False)

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


def choose(
    jobs: Sequence[Job],
    running: Mapping[str, Holding],
    budget: Budget,
    now: float,
    local_time: time,
    *,
    places: Mapping[str, Place] = _NO_PLACES,
    host: str | None = "",
) -> tuple[str, ...]:
    """Names of the jobs that may begin now, beside those that run, in the order in which they should."""
    found = beginnings(jobs, running, budget, now, local_time, places=places, host=host)
    return tuple(each.name for each in found)


def beginnings(
    jobs: Sequence[Job],
    running: Mapping[str, Holding],
    budget: Budget,
    now: float,
    local_time: time,
    *,
    places: Mapping[str, Place] = _NO_PLACES,
    host: str | None = "",
    chosen: Container[str] | None = None,
) -> tuple[Beginning, ...]:
    """The same with the rate that each may use.

    ``host``: this host's name, for machines that are pinned; None: all hosts are reached. ``chosen``: machines beside which all
    others are as if they were not in the batch, but for what they take while they run. Jobs that another runner has leases of
    count as what their phase needs.
    """
    wished = jobs if chosen is None else [job for job in jobs if job.machine.name in chosen]
    ready = _in_order(wished, running, now, local_time, places, host, budget.copies)
    room = _Room(budget, {**_of_others(jobs, running, now, places), **running})
    begun = []
    for number, job in enumerate(ready):
        if room.is_full:
            break
        name, place = job.machine.name, places.get(job.machine.name, Place())
        rivals = (
            []
            if budget.bytes_per_second is None
            else [places.get(e.machine.name, Place()) for e in ready[number + 1 :]]
        )
        holding = room.admit(job.machine, place, rivals)
        if holding is not None:
            room.held[name] = holding
            begun.append(Beginning(name, holding.limit))
    return tuple(begun)


def is_open(job: Job, now: float) -> bool:
    """Whether nobody works at a job that has not ended: it waits, or the lease of who worked is over."""
    return job.state is State.WAITING or (job.state is State.RUNNING and job.lease_until <= now)


def wave_of(jobs: Sequence[Job]) -> int:
    """The wave that is on: the first that has not ended."""
    return min((job.machine.wave for job in jobs if not job.state.is_end), default=0)


def is_reached(job: Job, host: str | None) -> bool:
    """Whether a host may run a job; None: all hosts are reached."""
    return host is None or job.machine.host in ("", host)


def _in_order(
    jobs: Sequence[Job],
    running: Mapping[str, Holding],
    now: float,
    local_time: time,
    places: Mapping[str, Place],
    host: str | None,
    copies: int,
) -> list[Job]:
    wave = wave_of(jobs)
    ready = [
        job
        for job in jobs
        if is_open(job, now)
        and job.machine.name not in running
        and job.machine.wave == wave
        and is_reached(job, host)
        and job.not_before <= now
        and (job.machine.window is None or job.machine.window.holds(local_time))
    ]
    sizes = {job.machine.name: places.get(job.machine.name, Place()).size for job in ready}
    # what takes longer than its share of all that is left is what the end would wait for
    long = sum(sizes.values()) / (copies * _LONG)

    def order(job: Job) -> tuple[int, int]:
        size = sizes[job.machine.name]
        return -job.machine.priority, -size if size and size >= long else 0

    # sorting keeps the manifest's order among equals
    return sorted(ready, key=order)


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


@dataclass(slots=True)
class _Room:
    """What is left of the budget beside what is held."""

    budget: Budget
    held: dict[str, Holding] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether no job at all can begin."""
        held, budget = self.held.values(), self.budget
        return bool(held) and (
            len(held) >= budget.jobs
            or sum(each.copies for each in held) >= budget.copies
            or sum(each.rewrites for each in held) >= budget.appliances
        )

    def admit(self, machine: MachineJob, place: Place, rivals: Sequence[Place]) -> Holding | None:
        """What a job will hold when it begins; None: there is no room for it. ``rivals``: places of those that come after it.

        One that is too large for all of the budget runs alone rather than never.
        """
        wanted = Holding.of(machine, place.storages)
        if self.held and not self._fits(wanted):
            return None
        if self.budget.bytes_per_second is None:
            return wanted
        rate = self._rate(place, rivals)
        return None if rate is None else replace(wanted, limit=rate)

    def _fits(self, wanted: Holding) -> bool:
        budget, held = self.budget, self.held.values()
        memory = budget.memory_bytes
        return (
            not self.is_full
            and (memory is None or sum(each.memory_bytes for each in held) + wanted.memory_bytes <= memory)
            and self._places_left(wanted.storages) > 0
        )

    def _places_left(self, storages: Sequence[str]) -> int:
        left = self.budget.copies - sum(each.copies for each in self.held.values())
        if self.budget.copies_per_storage is None:
            return left
        return min([left, *(self.budget.copies_per_storage - len(self._copying_on(name)) for name in storages)])

    def _copying_on(self, storage: str) -> list[Holding]:
        return [each for each in self.held.values() if each.copies and storage in each.storages]

    def _rate(self, place: Place, rivals: Sequence[Place]) -> int | None:
        """Its share of each of its storages' rates: what others left of it, divided by those that may still come."""
        total = self.budget.bytes_per_second or 0
        shares = []
        # without storages that are known there is one for all
        for storage in place.storages or ("",):
            on_it = self._copying_on(storage) if storage else [each for each in self.held.values() if each.copies]
            left = total - sum(each.limit or 0 for each in on_it)
            coming = 1 + sum(storage in rival.storages or not storage for rival in rivals)
            shares.append((left, left // max(1, min(self._places_left((storage,)), coming))))
        if min(left for left, _ in shares) < min(LEAST_RATE, total):
            return None
        return max(LEAST_RATE, min(share for _, share in shares))
