"""Which jobs may begin: waves, windows, priorities, storages, hosts, rates; and that a night is packed well."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, Job, MachineJob, State, Verify, Window
from p2v.batch.scheduling import LEAST_RATE, Beginning, Holding, Place, beginnings, choose
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
    return choose(jobs, running or {}, budget, 1000.0, at, places=places or {}, host=host)


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


def test_a_copy_place_and_an_appliance_are_given_back_when_their_phase_ends() -> None:
    jobs, budget = [job("a"), job("b")], Budget(copies=1, appliances=1)
    began = Holding()
    copied = began.after("phase-started", "copy").after("phase-finished", "copy")
    both = copied.after("phase-started", "rewrite").after("phase-finished", "rewrite")
    assert [chosen(jobs, budget, {"a": held}) for held in (began, copied, both)] == [(), (), ("b",)]
    # a guest that needs no rewriting needs no appliance any more either when the results get their names
    assert chosen(jobs, budget, {"a": copied.after("phase-started", "publish")}) == ("b",)


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


def rates(
    budget: Budget, jobs: Sequence[Job], running: Mapping[str, Holding], places: Mapping[str, Place]
) -> list[Beginning]:
    return list(beginnings(jobs, running, budget, 1000.0, NOON, places=places))


def test_copies_share_their_storages_rate_and_never_have_more_than_it() -> None:
    total = 90 * MIB
    budget = replace(ROOMY, bytes_per_second=total, copies=3)
    places = dict.fromkeys("abcd", Place(("san",)))
    begun = rates(budget, [job(name) for name in "abcd"], {}, places)
    assert begun == [Beginning("a", total // 3), Beginning("b", total // 3), Beginning("c", total // 3)]
    alone = rates(budget, [job("a")], {}, places)
    assert alone == [Beginning("a", total)]
    # what one took alone is gone until it has copied
    taken = Holding(("san",), limit=total)
    assert rates(budget, [job("b")], {"a": taken}, places) == []
    assert rates(budget, [job("b")], {"a": replace(taken, copies=False)}, places) == [Beginning("b", total)]
    assert rates(budget, [job("b")], {"a": taken}, {"b": Place(("usb",))}) == [Beginning("b", total)]


def test_rates_of_any_jobs_never_add_up_to_more_than_a_storage_has() -> None:
    draw = random.Random(1)
    for _ in range(200):
        total = draw.randrange(LEAST_RATE, 400 * MIB)
        budget = Budget(copies=draw.randrange(1, 9), appliances=9, jobs=9, bytes_per_second=total)
        names = [str(number) for number in range(12)]
        places = {name: Place(tuple(draw.sample(["a", "b", "c"], draw.randrange(1, 3)))) for name in names}
        begun = rates(budget, [job(name) for name in names], {}, places)
        assert begun
        for storage in "abc":
            used = sum(each.limit or 0 for each in begun if storage in places[each.name].storages)
            assert used <= total
        assert all((each.limit or 0) >= LEAST_RATE for each in begun)


@dataclass(frozen=True)
class Work:
    """Seconds that a machine's phases take; it is copied and rewritten at the same time, then booted."""

    copy: float
    rewrite: float
    boot: float


def simulated(work: Mapping[str, Work], budget: Budget) -> float:
    """When the last job ends, if each begins as soon as it is chosen."""
    jobs = {name: job(name, verify=Verify.BOOT) for name in work}
    places = {name: Place(size=int(each.copy * 1000)) for name, each in work.items()}
    running: dict[str, Holding] = {}
    left = dict.fromkeys(work, 2)
    booters: list[str] = []
    queue: list[tuple[float, str, str]] = []
    now, booting = 0.0, 0
    while True:
        for name in choose(list(jobs.values()), running, budget, now, NOON, places=places):
            running[name] = Holding.of(jobs[name].machine)
            jobs[name] = replace(jobs[name], state=State.RUNNING, lease_until=10.0**9)
            heapq.heappush(queue, (now + work[name].copy, name, "copy"))
            heapq.heappush(queue, (now + work[name].rewrite, name, "rewrite"))
        while booters and booting < budget.boots:
            booting += 1
            name = booters.pop(0)
            heapq.heappush(queue, (now + work[name].boot, name, "boot"))
        if not queue:
            return now
        now, name, phase = heapq.heappop(queue)
        running[name] = running[name].after("phase-finished", phase)
        if phase == "boot":
            booting -= 1
            del running[name]
            jobs[name] = replace(jobs[name], state=State.DONE)
        else:
            left[name] -= 1
            if not left[name]:
                booters.append(name)


# what is scarce: (budget, seconds to rewrite, seconds to boot); copies take 33 s on average, some of them minutes
SCARCE = {
    "copies": (Budget(copies=2, appliances=1, boots=1), (2, 8), (2, 10)),
    "copies of four": (Budget(copies=4, appliances=2, boots=2), (2, 8), (2, 10)),
    "appliances": (Budget(copies=4, appliances=1, boots=1), (10, 20), (2, 10)),
    "boots": (Budget(copies=2, appliances=1, boots=1), (2, 10), (15, 45)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scarce", SCARCE)
def test_a_fleet_is_packed_to_within_15_percent_of_what_is_possible_at_best(scarce: str, seed: int) -> None:
    budget, rewrite, boot = SCARCE[scarce]
    draw = random.Random(seed)
    work = {str(n): Work(draw.lognormvariate(3, 1), draw.uniform(*rewrite), draw.uniform(*boot)) for n in range(200)}
    ended = simulated(work, budget)
    # no schedule is better than its scarcest resource, or than its longest job
    best = max(
        sum(each.copy for each in work.values()) / budget.copies,
        sum(each.rewrite for each in work.values()) / budget.appliances,
        sum(each.boot for each in work.values()) / budget.boots,
        max(max(each.copy, each.rewrite) + each.boot for each in work.values()),
    )
    assert ended <= 1.15 * best
