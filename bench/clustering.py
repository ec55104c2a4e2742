"""The row of a cluster: what a job costs beside the program that converts it, on its way through Dask to a worker and back."""

from __future__ import annotations

import resource
import statistics
from pathlib import Path

from bench.batching import WANTED_SECONDS, beside_the_program, made_batch, unheard
from bench.measuring import Outcome, Row, Say, scratch_folder
from p2v.batch.cluster import ClusterWish, open_engine
from p2v.batch.jobs import Budget
from p2v.batch.runner import run_batch
from tests.batch.cluster.clusters import Cluster, cluster

_MACHINES, _MANY = 100, 1000
_ALONE = Budget(copies=1, appliances=1, jobs=1)
_ALL = Budget(copies=_MANY, appliances=_MANY, jobs=_MANY)
_AT_ONCE = 4


def _overhead(say: Say) -> Outcome:
    """Ours: seconds a job takes beside its program, one after the other; other: the limit of 50 ms."""
    with scratch_folder() as folder, cluster(folder) as running:
        running.scheduler()
        running.worker(f"convert={_AT_ONCE}", preload="tests.batch.cluster.nothing")
        ours = [_beside_the_program(running, folder / str(turn), _MACHINES, _ALONE) for turn in range(4)][1:]
        say(f"ours: {[round(s * 1000, 1) for s in ours]} ms a job of {_MACHINES}")
        many = _beside_the_program(running, folder / "many", _MANY, _ALL)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    detail = (
        f"jobs one after the other on 127.0.0.1, {_MACHINES} machines; {_MANY} machines that wait at once for {_AT_ONCE} places: "
        f"{many * 1000:.1f} ms a job, this process and its runner at most {memory:.0f} MiB"
    )
    return Outcome(statistics.median(ours), WANTED_SECONDS, (len(ours), 1), detail)


def _beside_the_program(running: Cluster, folder: Path, count: int, budget: Budget) -> float:
    folder.mkdir()
    batch = made_batch(folder, count, budget)
    with open_engine(ClusterWish(running.engine), batch.store) as starter:
        return beside_the_program(batch, lambda store: run_batch(batch, store, unheard, starter=starter))


ROWS = (Row("batch-cluster-overhead", "a job's way to a worker of Dask and back, against 50 ms", "s", 1, _overhead),)
