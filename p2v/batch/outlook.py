"""How a batch's plan would go if its run began at some moment: by waves and nights, with where the times come from. Pure.

The run is gone through as ``p2v.batch.foresight`` does for one that goes on, by what each machine has to copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from p2v.audit.sizing.values import Interval, Measured
from p2v.batch.copy_time import storage_rates
from p2v.batch.estimate import about, roughly, sizes_of
from p2v.batch.foresight import Foresight, Span, foresee
from p2v.batch.jobs import Batch, Job, MachineJob, Share, State, Verify, Window
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.pace import Pace, Paces, assumed_paces, paces_of
from p2v.batch.places import Places
from p2v.batch.planned import BatchPlan, MachinePlan, Outlook, Stretch
from p2v.batch.scheduling import Setting
from p2v.batch.storages import storage_of
from p2v.batch.terms import Terms
from p2v.batch.windows import next_change, whole_opening
from p2v.core.units import format_seconds
from p2v.preflight import Trouble

TOO_LONG = "longer-than-window"
"""The code of what is said of a machine that takes longer than its window is open."""
_APART = 600.0
"""Seconds in which nothing is under way, from which on another night begins."""


@dataclass(frozen=True, slots=True)
class Start:
    """The run that is thought of: when it begins, until when it begins anything, when it stops (seconds since 1970); and how
    the batch stands, ``sizes`` being about what machines that have ended had to copy.
    """

    begin: float
    until: float = float("inf")
    stop_at: float = float("inf")
    jobs: Sequence[Job] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    zone: tzinfo | None = None


def with_outlook(batch: Batch, plan: BatchPlan, places: Places, start: Start) -> BatchPlan:
    """The plan with its outlook, and what is to be known of machines that are longer than their windows. Without one where nothing
    is to be converted, or nobody knows what there is to copy.
    """
    going = {each.name: each for each in plan.planned if not each.is_blocked}
    if not any(each.copy_bytes is not None for each in going.values()):
        return plan
    night = _Night(batch, going, places, start)
    known, chances = night.chances(plan.measured)
    runs = [night.run(terms, paces) for terms, paces in chances]
    longest = max(runs, key=lambda run: run.seen.end)
    seconds = [run.seen.end - start.begin for run in runs]
    outlook = Outlook(
        begin=_iso(start.begin, start.zone),
        end=_iso(longest.seen.end, start.zone),
        seconds=Interval(min(seconds), max(seconds)),
        idle_seconds=longest.seen.idle,
        later=longest.seen.later,
        assumed=longest.paces.assumed,
        measured=known,
        stretches=tuple(_stretches(going, longest.seen, start.zone)),
        late=_late(batch, longest.seen, start.zone),
    )
    machines = {each.name: each for each in batch.machines}
    told = (longest.told(each, machines[each.name], start) if each.name in going else each for each in plan.machines)
    return replace(plan, outlook=outlook, machines=tuple(told))


@dataclass(frozen=True, slots=True)
class _Run:
    """One of the ways that it may go."""

    terms: Terms
    paces: Paces
    sizes: Mapping[str, int]
    seen: Foresight

    def told(self, plan: MachinePlan, machine: MachineJob, start: Start) -> MachinePlan:
        """With how long it takes by itself, and whether that is longer than its window."""
        seconds = self._alone(machine)
        window = machine.window
        if window is None or plan.copy_bytes is None:
            return replace(plan, takes_seconds=None if plan.copy_bytes is None else seconds)
        length = whole_opening(window, start.begin, start.zone)
        warnings = plan.warnings if seconds <= length else (*plan.warnings, _too_long(seconds, length, window))
        return replace(plan, takes_seconds=seconds, warnings=warnings)

    def _alone(self, machine: MachineJob) -> float:
        """Seconds that it takes when nobody else is under way."""
        size, place = self.sizes[machine.name], self.terms.setting.places.get(machine.name, Place())
        lanes = self.terms.setting.lanes or Lanes.of(self.terms.budget)
        rates = [rate for lane in place.storages if (rate := lanes.over(lane).bytes_per_second)]
        paces = self.paces
        copy = max([paces.copy_seconds(machine, place.storages, size), *(size / rate for rate in rates)])
        return paces.lead + max(copy, paces.rewrite_seconds(machine)) + paces.tail.seconds(size) + paces.boot_seconds(machine)


def _too_long(seconds: float, length: float, window: Window) -> Trouble:
    when = f"{window.begin:%H:%M}-{window.end:%H:%M}"
    takes, has = about(seconds), roughly(length)
    if takes.endswith(has):
        takes, has = format_seconds(seconds), format_seconds(length)
    return Trouble(
        TOO_LONG,
        f"it takes {takes}, and its window ({when}) {f'has {has}' if length else 'does not open'}",
        "What has begun goes on after its window has closed. With --stop-at it is stopped, and the next run goes on with its copy.",
    )


class _Night:
    """The machines that would be converted, as jobs."""

    def __init__(self, batch: Batch, going: Mapping[str, MachinePlan], places: Places, start: Start) -> None:
        self.batch, self.start = batch, start
        stands = {job.machine.name: job for job in start.jobs}
        known = {each.name: each.copy_bytes for each in going.values() if each.copy_bytes is not None}
        self.jobs = [
            Job(each, State.WAITING)
            if (job := stands.get(each.name)) is None or job.state is not State.RUNNING
            else job
            for each in batch.machines
            if each.name in going
        ]
        self.ended = [job for job in start.jobs if job.state is State.DONE]
        self.sizes = sizes_of([*self.jobs, *self.ended], {**start.sizes, **known})
        self.devices = {each.name: storage_of(each.folder) for each in going.values()}
        self.plain = frozenset(each.name for each in going.values() if not each.rewritten)
        self.places = {
            name: Place(tuple(dict.fromkeys((*places.lanes_of(name), device))), self.sizes[name])
            for name, device in self.devices.items()
        }
        self.lanes = Lanes.of(batch.budget, places.devices)

    def chances(self, measured: Sequence[Measured]) -> tuple[str, list[tuple[Terms, Paces]]]:
        """In words where the times come from, as far as anything was measured.

        Then what the run goes by, and how long things take: by what was measured, at its slowest and at its quickest.
        """
        setting = Setting(self.places, None, self.lanes)
        terms = Terms(self.batch.budget, setting, self.start.until, self.start.stop_at)
        rates = storage_rates(self.lanes, sorted(set(self.devices.values())), measured)
        if self.ended:
            paces = paces_of([*self.jobs, *self.ended], self.sizes, self.start.begin, setting)
            return f"as {len(self.ended)} of this batch took", [(terms, paces)]
        if measured and rates.keys() >= set(self.devices.values()):
            slow = {lane: rate.low or rate.high or 1.0 for lane, rate in rates.items()}
            quick = {lane: rate.high or rate.low for lane, rate in rates.items()}
            return "by the rates of the storages that were measured", [
                (replace(terms, setting=replace(setting, lanes=_limited(self.lanes, each))), self._quick(each))
                for each in (slow, quick)
            ]
        return "", [(terms, self._said(assumed_paces()))]

    def run(self, terms: Terms, paces: Paces) -> _Run:
        """Go through it."""
        seen = foresee(self.jobs, self.sizes, terms, paces, self.start.begin, self.start.zone)
        return _Run(terms, paces, self.sizes, seen)

    def _quick(self, rates: Mapping[str, float]) -> Paces:
        """A copy that only its storages hold back."""
        paces = assumed_paces()
        return self._said(replace(paces, copy=Pace(0.0, 1 / max(rates.values())), assumed=paces.assumed[1:]))

    def _said(self, paces: Paces) -> Paces:
        """With what the plans tell, and without what is assumed of rewriting and of boots where there are none."""
        *copy, rewrite, boot = paces.assumed
        rewritten = any(job.machine.name not in self.plain for job in self.jobs)
        boots = any(job.machine.verify is Verify.BOOT for job in self.jobs)
        said = (*copy, *([rewrite] if rewritten else []), *([boot] if boots else []))
        return replace(paces, plain=self.plain, assumed=said)


def _limited(lanes: Lanes, rates: Mapping[str, float]) -> Lanes:
    """With rates that hold back as those of a budget would."""
    said = dict(lanes.said)
    for lane, rate in rates.items():
        said[lane] = said.get(lane, Share()).and_also(Share(bytes_per_second=max(1, int(rate))))
    return replace(lanes, said=said)


def _stretches(going: Mapping[str, MachinePlan], seen: Foresight, zone: tzinfo | None) -> Iterator[Stretch]:
    """Of each wave, in each night."""
    spans = sorted(seen.spans.items(), key=lambda each: each[1].begin)
    nights: list[list[tuple[str, Span]]] = []
    end = float("-inf")
    for name, span in spans:
        if span.begin > end + _APART:
            nights.append([])
        nights[-1].append((name, span))
        end = max(end, span.end)
    for night in nights:
        for wave in sorted({going[name].wave for name, _ in night}):
            own = [(going[name], span) for name, span in night if going[name].wave == wave]
            yield Stretch(
                begin=_iso(min(span.begin for _, span in own), zone),
                end=_iso(max(span.end for _, span in own), zone),
                wave=wave,
                machines=len(own),
                copy_bytes=sum(plan.copy_bytes or 0 for plan, _ in own),
            )


def _late(batch: Batch, seen: Foresight, zone: tzinfo | None) -> tuple[str, ...]:
    """Names of machines that still go on when their windows have closed, the longest first."""
    found = []
    for machine in batch.machines:
        span = seen.spans.get(machine.name)
        if span is not None and machine.window is not None:
            over = span.end - next_change([machine.window], span.begin, zone)
            found += [(over, machine.name)] if over > 60 else []
    return tuple(name for _, name in sorted(found, reverse=True))


def _iso(at: float, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(at, zone).astimezone(zone).isoformat(timespec="minutes")
