"""How a batch stands, as the document that ``p2v batch status --json`` and ``p2v batch run --json`` print. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from p2v.batch.estimate import Forecast, Look, forecast
from p2v.batch.jobs import Failure, Job, State
from p2v.batch.json_forms import Count, Moment, Seconds

STATUS_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many machines are in each state."""

    waiting: Count
    """Machines that have not begun, or are to be tried again."""
    running: Count
    """Machines that a worker has a lease of."""
    done: Count
    """Machines that are converted, and verified where that was wished."""
    parked: Count
    """Machines that were given up until somebody looks."""
    cancelled: Count
    """Machines that were given up, or are no longer in the manifest."""

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> StateCounts:
        """Of a batch's jobs."""
        counts = Counter(job.state for job in jobs)
        return cls(**{state.value: counts[state] for state in State})


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """How long the rest takes, and what that leaves out."""

    seconds: Count
    """Seconds until the last machine has ended, or the run ends."""
    idle_seconds: Count
    """Of these, the seconds in which nothing is under way: machines wait for their windows of time."""
    later: tuple[str, ...]
    """Names of machines that wait for another run."""
    assumed: tuple[str, ...]
    """What was not measured yet, in words."""
    running: bool
    """Whether a run is on; otherwise all this is of one that begins now."""

    @classmethod
    def of(cls, found: Forecast) -> TimeLeft:
        """What a forecast says."""
        return cls(round(found.seconds), round(found.idle), found.later, found.assumed, found.runs)


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """How a machine stands."""

    name: str
    """As the manifest calls it."""
    state: State
    """Where it stands."""
    phase: str
    """Of what is under way the phase to show; empty: none is."""
    expired: bool
    """Whether who works on it was not heard of for longer than its lease."""
    attempts: Count
    """Attempts begun since somebody asked for it last."""
    attempts_allowed: Count
    """How many it has."""
    wave: int
    """All machines of a wave have ended before the next wave begins."""
    priority: int
    """Within a wave, the larger goes first."""
    folder: Path
    """Where its results go."""
    worker: str
    """Whose lease it is under: the runner's host and process; empty when nobody has it."""
    host: str
    """The name of the host in a cluster that converts it or did last, or the address of the worker there; empty: no other than the
    runner's."""
    pinned_to: str
    """The host that alone may convert it, by the manifest's `host`; empty: any."""
    not_before: Moment | None
    """When it is tried again at the earliest, in UTC; null: at any time."""
    began: Moment | None
    """When the attempt began that runs or ended it, in UTC; null: none did."""
    ended: Moment | None
    """When it ended, in UTC; null: it has not."""
    bytes_copied: Count
    """Bytes that the attempt has copied that runs or ended it, of its disks' virtual size."""
    bytes_total: Count
    """Bytes that it copies in all, as far as that is known; 0: it is not."""
    seconds: Mapping[str, Seconds]
    """Seconds that each phase took, of the attempt that converted it."""
    verified: bool | None
    """Whether it was seen to boot; null: that was not wished, or is not known yet."""
    record: Path | None
    """The record of its conversion; null: there is none."""
    failure: Failure | None
    """Why the last attempt that failed did; null: none has."""

    @classmethod
    def of(cls, job: Job, now: float) -> MachineStatus:
        """Of a job, at ``now`` in seconds since 1970."""
        machine = job.machine
        return cls(
            name=machine.name,
            state=job.state,
            phase=job.phase,
            expired=is_expired(job, now),
            attempts=job.attempts,
            attempts_allowed=machine.attempts,
            wave=machine.wave,
            priority=machine.priority,
            folder=machine.folder,
            worker=job.worker,
            host=job.host,
            pinned_to=machine.host,
            not_before=_moment(job.not_before),
            began=_moment(job.began),
            ended=_moment(job.ended),
            bytes_copied=job.bytes_copied,
            bytes_total=job.bytes_total,
            seconds=dict(job.seconds),
            verified=job.verified,
            record=job.record,
            failure=job.failure,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """How a batch stands."""

    schema: int = STATUS_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    at: Moment
    """As of when, in UTC."""
    paused: bool
    """Whether nothing more begins."""
    counts: StateCounts
    """Machines by state."""
    verified: Count
    """Machines that are done and were seen to boot."""
    seconds_left: Count | None
    """Seconds that the rest takes, the waiting for windows of time included; null where nobody knows, while it is paused, or when
    nothing is left."""
    left: TimeLeft | None
    """The same with what it leaves out; null where that is."""
    machines: tuple[MachineStatus, ...]
    """All of them, in the manifest's order."""


def status_of(look: Look, now: float) -> BatchStatus:
    """How it stands at ``now``, in seconds since 1970."""
    found = forecast(look, now)
    left = None if found is None else TimeLeft.of(found)
    return BatchStatus(
        at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        paused=look.paused,
        counts=StateCounts.of(look.jobs),
        verified=verified(look.jobs),
        seconds_left=None if left is None else left.seconds,
        left=left,
        machines=tuple(MachineStatus.of(job, now) for job in look.jobs),
    )


def verified(jobs: Iterable[Job]) -> int:
    """How many are done and were seen to boot."""
    return sum(1 for job in jobs if job.state is State.DONE and job.verified)


def is_expired(job: Job, now: float) -> bool:
    """Whether its worker has not been heard of for longer than it may be silent."""
    return job.state is State.RUNNING and job.lease_until <= now


def _moment(at: float) -> str | None:
    """Of seconds since 1970, where 0 is none."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else None
