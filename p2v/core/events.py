"""What the engines tell while they work: typed events to one reporter, never text to a terminal."""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase begins."""

    phase: str
    """Its name: ``inspect``, ``copy``, ``rewrite``, ..."""
    title: str
    """The same for people."""
    total_bytes: int | None = None
    """Its measure in bytes; null: it is not measured in bytes, or not known yet."""


@dataclass(frozen=True, slots=True)
class BytesDone:
    """More bytes of a phase are done."""

    phase: str
    """Its name."""
    count: int
    """How many bytes since the last time, skipped ones included: the sum reaches the total."""


@dataclass(frozen=True, slots=True)
class PhaseFinished:
    """A phase ended."""

    phase: str
    """Its name."""
    seconds: float
    """How many seconds it took."""
    failed: bool = False
    """Whether an error ended it."""


@dataclass(frozen=True, slots=True)
class ChangeApplied:
    """One planned change of the guest is in place."""

    summary: str
    """What it changes, in words."""
    skipped: bool = False
    """Whether it was in place already."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that stops nothing."""

    message: str
    """What, in words."""


@dataclass(frozen=True, slots=True)
class ItemDone:
    """One of a phase's things (a machine of a fleet) is done."""

    phase: str
    """The phase's name."""
    name: str
    """The thing's name."""
    done: int
    """How many are done by now."""
    total: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class LimitHeard:
    """From now on a copy goes by another limit: what it was told by who started it."""

    limit: int
    """Bytes a second."""


PROGRESS_SCHEMA = 1
"""Of the lines of JSON that tell of events (``--progress json``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """What every line has that tells of an event, beside the event's own fields."""

    schema: int = PROGRESS_SCHEMA
    """Which form of the line it is; another number only where a field goes away, or means something else."""
    event: str
    """What has happened."""
    at: float
    """When, in seconds since the program began to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """What it failed with: the last line, which has these fields alone."""

    schema: int = PROGRESS_SCHEMA
    """Which form of the line it is; another number only where a field goes away, or means something else."""
    event: str = "error"
    """What has happened."""
    code: str
    """The error's name, which stays the same."""
    exit_code: int
    """The program's exit status."""
    message: str
    """What, and where."""
    hint: str
    """What to do; may be empty."""


Event = PhaseStarted | BytesDone | PhaseFinished | ChangeApplied | Warned | ItemDone | LimitHeard
Reporter = Callable[[Event], None]
EVENT_NAMES: Mapping[type, str] = MappingProxyType({
    PhaseStarted: "phase-started",
    BytesDone: "bytes-done",
    PhaseFinished: "phase-finished",
    ChangeApplied: "change-applied",
    Warned: "warning",
    ItemDone: "item-done",
    LimitHeard: "limit",
})  # fmt: skip
"""What events are called in lines of JSON."""


def silent(event: Event) -> None:
    """The reporter of those who do not listen."""


class MomentKind(enum.Enum):
    """What happened at a moment; the values are stable and appear in records."""

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    WARNED = "warned"


@dataclass(frozen=True, slots=True)
class Moment:
    """A phase began or ended, or something was warned of: ``text`` is the phase, or the warning.

    ``at``: seconds since the run began. ``load``: the host's runnable processes, averaged over the last minute.
    """

    at: float
    kind: MomentKind
    text: str
    load: float


# One warning for each block of a damaged disk must not fill the record.
_MOMENTS_KEPT = 1000


@dataclass
class PhaseTimes:
    """A reporter that passes every event on and keeps how long each phase took, in seconds, and when."""

    onward: Reporter = silent
    seconds: dict[str, float] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, PhaseFinished):
                self.seconds[event.phase] = round(self.seconds.get(event.phase, 0.0) + event.seconds, 3)
            said = _said(event)
            if said is not None and len(self.moments) < _MOMENTS_KEPT:
                at, load = round(time.monotonic() - self._began, 3), round(os.getloadavg()[0], 2)
                self.moments.append(Moment(at, *said, load))
        self.onward(event)


def _said(event: Event) -> tuple[MomentKind, str] | None:
    match event:
        case PhaseStarted(phase=name):
            return MomentKind.STARTED, name
        case PhaseFinished(phase=name, failed=failed):
            return MomentKind.FAILED if failed else MomentKind.FINISHED, name
        case Warned(message):
            return MomentKind.WARNED, message
        case _:
            return None


@contextmanager
def phase(report: Reporter, name: str, title: str, total_bytes: int | None = None) -> Iterator[None]:
    """Bracket a phase: its start, and its end with the time it took, also when it fails."""
    started = time.monotonic()
    report(PhaseStarted(name, title, total_bytes))
    try:
        yield
    except BaseException:
        report(PhaseFinished(name, time.monotonic() - started, failed=True))
        raise
    report(PhaseFinished(name, time.monotonic() - started))
