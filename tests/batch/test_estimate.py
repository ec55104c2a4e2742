"""How long the rest of a batch takes: facts of single cases. How near it is on whole nights: ``test_estimated_nights``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from random import Random

import pytest

from p2v.batch.estimate import Forecast, Look, Outlook, forecast, left_words
from p2v.batch.jobs import Budget, Job, Share, State, Verify, Window
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.pace import BOOT_SECONDS, COPY_RATE, Pace, pace_of, paces_of
from p2v.batch.scheduling import Setting
from p2v.batch.terms import KeptTerms, Terms, terms_data, terms_of
from p2v.core import jsonio
from tests.batch.making import job, terms_of_sizes

NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC).timestamp()
GIB = 1 << 30
ONE = Budget(copies=1)


def done(name: str, begin: float, seconds: float, **parts: float) -> Job:
    return job(name, State.DONE, began=NOW - begin, ended=NOW - begin + seconds, seconds=parts)


def running(name: str, seconds: float, copied: int = 0, total: int = 0, phase: str = "copy") -> Job:
    return job(
        name,
        State.RUNNING,
        began=NOW - seconds,
        lease_until=NOW + 60,
        bytes_copied=copied,
        bytes_total=total,
        phase=phase,
    )


def booted(one: Job) -> Job:
    return replace(one, machine=replace(one.machine, verify=Verify.BOOT))


def of(one: Job, **more: object) -> Job:
    return replace(one, machine=replace(one.machine, **more))  # type: ignore[arg-type]


def alone(count: int, seconds: float = 100) -> list[Job]:
    """Machines that were converted one after the other."""
    return [done(f"d{number}", (number + 1) * seconds, seconds) for number in range(count)]


def told(
    jobs: Sequence[Job], sizes: dict[str, int] | None = None, budget: Budget = ONE, **more: float
) -> Forecast | None:
    terms = replace(terms_of_sizes(sizes or {}, budget), **more)  # type: ignore[arg-type]
    return forecast(Look(jobs, terms), NOW, UTC)


def left(jobs: Sequence[Job], sizes: dict[str, int] | None = None, budget: Budget = ONE) -> float:
    found = told(jobs, sizes, budget)
    assert found is not None
    return found.seconds


def test_nothing_is_said_when_nothing_is_known_when_all_have_ended_or_while_it_is_paused() -> None:
    waiting = [job("w1"), job("w2")]
    assert told(waiting) is None
    assert told(alone(3)) is None
    assert told([]) is None
    assert left([*alone(1), *waiting]) == pytest.approx(200)
    assert forecast(Look([*alone(3), *waiting], Terms(ONE), paused=True), NOW) is None


def test_what_was_not_measured_is_assumed_and_said() -> None:
    sizes = {"w1": 100 * GIB, "w2": 100 * GIB}
    found = told([job("w1"), booted(job("w2"))], sizes)
    assert found is not None
    # the one that is booted goes first, and is while the other is copied
    assert found.seconds == pytest.approx(200 * GIB / COPY_RATE, rel=0.02)
    assert [any(word in words for words in found.assumed) for word in ("for a copy", "to rewrite", "for a boot")] == [
        True
    ] * 3
    (alone_,) = [told([booted(job("w2"))], sizes)]
    assert alone_ is not None
    assert alone_.seconds == pytest.approx(100 * GIB / COPY_RATE + BOOT_SECONDS, rel=0.02)
    assert "not measured yet, and assumed: 100.0 MiB a second for a copy" in left_words(found, NOW)
    # one that is booted tells of boots, others do not
    after = told([done("d", 1000, 100, copy=90.0), booted(job("w2"))], sizes)
    assert after is not None
    assert len(after.assumed) == 1
    assert "for a boot" in after.assumed[0]
    seen = told([booted(done("d", 1000, 100, copy=40.0, boot=50.0)), booted(job("w2"))], sizes)
    assert seen is not None
    assert seen.assumed == ()
    assert "assumed" not in left_words(seen, NOW)


def test_the_first_copy_under_way_tells_how_quick_copies_are() -> None:
    sizes = {"r": 100 * GIB, "w": 100 * GIB}
    # 10 GiB in 1000 s, which is a tenth of what would be assumed
    found = told([running("r", 1003, GIB, 10 * GIB), job("w")], sizes)
    assert found is not None
    assert found.seconds == pytest.approx(9000 + 10_000, rel=0.1)
    assert not any("copy" in words for words in found.assumed)


def test_as_many_run_side_by_side_as_the_budget_has() -> None:
    waiting = [job(f"w{number}") for number in range(8)]
    assert left([*alone(4), *waiting], budget=Budget(copies=4)) == pytest.approx(200)
    assert left([*alone(4), *waiting], budget=Budget(copies=4, jobs=2)) == pytest.approx(400)
    assert left([*alone(4), job("w")], budget=Budget(copies=4)) == pytest.approx(100)


def test_what_is_scarce_decides() -> None:
    """Copies of 100 s, appliances for 50 s, boots of 200 s: one of each at a time."""
    jobs = [booted(done(f"d{n}", 9000, 350, copy=100.0, rewrite=50.0, boot=200.0)) for n in range(3)]
    waiting = [booted(job(f"w{n}")) for n in range(10)]
    assert left([*jobs, *waiting], budget=ONE) == pytest.approx(100 + 50 + 10 * 200, rel=0.05)
    two = Budget(copies=2, boots=2, appliances=1)
    assert left([*jobs, *waiting], budget=two) == pytest.approx(100 + 50 + 5 * 200, rel=0.1)


def test_a_machine_takes_what_its_size_takes() -> None:
    sizes = {"d0": 10 * GIB, "d1": 20 * GIB, "d2": 40 * GIB, "large": 400 * GIB, "small": GIB}
    jobs = [done("d0", 1000, 110), done("d1", 800, 210), done("d2", 500, 410)]
    assert left([*jobs, job("large")], sizes) == pytest.approx(4010, rel=0.05)
    assert 10 < left([*jobs, job("small")], sizes) < 25
    # of one that nobody knows, what is usual
    assert left([*jobs, job("strange")], sizes) == pytest.approx(10 + 10 * 70 / 3, rel=0.05)


def test_a_tiny_machine_tells_nothing_of_large_ones() -> None:
    sizes = {"tiny": 64 << 10, "large": 400 * GIB}
    assert left([done("tiny", 100, 5, copy=1.0), job("large")], sizes) == pytest.approx(400 * GIB / COPY_RATE, rel=0.3)


def test_storages_are_as_quick_as_their_own_copies_were() -> None:
    places = {name: Place(("fast" if name[0] == "f" else "slow",), 10 * GIB) for name in ("f1", "s1", "f2", "s2")}
    jobs = [done("f1", 2000, 50, copy=50.0), done("s1", 1900, 500, copy=500.0)]

    def seconds(name: str) -> float:
        found = forecast(Look([*jobs, job(name)], Terms(ONE, Setting(places, None))), NOW, UTC)
        assert found is not None
        return found.seconds

    assert seconds("f2") == pytest.approx(50, rel=0.2)
    assert seconds("s2") == pytest.approx(500, rel=0.2)


def test_copies_share_the_rate_of_what_they_go_over() -> None:
    lanes = Lanes(Share(), {"slow": Share(bytes_per_second=10 << 20)})
    places = {f"w{n}": Place(("slow",), GIB) for n in range(4)}
    terms = Terms(Budget(copies=4), Setting(places, None, lanes))
    found = forecast(Look([job(name) for name in places], terms), NOW, UTC)
    assert found is not None
    assert found.seconds == pytest.approx(4 * GIB / (10 << 20), rel=0.15)
    # each by itself would take a quarter of that
    own = [of(job(name), options=("--limit=1M",)) for name in places]
    limited = forecast(Look(own, replace(terms, setting=replace(terms.setting, lanes=None))), NOW, UTC)
    assert limited is not None
    assert limited.seconds == pytest.approx(1024, rel=0.1)


def test_what_is_under_way_has_a_part_behind_it() -> None:
    assert left([*alone(4), running("r", 40)]) == pytest.approx(60)
    # it copies more slowly than was thought: what is seen goes before what was guessed
    assert left([*alone(4), running("r", 90, GIB, 10 * GIB)]) == pytest.approx(810)
    assert left([*alone(4), running("r", 95)]) == pytest.approx(10)
    # and of one that takes longer than any before it nobody says that it is as good as done
    assert left([*alone(4), running("r", 500)]) == pytest.approx(125)
    lost = replace(running("r", 50), lease_until=NOW - 1)
    assert left([*alone(4), lost]) == pytest.approx(100)


def test_one_that_waits_for_its_turn_to_boot_has_its_boot_before_it() -> None:
    jobs = [replace(booted(done(f"d{n}", 9000 - n, 150, copy=50.0, boot=100.0)), verified=True) for n in range(2)]
    waits = booted(running("t", 5000, GIB, GIB, phase="turn"))
    assert left([*jobs, waits]) == pytest.approx(100)


def test_machines_wait_for_their_windows() -> None:
    night = [of(job(f"w{n}"), window=Window(time(22), time(22, 15))) for n in range(15)]
    found = told([*alone(3, 110), *night])
    assert found is not None
    # nine begin in the quarter of an hour, of which the last goes on; the rest the next night
    assert found.seconds == pytest.approx(2 * 3600 + 24 * 3600 + 6 * 110)
    assert found.idle == pytest.approx(2 * 3600 + 24 * 3600 - 9 * 110)
    assert "of it waiting for windows of time" in left_words(found, NOW)
    open_one = told([*alone(3), of(job("w"), window=Window(time(19), time(21)))])
    assert open_one is not None
    assert open_one.seconds == pytest.approx(100)
    assert open_one.idle == 0


def test_a_wave_waits_for_the_windows_of_the_one_before() -> None:
    jobs = [of(job("w0"), window=Window(time(22), time(23))), of(job("w1"), wave=1)]
    assert left([*alone(3), *jobs], budget=Budget(copies=4)) == pytest.approx(2 * 3600 + 200)


def test_what_is_tried_again_waits_for_that() -> None:
    later = replace(job("w"), not_before=NOW + 600)
    assert left([*alone(3), later]) == pytest.approx(700)


def test_a_run_that_stops_leaves_the_rest_to_the_next() -> None:
    jobs = [*alone(3), running("r", 0), *(job(f"w{n}") for n in range(9))]
    late = told(jobs, until=NOW + 250)
    assert late is not None
    # the third one has begun before that
    assert late.seconds == pytest.approx(300)
    assert len(late.later) == 7
    stopped = told(jobs, stop_at=NOW + 250)
    assert stopped is not None
    assert stopped.seconds == pytest.approx(250)
    assert len(stopped.later) == 8
    assert "then 8 machines wait for the next run" in left_words(stopped, NOW)
    # what was said to a run that is over counts for no other
    waiting = [each for each in jobs if each.state is not State.RUNNING]
    over = told(waiting, stop_at=NOW + 250)
    assert over is not None
    assert over.seconds == pytest.approx(900)
    assert over.later == ()


def test_what_another_host_alone_reaches_or_nobody_asked_for_is_not_waited_for() -> None:
    jobs = [*alone(3), job("w1"), of(job("w2"), host="far"), job("w3")]
    terms = Terms(ONE, Setting(host="here", chosen=frozenset({"w1", "w2"})))
    found = forecast(Look(jobs, terms, goes_on=True), NOW, UTC)
    assert found is not None
    assert found.seconds == pytest.approx(100)
    assert found.later == ("w2", "w3")


def test_whatever_a_store_says_an_answer_comes() -> None:
    strange = [
        replace(running("r", 10), began=0.0, bytes_copied=-5, bytes_total=3),
        replace(running("s", -500, 2**62, 1), phase="boot"),
        done("d", 1, 10**12, copy=-5.0, boot=10.0**300),
        of(job("w"), window=Window(time(3), time(3))),
        job("x"),
    ]
    found = told(strange, {"x": 2**62, "d": 1})
    assert found is not None
    assert found.seconds >= 0
    assert "w" in found.later
    json.dumps([found.seconds, found.idle], allow_nan=True)


def test_an_outlook_is_not_made_anew_before_its_making_is_a_small_part_of_the_time() -> None:
    took = iter([0.0, 0.5, 10.0, 10.1, 20.0, 20.1])
    outlook = Outlook(lambda: next(took))
    look = Look([*alone(3), job("w")], Terms(ONE))
    seen = [outlook.of(look, NOW + at) for at in (0, 4, 9.9, 10.1)]
    assert [round(each.seconds, 1) for each in seen if each is not None] == [100, 96, 90.1, 100]
    assert outlook.of(replace(look, paused=True), NOW + 10.2) is None


def test_the_terms_of_a_run_come_back_as_they_were() -> None:
    lanes = Lanes(Share(2, 5), {"8:1": Share(None, 7)})
    terms = Terms(
        Budget(jobs=3, memory_bytes=9), Setting({"a": Place(("8:1",), 5)}, None, lanes, frozenset({"a"})), 5.0
    )
    data = json.loads(json.dumps(terms_data(terms)))
    assert terms_of(jsonio.decode(jsonio.converter(), data, KeptTerms)) == terms


def test_what_a_limit_held_back_goes_quicker_alone() -> None:
    lanes = Lanes(Share(), {"slow": Share(bytes_per_second=10 << 20)})
    setting = Setting({name: Place(("slow",), GIB) for name in ("d1", "d2", "w")}, None, lanes)
    both = [done(name, 500, 205, copy=204.8) for name in ("d1", "d2")]
    paces = paces_of(both, {"d1": GIB, "d2": GIB}, NOW, setting)
    assert paces.copy_over(("slow",)).seconds(GIB) == pytest.approx(102.4)


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
    line = pace_of([(0, 5.0), (10, 25.0)])
    assert line.fixed == pytest.approx(5.0)
    assert line.each == pytest.approx(2.0)
    assert pace_of([(10, 5.0), (20, 3.0)]).each == 0.0
    assert pace_of([(5, 5.0), (5, 7.0)]) == Pace(6.0, 0.0)
    found = pace_of([(10, 1.0), (20, 9.0)])
    assert found.fixed == 0.0
    assert 0.1 < found.each < 0.45
