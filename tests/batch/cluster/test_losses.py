"""Workers and schedulers that go away in the middle of a copy."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.children import LocalStarter
from p2v.batch.cluster import ClusterWish, open_engine, roster
from p2v.batch.cluster.child import ClusterChild, Stage
from p2v.core.errors import ClusterGone
from tests.batch.cluster.clusters import (
    Program,
    cluster,
    copy_order,
    disk,
    finished,
    heard_of,
    processes_with,
    until,
)

Heard = list[Mapping[str, Any]]
_SLOWLY = ("--limit", "512K")


def _worker(heard: Heard) -> object:
    return next(event["worker"] for event in heard if event["event"] == "worker")


def _of(worker: object, programs: list[Program]) -> Program:
    return next(program for program in programs if f"{worker}\n".encode() in program.log.read_bytes())


@pytest.mark.matrix  # tests/batch/cluster/test_batch_run.py is its twin with a runner and real conversions
def test_a_copy_whose_worker_is_killed_ends_on_another_with_the_same_bytes_as_here(tmp_path: Path) -> None:
    source, target = disk(tmp_path / "source.raw", 16), tmp_path / "target.raw"
    store = tmp_path / "batch.sqlite"
    with cluster(tmp_path) as running:
        running.scheduler()
        workers = [running.worker("convert=1"), running.worker("convert=1")]
        with open_engine(ClusterWish(running.engine), store) as engine:
            first = engine.start(copy_order(source, target, *_SLOWLY, fence=1))
            heard: Heard = []
            heard_of(first, "bytes-done", heard)
            killed = _of(_worker(heard), workers)
            assert processes_with(str(target))

            killed.kill()
            ended = finished(first, heard)
            first.close()

            assert ended.lost
            assert ended.exit_status == 75
            # the child of a worker that is gone ends by itself, and nobody else has begun what the runner has not given
            until(lambda: not processes_with(str(target)), "the end of the child of a worker that is gone")
            assert not target.exists()

            again: Heard = []
            second = finished(engine.start(copy_order(source, target, fence=2)), again)
        assert second.exit_status == 0
        assert _worker(again) != _worker(heard)
    assert finished(LocalStarter(store).start(copy_order(source, tmp_path / "here.raw"))).exit_status == 0
    assert target.read_bytes() == (tmp_path / "here.raw").read_bytes()


def test_a_scheduler_that_is_killed_takes_its_copies_along_and_a_new_one_takes_new_ones(tmp_path: Path) -> None:
    source, target = disk(tmp_path / "source.raw", 8), tmp_path / "target.raw"
    with cluster(tmp_path) as running:
        scheduler = running.scheduler()
        running.worker()
        with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
            first = engine.start(copy_order(source, target, *_SLOWLY))
            heard_of(first, "bytes-done", [])

            scheduler.kill()
            assert finished(first).lost
            until(lambda: not processes_with(str(target)), "the end of the child of a worker without a scheduler")
            second = engine.start(copy_order(source, target, fence=2))
            running.scheduler()
            running.worker()

            assert finished(second).exit_status == 0
    assert target.read_bytes() == source.read_bytes()


def test_a_worker_that_closes_ends_its_children_first(tmp_path: Path) -> None:
    source = disk(tmp_path / "source.raw", 8)
    with cluster(tmp_path) as running:
        running.scheduler()
        with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
            for number in range(5):
                worker = running.worker(nanny="--nanny")  # which is what closes it when it is to end
                target = tmp_path / f"target{number}.raw"
                child = engine.start(copy_order(source, target, *_SLOWLY))
                heard_of(child, "bytes-done", [])

                worker.process.terminate()
                worker.process.wait()

                left, ended = processes_with(str(target)), finished(child)
                if ended.exit_status == 143:
                    break  # for its last words it has four seconds, and then is killed: a busy host may take longer
    assert not left
    # and it tells of their end, and of its own part in it, before it is gone
    assert ended.exit_status == 143
    assert "told to end" in ended.lost


def test_a_job_whose_worker_goes_away_before_it_has_begun_goes_to_another_as_if_nothing_had_been(tmp_path: Path) -> None:
    source = disk(tmp_path / "source.raw", 1)
    with cluster(tmp_path) as running:
        running.scheduler()
        frozen = running.worker()
        with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
            assert finished(engine.start(copy_order(source, tmp_path / "known.raw"))).exit_status == 0
            frozen.process.send_signal(signal.SIGSTOP)  # it is there, and begins nothing
            child = engine.start(copy_order(source, tmp_path / "target.raw"))
            assert isinstance(child, ClusterChild)
            until(lambda: child.stage is Stage.SENT, "a job on its way to the worker")

            frozen.kill()
            running.worker()
            heard: Heard = []
            ended = finished(child, heard)

    assert (ended.exit_status, ended.lost) == (0, "")
    assert f"{_worker(heard)}\n".encode() in running.programs[-1].log.read_bytes()
    assert (tmp_path / "target.raw").read_bytes() == source.read_bytes()


def test_no_scheduler_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(roster, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ClusterGone), open_engine(ClusterWish("dask://127.0.0.1:1"), tmp_path / "batch.sqlite"):
        pass
