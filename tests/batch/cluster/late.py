"""Has a worker of Dask (``--preload``) whose scheduler answers too late when it asks for its first task's token."""

from __future__ import annotations

from p2v.batch.cluster import worker
from p2v.batch.cluster.messages import Task

_take, _late = worker._take_token, [True]


def _first_in_vain(task: Task) -> None:
    if _late:
        _late.clear()
        raise worker.BegunElsewhere(task.order.name)
    _take(task)


setattr(worker, "_take_token", _first_in_vain)  # noqa: B010 - it is no name of theirs
