"""How many CPUs a machine gets and how they are divided, so that its guest uses them all. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.caps import GuestCaps
from drivers.plan import Finding
from p2v.machine import Machine, Topology


@dataclass(frozen=True, slots=True)
class CpuPlace:
    """A number of CPUs, and how they are divided; None where that is left to QEMU."""

    cpus: int
    topology: Topology | None


def divided(machine: Machine, caps: GuestCaps) -> CpuPlace:
    """The machine's CPUs as far as the guest uses them; as they were divided, where it finds them all so.

    libvirt and Nova give each CPU a socket of its own where nothing is said, of which some systems use one or two.
    """
    cpus = min(machine.cpus, caps.cpus_at_most or machine.cpus)
    if not caps.knows_cores:
        return CpuPlace(cpus, Topology(cpus))
    if caps.sockets_at_most is None:
        return CpuPlace(cpus, machine.topology if cpus == machine.cpus else None)
    had = machine.topology
    if had is not None and cpus == machine.cpus and had.sockets <= caps.sockets_at_most:
        return CpuPlace(cpus, had)
    return CpuPlace(cpus, Topology(1, cpus))


def cpu_losses(machine: Machine, caps: GuestCaps, place: CpuPlace) -> Iterator[Finding]:
    """What becomes different of the machine's CPUs, and by which limit."""
    limits = f"{caps.limits}." if caps.limits else ""
    # what nobody said that it had is not lost
    if place.cpus < machine.cpus and "cpus" not in machine.assumed:
        message = f"the guest can use {place.cpus} of the machine's {machine.cpus} CPUs; it gets no more"
        yield Finding("hardware.cpus", message, limits)
    had, sockets = machine.topology, caps.sockets_at_most
    if had is not None and caps.knows_cores and sockets is not None and had.sockets > sockets:
        message = f"its CPUs were in {had.sockets} sockets, of which the guest uses {sockets}: they become cores of one"
        yield Finding("hardware.sockets", message, limits)
