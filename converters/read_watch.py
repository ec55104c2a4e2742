"""Notices reads that get no answer: a server that went away, a file system whose program hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.events import Reporter, Warned


@dataclass
class _Reading:
    file: Path
    offset: int
    since: float
    told: float = 0.0


@dataclass
class ReadWatch:
    """Who reads what since when; each thread tells of its own reads, and one looks at all of them.

    After ``first_seconds`` it is told first that there is no answer, then each time it took twice as long.
    """

    first_seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _readings: dict[int, _Reading] = field(default_factory=dict)

    def begin(self, file: Path, offset: int) -> None:
        """The calling thread reads from ``offset`` of a file (in bytes) now, until ``end``."""
        self._readings[threading.get_ident()] = _Reading(file, offset, self.clock())

    def end(self) -> None:
        """The calling thread has its answer."""
        self._readings.pop(threading.get_ident(), None)

    def moved(self, offset: int) -> None:
        """The calling thread got its answer, and reads on from ``offset``."""
        found = self._readings.get(threading.get_ident())
        if found is not None:
            self._readings[threading.get_ident()] = _Reading(found.file, offset, self.clock())

    def waits_since(self, thread: int | None) -> float:
        """How many seconds a thread's read has had no answer; 0 when it is not reading."""
        found = self._readings.get(thread or 0)
        return 0.0 if found is None else self.clock() - found.since

    def look(self, report: Reporter) -> None:
        """Tell of reads that have had no answer for too long."""
        now = self.clock()
        for reading in list(self._readings.values()):
            waited = now - reading.since
            if waited >= max(self.first_seconds, 2 * reading.told):
                reading.told = waited
                message = f"{reading.file}: no answer since {waited:.0f} s, to a read at byte {reading.offset}; still waiting"
                report(Warned(message))
