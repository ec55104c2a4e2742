"""How long the rest of a batch takes: by sizes, by how many ran at once, and only where something is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from p2v.batch.estimate import Look, Pace, pace_of, seconds_left
from p2v.batch.jobs import Job, State, Verify
from tests.batch.making import job

NOW = 10_000.0
GIB = 1 << 30


def done(name: str, begin: float, seconds: float) -> Job:
    return job(name, State.DONE, began=NOW - begin, ended=NOW - begin + seconds)


def running(name: str, seconds: float, copied: int = 0, total: int = 0) -> Job:
    return job(name, State.RUNNING, began=NOW - seconds, lease_until=NOW + 60, bytes_copied=copied, bytes_total=total)


def alone(count: int, seconds: float = 100) -> list[Job]:
    """Machines that were converted one after the other."""
    return [done(f"d{number}", (number + 1) * seconds, seconds) for number in range(count)]


def left(jobs: Sequence[Job], sizes: dict[str, int] | None = None) -> float | None:
    return seconds_left(Look(jobs, sizes or {}), NOW)


def test_nothing_is_said_before_three_are_converted_when_all_have_ended_or_while_it_is_paused() -> None:
    waiting = [job("w1"), job("w2")]
    assert left([*alone(2), *waiting]) is None
    assert left(alone(3)) is None
    assert left([]) is None
    assert left([*alone(3), *waiting]) == pytest.approx(200)
    assert seconds_left(Look([*alone(3), *waiting], {}, paused=True), NOW) is None


def test_machines_that_ran_side_by_side_are_gone_on_with_side_by_side() -> None:
    four = [done(f"d{number}", 100, 100) for number in range(4)]
    assert left([*four, *(job(f"w{number}") for number in range(8))]) == pytest.approx(200)
    # with fewer than that left, there is nothing to run beside them
    assert left([*four, job("w")]) == pytest.approx(100)


def test_time_in_which_nothing_ran_does_not_count() -> None:
    halves = [done("d1", 9_000, 100), done("d2", 200, 100), done("d3", 100, 100)]
    assert left([*halves, job("w1"), job("w2")]) == pytest.approx(200)


def test_a_machine_takes_what_its_size_takes() -> None:
    sizes = {"d0": 10 * GIB, "d1": 20 * GIB, "d2": 40 * GIB, "large": 400 * GIB, "small": GIB}
    jobs = [done("d0", 1000, 110), done("d1", 800, 210), done("d2", 500, 410)]
    assert left([*jobs, job("large")], sizes) == pytest.approx(4010)
    assert left([*jobs, job("small")], sizes) == pytest.approx(20)
    # of one that nobody knows, what is usual
    assert left([*jobs, job("strange")], sizes) == pytest.approx(10 + 10 * 70 / 3)


def test_machines_that_are_booted_take_what_such_machines_took() -> None:
    def booted(one: Job) -> Job:
        return replace(one, machine=replace(one.machine, verify=Verify.BOOT))

    slow = [booted(done(f"b{number}", 5000 + 900 * number, 900)) for number in range(3)]
    assert left([*alone(3), *slow, job("w")]) == pytest.approx(100)
    assert left([*alone(3), *slow, booted(job("w"))]) == pytest.approx(900)
    assert left([*alone(3), *slow[:1], booted(job("w"))]) == pytest.approx(300)


def test_what_is_under_way_has_a_part_behind_it() -> None:
    assert left([*alone(4), running("r", 40)]) == pytest.approx(60)
    # it copies more slowly than was thought: what is seen goes before what was guessed
    assert left([*alone(4), running("r", 90, GIB, 10 * GIB)]) == pytest.approx(810)
    assert left([*alone(4), running("r", 95)]) == pytest.approx(10)
    # and of one that takes longer than any before it nobody says that it is as good as done
    assert left([*alone(4), running("r", 500)]) == pytest.approx(125)
    lost = replace(running("r", 50), lease_until=NOW - 1)
    assert left([*alone(4), lost]) == pytest.approx(100)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_was_measured_neither_part_of_a_pace_is_below_nothing(seed: int) -> None:
    random = Random(seed)
    measured = [
        (random.choice((0, 1, 7 * GIB, random.randrange(GIB))), random.random() * 1e4)
        for _ in range(random.randint(1, 9))
    ]
    pace = pace_of(measured)
    assert pace.fixed >= 0
    assert pace.each >= 0


def test_a_line_is_found_where_there_is_one() -> None:
    assert pace_of([(0, 5.0), (10, 25.0)]) == Pace(5.0, 2.0)
    assert pace_of([(10, 5.0), (20, 3.0)]) == Pace(4.0, 0.0)
    assert pace_of([(5, 5.0), (5, 7.0)]) == Pace(6.0, 0.0)
    found = pace_of([(10, 1.0), (20, 9.0)])
    assert found.fixed == 0.0
    assert found.each == pytest.approx(190 / 500)


def test_a_whole_fleet_is_told_within_a_tenth_all_along() -> None:
    """Four at a time, of random sizes: at every end of a machine what is said is near what it then takes."""
    random = Random(7)
    sizes = {f"m{number}": random.randrange(5, 50) * GIB for number in range(200)}
    free, spans = [0.0] * 4, {}
    for name, size in sizes.items():
        begin = min(free)
        end = begin + 20 + 3 * size / GIB
        free[free.index(begin)] = end
        spans[name] = (begin, end)
    last = max(free)
    for at in (last * share for share in (0.2, 0.4, 0.6, 0.8)):
        jobs = []
        for name, (begin, end) in spans.items():
            if end <= at:
                jobs.append(job(name, State.DONE, began=begin + 1, ended=end + 1))
            elif begin <= at:
                jobs.append(job(name, State.RUNNING, began=begin + 1, lease_until=at + 60))
            else:
                jobs.append(job(name))
        said = seconds_left(Look(jobs, sizes), at + 1)
        assert said == pytest.approx(last - at, rel=0.1)
