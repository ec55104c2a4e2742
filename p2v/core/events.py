"""What the engines tell while they work: typed events to one reporter, never text to a terminal."""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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


Event = PhaseStarted | BytesDone | PhaseFinished | ChangeApplied | Warned | ItemDone | LimitHeard
Reporter = Callable[[Event], None]


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
