"""What each machine needs of a host, and what a host has to give, in exact numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from p2v.audit.document import MachineAudit
from p2v.audit.sizing.disks import after_copy
from p2v.audit.sizing.inputs import MOST_CPUS, MOST_MEMORY_BYTES, Policy, SizingInput, Use, key_of, sane
from p2v.audit.sizing.values import Basis, HostType, NamedReason
from p2v.core.units import format_bytes


@dataclass(frozen=True, slots=True)
class Demand:
    """One machine's needs. ``measured``: whether its use decided about any of them."""

    name: str
    vcpus: int
    cores: Fraction
    memory_bytes: int
    disk_bytes: int
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What one host has for machines."""

    cores: Fraction
    memory_bytes: int
    disk_bytes: int | None


@dataclass(frozen=True, slots=True)
class Demands:
    """The fleet's needs, the machines of which they are not known, and those that the user wants left out."""

    known: tuple[Demand, ...]
    not_sized: tuple[NamedReason, ...]
    left_out: tuple[str, ...]


def exact(value: float) -> Fraction:
    """A number as it is written: 0.1 is a tenth, not the binary fraction next to it."""
    return Fraction(str(value))


def room_of(host: HostType, policy: Policy, basis: Basis) -> Room:
    """What a host gives. Headroom of CPUs counts by use alone: overcommitting says already how full cores may be."""
    kept = exact(policy.cpu_headroom) if basis is Basis.USE else Fraction(0)
    memory = int(host.memory_bytes * (1 - exact(policy.memory_headroom)))
    return Room(host.cores * (1 - kept), memory, host.disk_bytes)


def demands_of(given: SizingInput, host: HostType, basis: Basis) -> Demands:
    """What the machines need of such hosts."""
    uses = used_by_machine(given) if basis is Basis.USE else {}
    known: list[Demand] = []
    unknown: list[NamedReason] = []
    left_out: list[str] = []
    for machine in given.machines:
        if given.policy.leave_out_powered_off and machine.powered_on is False:
            left_out.append(machine.name)
            continue
        made = _demand(machine, uses.get(machine.name), host, given.policy)
        if isinstance(made, Demand):
            known.append(made)
        else:
            unknown.append(made)
    return Demands(tuple(known), tuple(unknown), tuple(left_out))


def used_by_machine(given: SizingInput) -> Mapping[str, Use]:
    """The use of each machine by its exact name. A name that several machines bear tells of none of them."""
    by_name = {key_of(use.name): use for use in given.utilisation}
    bearers = Counter(key_of(machine.name) for machine in given.machines)
    return {
        machine.name: by_name[key]
        for machine in given.machines
        if (key := key_of(machine.name)) in by_name and bearers[key] == 1
    }


def _demand(machine: MachineAudit, use: Use | None, host: HostType, policy: Policy) -> Demand | NamedReason:
    cpus, configured = sane(machine.cpus, MOST_CPUS), sane(machine.memory_bytes, MOST_MEMORY_BYTES)
    if cpus is None or configured is None:
        unknown = ["the number of its CPUs"] * (cpus is None) + ["its memory"] * (configured is None)
        verb = "are" if len(unknown) > 1 else "is"
        return NamedReason(machine.name, f"{' and '.join(unknown)} {verb} not known")
    cores = used_cores(use, cpus, host)
    memory = _used_memory(use, configured)
    disk = sum(after_copy(machine.origin, each).high for each in machine.disks)
    return Demand(
        machine.name,
        cpus,
        cpus / exact(policy.overcommit) if cores is None else cores,
        (configured if memory is None else memory) + policy.machine_overhead_bytes,
        disk,
        measured=cores is not None or memory is not None,
    )


def sane_cpus(machine: MachineAudit) -> int:
    """Its virtual CPUs; 0 where nobody knows them."""
    return sane(machine.cpus, MOST_CPUS) or 0


def used_cores(use: Use | None, cpus: int, host: HostType) -> Fraction | None:
    """Cores that a machine keeps busy; None where that was not measured, or in MHz while the host's are not told."""
    if use is not None and use.cpu_percent is not None:
        return cpus * exact(use.cpu_percent) / 100
    if use is not None and use.cpu_mhz is not None and host.core_mhz:
        return exact(use.cpu_mhz) / host.core_mhz
    return None


def _used_memory(use: Use | None, memory_bytes: int) -> int | None:
    if use is not None and use.memory_bytes is not None:
        return use.memory_bytes
    if use is not None and use.memory_percent is not None:
        return -int(-memory_bytes * exact(use.memory_percent) // 100)
    return None


def too_large(demand: Demand, room: Room, host: HostType) -> str:
    """Why a machine fits no such host, with both numbers; empty where it does."""
    reasons = []
    if demand.vcpus > host.threads:
        reasons.append(f"has {demand.vcpus} virtual CPUs, more than the host's {host.threads} threads")
    if demand.cores > room.cores:
        reasons.append(f"needs {float(demand.cores):.2f} cores of {float(room.cores):.2f}")
    if demand.memory_bytes > room.memory_bytes:
        reasons.append(f"needs {format_bytes(demand.memory_bytes)} of memory of {format_bytes(room.memory_bytes)}")
    if room.disk_bytes is not None and demand.disk_bytes > room.disk_bytes:
        reasons.append(f"needs {format_bytes(demand.disk_bytes)} of disk of {format_bytes(room.disk_bytes)}")
    return "; ".join(reasons)
