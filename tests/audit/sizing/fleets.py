"""Fleets in memory."""

from __future__ import annotations

from p2v.audit.document import DiskAudit, MachineAudit, Origin, Verdict
from p2v.audit.sizing.values import HostType
from p2v.core.units import GIB

HOST = HostType(cores=16, memory_bytes=64 * GIB, threads=32, sockets=2)


def disk(virtual: int, allocated: int, used: int | None, path: str = "/fleet/disk.vmdk") -> DiskAudit:
    """A disk; sizes in GiB, ``used`` None where nobody could look."""
    return DiskAudit(path, "vmdk", virtual * GIB, allocated * GIB, None if used is None else used * GIB)


def machine(
    name: str,
    cpus: int | None = 2,
    gib: int | None = 4,
    disks: tuple[DiskAudit, ...] = (),
    origin: Origin = Origin.DISKS,
    powered_on: bool | None = None,
    host: str = "",
) -> MachineAudit:
    """A machine with so many virtual CPUs and so much memory."""
    return MachineAudit(
        name,
        origin,
        "VMX",
        (f"/fleet/{name}.vmx",),
        Verdict.READY,
        (),
        cpus=cpus,
        memory_bytes=None if gib is None else gib * GIB,
        disks=disks,
        powered_on=powered_on,
        host=host,
    )
