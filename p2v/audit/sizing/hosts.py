"""How many hosts a fleet needs: its needs packed, a lower bound beside the result, spare hosts, and how it fits NUMA nodes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from p2v.audit.sizing.bins import Item
from p2v.audit.sizing.demand import Demand, Room, demands_of, room_of, too_large, used_by_machine
from p2v.audit.sizing.inputs import Policy, SizingInput, key_of
from p2v.audit.sizing.packing import Packing, pack
from p2v.audit.sizing.values import (
    Assumption,
    AssumptionSource,
    Basis,
    HostLoad,
    HostsNeeded,
    HostType,
    NamedReason,
    NumaFit,
)
from p2v.core.units import format_bytes

_RESOURCES = ("CPU", "memory", "disk")


def hosts_needed(given: SizingInput, host: HostType, basis: Basis) -> HostsNeeded:
    """Pack the fleet into such hosts, and add the spare ones.

    With as many hosts spare as may fail, any that fail hand their machines to a spare one each: all hosts are of one type. Fewer
    cannot do, for what is left after the failures must still hold the whole fleet.
    """
    room, demands = room_of(host, given.policy, basis), demands_of(given, host, basis)
    reasons = [(each, too_large(each, room, host)) for each in demands.known]
    fitting = [each for each, why in reasons if not why]
    items, capacity = _whole_numbers(fitting, room)
    packing = pack(items, capacity)
    packed = len(packing.bins)
    spare = given.policy.spare_hosts if packed else 0
    loads = [_load([fitting[number] for number in each]) for each in packing.bins]
    return HostsNeeded(
        basis=basis,
        machines=len(fitting),
        packed_hosts=packed,
        spare_hosts=spare,
        total_hosts=packed + spare,
        lower_bound=packing.lower_bound,
        continuous_bound=packing.continuous_bound,
        l2_bound=packing.l2_bound,
        gap=packed - packing.lower_bound,
        proof=_proof(packing),
        decided_by=_RESOURCES[packing.decides] if items else "",
        hosts=tuple(loads + [_load([])] * spare),
        too_large=tuple(NamedReason(each.name, why) for each, why in reasons if why),
        not_sized=demands.not_sized,
        left_out=demands.left_out,
        assumptions=_assumptions(given, host, basis, fitting),
    )


def _whole_numbers(demands: Sequence[Demand], room: Room) -> tuple[list[Item], Item]:
    """Needs and room as whole numbers, cores in the coarsest unit that makes all of them whole."""
    unit = lcm(room.cores.denominator, *(each.cores.denominator for each in demands))
    with_disk = room.disk_bytes is not None
    items = [(int(each.cores * unit), each.memory_bytes, *([each.disk_bytes] if with_disk else [])) for each in demands]
    return items, (
        int(room.cores * unit),
        room.memory_bytes,
        *([room.disk_bytes] if room.disk_bytes is not None else []),
    )


def _load(demands: Sequence[Demand]) -> HostLoad:
    return HostLoad(
        tuple(each.name for each in demands),
        sum(each.vcpus for each in demands),
        float(sum((each.cores for each in demands), Fraction(0))),
        sum(each.memory_bytes for each in demands),
        sum(each.disk_bytes for each in demands),
    )


def _proof(packing: Packing) -> str:
    found, bound = len(packing.bins), max(packing.continuous_bound, packing.l2_bound)
    if found == bound:
        return "no packing has fewer hosts: the result is as low as the lower bound"
    if packing.searched:
        return f"no packing has fewer hosts: all were gone through (the lower bound alone is {bound})"
    return f"not proven to be the fewest: the lower bound is {bound}, {found - bound} below the result"


def _assumptions(given: SizingInput, host: HostType, basis: Basis, fitting: Sequence[Demand]) -> tuple[Assumption, ...]:
    policy = given.policy
    made = [
        Assumption("host", host_words(host), AssumptionSource.GIVEN),
        policy.assume("overcommit", "virtual CPUs a core", _overcommit_words(policy, basis)),
        policy.assume("memory_headroom", "memory left free on each host", f"{policy.memory_headroom:.0%}"),
        policy.assume(
            "machine_overhead_bytes", "QEMU beside a guest's memory", format_bytes(policy.machine_overhead_bytes)
        ),
        policy.assume("spare_hosts", "hosts that may fail at once", str(policy.spare_hosts)),
        Assumption("threads", "a core's further threads are not counted as cores", AssumptionSource.DEFAULT),
        Assumption("placement", "any machine may stand beside any other, and be moved", AssumptionSource.DEFAULT),
        policy.assume("leave_out_powered_off", "machines that are powered off", _off_words(given)),
    ]
    if basis is Basis.USE:
        count = sum(each.measured for each in fitting)
        made += [
            policy.assume("cpu_headroom", "CPU left free on each host", f"{policy.cpu_headroom:.0%}"),
            Assumption("use", f"95th percentiles of {count} of {len(fitting)} machines", AssumptionSource.GIVEN),
            Assumption("peaks", "fall together: percentiles are added up", AssumptionSource.DEFAULT),
            Assumption("memory by use", "machines are given no more memory than they use", AssumptionSource.DEFAULT),
        ]
    return tuple(made)


def _overcommit_words(policy: Policy, basis: Basis) -> str:
    return f"{policy.overcommit:g}" + (", for machines whose use is not known" if basis is Basis.USE else "")


def _off_words(given: SizingInput) -> str:
    count = sum(machine.powered_on is False for machine in given.machines)
    return f"{count}, {'left out' if given.policy.leave_out_powered_off else 'counted'}"


def host_words(host: HostType) -> str:
    """A host type in a line."""
    parts = [f"{host.cores} cores", f"{host.threads} threads", f"{format_bytes(host.memory_bytes)} of memory"]
    parts.append(f"{host.sockets} sockets" if host.sockets > 1 else "1 socket")
    parts += [f"{host.nodes} NUMA nodes"] if host.nodes != host.sockets else []
    parts += [f"{host.core_mhz} MHz a core"] if host.core_mhz else []
    parts += [f"{format_bytes(host.disk_bytes)} of disk"] if host.disk_bytes is not None else []
    return ", ".join(parts)


def numa_fit(given: SizingInput, host: HostType) -> NumaFit | None:
    """Machines that are larger than a NUMA node of the host; None where a host is one node."""
    if host.nodes < 2:
        return None
    cores = host.cores // host.nodes
    memory = room_of(host, given.policy, Basis.CONFIGURED).memory_bytes // host.nodes
    wider = []
    for demand in demands_of(given, host, Basis.CONFIGURED).known:
        reasons = [f"has {demand.vcpus} virtual CPUs, a node {cores} cores"] if demand.vcpus > cores else []
        if demand.memory_bytes > memory:
            reasons.append(f"needs {format_bytes(demand.memory_bytes)} of memory, a node has {format_bytes(memory)}")
        if reasons:
            wider.append(NamedReason(demand.name, "; ".join(reasons)))
    assumptions = (
        Assumption("NUMA nodes a host", f"{host.nodes}, of one size", AssumptionSource.GIVEN),
        given.policy.assume("memory_headroom", "memory left free on each node", f"{given.policy.memory_headroom:.0%}"),
    )
    return NumaFit(cores, memory, tuple(wider), assumptions)


def use_notes(given: SizingInput, host: HostType | None) -> tuple[str, ...]:
    """What of a utilisation file does not count, and why: nothing in it is passed over in silence."""
    if not given.utilisation:
        return ()
    used = {key_of(name) for name in used_by_machine(given)}
    fleet = {key_of(machine.name) for machine in given.machines}
    notes = []
    for use in given.utilisation:
        key = key_of(use.name)
        if key not in fleet:
            notes.append(f"utilisation, line {use.line}: no machine of the fleet is called {use.name[:80]!r}")
        elif key not in used:
            notes.append(
                f"utilisation, line {use.line}: several machines are called {use.name[:80]!r}; it counts for none"
            )
        elif use.cpu_mhz is not None and host is not None and not host.core_mhz:
            notes.append(
                f"utilisation, line {use.line}: CPU in MHz counts only with --host-mhz; CPUs as configured were taken"
            )
    return tuple(notes)
