"""The rates of a batch's storages, measured where its results will stand: what ``p2v batch plan --measure`` adds to a plan.

The only part of planning that writes: nameless scratch files, as ``p2v audit --measure`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from p2v.audit.sizing.measure import Bounds, measure
from p2v.audit.sizing.values import Measured
from p2v.batch.copy_time import copy_time
from p2v.batch.jobs import Batch
from p2v.batch.places import Places
from p2v.batch.planned import BatchPlan, StoragePlan
from p2v.batch.share_plans import places_for
from p2v.batch.storages import storage_of
from p2v.core.errors import P2vError
from p2v.core.workspace import existing_parent
from p2v.preflight import trouble_of

Measure = Callable[[Path, Sequence[Path], Bounds], Measured]


def with_time(batch: Batch, plan: BatchPlan, measure: Measure = measure, places: Places | None = None) -> BatchPlan:
    """The plan with its time, after each storage was measured, with as many streams as machines may copy at a time.

    ``places``: where machines' bytes are; None: looked at here.

    A storage that cannot be measured (no room, a source in its folder) is a warning, and there is no time then.
    """
    found: list[Measured] = []
    failed = []
    for storage in plan.storages:
        bounds = Bounds(streams=batch.budget.copies)
        try:
            found.append(measure(existing_parent(storage.folders[0]), _sources(plan, storage), bounds))
        except P2vError as error:
            failed.append(replace(trouble_of(error), code="not-measured"))
    time = copy_time(batch, plan.machines, plan.storages, found, places or places_for(batch))
    return replace(plan, time=time, measured=tuple(found), warnings=(*plan.warnings, *failed))


def _sources(plan: BatchPlan, storage: StoragePlan) -> list[Path]:
    """The disks that are copied to a storage."""
    name = storage_of(storage.folders[0])
    going = [each for each in plan.planned if not each.is_blocked and storage_of(each.folder) == name]
    return [Path(disk) for each in going for disk in each.sources]
