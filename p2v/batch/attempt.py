"""One attempt at a job while it is under way: which step it is at, and what has been heard of it."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2v.batch.children import Child, Heard
from p2v.batch.event_data import AtWorker, data_of
from p2v.batch.hook_documents import HookDocument, HookFailure, MachineOutcome, When, hook_data
from p2v.batch.hooks_past import PastHook
from p2v.batch.jobs import Failure, Hook, Job, JobEvent, MachineJob
from p2v.batch.kinds import WORKER
from p2v.batch.looking import Look, Quiet
from p2v.batch.results import Result
from p2v.batch.scheduling import Holding
from p2v.batch.store import Lease
from p2v.core.events import ChangeApplied, PhaseFinished, PhaseStarted, Warned
from p2v.core.text import printable

_TOLD = 2000
_LONGEST_NAME, _LONGEST_HOST, _LONGEST_WORDS = 64, 255, 2000
_MOST_WARNINGS, _MOST_CHANGES = 200, 500
_LARGEST = 2**62


class Step(enum.Enum):
    """What an attempt is doing; each but the last is a child."""

    WAIT = "wait"
    """For the end of a hook that a killed run left."""
    LOOK = "look"
    """Whether its storages answer, and whether it stands there already."""
    BEFORE = "before"
    """The hook before."""
    CONVERT = "convert"
    LOOK_AGAIN = "look again"
    """Its conversion has found a result there: one of an earlier attempt?"""
    INSPECT = "inspect"
    """It is to be parked: what kind of guest it has, for the failure bundle."""
    RECORD = "record"
    """The same: its record, scrubbed."""
    AFTER = "after"
    """The hook after."""
    ENDING = "ending"
    """What became of it is to be noted in the store."""


@dataclass
class Attempt:
    """An attempt. Times are of the monotonic clock. ``result`` and ``failure``: what it came to, as soon as that is known."""

    lease: Lease
    holding: Holding
    step: Step = Step.LOOK
    child: Child | None = None
    look: Look | None = None
    """The last one at its storages."""
    quiet: Quiet = field(default_factory=Quiet)
    began: float = 0.0
    heard_at: float = 0.0
    said_at: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    unsaid: dict[str, int] = field(default_factory=dict)
    """Bytes done, by phase, that nobody was told of yet."""
    warnings: int = 0
    changes: int = 0
    error: Heard | None = None
    told: deque[JobEvent] = field(default_factory=lambda: deque(maxlen=_TOLD))
    said: str = ""
    inspection: str = ""
    host_before: Mapping[str, Any] | None = None
    """What was told of the host that had the attempt before this one."""
    since: float | None = None
    """See ``Order``."""
    result: Result | None = None
    failure: Failure | None = None
    ending: Callable[[float], Job] | None = None
    must_stop: bool = False
    """A child was asked to end: by a cancel, a stop, or for it was silent too long (``failure`` says so then)."""
    is_late: bool = False
    """The step's child was ended for it took too long."""
    cut_at: float = math.inf
    """When a hook is asked to end that was under way as its run was to stop."""
    is_cut: bool = False
    """It was."""
    is_lost: bool = False
    """Another has the lease: nothing is noted any more."""

    @property
    def machine(self) -> MachineJob:
        """What is converted."""
        return self.lease.job.machine

    @property
    def name(self) -> str:
        """The job's."""
        return self.machine.name

    def hear(self, event: Heard) -> tuple[str, Mapping[str, Any]] | None:
        """Take an event of the child in: its kind and data as they are told of; None: not by itself, or it makes no sense."""
        match event:
            case {"event": "phase-started", "phase": str(phase), **rest}:
                self.holding = self.holding.after("phase-started", phase)
                title, total = rest.get("title"), rest.get("total_bytes")
                words = _cut(title, _LONGEST_WORDS) if isinstance(title, str) else ""
                return "phase-started", data_of(PhaseStarted(_cut(phase), words, total if _is_count(total) else None))
            case {"event": "phase-finished", "phase": str(phase), "seconds": int() | float() as seconds, **rest} if (
                0 <= seconds < _LARGEST
            ):
                self.holding = self.holding.after("phase-finished", phase)
                self.seconds[_cut(phase)] = round(self.seconds.get(_cut(phase), 0.0) + seconds, 3)
                return "phase-finished", data_of(PhaseFinished(_cut(phase), seconds, rest.get("failed") is True))
            case {"event": "bytes-done", "phase": str(phase), "count": int(count)} if _is_count(count):
                self.unsaid[_cut(phase)] = self.unsaid.get(_cut(phase), 0) + count
            case {"event": "warning", "message": str(message)} if self.warnings < _MOST_WARNINGS:
                self.warnings += 1
                return "warning", data_of(Warned(_cut(message, _LONGEST_WORDS)))
            case {"event": "change-applied", "summary": str(summary), **rest} if self.changes < _MOST_CHANGES:
                self.changes += 1
                summed = ChangeApplied(_cut(summary, _LONGEST_WORDS), rest.get("skipped") is True)
                return "change-applied", data_of(summed)
            case {"event": "worker", "worker": str(worker), "host": str(host), **rest}:
                ahead = rest.get("ahead")
                seconds = float(ahead) if isinstance(ahead, int | float) and abs(ahead) < _LARGEST else 0.0
                return WORKER, data_of(AtWorker(_cut(worker, _LONGEST_HOST), _cut(host, _LONGEST_HOST), seconds))
            case {"event": "limit", "limit": int(limit)} if _is_count(limit):
                self.holding = self.holding.heard(limit)
            case {"event": "error"}:
                self.error = event
        return None

    def hook_document(self, when: str, past: PastHook | None = None) -> Mapping[str, Any]:
        """What a hook gets on its standard input. ``past``: the one of that kind before it."""
        failure, result = self.failure, self.result
        ended = MachineOutcome.DONE if failure is None else MachineOutcome.PARKED
        document = HookDocument(
            when=When(when),
            job=self.name,
            attempt=self.lease.job.attempts,
            fence=self.lease.fence,
            sources=self.machine.sources,
            folder=self.machine.folder,
            outcome=None if when == When.BEFORE.value else ended,
            record=None if result is None else result.record,
            booted=None if result is None else result.booted,
            failure=None if failure is None else HookFailure.of(failure),
            unfinished=past is not None and past.is_unfinished,
            earlier=None if past is None else past.told,
        )
        return hook_data(document)

    def hook(self) -> Hook | None:
        """The one of this step."""
        return {Step.BEFORE: self.machine.before, Step.AFTER: self.machine.after}.get(self.step)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _cut(text: str, most: int = _LONGEST_NAME) -> str:
    return printable(text[:most])
