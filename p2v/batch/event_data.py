"""The events of a batch as values: what each kind has for fields of its own, and the lines that tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2v.batch import kinds
from p2v.batch.jobs import Failure, JobEvent
from p2v.batch.json_forms import SOMETIMES, Count, Seconds
from p2v.batch.status import StateCounts
from p2v.core import jsonio
from p2v.core.events import BytesDone, ChangeApplied, ErrorLine, PhaseFinished, PhaseStarted, Warned

EVENTS_SCHEMA = 1
"""Of the lines of ``p2v batch run --progress json``."""
LOG_SCHEMA = 1
"""Of the lines of ``p2v batch logs --json``, and of a failure bundle's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """What every event has, whatever it tells."""

    schema: int = EVENTS_SCHEMA
    """Which form of the line it is; another number only where a field goes away, or means something else."""
    event: str
    """What has happened."""
    job: str
    """The machine that it is of, as the manifest calls it; empty: it is of the batch itself."""
    at: Seconds
    """When, in seconds since 1970."""
    number: Count
    """0: only in the store events have numbers."""
    fence: Count
    """The number of the lease that the machine is under; 0 of the batch itself."""


@dataclass(frozen=True, slots=True)
class LogHead:
    """What stands in a line of a machine's events beside the event."""

    schema: int = LOG_SCHEMA
    """Which form of the line it is; another number only where a field goes away, or means something else."""


@dataclass(frozen=True, slots=True)
class Added:
    """The manifest has the machine now."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The manifest says something else of the machine."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The manifest does not have the machine any more, and nothing was done for it."""


@dataclass(frozen=True, slots=True)
class Released:
    """The attempt was stopped, and does not count; the machine waits for the next run."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Somebody asked for the machine to be tried again."""


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing more begins; what is under way goes on."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The batch goes on."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker has taken the machine: an attempt begins."""

    worker: str
    """The runner's host and process."""
    attempt: Count
    """Which attempt it is, as the limit on attempts counts."""
    limit: Count
    """How many attempts the machine has."""
    lost_worker: str = field(default="", metadata=SOMETIMES)
    """Who had it before and was not heard of any more."""


@dataclass(frozen=True, slots=True)
class Began:
    """Its conversion begins, and its copy has a share of the budget's rate: little, until it copies."""

    limit: Count
    """Bytes a second."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Its copy is to go by another limit from now on."""

    limit: Count
    """Bytes a second."""


@dataclass(frozen=True, slots=True)
class AtWorker:
    """A worker of a cluster carries the attempt out."""

    worker: str
    """The worker's address."""
    host: str
    """The name of its host."""
    ahead: float
    """Seconds by which its host's clock is before the runner's; less than 0: behind it."""


@dataclass(frozen=True, slots=True)
class HookBegan:
    """A command of the manifest begins."""

    when: str
    """Which one: `before`, `after`, or `end`."""
    attempt: Count
    """Of which attempt; 0 of the batch itself."""
    seconds: Seconds
    """Its limit, in seconds."""


@dataclass(frozen=True, slots=True)
class HookRuns:
    """Which process the command is."""

    when: str
    """Which one: `before`, `after`, or `end`."""
    process: str
    """Its number, a colon, and when it was started, in the kernel's ticks since the host began."""
    boot: str
    """Which of its starts the host was on, by the kernel's boot id."""


@dataclass(frozen=True, slots=True)
class HookEnded:
    """A command of the manifest has ended."""

    when: str
    """Which one: `before`, `after`, or `end`."""
    failed: bool
    """Whether it failed."""
    message: str
    """What went wrong, in words; may be empty."""
    cut: bool = field(default=False, metadata=SOMETIMES)
    """Whether it was ended before it was done."""


@dataclass(frozen=True, slots=True)
class Again:
    """An attempt failed, and the machine waits for the next one."""

    code: str
    """The error's name, which stays the same."""
    exit_code: int
    """As `p2v convert` ends with it."""
    message: str
    """What, and where."""
    hint: str
    """What to do; may be empty."""
    may_help: bool
    """Whether trying again may help."""
    not_before: Seconds
    """When it is tried again at the earliest, in seconds since 1970."""
    counted: bool = field(default=True, metadata=SOMETIMES)
    """False: this was no attempt, for somebody else is at the machine still."""

    @classmethod
    def of(cls, failure: Failure, not_before: float, *, counted: bool) -> Again:
        """Of a failure."""
        return cls(*_said(failure), not_before, counted)


@dataclass(frozen=True, slots=True)
class Done:
    """The machine is converted, and verified where that was wished."""

    record: Path | None
    """The record of its conversion."""
    seconds: Mapping[str, Seconds]
    """Seconds that each phase took."""
    verified: bool | None
    """Whether it was seen to boot; null: that was not wished."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The machine was given up until somebody looks."""

    code: str
    """The error's name, which stays the same."""
    exit_code: int
    """As `p2v convert` ends with it."""
    message: str
    """What, and where."""
    hint: str
    """What to do; may be empty."""
    may_help: bool
    """Whether trying again may help."""
    bundle: Path | None
    """The failure bundle's folder; null: none could be made."""

    @classmethod
    def of(cls, failure: Failure) -> Parked:
        """Of a failure."""
        return cls(*_said(failure), failure.bundle)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The machine was given up; of an attempt that failed meanwhile with its failure."""

    why: str = field(default="", metadata=SOMETIMES)
    """Why, where nobody asked for it by name."""
    code: str = field(default="", metadata=SOMETIMES)
    """The error's name, which stays the same."""
    exit_code: int | None = field(default=None, metadata=SOMETIMES)
    """As `p2v convert` ends with it."""
    message: str = field(default="", metadata=SOMETIMES)
    """What, and where."""
    hint: str = field(default="", metadata=SOMETIMES)
    """What to do."""
    may_help: bool | None = field(default=None, metadata=SOMETIMES)
    """Whether trying again may help."""
    bundle: Path | None = field(default=None, metadata=SOMETIMES)
    """The failure bundle's folder."""

    @classmethod
    def of(cls, failure: Failure) -> Cancelled:
        """Of a failure."""
        return cls("", *_said(failure), failure.bundle)


@dataclass(frozen=True, slots=True)
class CancelWished:
    """The machine is under way, and its worker was told to give it up."""

    why: str = field(default="", metadata=SOMETIMES)
    """Why, where nobody asked for it by name."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """The run that had the machine's lease was killed: the lease holds no longer."""

    worker: str
    """The killed runner's host and process."""


@dataclass(frozen=True, slots=True)
class LostLease:
    """Another worker has the machine now: what this one still does for it counts for nothing."""

    message: str
    """Who has it, in words."""


@dataclass(frozen=True, slots=True)
class BatchBegan:
    """A run begins."""

    machines: Count
    """How many machines the batch has."""
    chosen: tuple[str, ...] | None = field(default=None, metadata=SOMETIMES)
    """Names of those that were asked for, where only a part was."""


@dataclass(frozen=True, slots=True)
class Late:
    """It is later than the run may begin anything."""

    waiting: Count
    """Machines that wait for the next run."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """What is under way is ended, and goes on at the next run."""

    signal: Count
    """The number of the signal; 0: it is the time to stop at."""


@dataclass(frozen=True, slots=True)
class LinesLeftOut:
    """Lines were not written, for nobody read them: `logs --json` has them."""

    lines: Count
    """How many."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """In place of an event's fields that the store did not keep."""

    left_out_bytes: Count
    """Bytes that they would have taken, as JSON."""


LEFT_OUT = "left-out"
OF_A_RUN: Mapping[str, type] = MappingProxyType({
    "batch-began": BatchBegan, kinds.CLAIMED: Claimed, kinds.WORKER: AtWorker, "began": Began, "limit": Limited,
    kinds.PHASE_STARTED: PhaseStarted, kinds.BYTES_DONE: BytesDone, kinds.PHASE_FINISHED: PhaseFinished,
    "change-applied": ChangeApplied, "warning": Warned, "hook-began": HookBegan, "hook": HookEnded, kinds.AGAIN: Again,
    kinds.DONE: Done, kinds.PARKED: Parked, kinds.RELEASED: Released, kinds.CANCELLED: Cancelled, "lease-lost": LostLease,
    kinds.PAUSED: Paused, kinds.RESUMED: Resumed, "late": Late, "stopping": Stopping, "batch-ended": StateCounts,
    LEFT_OUT: LinesLeftOut, "error": ErrorLine,
})  # fmt: skip
"""The kinds of events that a run tells, with their fields."""
OF_A_MACHINE: Mapping[str, type] = MappingProxyType({
    kinds.ADDED: Added, kinds.CHANGED: Changed, kinds.REMOVED: Removed, kinds.CLAIMED: Claimed, kinds.WORKER: AtWorker,
    "began": Began, "limit": Limited, kinds.PHASE_STARTED: PhaseStarted, kinds.BYTES_DONE: BytesDone,
    kinds.PHASE_FINISHED: PhaseFinished, "change-applied": ChangeApplied, "warning": Warned, "hook-began": HookBegan,
    "hook-runs": HookRuns, "hook": HookEnded, kinds.AGAIN: Again, kinds.DONE: Done, kinds.PARKED: Parked,
    kinds.RELEASED: Released, kinds.CANCEL_WISHED: CancelWished, kinds.CANCELLED: Cancelled, kinds.RETRIED: Retried,
    kinds.LET_GO: LetGo,
})  # fmt: skip
"""The kinds of events that the store has of machines, with their fields."""


def data_of(event: Any) -> dict[str, Any]:
    """An event's own fields as JSON data; what there is only sometimes is absent otherwise."""
    data = dict(jsonio.encode(jsonio.converter(), event))
    for each in fields(event):
        if each.metadata == SOMETIMES and getattr(event, each.name) == each.default:
            del data[each.name]
    return data


def log_data(event: JobEvent) -> dict[str, Any]:
    """An event as a line of a log, as JSON data."""
    return asdict(LogHead()) | asdict(event)


def _said(failure: Failure) -> tuple[str, int, str, str, bool]:
    return failure.code, failure.exit_code, failure.message, failure.hint, failure.may_help
