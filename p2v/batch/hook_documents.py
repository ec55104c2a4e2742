"""What hooks get on their standard input, as values: one of a machine (``before``, ``after``), and the batch's own (``end``)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Failure, Job
from p2v.batch.json_forms import Count, Seconds
from p2v.batch.status import StateCounts
from p2v.core import jsonio
from p2v.core.errors import P2vError

HOOK_SCHEMA = 1
END_HOOK_SCHEMA = 1


class When(enum.Enum):
    """Which of a machine's hooks it is."""

    BEFORE = "before"
    AFTER = "after"


class BatchWhen(enum.Enum):
    """Which of the batch's own."""

    END = "end"


class EarlierEnd(enum.Enum):
    """How an earlier hook ended."""

    DONE = "done"
    FAILED = "failed"
    CUT = "cut"
    """It was ended before it was done."""
    UNKNOWN = "unknown"
    """Its run was killed."""


class MachineOutcome(enum.Enum):
    """What an attempt came to."""

    DONE = "done"
    PARKED = "parked"


class RunOutcome(enum.Enum):
    """How a run ended."""

    ENDED = "ended"
    """All machines have."""
    WAITING = "waiting"
    """Some wait for the next run."""
    STOPPED = "stopped"
    """By a signal."""
    FAILED = "failed"
    """It could not go on."""


@dataclass(frozen=True, slots=True)
class EarlierHook:
    """The hook of that kind before this one, as far as it is known."""

    began: Seconds
    """When it began, in seconds since 1970."""
    attempt: Count
    """Of which attempt it was; 0 of the batch itself."""
    fence: Count
    """The number of the lease that it was under; 0 of the batch itself."""
    end: EarlierEnd
    """How it ended; `cut`: it was ended before it was done, `unknown`: nobody saw its end."""
    message: str
    """What went wrong, in words; may be empty."""


@dataclass(frozen=True, slots=True)
class HookFailure:
    """Why a machine is parked."""

    code: str
    """The error's name, which stays the same."""
    message: str
    """What, and where."""
    hint: str
    """What to do; may be empty."""

    @classmethod
    def of(cls, failure: Failure) -> HookFailure:
        """As a hook is told of it."""
        return cls(failure.code, failure.message, failure.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDocument:
    """What a machine's hook gets."""

    schema: int = HOOK_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    when: When
    """Whether it runs before the machine's conversion or after it."""
    job: str
    """The machine, as the manifest calls it."""
    attempt: Count
    """Which attempt this is, as the limit on attempts counts."""
    fence: Count
    """The number of its lease, which is never given twice."""
    sources: tuple[Path, ...]
    """The machine's sources, as the manifest has them."""
    folder: Path
    """Where its results go."""
    outcome: MachineOutcome | None
    """What the attempt came to; null of `before`."""
    record: Path | None
    """The record of its conversion; null where there is none."""
    booted: bool | None
    """Whether it was seen to boot; null where that was not looked at."""
    failure: HookFailure | None
    """Why it is parked; null where it is not."""
    unfinished: bool
    """Whether a hook of this kind has begun for this machine before, and may have done a part of its work."""
    earlier: EarlierHook | None
    """That one, or the last one that came to its end; null where there was none."""


@dataclass(frozen=True, slots=True)
class RunError:
    """What a run failed with."""

    code: str
    """The error's name, which stays the same."""
    message: str
    """What, and where."""

    @classmethod
    def of(cls, error: P2vError) -> RunError:
        """As a hook is told of it."""
        return cls(error.code, error.sentence())


@dataclass(frozen=True, slots=True)
class ParkedMachine:
    """A machine that is parked."""

    name: str
    """As the manifest calls it."""
    code: str | None
    """The error's name; null where the store tells of none, as are the next two."""
    message: str | None
    """What, and where."""
    hint: str | None
    """What to do; may be empty."""
    bundle: Path | None
    """The failure bundle's folder; null where there is none."""

    @classmethod
    def of(cls, job: Job) -> ParkedMachine:
        """Of its job."""
        failure, name = job.failure, job.machine.name
        if failure is None:
            return cls(name, None, None, None, None)
        return cls(name, failure.code, failure.message, failure.hint, failure.bundle)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndHookDocument:
    """What the batch's own hook gets when a run has ended."""

    schema: int = END_HOOK_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    when: BatchWhen = BatchWhen.END
    """When it runs."""
    unfinished: bool
    """Whether the hook of an earlier run has begun, and may have done a part of its work."""
    earlier: EarlierHook | None
    """That one, or the last one that came to its end; null where there was none."""
    outcome: RunOutcome
    """`ended`: all machines have; `waiting`: some wait for the next run; `stopped` by a signal; `failed`: it could not go on."""
    manifest: Path
    """The manifest, by its whole path."""
    store: Path
    """The store, by its whole path."""
    page: Path | None
    """The page of the fleet, which is up to date; null where none is kept by `--report`."""
    seconds: Seconds
    """Seconds that the run took."""
    exit_code: int
    """The run's exit status."""
    signal: int
    """The number of the signal that stopped it; 0: none did."""
    error: RunError | None
    """What it failed with; null where it did not."""
    machines: Count
    """How many machines there are."""
    counts: StateCounts
    """How many of them are in each state."""
    verified: Count
    """How many of those that are done were seen to boot."""
    parked: tuple[ParkedMachine, ...]
    """Those that are parked, a thousand at most; the counts are of all."""


def hook_data(document: HookDocument | EndHookDocument) -> dict[str, Any]:
    """As JSON data."""
    return dict(jsonio.encode(jsonio.converter(), document))
