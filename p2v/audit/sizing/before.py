"""What the fleet runs on now, and how many machines a host carries before and after."""

from __future__ import annotations

from collections.abc import Sequence

from p2v.audit.sizing.demand import sane_cpus
from p2v.audit.sizing.inputs import HostNow, SizingInput
from p2v.audit.sizing.values import Assumption, AssumptionSource, Consolidation, HostsBefore, HostsNeeded, HostType

_INVENTORY = AssumptionSource.INVENTORY


def hosts_before(given: SizingInput) -> HostsBefore | None:
    """The hosts of an inventory, else those that machines name; None where nothing tells of any."""
    rows = given.hosts_before
    if rows:
        told = Assumption("hosts now", f"{len(rows)} rows of an inventory", _INVENTORY)
    else:
        rows = tuple(HostNow(name) for name in sorted({each.host for each in given.machines if each.host}))
        if not rows:
            return None
        silent = sum(not each.host for each in given.machines)
        words = f"{len(rows)} that machines name; a host without machines is not seen" + (
            f", nor that of {silent} machines which name none" if silent else ""
        )
        told = Assumption("hosts now", words, _INVENTORY)
    cores = _sum([row.cores for row in rows])
    counted = sum(sane_cpus(each) for each in given.machines)
    return HostsBefore(
        hosts=len(rows),
        cores=cores,
        memory_bytes=_sum([row.memory_bytes for row in rows]),
        vcpus_per_core=counted / cores if cores else None,
        assumptions=(told, Assumption("machines on them", f"all {len(given.machines)} of the fleet", _INVENTORY)),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


def consolidation(given: SizingInput, before: HostsBefore | None, needed: HostsNeeded, host: HostType) -> Consolidation:
    """Machines a host, now and afterwards; afterwards of those machines that fit, on all hosts, spare ones too."""
    cores = needed.total_hosts * host.cores
    return Consolidation(
        basis=needed.basis,
        machines_per_host_before=len(given.machines) / before.hosts if before is not None else None,
        machines_per_host_after=needed.machines / needed.total_hosts if needed.total_hosts else None,
        vcpus_per_core_after=sum(load.vcpus for load in needed.hosts) / cores if cores else None,
        assumptions=(
            Assumption(
                "hosts afterwards", f"{needed.total_hosts}, {needed.spare_hosts} of them spare", AssumptionSource.GIVEN
            ),
            Assumption(
                "machines afterwards", f"{needed.machines} of {len(given.machines)}: those that fit", _INVENTORY
            ),
            *(before.assumptions if before is not None else ()),
        ),
    )
