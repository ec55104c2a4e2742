"""When windows of time open and close, by the local clock with its changes to and from summer time; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, tzinfo

from p2v.batch.jobs import Window

_DAYS = 3
"""A window opens every day; where the clock is put forward over all of it, on the next."""


def local(at: float, zone: tzinfo | None = None) -> datetime:
    """A moment (seconds since 1970) by the clock of this host, or of a zone."""
    return datetime.fromtimestamp(at, zone)


def is_in(window: Window | None, at: float, zone: tzinfo | None = None) -> bool:
    """Whether jobs of a window may begin at a moment."""
    return window is None or window.holds(local(at, zone).time())


def next_change(windows: Iterable[Window], after: float, zone: tzinfo | None = None) -> float:
    """The first moment after another at which one of them opens or closes; infinite: none does."""
    return min((_change(window, after, zone) for window in set(windows)), default=math.inf)


def whole_opening(window: Window, at: float, zone: tzinfo | None = None) -> float:
    """How long it is open in all, the next time that it is (or now); 0: it never is."""
    if is_in(window, at, zone):
        begin = next(
            (each for each in reversed(_moments(window, at, zone, back=True)) if not is_in(window, each - 1, zone)), at
        )
        return _change(window, begin, zone) - begin
    begin = _change(window, at, zone)
    return _change(window, begin, zone) - begin if math.isfinite(begin) else 0.0


def _change(window: Window, after: float, zone: tzinfo | None) -> float:
    now = is_in(window, after, zone)
    return next((each for each in _moments(window, after, zone) if is_in(window, each, zone) != now), math.inf)


def _moments(window: Window, at: float, zone: tzinfo | None, *, back: bool = False) -> list[float]:
    """Moments at which it may open or close: its own of the days around, and those at which the clock is put forward or back."""
    day = local(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=zone)
    found = set[float]()
    for number in range(-1, _DAYS):
        date = day + timedelta(days=number)
        for time in (window.begin, window.end):
            clock = datetime.combine(date, time, zone)
            found |= {clock.timestamp(), clock.replace(fold=1).timestamp()}
        found.update(_clock_change(date, zone))
    return sorted(each for each in found if (each <= at if back else each > at))


def _clock_change(day: datetime, zone: tzinfo | None) -> Iterator[float]:
    """The moment of a day at which the clock is put forward or back, to the second."""
    low, high = day.timestamp(), (day + timedelta(days=1)).timestamp()
    offset = _offset(low, zone)
    if _offset(high, zone) == offset:
        return
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
    yield high


def _offset(at: float, zone: tzinfo | None) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).astimezone(zone).utcoffset()
