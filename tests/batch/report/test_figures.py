"""The numbers and sentences of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, Job, State, Window
from p2v.batch.report.figures import (
    at_once,
    copy_rate,
    outcomes,
    phase_figures,
    places,
    rates,
    run_seconds,
)
from p2v.batch.report.limits import COLUMNS
from p2v.batch.report.reasons import full_places, idle_time, slow_machines, slow_places, turns, waits
from p2v.batch.report.words import Outcome, Work
from p2v.core.units import GIB, MIB
from tests.batch.report.samples import NOW, Teller, batch_of, done, history, machine, sample


def test_who_is_converted_verified_parked() -> None:
    assert outcomes(sample().jobs) == {
        Outcome.PARKED: 2,
        Outcome.RUNNING: 1,
        Outcome.WAITING: 3,
        Outcome.CANCELLED: 1,
        Outcome.NOT_BOOTED: 0,
        Outcome.CONVERTED: 1,
        Outcome.VERIFIED: 6,
    }


def test_rates_and_phases_over_time_add_up_to_what_was_done() -> None:
    teller = Teller()
    jobs = [done(teller, "one", 0, 100, gib=1), done(teller, "two", 50, 100, gib=2)]
    past = history(jobs, teller.in_order(), NOW)
    step = (past.end - past.begin) / COLUMNS
    assert sum(each.values[0] for each in rates(past)) * step == pytest.approx(3 * GIB, rel=1e-6)
    copying = list(Work).index(Work.COPY)
    assert sum(each.values[copying] for each in at_once(past)) * step == pytest.approx(200)
    assert max(each.values[copying] for each in at_once(past)) == pytest.approx(2), "their copies overlap"


def test_places_of_the_budget_that_were_taken() -> None:
    teller = Teller()
    jobs = [done(teller, "one", 0, 100)]
    past = history(jobs, teller.in_order(), NOW)
    taken = {each.name: each.share for each in places(Budget(copies=1, jobs=2), past)}
    assert run_seconds(past) == 147
    assert taken["copies"] == pytest.approx(100 / 147)
    assert taken["machines under way"] == pytest.approx(0.5)
    assert places(Budget(), history(jobs, (), NOW)) == ()


def test_budget_that_was_used_up_is_told_of() -> None:
    teller = Teller()
    jobs = [done(teller, "one", 0, 2000)]
    past = history(jobs, teller.in_order(), NOW)
    assert "copies (1)" in next(iter(full_places(places(Budget(copies=1), past)))).what
    assert [*full_places(places(Budget(copies=2), past))] == [
        each for each in full_places(places(Budget(copies=2), past)) if "copies" not in each.what
    ]


def test_time_that_machines_wait_for_a_turn_is_told_of_where_it_is_much() -> None:
    def waited(seconds: float, phase: str = "turn") -> list[str]:
        teller = Teller()
        jobs = []
        for name in ("a", "b"):
            teller.tell(0, name, 1, "claimed", attempt=1, worker="here")
            teller.phase(name, 1, "copy", 0, 1000, GIB)
            teller.phase(name, 1, phase, 1000, 1000 + seconds)
            teller.tell(1000 + seconds, name, 1, "done")
            jobs.append(Job(machine(name), State.DONE))
        return [f"{each.what} {each.why[0]}" for each in turns(history(jobs, teller.in_order(), NOW))]

    (told,) = waited(300)
    assert told.startswith("2 machines waited 10 min 00 s in all for a turn to boot. More boots in the budget")
    assert "More appliances" in waited(300, "appliance-turn")[0]
    assert waited(50) == []
    assert waited(300, "other") == []


def test_phases_by_the_time_they_took_together() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", 0, 10 + number, gib=1) for number in range(10)]
    first = phase_figures(jobs)[0]
    assert (first.phase, first.machines, first.median_seconds) == ("boot", 10, 40)
    copy = next(each for each in phase_figures(jobs) if each.phase == "copy")
    assert (copy.median_seconds, copy.ninth_seconds, copy.longest_seconds, copy.longest) == (14.5, 18, 19, "m9")
    assert copy.total_seconds == sum(range(10, 20))


def test_a_copy_has_a_rate_once_it_is_done() -> None:
    job = done(Teller(), "m", 0, 64, gib=1)
    assert copy_rate(job) == 16 * MIB
    assert copy_rate(replace(job, state=State.RUNNING)) is None
    assert copy_rate(replace(job, seconds={"copy": 0.0})) is None


def slow(jobs: Sequence[Job], teller: Teller) -> list[tuple[str, str, tuple[str, ...]]]:
    found = slow_machines(jobs, history(jobs, teller.in_order(), NOW))
    return [(each.job, each.what, each.why) for each in found]


def test_a_slow_copy_is_told_of_with_the_fleet_s_median() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", number * 100.0, 64, gib=1) for number in range(4)]
    assert slow(jobs, teller) == []
    jobs.append(done(teller, "slow", 1000, 640, gib=1))
    assert slow(jobs, teller) == [("slow", "Its copy went at 1.6 MiB/s; the fleet's median is 16.0 MiB/s.", ())]


def test_why_a_copy_was_slow() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", number * 100.0, 64, gib=1) for number in range(4)]
    jobs += [done(teller, f"crowd{number}", 5000, 640, gib=1) for number in range(3)]
    teller.tell(5000.5, "crowd0", 1, "began", limit=int(1.7 * MIB))
    found = {name: why for name, _, why in slow(jobs, teller)}
    assert set(found) == {"crowd0", "crowd1", "crowd2"}
    assert "Its share of the budget was at most 1.7 MiB/s." in found["crowd0"]
    assert not any("budget" in each for each in found["crowd1"])
    jobs[-1] = replace(jobs[-1], machine=replace(jobs[-1].machine, options=("--limit=1M",)))
    told = slow_machines(jobs, history(jobs, teller.in_order(), NOW), 5 * MIB)
    found = {each.job: each.why for each in told}
    assert "All copies of a storage share 5.0 MiB/s of the budget." in found["crowd1"]
    assert "Its own limit is 1.0 MiB/s." in found["crowd2"]


def test_others_that_copy_at_the_same_time_are_a_reason() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", number * 1000.0, 640, gib=20) for number in range(8)]
    jobs += [done(teller, f"crowd{number}", 9000, 640, gib=1) for number in range(4)]
    found = {name: why for name, _, why in slow(jobs, teller)}
    assert any("3.0 other copies ran beside it" in each for each in found["crowd2"])


def test_a_slow_phase_and_failed_attempts_are_told_of() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", 0, 60) for number in range(4)]
    jobs[2] = replace(jobs[2], seconds={**jobs[2].seconds, "boot": 400.0})
    teller.tell(500, "m1", 2, "claimed")
    teller.tell(600, "m1", 2, "again", failure={"message": "no space"})
    assert slow(jobs, teller) == [
        ("m2", "Its phase boot took 6 min 40 s; the fleet's median is 40.0 s.", ()),
        ("m1", "1 attempt of it failed and took 1 min 40 s.", ("no space",)),
    ]


def test_a_phase_that_few_have_something_to_do_in_is_not_held_against_the_others_nothing() -> None:
    teller = Teller()
    jobs = [done(teller, f"m{number}", 0, 60) for number in range(4)]
    jobs = [replace(job, seconds={**job.seconds, "rewrite": 0.001}) for job in jobs]
    jobs[2] = replace(jobs[2], seconds={**jobs[2].seconds, "rewrite": 120.0})
    assert slow(jobs, teller) == []


def test_a_slow_storage_is_told_of() -> None:
    teller = Teller()

    def at(folder: str, number: int, copy: float) -> Job:
        job = done(teller, f"{Path(folder).name}{number}", 0, copy)
        return replace(job, machine=replace(job.machine, sources=(Path(folder) / "m" / "m.vmx",)))

    jobs = [at("/srv/fast", number, 50) for number in range(3)] + [at("/srv/nfs", number, 500) for number in range(3)]
    past = history(jobs, (), NOW)
    (found,) = slow_places(jobs, past)
    assert found.what == "Copies from /srv/nfs went at 16.4 MiB/s, the others at 163.8 MiB/s."
    assert [*slow_places(jobs[:5], past)] == [], "two machines are too few to tell"


def test_a_slow_worker_is_told_of_also_when_the_store_has_forgotten_it() -> None:
    teller = Teller()
    jobs = [
        replace(done(teller, f"m{number}", number * 1000.0, 50 if number < 3 else 500), worker="")
        for number in range(6)
    ]
    for number in range(3, 6):
        teller.tell(number * 1000.0 + 1, f"m{number}", 1, "claimed", worker="host-b", limit=3)
    (found,) = slow_places(jobs, history(jobs, teller.in_order(), NOW))
    assert found.what == "Copies by the worker host-b went at 16.4 MiB/s, the others at 163.8 MiB/s."


def test_time_in_which_nothing_ran_is_told_of_with_the_pause() -> None:
    teller = Teller()
    jobs = [done(teller, "one", 0, 100), done(teller, "two", 2000, 100)]
    teller.tell(200, "", 0, "paused")
    teller.tell(1900, "", 0, "resumed")
    (found,) = idle_time(history(jobs, teller.in_order(), NOW))
    assert found.what == "For 30 min 53 s between beginning and end nothing ran."
    assert found.why == ("The batch was paused for 28 min 20 s.",)
    assert [*idle_time(history(jobs[:1], Teller().in_order(), NOW))] == []


def wait_of(job: Job, *others: Job, is_run: bool = True, teller: Teller | None = None) -> str:
    jobs = (job, *others)
    past = history(jobs, (teller or Teller()).in_order(), NOW, is_run=is_run)
    return waits(replace(batch_of(jobs), budget=Budget(copies=1, jobs=2)), jobs, past, NOW)[job.machine.name]


def test_for_what_machines_wait() -> None:
    waiting = Job(machine("w"), State.WAITING)
    running = Job(machine("r"), State.RUNNING, phase="copy")
    clock = datetime.fromtimestamp(NOW)
    window = Window((clock + timedelta(hours=1)).time(), (clock + timedelta(hours=2)).time())
    teller = Teller()
    teller.tell(1, "", 0, "paused")
    assert wait_of(waiting) == "a turn"
    assert wait_of(waiting, running) == "a free place"
    assert wait_of(waiting, replace(running, phase="boot")) == "a turn"
    assert wait_of(waiting, is_run=False) == "the next run: none is under way"
    assert wait_of(waiting, teller=teller) == "the batch to be resumed"
    assert wait_of(replace(waiting, not_before=NOW + 1)) == "the time of another attempt"
    assert wait_of(replace(waiting, machine=machine("w", wave=2)), running) == "the end of wave 0"
    assert wait_of(replace(waiting, machine=machine("w", window=window))).startswith("the window from")


def test_in_a_run_of_a_part_the_others_wait_for_another_run_and_hold_up_no_wave() -> None:
    waiting, other = Job(machine("w", wave=2), State.WAITING), Job(machine("o"), State.WAITING)
    teller = Teller()
    teller.tell(1, "", 0, "batch-began", machines=2, chosen=["w"])
    assert wait_of(waiting, other, teller=teller) == "a turn"
    assert wait_of(other, waiting, teller=teller).startswith("another run")
    teller.tell(2, "", 0, "late", waiting=1)
    assert wait_of(waiting, other, teller=teller).startswith("the next run")
    teller.tell(3, "", 0, "batch-ended")
    teller.tell(4, "", 0, "batch-began", machines=2)
    assert wait_of(waiting, other, teller=teller) == "the end of wave 0"
    teller.tell(5, "", 0, "batch-began", chosen={"w": 1})
    assert wait_of(other, waiting, teller=teller) == "a turn"
