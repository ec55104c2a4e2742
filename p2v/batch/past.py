"""What earlier attempts at a job came to, as its events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from p2v.batch.failures import STILL_AT_IT
from p2v.batch.jobs import JobEvent
from p2v.batch.kinds import WORKER
from p2v.batch.looking import SILENT
from p2v.batch.store import Store


@dataclass(frozen=True, slots=True)
class Past:
    """Of a job's attempts those that have failed; those whose runner died are not among them.

    ``silent``: those of them that a storage did not answer to, which has been so since ``silent_since`` (seconds since 1970)
    without a better answer. ``busy``: how often somebody else was at it still, which is none of them.
    """

    failed: int = 0
    silent: int = 0
    silent_since: float = 0.0
    busy: int = 0

    def after(self, event: JobEvent) -> Past:
        """With one more event."""
        if event.kind != "again":
            return self
        if event.data.get("code") in STILL_AT_IT:
            return replace(self, busy=self.busy + 1)
        is_silent = event.data.get("code") == SILENT
        since = 0.0 if not is_silent else self.silent_since or event.at
        return Past(self.failed + 1, self.silent + is_silent, since, self.busy)


def past_of(store: Store, name: str) -> Past:
    """What has failed since somebody asked for it anew."""
    past = Past()
    for event in store.every_event(job=name):
        past = Past() if event.kind == "retried" else past.after(event)
    return past


@dataclass(frozen=True, slots=True)
class Begun:
    """Where and when a job was worked at before. ``since``: when it was first taken, by the clock of whichever host of those that
    worked at it is furthest behind. ``worker``: the event of the last of them; empty where none told.
    """

    since: float
    worker: dict[str, Any] = field(default_factory=dict)


def begun_before(store: Store, name: str, began: float) -> Begun:
    """``began``: when the attempt of now was."""
    first, behind, worker = began, 0.0, dict[str, Any]()
    for event in store.every_event(job=name):
        if event.kind == "claimed":
            first = min(first, event.at)
        elif event.kind == WORKER:
            worker, ahead = dict(event.data), event.data.get("ahead")
            behind = min(behind, ahead) if isinstance(ahead, int | float) else behind
    return Begun(first + behind, worker)
