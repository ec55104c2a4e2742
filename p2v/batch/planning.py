"""``p2v batch plan``: every machine planned side by side, and what they do to each other: names, sources, room and time."""

from __future__ import annotations

import math
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from p2v.audit.side_by_side import Answered, Bounds, side_by_side
from p2v.audit.sizing.values import Measured
from p2v.batch.clashes import against_each_other
from p2v.batch.copy_time import copy_time
from p2v.batch.jobs import Batch, MachineJob, State
from p2v.batch.places import Places
from p2v.batch.planned import BatchPlan, MachinePlan, Planner, StoragePlan
from p2v.batch.preflight import preflight
from p2v.batch.share_plans import places_for, share_plans, share_warnings
from p2v.batch.storages import storages_of
from p2v.batch.store_host import network_file_system
from p2v.core import jsonio
from p2v.core.errors import Usage
from p2v.core.events import ItemDone, Reporter, phase, silent
from p2v.core.text import printable
from p2v.core.turns import appliance_turns
from p2v.core.units import format_bytes
from p2v.core.workspace import existing_parent, temporary_folder
from p2v.planning import load_all
from p2v.preflight import Trouble

# an appliance that only a machine's guest needs takes minutes without KVM
USUAL = Bounds(seconds=1800.0)
_AT_ONCE_AT_MOST = 8
_PHASE = "plan"
_ENDS = {
    State.DONE: "converted already",
    State.PARKED: "parked, and not tried again by itself: `p2v batch logs NAME` says why, `p2v batch retry NAME` when that is gone",
    State.CANCELLED: "cancelled, and not converted by itself: `p2v batch retry NAME` takes it up again",
}


def plan_batch(
    batch: Batch,
    planner: Planner,
    *,
    report: Reporter = silent,
    at_once: int | None = None,
    bounds: Bounds = USUAL,
    states: Mapping[str, State] = MappingProxyType({}),
    places: Places | None = None,
    here: Collection[str] | None = None,
    chosen: Collection[str] | None = None,
) -> BatchPlan:
    """The plan of a batch; nothing is written, and nothing that a machine's disks hold can end it.

    ``planner``: what plans one machine, in a process of its own. ``at_once``: of them (otherwise one a processor); those that need
    an appliance wait for one of as many as the budget has. ``states``: how machines stand that are known; those at an end are left
    alone. ``places``: where machines' bytes are; None: looked at here. ``here``: this host's names; a machine that another host
    alone can reach is left alone. ``chosen``: names of those that a run would take; None: all.
    """
    if at_once is not None and at_once < 1:
        raise Usage(f"{at_once} machines at a time: at least 1")
    names = (socket.gethostname(),) if here is None else here
    plans = [_begun(each, states.get(each.name), names, chosen) for each in batch.machines]
    numbers = [number for number, plan in enumerate(plans) if not plan.left_alone]
    at_once = at_once or min(os.cpu_count() or 1, _AT_ONCE_AT_MOST)
    appliances = batch.budget.appliances
    # who waits for an appliance takes as much longer
    bounds = replace(bounds, seconds=bounds.seconds * max(1, math.ceil(at_once / appliances)))

    with temporary_folder() as folder, phase(report, _PHASE, f"Planning {len(numbers)} machines"):

        def work(number: int) -> Any:
            # in a process of its own, whose environment this is
            os.environ.update(appliance_turns(appliances, folder))
            return jsonio.encode(jsonio.converter(), preflight(batch.machines[numbers[number]], planner))

        if len(numbers) > 1:
            load_all()
        several = side_by_side(work, len(numbers), at_once, bounds)
        for count, answered in enumerate(several, 1):
            number = numbers[answered.number]
            plans[number] = _answered(plans[number], answered)
            report(ItemDone(_PHASE, plans[number].name, count, len(numbers)))
    return planned_together(batch, plans, places=places)


def planned_together(
    batch: Batch, plans: Sequence[MachinePlan], measured: Sequence[Measured] = (), places: Places | None = None
) -> BatchPlan:
    """The plan that machines' plans make, with what they do to each other.

    ``measured``: rates of storages, each of the one that its folder is on; ``places``: as ``plan_batch`` takes them.
    """
    machines = tuple(against_each_other(plans))
    storages, places = storages_of(batch, machines), places or places_for(batch)
    shares = share_plans(batch, machines, places)
    return BatchPlan(
        batch.manifest,
        machines,
        storages,
        copy_time(batch, machines, storages, measured, places),
        tuple(_troubles(batch, storages)),
        (*_warnings(batch, storages), *share_warnings(batch, shares, places)),
        shares,
    )


def _begun(
    machine: MachineJob, state: State | None, here: Collection[str], chosen: Collection[str] | None = None
) -> MachinePlan:
    """The plan of a machine before anybody has looked at it."""
    plan = MachinePlan.of(machine)
    if state is not None and state.is_end:
        return replace(plan, left_alone=_ENDS[state], state=state)
    if chosen is not None and machine.name not in chosen:
        return replace(plan, left_alone="not among those that were asked for")
    if machine.host and machine.host not in here:
        return replace(plan, left_alone=f"its disks can be reached from {machine.host} alone")
    return plan


def _answered(plan: MachinePlan, answered: Answered) -> MachinePlan:
    took = round(answered.seconds, 3)
    if answered.failure:
        message = f"planning it {printable(answered.failure, keep='')}"
        code = "took-too-long" if answered.timed_out else "planning-failed"
        return replace(plan, blockers=(Trouble(code, message, "Look at it alone, with `p2v plan`."),), seconds=took)
    try:
        found = jsonio.decode(jsonio.converter(), answered.data, MachinePlan)
    except jsonio.BadDocument as error:
        trouble = Trouble("planning-failed", f"planning it gave no plan: {str(error)[:200]}")
        return replace(plan, blockers=(trouble,), seconds=took)
    return replace(found, seconds=took)


def _troubles(batch: Batch, storages: Sequence[StoragePlan]) -> Iterator[Trouble]:
    for each in storages:
        if not each.fits:
            needed = each.needed_bytes + each.work_bytes
            takes = "machine takes" if each.machines == 1 else "machines take"
            room = f"up to {format_bytes(needed)} there, and {format_bytes(each.free_bytes)} are free"
            message = f"{each.folders[0]}: {each.machines} {takes} {room}"
            yield Trouble(
                "no-space", message, "Give some of them another `target`, or make room before their wave begins."
            )
    place = existing_parent(batch.store.parent)
    if not os.access(place, os.W_OK | os.X_OK):
        yield Trouble("no-store", f"{batch.store}: nothing may be written to {place}", "Name another file by `store`.")


def _warnings(batch: Batch, storages: Sequence[StoragePlan]) -> Iterator[Trouble]:
    kind = network_file_system(existing_parent(batch.store.parent))
    if kind:
        message = f"{batch.store}: is on a {kind} file system, and several hosts must never have it open"
        yield Trouble("store-on-network", message, "Name a file on this host's own disks by `store`.")
    for each in storages:
        if each.unknown:
            message = f"{each.folders[0]}: of {each.unknown} machines nobody knows yet what they take there"
            yield Trouble("unknown-size", message)
    if shutil.which("qemu-img") is None:
        yield Trouble(
            "no-qemu-img", "qemu-img is not on this host: nothing can be converted here", "`p2v doctor` says more."
        )
