"""Hosts for a fleet: what counts, what fits nowhere, and that spare hosts are enough."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest

from p2v.audit.document import MachineAudit
from p2v.audit.sizing.hosts import hosts_needed
from p2v.audit.sizing.inputs import HostNow, Policy, SizingInput, Use
from p2v.audit.sizing.size import size
from p2v.audit.sizing.text import sizing_text
from p2v.audit.sizing.values import AssumptionSource, Basis, HostsNeeded, HostType
from p2v.core.units import GIB, MIB
from tests.audit.sizing.fleets import HOST, disk, machine

PLAIN = Policy(overcommit=4, memory_headroom=0, spare_hosts=0, machine_overhead_bytes=0)


def needed(*machines: MachineAudit, policy: Policy = PLAIN, host: HostType = HOST) -> HostsNeeded:
    return hosts_needed(SizingInput(machines, host, policy), host, Basis.CONFIGURED)


def by_use(
    *machines: MachineAudit, uses: tuple[Use, ...], policy: Policy = PLAIN, host: HostType = HOST
) -> HostsNeeded:
    return hosts_needed(SizingInput(machines, host, policy, utilisation=uses), host, Basis.USE)


def test_cpus_count_by_their_overcommit_and_exactly() -> None:
    # 3 to 1: 48 single CPUs are 16 cores, to the last third
    thirds = replace(PLAIN, overcommit=3)
    assert needed(*(machine(f"m{n}", 1, 1) for n in range(48)), policy=thirds).packed_hosts == 1
    assert needed(*(machine(f"m{n}", 1, 1) for n in range(49)), policy=thirds).packed_hosts == 2


def test_memory_counts_with_its_headroom_and_what_qemu_takes() -> None:
    eight = [machine(f"m{n}", 1, 8) for n in range(8)]
    assert needed(*eight).packed_hosts == 1
    assert needed(*eight).decided_by == "memory"
    assert needed(*eight, policy=replace(PLAIN, memory_headroom=0.01)).packed_hosts == 2
    assert needed(*eight, policy=replace(PLAIN, machine_overhead_bytes=MIB)).packed_hosts == 2


def test_own_disks_of_hosts_count_where_they_are_told() -> None:
    fleet = [machine(f"m{n}", 1, 1, (disk(100, 60, 50),)) for n in range(4)]
    assert needed(*fleet).packed_hosts == 1
    told = replace(HOST, disk_bytes=100 * GIB)
    assert needed(*fleet, host=told).packed_hosts == 2
    assert needed(*fleet, host=told).decided_by == "disk"
    # unknown use counts as all that is allocated
    unknown = [machine(f"m{n}", 1, 1, (disk(100, 60, None),)) for n in range(4)]
    assert needed(*unknown, host=told).packed_hosts == 4


@pytest.mark.parametrize(
    ("large", "words"),
    [
        (machine("large", 33, 1), "33 virtual CPUs, more than the host's 32 threads"),
        (machine("large", 2, 65), "65.0 GiB of memory of 64.0 GiB"),
        (machine("large", 1, 1, (disk(300, 201, None),)), "201.0 GiB of disk of 200.0 GiB"),
    ],
)
def test_a_machine_that_fits_no_host_is_named_with_both_numbers(large: MachineAudit, words: str) -> None:
    answer = needed(machine("small"), large, host=replace(HOST, disk_bytes=200 * GIB))
    assert [each.machine for each in answer.too_large] == ["large"]
    assert words in answer.too_large[0].why
    assert [load.machines for load in answer.hosts] == [("small",)]


def test_cores_that_no_overcommit_covers_are_too_large() -> None:
    assert (
        "needs 20.00 cores of 16.00"
        in needed(machine("m", 20, 1), policy=replace(PLAIN, overcommit=1)).too_large[0].why
    )


@pytest.mark.parametrize(("cpus", "gib"), [(None, 4), (2, None), (None, None), (0, 4), (10**400, 4), (2, 10**400)])
def test_a_machine_of_unknown_needs_is_named_and_not_guessed(cpus: int | None, gib: int | None) -> None:
    fleet = (machine("known"), machine("loose", cpus, gib))
    assert sizing_text(size(SizingInput(fleet, HOST, hosts_before=(HostNow("h", 8),))))
    answer = needed(*fleet)
    assert [each.machine for each in answer.not_sized] == ["loose"]
    assert answer.machines == 1


def test_powered_off_machines_count_unless_they_are_to_be_left_out() -> None:
    fleet = (machine("on", powered_on=True), machine("off", powered_on=False), machine("unknown"))
    assert needed(*fleet).machines == 3
    answer = needed(*fleet, policy=replace(PLAIN, leave_out_powered_off=True))
    assert answer.machines == 2
    assert answer.left_out == ("off",)


@pytest.mark.parametrize("seed", range(25))
def test_every_machine_is_in_a_host_or_named_and_no_host_is_over_its_room(seed: int) -> None:
    chance = random.Random(seed)
    fleet = [
        machine(f"m{n}", chance.choice([None, 1, 2, 4, 8, 40]), chance.choice([None, 1, 2, 8, 24, 70]))
        for n in range(chance.randint(1, 60))
    ]
    policy = Policy(overcommit=chance.choice([1, 2.5, 4]), spare_hosts=0)
    answer = needed(*fleet, policy=policy)
    placed = [name for load in answer.hosts for name in load.machines]
    named = [each.machine for each in (*answer.too_large, *answer.not_sized)]
    assert sorted(placed + named) == sorted(each.name for each in fleet)
    cpus = {each.name: each.cpus or 0 for each in fleet}
    memory = {each.name: (each.memory_bytes or 0) + policy.machine_overhead_bytes for each in fleet}
    for load in answer.hosts:
        assert sum(cpus[name] for name in load.machines) / policy.overcommit <= HOST.cores + 1e-9
        assert sum(memory[name] for name in load.machines) == load.memory_bytes <= HOST.memory_bytes * 0.9
    assert answer.lower_bound <= answer.packed_hosts == answer.lower_bound + answer.gap


@pytest.mark.parametrize("spare", [1, 2])
def test_the_loss_of_any_hosts_leaves_room_for_all_machines(spare: int) -> None:
    chance = random.Random(spare)
    fleet = [machine(f"m{n}", chance.randint(1, 8), chance.randint(1, 30)) for n in range(30)]
    answer = needed(*fleet, policy=replace(PLAIN, spare_hosts=spare))
    assert answer.total_hosts == len(answer.hosts) == answer.packed_hosts + spare
    names = {name for load in answer.hosts for name in load.machines}
    for lost in combinations(range(answer.total_hosts), spare):
        left = [load for at, load in enumerate(answer.hosts) if at not in lost]
        homeless = [answer.hosts[at] for at in lost if answer.hosts[at].machines]
        empty = [load for load in left if not load.machines]
        assert len(empty) >= len(homeless)
        running = [load for load in left if load.machines] + homeless
        assert {name for load in running for name in load.machines} == names
        assert len(running) <= answer.total_hosts - spare


def test_no_machines_need_no_spare_host_either() -> None:
    assert needed(policy=Policy()).total_hosts == 0


def test_measured_use_takes_the_place_of_what_is_configured() -> None:
    fleet = [machine(f"m{n}", 8, 16) for n in range(8)]
    assert needed(*fleet).packed_hosts == 2
    uses = tuple(Use(f"M{n} ", n + 2, cpu_percent=10.0, memory_percent=25.0) for n in range(8))
    answer = by_use(*fleet, uses=uses)
    assert answer.packed_hosts == 1
    assert answer.hosts[0].cores == pytest.approx(8 * 0.8)
    assert answer.hosts[0].memory_bytes == 8 * 4 * GIB


def test_cpu_headroom_counts_by_use_alone() -> None:
    fleet = [machine(f"m{n}", 1, 1) for n in range(16)]
    full = tuple(Use(f"m{n}", n + 2, cpu_percent=100.0) for n in range(16))
    assert by_use(*fleet, uses=full, policy=replace(PLAIN, cpu_headroom=0)).packed_hosts == 1
    assert by_use(*fleet, uses=full, policy=replace(PLAIN, cpu_headroom=0.2)).packed_hosts == 2
    assert needed(*fleet, policy=replace(PLAIN, cpu_headroom=0.9)).packed_hosts == 1


def test_use_in_mhz_counts_where_the_core_is_known_and_is_noted_where_not() -> None:
    uses = (Use("m", 2, cpu_mhz=5000.0),)
    known = by_use(machine("m", 4), uses=uses, host=replace(HOST, core_mhz=2500))
    assert known.hosts[0].cores == 2.0
    unknown = by_use(machine("m", 4), uses=uses)
    assert unknown.hosts[0].cores == 1.0
    assert "line 2" in size(SizingInput((machine("m", 4),), HOST, utilisation=uses)).notes[0]


def test_use_of_no_machine_or_of_two_by_one_name_is_noted_and_counts_for_none() -> None:
    fleet = (machine("twin", 8), machine("TWIN", 8))
    given = SizingInput(fleet, HOST, utilisation=(Use("twin", 2, cpu_percent=1.0), Use("gone", 3, cpu_percent=1.0)))
    sized = size(given)
    assert [note.split(":")[0] for note in sized.notes] == ["utilisation, line 2", "utilisation, line 3"]
    assert sized.hosts[1].hosts[0].cores == 4.0


def test_what_the_user_chose_is_told_from_the_suites_defaults() -> None:
    answer = needed(machine("m"), policy=Policy(overcommit=2, given=("overcommit",)))
    sources = {each.name: each.source for each in answer.assumptions}
    assert sources["virtual CPUs a core"] is AssumptionSource.GIVEN
    assert sources["memory left free on each host"] is AssumptionSource.DEFAULT


@pytest.mark.parametrize(
    "wrong",
    [{"overcommit": 0}, {"memory_headroom": 1.0}, {"spare_hosts": -1}, {"concurrent": 0}, {"overcommit": float("nan")}],
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]
