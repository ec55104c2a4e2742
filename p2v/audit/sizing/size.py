"""Sizing as a whole: from the fleet and what the user decided to hosts, storage, time and money."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from p2v.audit.document import MachineAudit, Origin
from p2v.audit.sizing.before import consolidation, hosts_before
from p2v.audit.sizing.disks import storage_needed
from p2v.audit.sizing.hosts import hosts_needed, numa_fit, use_notes
from p2v.audit.sizing.inputs import HostLike, SizingInput, SizingWish, hosts_now
from p2v.audit.sizing.measure import USUAL, Bounds, measure
from p2v.audit.sizing.migration import migration_time
from p2v.audit.sizing.savings import savings
from p2v.audit.sizing.values import Basis, Measured, Sizing
from p2v.core.events import Reporter, phase, silent


def size(given: SizingInput) -> Sizing:
    """The whole answer. Pure: what needs the storage was measured beforehand."""
    host, before = given.host, hosts_before(given)
    storage, migration = storage_needed(given.machines), migration_time(given)
    notes = use_notes(given, host)
    if host is None:
        if given.prices is not None:
            notes += ("no saving is told without a host type: say --host-cores and --host-memory",)
        return Sizing(len(given.machines), storage, migration, before=before, measured=given.measured, notes=notes)
    bases = (Basis.CONFIGURED, Basis.USE) if given.utilisation else (Basis.CONFIGURED,)
    hosts = tuple(hosts_needed(given, host, basis) for basis in bases)
    return Sizing(
        machines=len(given.machines),
        storage=storage,
        migration=migration,
        host=host,
        hosts=hosts,
        numa=numa_fit(given, host),
        before=before,
        consolidation=tuple(consolidation(given, before, needed, host) for needed in hosts),
        savings=tuple(
            savings(given.prices, before, needed, host, storage) for needed in hosts if given.prices is not None
        ),
        measured=given.measured,
        notes=notes,
    )


def size_as_wished(
    wish: SizingWish,
    machines: Sequence[MachineAudit],
    hosts: Iterable[HostLike] = (),
    report: Reporter = silent,
    bounds: Bounds = USUAL,
) -> Sizing:
    """Measure where that is wished (``bounds``: for how long), then size. Raises as ``measure`` does."""
    given = SizingInput(
        machines=tuple(machines),
        host=wish.host,
        policy=wish.policy,
        hosts_before=hosts_now(hosts),
        utilisation=wish.utilisation,
        prices=wish.prices,
        measured=_measured(wish, machines, report, bounds),
    )
    return size(given)


def _measured(wish: SizingWish, machines: Sequence[MachineAudit], report: Reporter, bounds: Bounds) -> Measured | None:
    if wish.measure is None:
        return None
    # what an inventory calls a disk is a name on somebody's datastore, not a file here
    disks = [Path(disk.path) for machine in machines if machine.origin is Origin.DISKS for disk in machine.disks]
    with phase(report, "measure", f"Measuring in {wish.measure}"):
        return measure(wish.measure, disks, replace(bounds, streams=wish.policy.concurrent))
