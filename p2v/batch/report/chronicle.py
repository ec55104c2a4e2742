"""What events tell, taken in one by one: a page that is written again and again hears only what is new. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.kinds import WORKER
from p2v.batch.report.fields import message_of, number_of, text_of
from p2v.batch.report.history import Attempt, History, Span, Told
from p2v.batch.report.limits import KNOWN, MOVES, WARNING_LETTERS, WARNINGS

ENDS = frozenset({"again", "parked", "done", "released", "cancelled", "lease-lost"})
"""Kinds of events that end an attempt."""
FAILED = frozenset({"again", "lease-lost"})
"""Those after which there is another one."""
_BEGINS = frozenset({"began", "limit", "claimed"})
_LONGEST_PHASE = 40
_PIECE_SECONDS = 1 / 8
_FLEET = frozenset(
    {"batch-began", "batch-ended", "stopping", "late", "batch-paused", "batch-resumed", "paused", "resumed"}
)


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
    failed: int = 0
    failed_seconds: float = 0.0
    left_out: int = 0

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
        if len(self.spans) > 2 * KNOWN:
            del self.spans[:-KNOWN]

    def end_attempt(self, at: float, kind: str, message: str) -> None:
        """What is open then was cut off there; or it goes on, where ``kind`` is empty."""
        for phase in list(self.open):
            self._close(phase, at, failed=kind not in ("", "done", "released"), is_open=not kind)
        spans = tuple(sorted(self.spans, key=lambda each: (each.begin, -each.end))[-KNOWN:])
        made = Attempt(
            self.fence or 0, self.begin, max(at, self.begin), kind, self.worker, message, self.limit, spans, self.host
        )
        if kind in FAILED:
            self.failed += 1
            self.failed_seconds += made.end - made.begin
        self.done.append(made)
        self.left_out += len(self.done) > KNOWN
        del self.done[:-KNOWN]
        self.spans, self.fence, self.limit, self.worker, self.host = [], None, None, "", ""

    def told(self, job: Job, now: float) -> Told:
        """As it stands; what is heard later goes on from there."""
        if self.fence is not None:
            so_far = replace(self, done=[*self.done], spans=[*self.spans], open=dict(self.open))
            runs = job.state is State.RUNNING
            so_far.end_attempt(now if runs else self.last, "" if runs else "lease-lost", "")
            return so_far.all_told()
        return self.all_told()

    def all_told(self) -> Told:
        """Of attempts that have ended."""
        more = self.warned - len(self.warnings)
        return Told(tuple(self.done), tuple(self.warnings), more, self.left_out, self.failed, self.failed_seconds)


@dataclass
class _Moved:
    """Bytes that were copied, by pieces of time; the pieces grow with the run, so that their number does not."""

    sums: dict[int, tuple[float, int]] = field(default_factory=dict)
    seconds: float = _PIECE_SECONDS

    def add(self, at: float, count: int) -> None:
        piece = int(at // self.seconds)
        first, before = self.sums.get(piece, (at, 0))
        self.sums[piece] = (min(first, at), before + count)
        if len(self.sums) > MOVES:
            self.seconds *= 2
            before_that, self.sums = self.sums, {}
            for first, count in before_that.values():
                self.add(first, count)

    def all(self) -> tuple[tuple[float, int], ...]:
        return tuple(sorted(self.sums.values()))


@dataclass
class Chronicle:
    """All that was heard. ``number``: of the last event; what follows it in the store is still to be told."""

    number: int = 0
    _machines: dict[str, _Making] = field(default_factory=dict)
    _moved: _Moved = field(default_factory=_Moved)
    _fleet: list[JobEvent] = field(default_factory=list)
    _first: float = math.inf

    def hear(self, events: Iterable[JobEvent]) -> None:
        """Take in what happened since, in its order."""
        for event in events:
            self.number = event.number
            self._first = min(self._first, event.at)
            if event.job:
                count = self._machines.setdefault(event.job, _Making()).hear(event)
                if count > 0:
                    self._moved.add(event.at, count)
            elif event.kind in _FLEET:
                self._fleet.append(event)

    def history(self, jobs: Sequence[Job], now: float, *, is_run: bool = False) -> History:
        """What was heard, of the machines that the batch still has.

        ``is_run``: a runner says so; else leases and events tell whether there is one.
        """
        known = {job.machine.name: job for job in jobs}
        machines = {name: each.told(known[name], now) for name, each in self._machines.items() if name in known}
        first = min([now, self._first, *(job.began for job in jobs if job.began > 0)])
        pauses, is_paused = _pauses(self._fleet, now)
        is_run = is_run or _is_run(jobs, self._fleet, now)
        end, (chosen, is_late) = _end(jobs, machines, now, is_run=is_run), _last_run(self._fleet)
        return History(machines, first, end, self._moved.all(), pauses, is_paused, is_run, chosen, is_late)


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
