"""Storage and time: what is not known is an interval, and what was not measured has no number."""

from __future__ import annotations

import random

import pytest

from p2v.audit.document import Origin
from p2v.audit.sizing.disks import storage_needed
from p2v.audit.sizing.inputs import Policy, SizingInput
from p2v.audit.sizing.migration import migration_time
from p2v.audit.sizing.values import Assumption, AssumptionSource, Interval, Measured, MigrationTime, Rate
from p2v.core.units import GIB
from tests.audit.sizing.fleets import disk, machine


def rate(low: float, high: float) -> Rate:
    return Rate((low + high) / 2, low, high, 5)


def time_of(*machines: object, measured: Measured | None, policy: Policy) -> MigrationTime:
    return migration_time(SizingInput(machines, policy=policy, measured=measured))  # type: ignore[arg-type]


NOTHING_ELSE = Policy(machine_overhead_seconds=0, concurrent=2)


def test_disks_of_known_use_take_what_is_used() -> None:
    found = storage_needed([machine("a", disks=(disk(100, 60, 40), disk(10, 5, 5)))])
    assert (found.virtual_bytes, found.allocated_bytes, found.used_bytes) == (110 * GIB, 65 * GIB, 45 * GIB)
    assert (found.after.low, found.after.high) == (45 * GIB, 45 * GIB)


def test_a_disk_of_unknown_use_takes_between_nothing_and_what_is_allocated() -> None:
    found = storage_needed([machine("a", disks=(disk(100, 60, 40), disk(50, 20, None)))])
    assert (found.after.low, found.after.high) == (40 * GIB, 60 * GIB)
    assert found.used_unknown == 1


def test_a_row_of_an_inventory_without_allocation_takes_up_to_its_whole_size() -> None:
    found = storage_needed([machine("a", disks=(disk(100, 0, None),), origin=Origin.INVENTORY)])
    assert (found.after.low, found.after.high) == (0, 100 * GIB)
    assert found.allocated_unknown == 1
    # a disk that was read and holds nothing does hold nothing
    empty = storage_needed([machine("a", disks=(disk(100, 0, None),))])
    assert (empty.after.high, empty.allocated_unknown) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_copied_never_exceeds_what_is_allocated_or_the_size(seed: int) -> None:
    chance = random.Random(seed)
    disks = tuple(
        disk(chance.randint(1, 50), chance.randint(0, 60), chance.choice([None, chance.randint(0, 70)]))
        for _ in range(9)
    )
    after = storage_needed([machine("a", disks=disks)]).after
    assert 0 <= after.low <= after.high <= sum(min(each.allocated_bytes, each.virtual_bytes) for each in disks)


def test_without_a_measurement_there_is_no_time_and_the_reason() -> None:
    found = time_of(machine("a", disks=(disk(100, 60, 40),)), measured=None, policy=NOTHING_ELSE)
    assert found.seconds is None
    assert "not measured" in found.why


def test_the_slower_of_reading_and_writing_decides_both_ends() -> None:
    measured = Measured("/t", 2, write=rate(100 * GIB, 400 * GIB), read=rate(200 * GIB, 300 * GIB))
    fleet = [machine(f"m{n}", disks=(disk(600, 600, 600),)) for n in range(2)]
    # 1200 GiB at 300 at most; each of two streams has 50 at least
    assert time_of(*fleet, measured=measured, policy=NOTHING_ELSE).seconds == Interval(4.0, 12.0)


def test_where_reading_was_not_measured_the_time_has_no_upper_end() -> None:
    measured = Measured("/t", 2, write=rate(100 * GIB, 200 * GIB), read=None)
    found = time_of(machine("a", disks=(disk(400, 400, 400),)), measured=measured, policy=NOTHING_ELSE)
    assert found.seconds == Interval(2.0, None)
    assert "reading" in found.why


def test_each_machine_takes_its_own_time_once_whatever_its_disks() -> None:
    measured = Measured("/t", 2, write=rate(GIB, GIB), read=rate(GIB, GIB))
    policy = Policy(machine_overhead_seconds=100, concurrent=2)
    two_disks = machine("a", disks=(disk(0, 0, 0), disk(0, 0, 0)))
    one_at_a_time = Policy(machine_overhead_seconds=100, concurrent=1)
    assert time_of(two_disks, measured=measured, policy=one_at_a_time).seconds == Interval(100.0, 100.0)
    # three at two a time: two rounds, and no less than half of 300 s
    three = [machine(f"m{n}") for n in range(3)]
    assert time_of(*three, measured=measured, policy=policy).seconds == Interval(150.0, 200.0)


def test_one_large_disk_takes_as_long_as_it_takes_however_many_streams() -> None:
    measured = Measured("/t", 8, write=rate(8 * GIB, 8 * GIB), read=rate(8 * GIB, 8 * GIB))
    policy = Policy(machine_overhead_seconds=0, concurrent=8)
    found = time_of(machine("a", disks=(disk(80, 80, 80),)), measured=measured, policy=policy)
    assert found.seconds == Interval(10.0, 80.0)


def test_the_longest_disks_are_begun_with() -> None:
    measured = Measured("/t", 2, write=rate(2 * GIB, 2 * GIB), read=rate(2 * GIB, 2 * GIB))
    sizes = (10, 10, 20)
    found = time_of(machine("a", disks=tuple(disk(n, n, n) for n in sizes)), measured=measured, policy=NOTHING_ELSE)
    assert found.seconds == Interval(20.0, 20.0)


@pytest.mark.parametrize("seed", range(20))
def test_the_low_end_is_never_above_the_high_end(seed: int) -> None:
    chance = random.Random(seed)
    fleet = [
        machine(f"m{n}", disks=tuple(disk(50, 40, chance.choice([None, 1, 30])) for _ in range(chance.randint(0, 3))))
        for n in range(chance.randint(1, 20))
    ]
    slow = chance.uniform(1e7, 1e9)
    measured = Measured("/t", 4, write=rate(slow, slow * 2), read=rate(slow * 1.5, slow * 4))
    found = time_of(*fleet, measured=measured, policy=Policy()).seconds
    assert found is not None
    assert found.high is not None
    assert 0 < found.low <= found.high


def test_measured_rates_stand_beside_the_time() -> None:
    measured = Measured("/t", 2, write=rate(1e8, 2e8), read=rate(1e8, 3e8))
    found = time_of(machine("a"), measured=measured, policy=NOTHING_ELSE)
    told = [each for each in found.assumptions if each.source is AssumptionSource.MEASURED]
    expected = "median 150.0 MB/s (100.0 to 200.0, 5 repeats)"
    assert told[0] == Assumption("write rate, 2 streams together", expected, AssumptionSource.MEASURED)
    assert len(told) == 2
