"""Workers and schedulers that are stopped for a while, and woken when everybody has gone on without them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.cluster import ClusterWish, open_engine
from p2v.batch.cluster.opening import ClusterStarter
from tests.batch.cluster.clusters import cluster, copy_order, disk, finished, heard_of, processes_with, until

pytestmark = pytest.mark.matrix


def _copied_in_the_end(engine: ClusterStarter, source: Path, target: Path) -> bool:
    """Tries as the runner does, until what had the target is gone."""
    return finished(engine.start(copy_order(source, target, fence=2))).exit_status == 0


def test_a_worker_that_is_stopped_is_given_up_and_its_child_ends_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "5s")
    source, target = disk(tmp_path / "source.raw", 256), tmp_path / "target.raw"
    with cluster(tmp_path) as running:
        running.scheduler()
        workers = [running.worker("convert=1"), running.worker("convert=1")]
        with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
            heard: list[Mapping[str, Any]] = []
            first = engine.start(copy_order(source, target, "--limit", "1M"))
            heard_of(first, "bytes-done", heard)
            address = next(event["worker"] for event in heard if event["event"] == "worker")
            stopped = next(each for each in workers if f"{address}\n".encode() in each.log.read_bytes())

            os.kill(stopped.process.pid, signal.SIGSTOP)
            assert finished(first).lost
            assert processes_with(str(target))
            assert not _copied_in_the_end(engine, source, target)  # its child has the target still
            os.kill(stopped.process.pid, signal.SIGCONT)

            until(lambda: not processes_with(str(target)), "the end of the child of a worker that was given up")
            assert not target.exists()
            assert _copied_in_the_end(engine, source, target)
    assert target.read_bytes() == source.read_bytes()


def test_a_scheduler_that_hangs_is_none_and_its_children_end_when_it_wakes(tmp_path: Path) -> None:
    source, target = disk(tmp_path / "source.raw", 256), tmp_path / "target.raw"
    with cluster(tmp_path) as running:
        scheduler = running.scheduler()
        running.worker()
        with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
            first = engine.start(copy_order(source, target, "--limit", "1M"))
            heard_of(first, "bytes-done", [])

            os.kill(scheduler.process.pid, signal.SIGSTOP)
            assert "scheduler" in finished(first).lost
            os.kill(scheduler.process.pid, signal.SIGCONT)

            until(
                lambda: not processes_with(str(target)), "the end of a child whose runner the scheduler takes for gone"
            )
            assert _copied_in_the_end(engine, source, target)
    assert target.read_bytes() == source.read_bytes()
