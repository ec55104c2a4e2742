"""A child on another host, as the runner sees it. Two threads know it: the runner's asks, the link's tells."""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2v.batch.children import Ended
from p2v.batch.cluster.messages import Task
from p2v.batch.cluster.sight import Here

_WAITING_SECONDS = 60.0


class Stage(enum.Enum):
    """How far a child has come."""

    HELD = "held"
    """Not given to the scheduler: none is there, or no worker fits."""
    SENT = "sent"
    """With the scheduler; its worker may take its token any time."""
    BEGUN = "begun"
    """A worker has told that it took the token."""
    OVER = "over"


@dataclass(eq=False)
class ClusterChild:
    """See ``p2v.batch.children.Child``. ``stage``, ``worker`` and what is about waiting are the link's alone.

    ``wake``: makes the link look at what was wished.
    """

    task: Task
    wake: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.HELD
    worker: str = ""
    unfit_since: float | None = None
    held_because: str = ""
    here: Here | None = None
    """What the runner's host sees of it; None: nobody has looked yet."""
    looks: bool = False
    """Somebody does just now."""
    blind_since: float | None = None
    """When it was first that no worker sees what it is about."""
    stop_wished: bool = False
    at_once: bool = False
    limit_wished: int | None = None
    """What its copy may use, not yet on its way to the worker."""
    _waited_word: float = field(default_factory=time.monotonic)
    _events: list[Mapping[str, Any]] = field(default_factory=list)
    _end: Ended | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _signal: int = field(default_factory=lambda: os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def heard(self) -> Sequence[Mapping[str, Any]]:
        """See ``Child.heard``."""
        with self._lock:
            self._quiet()
            events, self._events = self._events, []
        return events

    def ended(self) -> Ended | None:
        """See ``Child.ended``."""
        with self._lock:
            return self._end

    def stop(self, at_once: bool = False) -> None:
        """See ``Child.stop``. ``at_once``: the worker ends it as it can; the runner does not wait for its word."""
        self.stop_wished = True
        self.at_once = self.at_once or at_once
        self.wake()

    def limit(self, bytes_per_second: int) -> None:
        """See ``Child.limit``."""
        self.limit_wished = bytes_per_second
        self.wake()

    def fds(self) -> tuple[int, ...]:
        """See ``Child.fds``."""
        return (self._signal,) if self._signal >= 0 else ()

    def close(self) -> None:
        """See ``Child.close``. Nobody waits here for another host: its worker ends it, and its fence holds if that fails."""
        self.stop(at_once=True)
        with self._lock:
            if self._signal >= 0:
                os.close(self._signal)
            self._signal = -1

    def waited(self) -> float:
        """Seconds since it was asked for."""
        return round(time.monotonic() - self.began, 3)

    def still_waits(self) -> None:
        """Tell now and then that it is no child that hangs."""
        now = time.monotonic()
        if now - self._waited_word >= _WAITING_SECONDS:
            self._waited_word = now
            self.tell({"event": "waiting"})

    def tell(self, event: Mapping[str, Any]) -> None:
        """Something happened."""
        with self._lock:
            if self._end is None:
                self._events.append(event)
                self._loud()

    def end(self, ended: Ended) -> None:
        """It is over; the first word counts."""
        with self._lock:
            self.stage = Stage.OVER
            if self._end is None:
                self._end = ended
                self._loud()

    def lose(self, why: str) -> None:
        """Nobody knows how it ended."""
        self.end(Ended(75, why, time.monotonic() - self.began, why))

    def _loud(self) -> None:
        if self._signal >= 0:
            os.eventfd_write(self._signal, 1)

    def _quiet(self) -> None:
        # an end stays to be seen: the runner asks for it next
        if self._signal >= 0:
            try:
                os.eventfd_read(self._signal)
            except BlockingIOError:
                return
