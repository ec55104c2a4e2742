"""The storages that a batch's results go to: which folders are on one, and whether all that goes there has room."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from p2v.batch.jobs import Batch
from p2v.batch.places import name_of
from p2v.batch.planned import MachinePlan, StoragePlan
from p2v.core.workspace import existing_parent, free_bytes
from p2v.rewriting import OVERLAY_BYTES


def storage_of(folder: Path) -> str:
    """The name (``p2v.batch.places``) of the storage that a folder is on, or will be when it is made."""
    return name_of(os.stat(existing_parent(folder)).st_dev)


def storages_of(batch: Batch, machines: Sequence[MachinePlan]) -> tuple[StoragePlan, ...]:
    """The storages of those machines that may be converted, the fullest first."""
    by_name: dict[str, list[MachinePlan]] = {}
    for each in machines:
        if not each.left_alone and not each.is_blocked:
            by_name.setdefault(storage_of(each.folder), []).append(each)
    found = [_storage(each, batch.budget.jobs) for each in by_name.values()]
    return tuple(sorted(found, key=lambda each: each.free_bytes - each.needed_bytes - each.work_bytes))


def _storage(machines: Sequence[MachinePlan], jobs: int) -> StoragePlan:
    folders = tuple(dict.fromkeys(each.folder for each in machines))
    return StoragePlan(
        folders=folders,
        machines=len(machines),
        copy_bytes=sum(each.copy_bytes or 0 for each in machines),
        needed_bytes=sum(each.write_bytes or 0 for each in machines),
        work_bytes=OVERLAY_BYTES * min(jobs, len(machines)),
        free_bytes=free_bytes(folders[0]),
        unknown=sum(each.write_bytes is None for each in machines),
    )
