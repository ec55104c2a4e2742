"""What the engines tell while they work: typed events to one reporter, never text to a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase (``inspect``, ``copy``, ``rewrite``, ...) begins; ``total_bytes`` where bytes are its measure."""

    phase: str
    title: str
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BytesDone:
    """``count`` more bytes of the phase are done (skipped ones included, so that the sum reaches the total)."""

    phase: str
    count: int


@dataclass(frozen=True, slots=True)
class PhaseFinished:
    """A phase ended; ``failed`` when an error ended it."""

    phase: str
    seconds: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ChangeApplied:
    """One planned change is in place (``skipped``: it already was)."""

    summary: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that stops nothing."""

    message: str


Event = PhaseStarted | BytesDone | PhaseFinished | ChangeApplied | Warned
Reporter = Callable[[Event], None]


def silent(event: Event) -> None:
    """The reporter of those who do not listen."""


@dataclass
class PhaseTimes:
    """A reporter that passes every event on and keeps how long each phase took, in seconds."""

    onward: Reporter = silent
    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseFinished):
            with self._lock:
                self.seconds[event.phase] = round(self.seconds.get(event.phase, 0.0) + event.seconds, 3)
        self.onward(event)


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
