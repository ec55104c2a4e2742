"""How a batch's run is told of on stderr: bars on a terminal, lines for logs, JSON lines for programs. All from the same events."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TextIO, cast

from p2v.batch.estimate import Look, forecast, left_words
from p2v.batch.event_data import LEFT_OUT, EventLine, LinesLeftOut, data_of
from p2v.batch.jobs import Job, JobEvent, State
from p2v.cli.batch import event_text
from p2v.cli.unwaiting import Unwaiting, lines_left_out
from p2v.core.text import printable
from p2v.core.units import format_bytes

Sink = Callable[[JobEvent], None]

_SUMMARY_SECONDS = 60.0
# what is said of a thousand machines in a log: beginnings, ends, and what is wrong
TOLD = frozenset(
    ("claimed", "done", "parked", "again", "cancelled", "released", "lease-lost", "hook", "warning", "error")
)
_ENDS = frozenset(("done", "parked", "cancelled"))
_STATES = {
    "claimed": State.RUNNING,
    "done": State.DONE,
    "parked": State.PARKED,
    "cancelled": State.CANCELLED,
    "again": State.WAITING,
    "released": State.WAITING,
    "retried": State.WAITING,
}


def sink(progress: str, jobs: Sequence[Job]) -> Unhindered:
    """The sink for a run's events; ``jobs``: as they stand when it begins."""
    watched = Unwaiting.over(sys.stderr, _left_out if progress == "json" else lines_left_out)
    return Unhindered(_sink(progress, jobs, sys.stderr if watched is None else cast(TextIO, watched)), watched)


def _left_out(pieces: int) -> str:
    return _json_line(JobEvent(0, time.time(), "", 0, LEFT_OUT, data_of(LinesLeftOut(pieces))))


def _sink(progress: str, jobs: Sequence[Job], stream: TextIO) -> Sink:
    if progress == "auto":
        # an editor's shell cannot move its cursor
        can_draw = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        progress = "bars" if can_draw else "plain"
    match progress:
        case "bars":
            # only a terminal needs it and tqdm
            from p2v.cli.batch.fleet_bars import FleetBars

            return FleetBars(stream, Fleet.of(jobs), _bars_that_fit())
        case "json":
            return JsonLines(stream)
        case "plain":
            return PlainLines(stream, Fleet.of(jobs), times=not _is_journal(stream))
        case _:
            return _ignore


def _is_journal(stream: TextIO) -> bool:
    """Whether lines go to systemd's journal, which says in JOURNAL_STREAM which file that is (systemd.exec(5))."""
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"


def _ignore(event: JobEvent) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Unhindered:
    """A sink that ends no run and holds up none: its terminal may be closed or stand still, its reader gone, the disk of its log
    full. The store has it all.
    """

    told: Sink
    stream: Unwaiting | None = None

    def __call__(self, event: JobEvent) -> None:
        with suppress(OSError):
            self.told(event)

    def looked(self, look: Look) -> None:
        """How all stand, about once a second, for sinks that tell of it."""
        with suppress(OSError):
            if (looked := getattr(self.told, "looked", None)) is not None:
                looked(look)
            if self.stream is not None:
                # what it did not take when it was said
                self.stream.flush()

    def close(self) -> None:
        """Bars are left as they stand. Who reads slowly is waited for now."""
        with suppress(OSError):
            if (close := getattr(self.told, "close", None)) is not None:
                close()
            if self.stream is not None:
                self.stream.settle()
        if self.stream is not None:
            self.stream.close()


def _bars_that_fit() -> int:
    return max(1, shutil.get_terminal_size().lines - 4)


@dataclass
class Fleet:
    """How all machines stand, by the events so far."""

    states: dict[str, State] = field(default_factory=dict)
    copied: int = 0

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Fleet:
        """As the store has them."""
        return cls({job.machine.name: job.state for job in jobs})

    def take(self, event: JobEvent) -> None:
        """Note what changes it."""
        state = _STATES.get(event.kind)
        if state is not None and event.job:
            self.states[event.job] = state
        if event.kind == "bytes-done" and event.data.get("phase") == "copy":
            count = event.data.get("count")
            self.copied += count if isinstance(count, int) else 0

    def see(self, look: Look) -> None:
        """Take over how they stand in the store: others cancel machines, and let them be tried again."""
        for job in look.jobs:
            self.states[job.machine.name] = job.state

    @property
    def total(self) -> int:
        """All machines."""
        return len(self.states)

    @property
    def ended(self) -> int:
        """Those of which nothing more happens."""
        return sum(1 for state in self.states.values() if state.is_end)

    def counts(self) -> str:
        """In words; states that nobody is in are left out."""
        every = list(self.states.values())
        shown = (State.RUNNING, State.WAITING, State.PARKED, State.CANCELLED)
        return ", ".join(f"{every.count(state)} {state.value}" for state in shown if state in every)


@dataclass
class JsonLines:
    """One JSON object a line, with the names and fields of the store's events; ``at`` in seconds since 1970."""

    stream: TextIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: JobEvent) -> None:
        with self.lock:
            self.stream.write(_json_line(event))
            self.stream.flush()


def _json_line(event: JobEvent) -> str:
    own = EventLine(event=event.kind, job=event.job, at=event.at, number=event.number, fence=event.fence)
    # the envelope last: no event passes for another by its fields
    return json.dumps(dict(event.data) | asdict(own)) + "\n"


@dataclass
class PlainLines:
    """A line, with its time, when a machine begins, ends or fails, and now and then how all stand; for logs.

    ``times``: false where whoever reads the lines notes their times itself (systemd's journal).
    """

    stream: TextIO
    fleet: Fleet
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    times: bool = True
    said_at: float = field(default=0.0)
    is_new: bool = True
    """Nobody was told yet how long it takes."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.said_at = self.clock()

    def __call__(self, event: JobEvent) -> None:
        with self.lock:
            self.fleet.take(event)
            if event.kind in TOLD or not event.job:
                count = f" [{self.fleet.ended} of {self.fleet.total}]" if event.kind in _ENDS else ""
                self._say(told(event) + count, event.at)

    def looked(self, look: Look) -> None:
        """How all stand, about once a second: told of now and then."""
        with self.lock:
            self.fleet.see(look)
            if self.is_new and (found := forecast(look, self.now())) is not None:
                self.is_new = False
                if found.seconds >= _SUMMARY_SECONDS:
                    self._say(f"left to do: {left_words(found, self.now())}", self.now())
            if self.clock() - self.said_at >= _SUMMARY_SECONDS:
                self.said_at = self.clock()
                done = f"{self.fleet.ended} of {self.fleet.total} machines ended"
                copied = f", {format_bytes(self.fleet.copied)} copied" if self.fleet.copied else ""
                left = forecast(look, self.now())
                until = "" if left is None else f"; left: {left_words(left, self.now())}"
                self._say(f"{done}; {self.fleet.counts()}{copied}{until}", self.now())

    def _say(self, text: str, at: float) -> None:
        moment = f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}  " if self.times else ""
        self.stream.write(moment + printable(text, keep="") + "\n")
        self.stream.flush()


def told(event: JobEvent) -> str:
    """An event in a line, with its machine; of the batch itself without."""
    if event.job:
        return f"{event.job}: {event_text.words(event)}"
    match event.kind:
        case "stopping":
            return "stopping: what is under way is ended, and goes on at the next run (again: at once)"
        case "batch-began":
            count, chosen = event_text.number(event.data, "machines"), event.data.get("chosen")
            part = f"{len(chosen)} of " if isinstance(chosen, list) else ""
            return f"the run begins: {part}{count} {'machine' if count == 1 else 'machines'}"
        case "batch-ended":
            told_of = ((state.value, event_text.number(event.data, state.value)) for state in State)
            counts = ", ".join(f"{count} {state}" for state, count in told_of if count)
            return f"the run has ended: {counts or 'no machines'}"
        case "late":
            waiting = event_text.number(event.data, "waiting")
            return f"it is late: nothing more begins; {waiting} {'waits' if waiting == 1 else 'wait'} for the next run"
        case "hook":
            ended = f"failed: {event_text.text(event.data, 'message')}" if event.data.get("failed") is True else "done"
            return f"the batch's own command at the end: {ended}"
        case "paused":
            return "paused: nothing more begins until `p2v batch resume`"
        case "resumed":
            return "goes on"
        case _:
            return event_text.words(event).replace("-", " ", 1)
