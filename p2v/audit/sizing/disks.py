"""What disks take before and after copying the blocks in use alone: sums, and intervals where something is not known."""

from __future__ import annotations

from collections.abc import Iterable

from p2v.audit.document import DiskAudit, MachineAudit, Origin
from p2v.audit.sizing.values import Assumption, AssumptionSource, ByteInterval, StorageNeeded


def known_allocation(origin: Origin, disk: DiskAudit) -> int | None:
    """Allocated bytes; None where a row of an inventory says nothing but a size: a disk that somebody runs holds something."""
    if origin is Origin.INVENTORY and disk.allocated_bytes <= 0:
        return None
    return max(0, disk.allocated_bytes)


def after_copy(origin: Origin, disk: DiskAudit) -> ByteInterval:
    """What is to be copied of a disk: what its file systems use where that is known, else up to all that is allocated."""
    virtual = max(0, disk.virtual_bytes)
    allocated = known_allocation(origin, disk)
    most = virtual if allocated is None else min(allocated, virtual)
    if disk.used_bytes is None:
        return ByteInterval(0, most)
    # blocks in use may stand in holes, which need no copying
    used = min(max(0, disk.used_bytes), most)
    return ByteInterval(used, used)


def storage_needed(machines: Iterable[MachineAudit]) -> StorageNeeded:
    """The sums over all disks of all machines, powered off or not."""
    disks = [(machine.origin, disk) for machine in machines for disk in machine.disks]
    allocations = [known_allocation(origin, disk) for origin, disk in disks]
    after = [after_copy(origin, disk) for origin, disk in disks]
    unknown = sum(disk.used_bytes is None for _, disk in disks)
    return StorageNeeded(
        disks=len(disks),
        virtual_bytes=sum(max(0, disk.virtual_bytes) for _, disk in disks),
        allocated_bytes=sum(each for each in allocations if each is not None),
        allocated_unknown=sum(each is None for each in allocations),
        used_bytes=sum(max(0, disk.used_bytes) for _, disk in disks if disk.used_bytes is not None),
        used_unknown=unknown,
        after=ByteInterval(sum(each.low for each in after), sum(each.high for each in after)),
        assumptions=_assumptions(unknown),
    )


def _assumptions(unknown: int) -> tuple[Assumption, ...]:
    inventory = AssumptionSource.INVENTORY
    made = [
        Assumption(
            "a disk of known use", "takes what its file systems use, rounding to clusters not counted", inventory
        ),
        Assumption("a file that several machines stand on", "counts for each of them", AssumptionSource.DEFAULT),
    ]
    if unknown:
        value = (
            f"{unknown}: each takes between nothing and what is allocated (its whole size where not even that is known)"
        )
        made.insert(1, Assumption("disks of unknown use", value, inventory))
    return tuple(made)
