"""When windows of time open and close: over midnight, and where the clock is put forward or back."""

from __future__ import annotations

import math
from datetime import datetime, time
from random import Random
from zoneinfo import ZoneInfo

import pytest

from p2v.batch.jobs import Window
from p2v.batch.windows import is_in, next_change, whole_opening

BERLIN = ZoneInfo("Europe/Berlin")
"""The clock is put forward on 2026-03-29 at 02:00, and back on 2026-10-25 at 03:00."""
NIGHT = Window(time(22), time(5, 30))


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def test_a_window_over_midnight_opens_in_the_evening_and_closes_in_the_morning() -> None:
    assert next_change([NIGHT], at("2026-11-27T12:00"), BERLIN) == at("2026-11-27T22:00")
    assert next_change([NIGHT], at("2026-11-27T22:00"), BERLIN) == at("2026-11-28T05:30")
    assert next_change([NIGHT], at("2026-11-28T00:10"), BERLIN) == at("2026-11-28T05:30")
    for moment in ("2026-11-27T12:00", "2026-11-27T22:00", "2026-11-28T05:29"):
        assert whole_opening(NIGHT, at(moment), BERLIN) == 7.5 * 3600


def test_the_first_of_several_counts_and_one_that_never_opens_does_not() -> None:
    noon, never = Window(time(12), time(13)), Window(time(3), time(3))
    assert next_change([NIGHT, noon, never], at("2026-11-27T11:00"), BERLIN) == at("2026-11-27T12:00")
    assert math.isinf(next_change([never], at("2026-11-27T11:00"), BERLIN))
    assert math.isinf(next_change([], 0.0, BERLIN))
    assert whole_opening(never, at("2026-11-27T11:00"), BERLIN) == 0


def test_the_night_in_which_the_clock_is_put_forward_is_an_hour_shorter() -> None:
    assert whole_opening(NIGHT, at("2026-03-28T12:00"), BERLIN) == 6.5 * 3600
    assert whole_opening(NIGHT, at("2026-10-24T12:00"), BERLIN) == 8.5 * 3600
    # 02:30 is not there that night: it opens when the clock jumps over it
    early = Window(time(2, 30), time(5))
    assert next_change([early], at("2026-03-29T01:00"), BERLIN) == at("2026-03-29T03:00")
    # and one that is all inside of what is left out opens the next night
    inside = Window(time(2, 10), time(2, 50))
    assert next_change([inside], at("2026-03-29T01:00"), BERLIN) == at("2026-03-30T02:10")


def test_the_hour_that_comes_twice_opens_a_window_twice() -> None:
    twice = Window(time(2, 30), time(4))
    first, again = at("2026-10-25T02:30"), at("2026-10-25T02:30", fold=1)
    back = at("2026-10-25T02:00", fold=1)
    assert next_change([twice], at("2026-10-25T01:00"), BERLIN) == first
    assert next_change([twice], first, BERLIN) == back
    assert next_change([twice], back, BERLIN) == again
    assert next_change([twice], again, BERLIN) == at("2026-10-25T04:00")


@pytest.mark.parametrize("seed", range(30))
def test_what_it_says_is_what_a_look_at_every_minute_sees(seed: int) -> None:
    draw = Random(seed)
    begin, end = (time(draw.randrange(24), draw.choice([0, 15, 30])) for _ in range(2))
    window = Window(begin, end)
    moment = at(draw.choice(["2026-03-28T20:00", "2026-10-24T20:00", "2026-06-01T03:00"])) + 60 * draw.randrange(600)
    found = next_change([window], moment, BERLIN)
    now = is_in(window, moment, BERLIN)
    minutes = (moment + 60 * n for n in range(1, 2 * 24 * 60))
    seen = next((each for each in minutes if is_in(window, each, BERLIN) != now), math.inf)
    assert found == seen
