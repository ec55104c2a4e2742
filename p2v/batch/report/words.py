"""The words and colours that the page has for values."""

from __future__ import annotations

import enum
from datetime import datetime

from p2v.batch.jobs import Job, State
from p2v.core.units import format_bytes, format_seconds

_LAST = 2.0**36
"""Where the years of a calendar with four digits end, or nearly."""


class Outcome(enum.Enum):
    """How a machine stands; what somebody should look at comes first."""

    PARKED = "parked"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLED = "cancelled"
    NOT_BOOTED = "not-booted"
    CONVERTED = "converted"
    VERIFIED = "verified"


OUTCOMES = {
    Outcome.PARKED: ("Parked", "blocker"),
    Outcome.RUNNING: ("Running", "unknown"),
    Outcome.WAITING: ("Waiting", "muted"),
    Outcome.CANCELLED: ("Cancelled", "cancelled"),
    Outcome.NOT_BOOTED: ("Converted, did not boot", "warning"),
    Outcome.CONVERTED: ("Converted, not verified", "information"),
    Outcome.VERIFIED: ("Converted and verified", "ready"),
}
"""An outcome's words and its colour."""

_ENDS = {State.RUNNING: Outcome.RUNNING, State.WAITING: Outcome.WAITING, State.PARKED: Outcome.PARKED}


def outcome_of(job: Job) -> Outcome:
    """How it stands."""
    if job.state is State.DONE:
        return {True: Outcome.VERIFIED, False: Outcome.NOT_BOOTED, None: Outcome.CONVERTED}[job.verified]
    return _ENDS.get(job.state, Outcome.CANCELLED)


class Work(enum.Enum):
    """What a phase is about; each has a colour in the timeline."""

    COPY = "copy"
    REWRITE = "rewrite"
    BOOT = "boot"
    FINISH = "finish"
    TURN = "turn"
    OTHER = "other"


WORKS = {
    Work.COPY: ("Copying", "copy"),
    Work.REWRITE: ("Rewriting", "rewrite"),
    Work.BOOT: ("Booting", "boot"),
    Work.FINISH: ("Finishing", "finish"),
    Work.TURN: ("Waiting for a turn", "turn"),
    Work.OTHER: ("Other", "other"),
}
FAILED = ("Failed", "failed")

_WORK_OF = {
    "copy": Work.COPY,
    "media": Work.COPY,
    "rewrite": Work.REWRITE,
    "boot": Work.BOOT,
    "instrument": Work.BOOT,
    "turn": Work.TURN,
    "appliance-turn": Work.TURN,
    "commit": Work.FINISH,
    "checksum": Work.FINISH,
    "publish": Work.FINISH,
    "deliver": Work.FINISH,
}

ATTEMPT_ENDS = {
    "": "runs",
    "again": "failed, to be tried again",
    "parked": "failed, parked",
    "done": "done",
    "released": "stopped by the runner",
    "cancelled": "cancelled",
    "lease-lost": "its worker was lost",
}


def work_of(phase: str) -> Work:
    """What a phase is about."""
    return _WORK_OF.get(phase, Work.OTHER)


def clock(at: float, *, seconds: bool = False) -> str:
    """A time of day here."""
    return _written(at, "%H:%M:%S" if seconds else "%H:%M")


def moment(at: float) -> str:
    """A day and a time of day here; a dash for none."""
    return _written(at, "%Y-%m-%d %H:%M:%S")


def zone(at: float) -> str:
    """How far the clock here is from UTC: ``UTC+01:00``."""
    offset = _written(at, "%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def _written(at: float, how: str) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime(how) if 0 < at < _LAST else "–"


def lasted(seconds: float | None) -> str:
    """A time for people; a dash for what is not known."""
    return "–" if seconds is None else format_seconds(max(seconds, 0.0))


def rate(bytes_per_second: float | None) -> str:
    """Bytes a second for people; a dash for what is not known."""
    return "–" if bytes_per_second is None else f"{format_bytes(int(bytes_per_second))}/s"
