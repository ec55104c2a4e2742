"""What a batch's plan says of the storages and servers that its budget names: what goes over each, and which nothing goes over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from p2v.batch.jobs import Batch, Share
from p2v.batch.lanes import server_lane, servers_of
from p2v.batch.places import Places, places_of
from p2v.batch.planned import MachinePlan, SharePlan
from p2v.core.text import printable
from p2v.preflight import Trouble

_NAMED_AT_MOST = 6


def places_for(batch: Batch) -> Places:
    """Where machines copy from and to, where the budget says anything of that; elsewhere nobody looks."""
    budget = batch.budget
    if budget.bytes_per_second is None and not budget.storages and not budget.hosts:
        return Places({}, {})
    return places_of(batch.machines, tuple(budget.storages))


def share_plans(batch: Batch, machines: Sequence[MachinePlan], places: Places) -> tuple[SharePlan, ...]:
    """Of each storage and server, in the budget's order."""
    counted = [each for each in machines if not each.left_alone and not each.is_blocked]

    def plan(lanes: Sequence[str], share: Share) -> SharePlan:
        over = [each for each in counted if set(lanes) & set(places.lanes_of(each.name))]
        moved = sum(each.copy_bytes or 0 for each in over)
        return SharePlan(len(over), moved, share.copies, share.bytes_per_second)

    found = [
        replace(plan(places.devices.get(path, ()), share), path=path) for path, share in batch.budget.storages.items()
    ]
    found += [replace(plan((server_lane(name),), share), host=name) for name, share in batch.budget.hosts.items()]
    return tuple(found)


def share_warnings(batch: Batch, shares: Sequence[SharePlan], places: Places) -> Iterator[Trouble]:
    """What counts for nothing, and whose bounds count for another path too."""
    budget = batch.budget
    seen = servers_of(lane for place in places.by_name.values() for lane in place.storages)
    for path in budget.storages:
        device = places.devices.get(path)
        same = [each for each in budget.storages if device and places.devices.get(each) == device]
        if not device:
            words = f"budget.storages: {printable(str(path), keep='')} is not there, or does not answer: it counts for nothing"
            yield Trouble("no-such-storage", words, "Mount it, or name another path on that storage.")
        elif len(same) > 1 and path == same[0]:
            names = ", ".join(printable(str(each), keep="") for each in same[:_NAMED_AT_MOST])
            yield Trouble("same-storage", f"budget.storages: {names} are on one storage: the least of each counts")
    for each in shares:
        if each.host and not each.machines:
            there = ", ".join(seen[:_NAMED_AT_MOST]) or "no machine's disk or target is on a server"
            words = f"budget.hosts: nothing of this batch is on {printable(each.host, keep='')}"
            yield Trouble(
                "unused-host", words, f"A server is named as it was mounted; here are: {printable(there, keep='')}."
            )
