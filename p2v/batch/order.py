"""In which order jobs that are ready should begin, so that a night is packed well; pure.

Priorities first, always. Then what the end would wait for: the jobs of a storage (or server) that needs longer for all of its own
than the fleet needs for everything at all of its places, and single jobs that are longer than their share of all that is left;
of those, the longest need first. The rest in the manifest's order: large and small machines side by side keep copying and
booting busy all along.

What boots has a second stage before it, so it goes first while few wait for their boot (Johnson's rule for two machines: the short
first stage and the long second one early), and behind the others while many wait: then they fill the places for copies, which
else lie idle until a boot has ended. Sizes are known beforehand, how long a guest boots or is rewritten is not.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from p2v.batch.jobs import Budget, Job, Verify
from p2v.batch.lanes import Lanes
from p2v.core.units import MIB

# only what is long beside what matters here: bytes a second of a copy that nothing holds back
_SPEED = 100 * MIB
_LONG = 2.0
_NARROW = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's bytes come from and go to. ``storages``: names of devices, and of servers (``lanes.server_lane``); ``size``:
    about how many bytes to copy.
    """

    storages: tuple[str, ...] = ()
    size: int = 0


class Pick(enum.Enum):
    """Which of the others begins next."""

    SMALL = enum.auto()
    LARGE = enum.auto()


Kind = tuple[tuple[str, ...], bool]
"""What decides whether there is room for a job: its storages, and whether it boots."""


def kind_of(job: Job, places: Mapping[str, Place]) -> Kind:
    """A job's."""
    return places.get(job.machine.name, Place()).storages, job.machine.verify is Verify.BOOT


@dataclass(slots=True)
class _Both:
    """Jobs of one kind, of which the smallest or the largest can be seen; the manifest's order among equals, from both ends."""

    small: deque[tuple[float, int, Job]]
    large: deque[tuple[float, int, Job]]

    @classmethod
    def of(cls, jobs: Sequence[tuple[int, Job]], seconds: Mapping[str, float]) -> _Both:
        small = sorted((seconds[job.machine.name], number, job) for number, job in jobs)
        return cls(deque(small), deque(sorted((-size, number, job) for size, number, job in small)))

    def first(self, pick: Pick, taken: Container[str]) -> tuple[float, int, Job] | None:
        """The next, with what it goes by."""
        end = self.small if pick is Pick.SMALL else self.large
        while end and end[0][2].machine.name in taken:
            end.popleft()
        return end[0] if end else None


@dataclass(slots=True)
class _Group:
    """Jobs of one rank that all boot, or of which none does, by their kinds."""

    kinds: dict[Kind, _Both]

    @classmethod
    def of(
        cls, jobs: Sequence[tuple[int, Job]], seconds: Mapping[str, float], places: Mapping[str, Place]
    ) -> _Group:
        kinds: dict[Kind, list[tuple[int, Job]]] = {}
        for number, job in jobs:
            kinds.setdefault(kind_of(job, places), []).append((number, job))
        return cls({kind: _Both.of(each, seconds) for kind, each in kinds.items()})

    def first(self, pick: Pick, taken: Container[str], barred: Container[Kind]) -> Job | None:
        """The next of those kinds that are not barred; kinds without jobs are forgotten."""
        best: tuple[float, int, Job] | None = None
        for kind in list(self.kinds):
            if kind in barred:
                continue
            first = self.kinds[kind].first(pick, taken)
            if first is None:
                del self.kinds[kind]
            elif best is None or first[:2] < best[:2]:
                best = first
        return None if best is None else best[2]


@dataclass(slots=True)
class Line:
    """Jobs that are ready, from which the next is taken again and again."""

    _groups: deque[tuple[_Group, _Group]]
    """Those that boot and those that do not, of one rank each."""
    taken: set[str] = field(default_factory=set)
    """Names of jobs that have begun."""

    @classmethod
    def of(cls, ready: Sequence[Job], places: Mapping[str, Place], budget: Budget, lanes: Lanes) -> Line:
        """Jobs in the manifest's order."""
        ranks = _Ranks.of(ready, places, budget, lanes)
        grouped: dict[tuple[float, ...], tuple[list[tuple[int, Job]], list[tuple[int, Job]]]] = {}
        for number, job in enumerate(ready):
            booting, others = grouped.setdefault((-job.machine.priority, *ranks.of_job(job)), ([], []))
            (booting if job.machine.verify is Verify.BOOT else others).append((number, job))
        ordered = [grouped[rank] for rank in sorted(grouped)]
        seconds = ranks.seconds
        return cls(deque((_Group.of(one, seconds, places), _Group.of(other, seconds, places)) for one, other in ordered))

    def first(self, pick: Pick, *, boots_wait: bool, barred: Container[Kind] = ()) -> Job | None:
        """The next job; it stays in line until it is among ``taken``. None: there is none. ``boots_wait``: enough wait for their
        boot already; ``barred``: kinds that there is no room for.
        """
        while self._groups and not any(group.kinds for group in self._groups[0]):
            self._groups.popleft()
        for booting, others in self._groups:
            for each in (others, booting) if boots_wait else (booting, others):
                if (job := each.first(pick, self.taken, barred)) is not None:
                    return job
        return None


@dataclass(frozen=True, slots=True)
class _Ranks:
    """``seconds``: that a job copies, by its name; ``narrow``: those that a lane needs, of lanes that the end would wait for;
    ``long``: seconds from which on a job is long.
    """

    places: Mapping[str, Place]
    seconds: Mapping[str, float]
    narrow: Mapping[str, float]
    long: float

    @classmethod
    def of(cls, ready: Sequence[Job], places: Mapping[str, Place], budget: Budget, lanes: Lanes) -> _Ranks:
        demand = Demand.of(ready, places, budget, lanes)
        return cls(places, demand.seconds, demand.narrow, demand.whole / _LONG)

    def of_job(self, job: Job) -> tuple[float, float]:
        """The less, the earlier."""
        name = job.machine.name
        own = self.seconds[name] if self.seconds[name] >= self.long else 0.0
        narrow = [self.narrow.get(lane, 0.0) for lane in self.places.get(name, Place()).storages] if self.narrow else []
        return -max([own, *narrow]), -own


@dataclass(slots=True)
class Demand:
    """What jobs need: seconds that each copies, by its name, and the bytes over each lane; of those that have not begun.

    ``speeds``: bytes a second that go over each lane at best.
    """

    places: Mapping[str, Place]
    budget: Budget
    seconds: dict[str, float] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    total: float = 0.0

    @classmethod
    def of(cls, ready: Sequence[Job], places: Mapping[str, Place], budget: Budget, lanes: Lanes) -> Demand:
        made = cls(places, budget)
        for job in ready:
            place = places.get(job.machine.name, Place())
            rates = [each for lane in place.storages if (each := lanes.over(lane).bytes_per_second) is not None]
            made.seconds[job.machine.name] = place.size / min(_SPEED, *rates) if rates else place.size / _SPEED
            for lane in place.storages:
                made.moved[lane] = made.moved.get(lane, 0) + place.size
        made.speeds = {lane: _lane_speed(lane, budget, lanes) for lane in made.moved}
        made.total = sum(made.seconds.values())
        return made

    @property
    def whole(self) -> float:
        """Seconds of all of it at all places for copies."""
        return self.total / self.budget.copies

    @property
    def narrow(self) -> Mapping[str, float]:
        """Seconds that a lane needs, of lanes that the end would wait for."""
        needed = {lane: moved / self.speeds[lane] for lane, moved in self.moved.items()}
        least = self.whole * _NARROW
        return {lane: each for lane, each in needed.items() if each > least}

    def begin(self, name: str) -> None:
        """Without one that begins."""
        place = self.places.get(name, Place())
        self.total -= self.seconds.pop(name, 0.0)
        for lane in place.storages:
            self.moved[lane] -= place.size


def _lane_speed(lane: str, budget: Budget, lanes: Lanes) -> float:
    """Bytes a second of all copies over a lane together, at best."""
    share = lanes.over(lane)
    alone = _SPEED * min(share.copies or budget.copies, budget.copies)
    return min(alone, share.bytes_per_second) if share.bytes_per_second else alone
