"""How long the rest of a batch takes: how its machines went so far, and what the run still makes of those that are left. Pure.

How long a machine takes: ``p2v.batch.pace``; when it begins and what it waits for: ``p2v.batch.foresight``. Where nothing was
measured yet it is assumed, and said so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from p2v.batch.foresight import Foresight, foresee
from p2v.batch.jobs import Job, State
from p2v.batch.pace import Paces, paces_of
from p2v.batch.terms import Terms

_IDLE_WORTH_SAYING = 120.0
_PART = 20.0
_LONGEST = 1e9
"""Seconds, some thirty years: who hears of more learns no more, and calendars end."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch stands: its jobs, and what the run of it goes by, which says about how many bytes each has to copy, too."""

    jobs: Sequence[Job]
    terms: Terms = field(default_factory=Terms)
    paused: bool = False
    goes_on: bool = False
    """A run is on, also while it waits and nothing is under way."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``seconds`` until the last machine has ended, or the run stops it; ``idle``: of them those in which nothing is under way.

    ``later``: names of machines that wait for another run. ``assumed``: in words, what was not measured; empty where all was.
    ``runs``: a run is on; otherwise all this is of one that begins now.
    """

    seconds: float
    idle: float = 0.0
    later: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    runs: bool = False


def forecast(look: Look, now: float, zone: tzinfo | None = None) -> Forecast | None:
    """None where neither times nor sizes are known, where all have ended, and while the batch is paused.

    ``now``: seconds since 1970, as the jobs' times. Leases that ran out count as machines that wait. Where no run goes on, as if
    one began now. ``zone``: of the windows of time, otherwise this host's.
    """
    left = [job for job in look.jobs if not job.state.is_end]
    sizes = sizes_of(look.jobs, look.terms.sizes)
    if look.paused or not left or not (any(sizes.values()) or any(job.state is State.DONE for job in look.jobs)):
        return None
    runs = look.goes_on or any(job.state is State.RUNNING and job.lease_until > now for job in left)
    # what was said to a run that is over counts for no other
    terms = look.terms if runs else look.terms.anew()
    paces = paces_of(look.jobs, sizes, now, terms.setting)
    return _told(foresee(look.jobs, sizes, terms, paces, now, zone), paces, now, runs)


def _told(seen: Foresight, paces: Paces, now: float, runs: bool) -> Forecast:
    seconds, idle = (min(max(0.0, each), _LONGEST) for each in (seen.end - now, seen.idle))
    return Forecast(seconds, idle, seen.later, paces.assumed, runs)


@dataclass
class Outlook:
    """Forecasts for who looks again and again: a new one when making the last is no more than a small part of the time since."""

    clock: Callable[[], float] = time.thread_time
    _last: Forecast | None = None
    _made: float = -math.inf
    _good_until: float = -math.inf

    def of(self, look: Look, now: float) -> Forecast | None:
        """As ``forecast``, or what the last one said, less the time that has passed."""
        if self._last is not None and self._made <= now < self._good_until and not look.paused:
            return replace(self._last, seconds=max(0.0, self._last.seconds - (now - self._made)))
        began = self.clock()
        self._last, self._made = forecast(look, now), now
        self._good_until = now + _PART * (self.clock() - began)
        return self._last


def sizes_of(jobs: Sequence[Job], known: Mapping[str, int]) -> Mapping[str, int]:
    """Of all jobs, by their names; those that nobody knows are taken for usual."""
    found = [size for job in jobs if (size := known.get(job.machine.name, 0)) > 0]
    usual = sum(found) // len(found) if found else 0
    return {job.machine.name: known.get(job.machine.name, 0) or usual for job in jobs}


def about(seconds: float) -> str:
    """A guessed duration in words."""
    return roughly(seconds) if seconds < 60 else f"about {roughly(seconds)}"


def roughly(seconds: float) -> str:
    """The same where it is said already that it is a guess: no seconds, and no minutes beside days."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


def left_words(found: Forecast, now: float) -> str:
    """How long it still takes, and until when (local) where a run goes on, as roughly as it is known; and what that leaves out."""
    parts = [about(found.seconds)]
    if found.runs and found.seconds >= 60:
        parts.append(f"until {clock_words(now + found.seconds, now)}")
    if waits := idle_words(found.idle):
        parts.append(waits)
    if found.later:
        count = len(found.later)
        parts.append(f"then {count} {'machine waits' if count == 1 else 'machines wait'} for the next run")
    words = ", ".join(parts)
    return f"{words} (not measured yet, and assumed: {', '.join(found.assumed)})" if found.assumed else words


def idle_words(seconds: float) -> str:
    """How much of a time nothing is under way in; empty where that is next to nothing."""
    return f"{roughly(seconds)} of it waiting for windows of time" if seconds >= _IDLE_WORTH_SAYING else ""


def clock_words(at: float, now: float) -> str:
    """A moment by the local clock, with the day where that is another one."""
    end = datetime.fromtimestamp(at)
    is_today = end.date() == datetime.fromtimestamp(now).date()
    day = "" if is_today else f"{end:%a} " if at - now < 6 * 86400 else f"{end:%Y-%m-%d} "
    return f"{day}{end:%H:%M}"
