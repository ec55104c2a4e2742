"""How long the rest of a batch takes, by how long its machines took so far, how large they were, and how many ran at once. Pure.

A machine takes some seconds whatever its size (appliance, boot), and some for each byte: a line through what was measured. Work
that is left is then divided by as many machines as were under way together so far, or as are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from p2v.batch.jobs import Job, State, Verify

_LEAST_ENDED = 3
"""Machines that must have been converted before anything is said."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch stands: its jobs, and about how many bytes each has to copy, by its name; 0 or nothing: not known."""

    jobs: Sequence[Job]
    sizes: Mapping[str, int] = field(default_factory=dict)
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a machine takes: ``fixed``, and ``each`` for a byte of its size."""

    fixed: float
    each: float

    def seconds(self, size: int) -> float:
        """Of a machine of this size."""
        return self.fixed + self.each * size


def seconds_left(look: Look, now: float) -> float | None:
    """How long until all have ended, without the waiting for windows of time.

    None where too little is known, where all have ended, and while the batch is paused.
    ``now``: seconds since 1970, as the jobs' times. Leases that ran out count as machines that wait.
    """
    ended = [job for job in look.jobs if job.state is State.DONE and job.ended >= job.began > 0]
    left = [job for job in look.jobs if not job.state.is_end]
    if look.paused or len(ended) < _LEAST_ENDED or not left:
        return None
    sizes = _sizes(look)
    paces = {verify: _pace(ended, sizes, verify) for verify in Verify}
    rest = [_rest(job, paces[job.machine.verify].seconds(sizes[job.machine.name]), now) for job in left]
    at_once = max(1.0, min(_at_once(look.jobs, now), len(left)))
    return max(sum(rest) / at_once, *rest)


def about(seconds: float) -> str:
    """A guessed duration in words: no seconds, and no minutes beside days."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes:02d} min" if hours < 48 else f"about {hours // 24} days"


def left_words(seconds: float, now: float) -> str:
    """How long it still takes, and until when (local), as roughly as it is known."""
    if seconds < 60:
        return about(seconds)
    end = datetime.fromtimestamp(now + seconds)
    is_today = end.date() == datetime.fromtimestamp(now).date()
    day = "" if is_today else f"{end:%a} " if seconds < 6 * 86400 else f"{end:%Y-%m-%d} "
    return f"{about(seconds)}, until {day}{end:%H:%M}"


def windows_apart(jobs: Iterable[Job]) -> str:
    """What a guess leaves out, to stand behind it; empty where no machine waits for its window."""
    has = any(job.state is State.WAITING and job.machine.window is not None for job in jobs)
    return ", without the waiting for windows" if has else ""


def pace_of(measured: Sequence[tuple[int, float]]) -> Pace:
    """The line through sizes and seconds with the least squares, of which neither part is below nothing."""
    count = len(measured)
    mean_size, mean = sum(size for size, _ in measured) / count, sum(seconds for _, seconds in measured) / count
    spread = sum((size - mean_size) ** 2 for size, _ in measured)
    each = sum((size - mean_size) * (seconds - mean) for size, seconds in measured) / spread if spread else 0.0
    fixed = mean - each * mean_size
    if each < 0:
        return Pace(mean, 0.0)
    if fixed < 0:
        return Pace(0.0, sum(size * seconds for size, seconds in measured) / sum(size**2 for size, _ in measured))
    return Pace(fixed, each)


def _pace(ended: Sequence[Job], sizes: Mapping[str, int], verify: Verify) -> Pace:
    """Of machines that are proven in the same way, for a boot takes its time; of all, as long as those are too few."""
    alike = [job for job in ended if job.machine.verify is verify]
    jobs = alike if len(alike) >= _LEAST_ENDED else ended
    return pace_of([(sizes[job.machine.name], job.ended - job.began) for job in jobs])


def _sizes(look: Look) -> Mapping[str, int]:
    """Those that nobody knows are taken for usual."""
    known = [size for job in look.jobs if (size := look.sizes.get(job.machine.name, 0)) > 0]
    usual = sum(known) // len(known) if known else 0
    return {job.machine.name: look.sizes.get(job.machine.name, 0) or usual for job in look.jobs}


def _rest(job: Job, whole: float, now: float) -> float:
    """Seconds that a job still takes; of one that takes longer than it should, a quarter of what it took is a guess like others."""
    if job.state is not State.RUNNING or job.lease_until <= now:
        return whole
    taken = max(0.0, now - job.began)
    copied = job.bytes_copied / job.bytes_total if job.bytes_total else 0.0
    # of one that has copied a tenth in its time, the rest takes nine such times: what is seen goes before what was guessed
    seen = taken * (1 - copied) / copied if 0.05 < copied < 1 else 0.0
    return max(whole - taken, seen, 0.1 * whole, 0.25 * (taken if taken > whole else 0.0))


def _at_once(jobs: Iterable[Job], now: float) -> float:
    """How many machines were under way together on average, while any was: by the last attempt of each."""
    spans = []
    for job in jobs:
        if job.began > 0 and job.state is State.RUNNING:
            spans.append((job.began, now))
        elif job.began > 0 and job.ended > job.began:
            spans.append((job.began, job.ended))
    busy, end = 0.0, 0.0
    for begin, until in sorted(spans):
        busy += max(0.0, until - max(begin, end))
        end = max(end, until)
    return sum(until - begin for begin, until in spans) / busy if busy > 0 else 1.0
