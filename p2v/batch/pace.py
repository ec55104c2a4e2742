"""How long a machine's phases take: measured of those that have ended, or are under way; where nothing was, assumed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from p2v.batch.jobs import Job, MachineJob, State, Verify
from p2v.batch.kinds import COPY
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.scheduling import Setting, own_limit
from p2v.core.turns import APPLIANCE_PHASE, PHASE
from p2v.core.units import MIB, format_bytes

COPY_RATE = 100 * MIB
"""Bytes a second that a copy is assumed to do while none was seen."""
REWRITE_SECONDS, BOOT_SECONDS, LEAD_SECONDS = 20.0, 60.0, 3.0
"""What is assumed of each while none was seen; the last: what a conversion takes before it copies."""
_BOUND_FROM = 0.6
"""Part of a rate from which on it is taken to be all used: while a copy begins or ends, some of it is not."""
_ANCHOR, _LEAST_SECONDS = 256 * MIB, 1.0
"""Bytes of which it is assumed what they take, and what a copy of next to nothing does."""
LEAST_SHARE = 0.05
"""Of a copy, before it tells how quick it is."""
AFTER_COPY = ("commit", "checksum", "losses", "publish")
BOOTS = ("instrument", "boot")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a machine takes: ``fixed``, and ``each`` for a byte of its size."""

    fixed: float
    each: float

    def seconds(self, size: int) -> float:
        """Of a machine of this size."""
        return self.fixed + self.each * size


@dataclass(frozen=True, slots=True)
class Paces:
    """Of the parts of a conversion: ``lead`` before it copies, ``copy`` and ``rewrite`` side by side, ``tail`` (what is checked and
    committed), ``boot`` where it is proven by one. Waiting for turns is in none of them. ``assumed``: in words, what was not
    measured.
    """

    lead: float
    copy: Pace
    rewrite: float
    tail: Pace
    boot: float
    assumed: tuple[str, ...] = ()
    plain: frozenset[str] = frozenset()
    """Names of machines that are known to be left as they are; ``rewrite`` is of all others."""
    over: Mapping[tuple[str, ...], Pace] = field(default_factory=dict)
    """Of copies between those storages and servers where some were seen; ``copy`` is of all others."""

    def copy_over(self, storages: tuple[str, ...]) -> Pace:
        """Of copies that go over these."""
        return self.over.get(storages, self.copy)

    def copy_seconds(self, machine: MachineJob, storages: tuple[str, ...], size: int) -> float:
        """Of a machine's copy that nothing but its own limit holds back."""
        seconds, own = self.copy_over(storages).seconds(size), own_limit(machine)
        return seconds if own is None else max(seconds, size / own)

    def rewrite_seconds(self, machine: MachineJob) -> float:
        """Of a machine's rewriting; 0 where it is known that there is none."""
        return 0.0 if machine.name in self.plain else self.rewrite

    def boot_seconds(self, machine: MachineJob) -> float:
        """Of a machine's boot; 0 where it is not booted."""
        return self.boot if machine.verify is Verify.BOOT else 0.0


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a copy has done, of ``size`` bytes, from ``began`` (seconds since 1970) on."""

    storages: tuple[str, ...]
    size: float
    seconds: float
    began: float


@dataclass(frozen=True, slots=True)
class _Parts:
    """Seconds of the parts of one conversion."""

    size: int
    storages: tuple[str, ...]
    began: float
    lead: float
    copy: float
    rewrite: float
    tail: float
    boot: float | None

    @classmethod
    def of(cls, job: Job, size: int, storages: tuple[str, ...]) -> _Parts:
        told, whole = job.seconds, max(0.0, job.ended - job.began)
        boots = [told[name] for name in BOOTS if name in told]
        rewrite, tail = told.get("rewrite", 0.0), sum(told.get(name, 0.0) for name in AFTER_COPY)
        rest = max(0.0, whole - tail - sum(boots) - told.get(PHASE, 0.0))
        boot = sum(boots) if boots else None
        if COPY not in told:
            return cls(size, storages, job.began, 0.0, rest, rewrite, tail, boot)
        both = max(told[COPY], rewrite + told.get(APPLIANCE_PHASE, 0.0))
        return cls(size, storages, job.began, max(0.0, rest - both), told[COPY], rewrite, tail, boot)


def paces_of(jobs: Sequence[Job], sizes: Mapping[str, int], now: float, setting: Setting | None = None) -> Paces:
    """``sizes``: of all jobs, by their names; ``setting``: where they are copied from and to; ``now``: seconds since 1970."""
    setting = setting or Setting()

    def storages_of(job: Job) -> tuple[str, ...]:
        return setting.places.get(job.machine.name, Place()).storages

    done = [job for job in jobs if job.state is State.DONE and job.ended >= job.began > 0]
    parts = [_Parts.of(job, sizes[job.machine.name], storages_of(job)) for job in done]
    copies = [_Copy(each.storages, each.size, each.copy, each.began + each.lead) for each in parts]
    going = [
        (copied_share(job), _Copy(storages_of(job), *seen, now - seen[1]))
        for job in jobs
        if (seen := _copying(job, sizes, now)) is not None
    ]
    bound = _bound([*copies, *(copy for _, copy in going)], setting.lanes)
    copies += [copy for share, copy in going if share >= LEAST_SHARE]
    assumed = assumed_paces()
    boots = [each.boot for each in parts if each.boot is not None]
    words = [] if copies else [assumed.assumed[0]]
    words += [] if parts else [assumed.assumed[1]]
    words += [] if boots or not any(job.machine.verify is Verify.BOOT for job in jobs) else [assumed.assumed[2]]
    overall, over = _copy_paces(copies, bound)
    return Paces(
        lead=mean(each.lead for each in parts) if parts else assumed.lead,
        copy=overall,
        rewrite=mean(each.rewrite for each in parts) if parts else assumed.rewrite,
        tail=_tail_pace([(each.size, each.tail) for each in parts]) if parts else assumed.tail,
        boot=mean(boots) if boots else assumed.boot,
        assumed=tuple(words),
        over=over,
    )


def _copy_paces(copies: Sequence[_Copy], bound: Mapping[str, int]) -> tuple[Pace, Mapping[tuple[str, ...], Pace]]:
    """Of all copies and of those over each of several storages. ``bound``: rates of those that are all used: what their copies
    took, they took for want of it, and one that is alone there has all of it.
    """
    kinds: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for each in copies:
        kinds.setdefault(each.storages, []).append((each.size, each.seconds))
    free = [(each.size, each.seconds) for each in copies if not set(each.storages) & bound.keys()]
    over = {
        storages: Pace(0.0, 1 / min(bound[lane] for lane in storages if lane in bound))
        if set(storages) & bound.keys()
        else _copy_pace(seen)
        for storages, seen in kinds.items()
    }
    return _copy_pace(free), over if bound or len(over) > 1 else {}


def _bound(copies: Sequence[_Copy], lanes: Lanes | None) -> Mapping[str, int]:
    """Storages and servers whose rate is what their copies were held back by; with the rate, bytes a second."""
    spans: dict[str, list[_Copy]] = {}
    for each in copies if lanes is not None and lanes.has_rates else ():
        for lane in each.storages:
            spans.setdefault(lane, []).append(each)
    found = {}
    for lane, over in spans.items():
        rate = lanes.over(lane).bytes_per_second if lanes is not None else None
        busy, end = 0.0, 0.0
        for each in sorted(over, key=lambda each: each.began):
            until = each.began + each.seconds
            busy += max(0.0, until - max(each.began, end))
            end = max(end, until)
        if rate is not None and sum(each.size for each in over) >= _BOUND_FROM * rate * busy:
            found[lane] = rate
    return found


def assumed_paces() -> Paces:
    """Where nothing of this batch was seen; in words of a copy, of rewriting and of a boot, in this order."""
    words = (
        f"{format_bytes(COPY_RATE)} a second for a copy",
        f"{REWRITE_SECONDS:.0f} s to rewrite a guest",
        f"{BOOT_SECONDS:.0f} s for a boot",
    )
    return Paces(LEAD_SECONDS, Pace(0.0, 1 / COPY_RATE), REWRITE_SECONDS, Pace(0.0, 0.0), BOOT_SECONDS, words)


def pace_of(measured: Sequence[tuple[float, float]]) -> Pace:
    """The line through sizes and seconds, of which neither part is below nothing. A machine of twice the size may be off by twice
    as much, so that the small ones tell of the fixed part, and the large ones of what a byte takes.
    """
    usual = sum(size for size, _ in measured) / len(measured) or 1.0
    weighed = [(1.0 / (usual + size) ** 2, size, seconds) for size, seconds in measured]
    whole = sum(weight for weight, _, _ in weighed)
    mean_size = sum(weight * size for weight, size, _ in weighed) / whole
    mean_seconds = sum(weight * seconds for weight, _, seconds in weighed) / whole
    spread = sum(weight * (size - mean_size) ** 2 for weight, size, _ in weighed)
    together = sum(weight * (size - mean_size) * (seconds - mean_seconds) for weight, size, seconds in weighed)
    each = together / spread if spread else 0.0
    if each < 0:
        return Pace(mean_seconds, 0.0)
    if mean_seconds < each * mean_size:
        return Pace(
            0.0, sum(w * size * seconds for w, size, seconds in weighed) / sum(w * size**2 for w, size, _ in weighed)
        )
    return Pace(mean_seconds - each * mean_size, each)


def _copy_pace(measured: Sequence[tuple[float, float]]) -> Pace:
    return _anchored(measured, (0, _LEAST_SECONDS), (_ANCHOR, _LEAST_SECONDS + _ANCHOR / COPY_RATE))


def _tail_pace(measured: Sequence[tuple[float, float]]) -> Pace:
    return _anchored(measured, (0, 0.0), (_ANCHOR, 0.0))


def _anchored(measured: Sequence[tuple[float, float]], *anchors: tuple[float, float]) -> Pace:
    """Beside what is assumed of nothing and of little: what took a second because it is tiny tells nothing of what is large."""
    if measured and not any(size for size, _ in measured):
        return Pace(mean(seconds for _, seconds in measured), 0.0)
    return pace_of([*measured, *anchors])


def _copying(job: Job, sizes: Mapping[str, int], now: float) -> tuple[float, float] | None:
    """Bytes that a copy that goes on has done, and the seconds that this took."""
    share = copied_share(job)
    if (
        job.state is not State.RUNNING
        or job.phase not in (COPY, "rewrite", APPLIANCE_PHASE)
        or not 0 < share < 1
    ):
        return None
    return sizes[job.machine.name] * share, max(0.1, now - job.began - LEAD_SECONDS)


def copied_share(job: Job) -> float:
    """How much of its disks is copied, from 0 to 1."""
    return min(1.0, job.bytes_copied / job.bytes_total) if job.bytes_total else 0.0
