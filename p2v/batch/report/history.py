"""What events tell of each machine: its attempts, its phases, its warnings. Pure.

Events come from the store, but what is in them came from a child's output: a field of the wrong type counts as not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.kinds import WORKER
from p2v.batch.report.limits import ATTEMPTS, SPANS, WARNING_LETTERS, WARNINGS

ENDS = frozenset({"again", "parked", "done", "released", "cancelled", "lease-lost"})
"""Kinds of events that end an attempt."""
_BEGINS = frozenset({"began", "limit", "claimed"})
_LONGEST_PHASE = 40


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of one attempt, in seconds since 1970. ``bytes_done``: of the disks' whole size, holes included."""

    phase: str
    begin: float
    end: float
    bytes_done: int = 0
    failed: bool = False
    is_open: bool = False

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return max(self.end - self.begin, 0.0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """From a lease to what ended it; ``kind``: of that event, empty while it runs. ``limit``: bytes per second, None: none.

    ``worker``: the runner's name; ``host``: where in a cluster it was carried out, empty: by the runner's host.
    """

    fence: int
    begin: float
    end: float
    kind: str
    worker: str = ""
    message: str = ""
    limit: int | None = None
    spans: tuple[Span, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """All that is told of one machine. ``attempts_left_out``: earlier ones, for there were very many."""

    attempts: tuple[Attempt, ...] = ()
    warnings: tuple[str, ...] = ()
    warnings_left_out: int = 0
    attempts_left_out: int = 0

    @property
    def last(self) -> Attempt | None:
        """The attempt that runs, or ended it."""
        return self.attempts[-1] if self.attempts else None

    @property
    def open_phases(self) -> tuple[str, ...]:
        """Phases that are under way."""
        return tuple(span.phase for span in self.last.spans if span.is_open) if self.last is not None else ()


@dataclass(frozen=True, slots=True)
class History:
    """What is told of the batch. ``moved``: when, whose, and how many bytes were copied. ``pauses``: from, to."""

    machines: Mapping[str, Told]
    begin: float
    end: float
    moved: tuple[tuple[float, str, int], ...] = ()
    pauses: tuple[tuple[float, float], ...] = ()
    is_paused: bool = False
    is_run: bool = False
    """Whether a runner has the batch in hand, as far as events say."""
    chosen: frozenset[str] | None = None
    """Machines that the last run is of; None: all."""
    is_late: bool = False
    """Whether the last run begins nothing more."""

    def of(self, name: str) -> Told:
        """What is told of a machine; nothing where no event is."""
        return self.machines.get(name, _NOTHING)

    def worker(self, job: Job) -> str:
        """Who runs it, or ran it last; the store forgets that when a job ends."""
        last = self.of(job.machine.name).last
        return job.worker or (last.worker if last is not None else "")

    def host(self, job: Job) -> str:
        """The host that converts it, or did last; where there is no cluster, the runner's name."""
        last = self.of(job.machine.name).last
        return (last.host if last is not None else "") or job.host or self.worker(job)

    def copy_rate(self, name: str) -> float | None:
        """Bytes per second of a copy that is under way, since it began; None where none is."""
        last = self.of(name).last
        copies = [span for span in last.spans if span.is_open and span.phase == "copy"] if last is not None else []
        return copies[-1].bytes_done / copies[-1].seconds if copies and copies[-1].seconds > 0 else None


_NOTHING = Told()


@dataclass
class _Phase:
    name: str
    begin: float
    bytes_done: int = 0


@dataclass
class _Making:
    """One machine's story as it is read."""

    done: list[Attempt] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    open: dict[str, _Phase] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    warned: int = 0
    fence: int | None = None
    begin: float = 0.0
    last: float = 0.0
    worker: str = ""
    host: str = ""
    limit: int | None = None

    def hear(self, event: JobEvent) -> int:
        """Take an event in. The bytes of a copy that it tells of."""
        if self.fence is not None and event.fence > self.fence:
            self.end_attempt(self.last, "lease-lost", "")
        kind, data = event.kind, event.data
        if self.fence is None and (kind in _BEGINS or kind.startswith("phase-")):
            self.fence, self.begin = event.fence, event.at
        self.last = event.at
        if kind in _BEGINS:
            self.worker = text_of(data, "worker") or self.worker
            if kind in ("began", "limit"):  # the store's word for the attempts that a machine has is the same
                # it changes while others come and go: the most that it had is what may have held it back
                self.limit = max(self.limit or 0, number_of(data, "limit") or 0) or None
        elif kind == WORKER:
            # one without a name of its host is told by its address
            self.host = text_of(data, "host") or text_of(data, "worker")
        elif kind == "phase-started":
            phase = text_of(data, "phase")[:_LONGEST_PHASE]
            self.open[phase] = _Phase(phase, event.at)
        elif kind == "bytes-done":
            return self._more(text_of(data, "phase")[:_LONGEST_PHASE], number_of(data, "count") or 0)
        elif kind == "phase-finished":
            self._close(text_of(data, "phase")[:_LONGEST_PHASE], event.at, data.get("failed") is True)
        elif kind == "warning":
            self._warn(text_of(data, "message"))
        elif kind == "hook" and data.get("failed") is True:
            self._warn(f"The hook {text_of(data, 'when')} it: {text_of(data, 'message')}")
        elif kind in ENDS and self.fence is not None:
            self.end_attempt(event.at, kind, message_of(data))
        return 0

    def _warn(self, message: str) -> None:
        self.warned += 1
        if len(self.warnings) < WARNINGS:
            self.warnings.append(message[:WARNING_LETTERS])

    def _more(self, phase: str, count: int) -> int:
        if phase in self.open:
            self.open[phase].bytes_done += count
        return count if phase == "copy" else 0

    def _close(self, phase: str, at: float, failed: bool, is_open: bool = False) -> None:
        begun = self.open.pop(phase, None)
        if begun is not None:
            self.spans.append(Span(phase, begun.begin, max(at, begun.begin), begun.bytes_done, failed, is_open))

    def end_attempt(self, at: float, kind: str, message: str) -> None:
        """What is open then was cut off there; or it goes on, where ``kind`` is empty."""
        for phase in list(self.open):
            self._close(phase, at, failed=kind not in ("", "done", "released"), is_open=not kind)
        spans = tuple(sorted(self.spans, key=lambda each: (each.begin, -each.end))[-SPANS:])
        made = Attempt(
            self.fence or 0, self.begin, max(at, self.begin), kind, self.worker, message, self.limit, spans, self.host
        )
        self.done.append(made)
        self.spans, self.fence, self.limit, self.worker, self.host = [], None, None, "", ""

    def told(self, job: Job | None, now: float) -> Told:
        if self.fence is not None:
            runs = job is not None and job.state is State.RUNNING
            self.end_attempt(now if runs else self.last, "" if runs else "lease-lost", "")
        left_out = max(len(self.done) - ATTEMPTS, 0)
        return Told(tuple(self.done[left_out:]), tuple(self.warnings), self.warned - len(self.warnings), left_out)


def history(jobs: Sequence[Job], events: Iterable[JobEvent], now: float, *, is_run: bool = False) -> History:
    """What the events tell, in their order; those of machines that the batch no longer has are left aside.

    ``is_run``: a runner says so; else leases and events tell whether there is one.
    """
    known = {job.machine.name: job for job in jobs}
    making: dict[str, _Making] = {}
    moved: list[tuple[float, str, int]] = []
    fleet: list[JobEvent] = []
    first = now
    for event in events:
        first = min(first, event.at)
        if event.job in known:
            count = making.setdefault(event.job, _Making()).hear(event)
            if count > 0:
                moved.append((event.at, event.job, count))
        elif not event.job:
            fleet.append(event)
    machines = {name: each.told(known.get(name), now) for name, each in making.items()}
    first = min([first, *(job.began for job in jobs if job.began > 0)])
    pauses, is_paused = _pauses(fleet, now)
    is_run = is_run or _is_run(jobs, fleet, now)
    end, (chosen, is_late) = _end(jobs, machines, now, is_run=is_run), _last_run(fleet)
    return History(machines, first, end, tuple(moved), pauses, is_paused, is_run, chosen, is_late)


def _end(jobs: Sequence[Job], machines: Mapping[str, Told], now: float, *, is_run: bool) -> float:
    """When the last of a batch ended that has, or that nobody runs at present; else now."""
    if is_run and not all(job.state.is_end for job in jobs):
        return now
    ends = [attempt.end for told in machines.values() for attempt in told.attempts]
    ends += [job.ended for job in jobs if job.ended > 0]
    return max(ends, default=now)


def _pauses(fleet: Sequence[JobEvent], now: float) -> tuple[tuple[tuple[float, float], ...], bool]:
    pauses: list[tuple[float, float]] = []
    since: float | None = None
    for event in fleet:
        if event.kind in ("batch-paused", "paused"):
            since = event.at if since is None else since
        elif event.kind in ("batch-resumed", "resumed") and since is not None:
            pauses.append((since, event.at))
            since = None
    if since is not None:
        pauses.append((since, now))
    return tuple(pauses), since is not None


def _last_run(fleet: Sequence[JobEvent]) -> tuple[frozenset[str] | None, bool]:
    """The machines that the last run is of, None for all, and whether it begins nothing more."""
    chosen: frozenset[str] | None = None
    is_late = False
    for event in fleet:
        if event.kind == "batch-began":
            names = event.data.get("chosen")
            chosen = frozenset(map(str, names)) if isinstance(names, list) else None
            is_late = False
        is_late = is_late or event.kind == "late"
    return chosen, is_late


def _is_run(jobs: Sequence[Job], fleet: Sequence[JobEvent], now: float) -> bool:
    """Whether a runner has the batch in hand. One that was killed told nobody, but its leases run out."""
    leases = [job.lease_until > now for job in jobs if job.state is State.RUNNING]
    if leases:
        return any(leases)
    kinds = [event.kind for event in fleet if event.kind in ("batch-began", "stopping", "batch-ended")]
    return bool(kinds) and kinds[-1] == "batch-began"


def text_of(data: Mapping[str, Any], name: str) -> str:
    """A field of an event that should be a text; empty for anything else."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


def message_of(data: Mapping[str, Any]) -> str:
    """What an event says: itself, or the failure that it tells of."""
    failure = data.get("failure")
    return text_of(data, "message") or (text_of(failure, "message") if isinstance(failure, dict) else "")


def number_of(data: Mapping[str, Any], name: str) -> int | None:
    """A field of an event that should be a count; None for anything else."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return int(value)
