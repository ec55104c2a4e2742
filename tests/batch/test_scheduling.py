"""Which jobs may begin: waves, windows, priorities, storages, hosts, memory. That a night is packed well: test_packing.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, Job, MachineJob, State, Window
from p2v.batch.scheduling import Holding, Place, Setting, choose
from p2v.core.units import GIB, MIB

NOON = time(12)
ROOMY = Budget(copies=100, appliances=100, boots=100, jobs=100)


def job(name: str, state: State = State.WAITING, **fields: object) -> Job:
    of_job = {key: fields.pop(key) for key in ("not_before", "lease_until", "phase") if key in fields}
    machine = replace(MachineJob(name, (Path(f"/in/{name}"),), Path("/out")), **fields)  # type: ignore[arg-type]
    return replace(Job(machine, state), **of_job)  # type: ignore[arg-type]


def chosen(
    jobs: Sequence[Job],
    budget: Budget = ROOMY,
    running: Mapping[str, Holding] | None = None,
    places: Mapping[str, Place] | None = None,
    at: time = NOON,
    host: str | None = "",
) -> tuple[str, ...]:
    return choose(jobs, running or {}, budget, 1000.0, at, Setting(places or {}, host))


def test_the_first_in_priority_begins_first_then_what_is_longer_than_its_share_of_the_rest() -> None:
    small = {f"small{number}": Place(size=1) for number in range(20)}
    places = {**small, "larger": Place(size=21), "largest": Place(size=22), "urgent": Place()}
    jobs = [*(job(name) for name in small), job("larger"), job("largest"), job("urgent", priority=1)]
    order = chosen(jobs, replace(ROOMY, copies=2), places=places)
    assert order == ("urgent", "largest")
    rest = chosen(jobs, places=places)
    assert rest[:3] == ("urgent", "largest", "larger")
    # the others in the manifest's order
    assert rest[3:] == tuple(small)


@pytest.mark.parametrize("end", [State.DONE, State.PARKED, State.CANCELLED])
def test_a_wave_begins_when_all_of_the_one_before_have_ended(end: State) -> None:
    assert chosen([job("a", State.RUNNING, lease_until=2000.0), job("b", wave=1), job("c")]) == ("c",)
    assert chosen([job("a", end), job("b", wave=1), job("c", wave=2)]) == ("b",)


def test_a_window_over_midnight_holds_at_night_only() -> None:
    jobs = [job("a", window=Window(time(22), time(6)))]
    assert [chosen(jobs, at=at) for at in (time(21, 59), time(22), time(0), time(5, 59), time(6))] == [
        (),
        ("a",),
        ("a",),
        ("a",),
        (),
    ]


def test_what_waits_for_its_next_attempt_ended_or_is_held_does_not_begin() -> None:
    jobs = [
        job("later", not_before=1000.5),
        job("done", State.DONE),
        job("held", State.RUNNING, lease_until=1000.5),
        job("left", State.RUNNING, lease_until=999.5),
        job("due", not_before=999.5),
    ]
    assert chosen(jobs) == ("left", "due")


def test_a_machine_that_is_pinned_runs_on_its_host_alone() -> None:
    jobs = [job("a", host="one"), job("b", host="two"), job("c")]
    assert [chosen(jobs, host=host) for host in ("one", "three", None)] == [("a", "c"), ("c",), ("a", "b", "c")]


def test_a_copy_place_is_given_back_when_its_phase_ends_whatever_is_rewritten_then() -> None:
    jobs, budget = [job("a"), job("b")], Budget(copies=1, appliances=1)
    began = Holding()
    copied = began.after("phase-started", "copy").after("phase-finished", "copy")
    assert [chosen(jobs, budget, {"a": held}) for held in (began, copied)] == [(), ("b",)]
    # one that copies needs no appliance to begin: it waits for its turn itself
    assert chosen(jobs, replace(budget, copies=2), {"a": began}) == ("b",)


def test_no_more_jobs_than_the_budget_has_are_under_way() -> None:
    jobs = [job(str(number)) for number in range(9)]
    held = Holding(copies=False, rewrites=False)
    assert len(chosen(jobs, Budget(copies=9, appliances=9, jobs=4), {"x": held, "y": held})) == 2


def test_a_storage_that_is_busy_holds_only_its_own_jobs_back() -> None:
    places = {"a": Place(("nfs", "ssd")), "b": Place(("nfs", "san")), "c": Place(("usb", "san")), "d": Place(("ssd",))}
    jobs = [job(name) for name in places]
    assert chosen(jobs, replace(ROOMY, copies_per_storage=1), places=places) == ("a", "c")
    copied = Holding(("nfs",), copies=False)
    assert chosen(jobs[:1], replace(ROOMY, copies_per_storage=1), {"x": copied}, places) == ("a",)


def test_jobs_of_another_runner_take_places_by_their_phase() -> None:
    def other(phase: str) -> Job:
        return job("x", State.RUNNING, lease_until=2000.0, phase=phase)

    budget = Budget(copies=1, appliances=1)
    assert [chosen([other(phase), job("a")], budget) for phase in ("copy", "boot")] == [(), ("a",)]


def test_memory_is_not_promised_twice_and_one_that_is_too_large_runs_alone() -> None:
    jobs = [job("a"), job("b"), job("c")]
    assert len(chosen(jobs, replace(ROOMY, memory_bytes=2 * GIB + 512 * MIB))) == 2
    assert len(chosen(jobs, replace(ROOMY, memory_bytes=1))) == 1


def test_what_hangs_on_its_storage_keeps_no_place_and_takes_it_again_when_it_goes_on() -> None:
    jobs, budget = [job("a"), job("b")], Budget(copies=1, appliances=1, jobs=1)
    copies = Holding().after("phase-started", "copy")
    hangs = replace(copies, hangs=True)
    assert [chosen(jobs, budget, {"a": each.counted}) for each in (copies, hangs)] == [(), ("b",)]
    # so many of them at most: all go on when the storage comes back
    assert chosen([*jobs, job("c")], budget, {"a": hangs.counted, "b": hangs.counted}) == ()
    assert replace(hangs, hangs=False).counted == copies
    # what it did as it went on counts
    copied = replace(hangs.after("phase-finished", "copy"), hangs=False).counted
    assert [chosen(jobs, replace(budget, jobs=most), {"a": copied}) for most in (1, 2)] == [(), ("b",)]
