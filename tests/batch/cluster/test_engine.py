"""Copies that workers of a real cluster make, on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Queue

from p2v.batch.children import Child, LocalStarter
from p2v.batch.cluster import ClusterWish, Storage, blindness, link, open_engine, placing, roster
from p2v.batch.cluster.child import ClusterChild, Stage
from p2v.batch.cluster.messages import Task
from p2v.batch.cluster.opening import ClusterStarter
from p2v.batch.cluster.sight import Here
from p2v.batch.cluster.worker import BegunElsewhere, run_task
from p2v.batch.failures import failure_of
from p2v.core.errors import ClusterRefused
from tests.batch.cluster.clusters import (
    PATIENCE,
    Cluster,
    cluster,
    copy_order,
    disk,
    finished,
    heard_of,
    processes_with,
    until,
)

# one cluster serves them all
pytestmark = pytest.mark.xdist_group("cluster")

Heard = list[Mapping[str, Any]]
_SLOWLY = ("--limit", "512K")
"""A copy that lasts until something else happens."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers: ``one`` has everything once, ``two`` a place for a conversion."""
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.scheduler()
        made.worker("convert=1 kvm=1", "one")
        made.worker("convert=1", "two")
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk(tmp_path_factory.mktemp("source") / "source.raw", 16)


@pytest.fixture
def engine(running: Cluster, tmp_path: Path) -> Iterator[ClusterStarter]:
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as made:
        yield made


def _worker_of(child: Child, heard: Heard) -> object:
    return heard_of(child, "worker", heard)["worker"]


def test_a_disk_that_nobody_sees_is_no_source(engine: ClusterStarter, tmp_path: Path) -> None:
    heard: Heard = []
    assert finished(engine.start(copy_order(tmp_path / "none.raw", tmp_path / "target.raw")), heard).exit_status == 66
    (told,) = [event for event in heard if event["event"] == "error"]
    assert told["code"] == "no-source"
    assert str(tmp_path / "none.raw") in told["message"]
    # both workers were asked, and nothing was begun
    assert len([event for event in heard if event["event"] == "warning"]) == 2
    assert not [event for event in heard if event["event"] == "worker"]


def _seen_by_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the workers lack a mount that the runner's host has."""
    monkeypatch.setattr(link, "seen_here", lambda machine, fence: Here(sources=True, fenced=False))
    monkeypatch.setattr(blindness, "_SECONDS", 0.5)


def test_what_the_runner_s_host_sees_and_no_worker_does_may_come_and_is_then_converted(
    running: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _seen_by_the_runner(monkeypatch)
    heard: Heard = []
    late = tmp_path / "late.raw"
    with open_engine(ClusterWish(running.engine, blind_seconds=PATIENCE), tmp_path / "batch.sqlite") as engine:
        child = engine.start(copy_order(late, tmp_path / "target.raw"))
        until(lambda: len([event for event in _more(child, heard) if event["event"] == "warning"]) >= 2, "both looked")
        assert child.ended() is None
        # whole at once: half of it would be copied as well
        shutil.copy(source, late.with_suffix(".new"))
        late.with_suffix(".new").rename(late)
        assert finished(child, heard).exit_status == 0
    assert (tmp_path / "target.raw").read_bytes() == source.read_bytes()


def test_what_no_worker_sees_for_too_long_has_failed_and_may_be_tried_again(
    running: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _seen_by_the_runner(monkeypatch)
    heard: Heard = []
    with open_engine(ClusterWish(running.engine, blind_seconds=0.0), tmp_path / "batch.sqlite") as engine:
        ended = finished(engine.start(copy_order(tmp_path / "none.raw", tmp_path / "target.raw")), heard)
    failure = failure_of(ended, next(event for event in heard if event["event"] == "error"))
    assert (failure.code, failure.may_help) == ("not-seen", True)


def _more(child: Child, heard: Heard) -> Heard:
    heard.extend(child.heard())
    return heard


def _phases(heard: Heard) -> list[tuple[object, object]]:
    """What began and ended, without waiting for a worker, which a cluster has more."""
    phases = [(event["event"], event["phase"]) for event in heard if event["event"].startswith("phase-")]
    return [each for each in phases if each[1] != "queue"]


def test_a_copy_has_the_same_bytes_and_tells_the_same_as_on_this_host(
    engine: ClusterStarter, source: Path, tmp_path: Path
) -> None:
    here: Heard = []
    there: Heard = []

    local = finished(LocalStarter(tmp_path / "batch.sqlite").start(copy_order(source, tmp_path / "here.raw")), here)
    remote = finished(engine.start(copy_order(source, tmp_path / "there.raw")), there)

    assert (local.exit_status, remote.exit_status) == (0, 0)
    assert (tmp_path / "there.raw").read_bytes() == (tmp_path / "here.raw").read_bytes() == source.read_bytes()
    assert _phases(there) == _phases(here)
    assert sum(event["count"] for event in there if event["event"] == "bytes-done") == source.stat().st_size


def test_a_copy_goes_by_the_limit_that_its_worker_passes_on(
    engine: ClusterStarter, source: Path, tmp_path: Path
) -> None:
    """At the rate that it has at first it would take a day."""
    heard: Heard = []
    order = replace(copy_order(source, tmp_path / "told.raw", "--share", "200"), is_told=True)
    child = engine.start(order)
    try:
        child.limit(2**30)  # before its worker has begun it
        assert heard_of(child, "limit", heard)["limit"] == 2**30
        assert finished(child, heard).exit_status == 0
    finally:
        child.close()
    assert (tmp_path / "told.raw").read_bytes() == source.read_bytes()


def test_a_failure_is_told_as_on_this_host(engine: ClusterStarter, source: Path, tmp_path: Path) -> None:
    here: Heard = []
    there: Heard = []
    (tmp_path / "target.raw").touch()
    order = copy_order(source, tmp_path / "target.raw")

    local = finished(LocalStarter(tmp_path / "batch.sqlite").start(order), here)
    remote = finished(engine.start(order), there)

    assert local.exit_status == remote.exit_status != 0
    told = next(event for event in there if event["event"] == "error")
    assert told == next(event for event in here if event["event"] == "error")


def test_stopping_reaches_the_child_and_its_place_is_free_afterwards(
    engine: ClusterStarter, source: Path, tmp_path: Path
) -> None:
    children = [engine.start(copy_order(source, tmp_path / f"slow{n}.raw", *_SLOWLY)) for n in range(2)]
    for child in children:
        heard_of(child, "bytes-done", [])
    assert processes_with(str(tmp_path / "slow0.raw"))

    for child in children:
        child.stop()

    assert [finished(child).exit_status for child in children] == [143, 143]
    assert not processes_with(str(tmp_path / "slow"))
    assert not list(tmp_path.glob("slow*.raw"))
    assert finished(engine.start(copy_order(source, tmp_path / "next.raw"))).exit_status == 0


def _busy(engine: ClusterStarter, source: Path, folder: Path) -> list[Child]:
    """Both workers are, for minutes."""
    busy = [engine.start(copy_order(source, folder / f"slow{n}.raw", "--limit", "64K")) for n in range(2)]
    workers = {_worker_of(child, []) for child in busy}
    assert len(workers) == 2
    return busy


def _stopped(children: list[Child]) -> None:
    for child in children:
        child.stop()
    for child in children:
        finished(child)


@pytest.mark.parametrize("batches", ["one", "two"])
def test_a_job_that_is_stopped_while_all_workers_are_busy_never_begins(
    batches: str, running: Cluster, engine: ClusterStarter, source: Path, tmp_path: Path
) -> None:
    """Of one batch it waits at the runner; where another batch has the workers, at the scheduler."""
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as other:
        busy = _busy(engine if batches == "one" else other, source, tmp_path)
        heard: Heard = []
        waiting = engine.start(copy_order(source, tmp_path / "never.raw"))
        assert isinstance(waiting, ClusterChild)
        expected = Stage.HELD if batches == "one" else Stage.SENT
        until(lambda: waiting.stage is expected, f"a job that is {expected}")

        waiting.stop()
        ended = finished(waiting, heard)
        _stopped(busy)

    assert ended.exit_status == 143
    assert [event["event"] for event in heard] == ["phase-started"]
    assert not list(tmp_path.glob("never*"))


def test_two_batches_share_what_a_worker_may_do(
    running: Cluster, engine: ClusterStarter, source: Path, tmp_path: Path
) -> None:
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as other:
        busy = _busy(other, source, tmp_path)
        heard: Heard = []
        waiting = engine.start(copy_order(source, tmp_path / "later.raw"))
        assert isinstance(waiting, ClusterChild)
        until(lambda: waiting.stage is Stage.SENT, "a job that is with the scheduler")
        time.sleep(1.0)  # for which it would otherwise begin
        heard.extend(waiting.heard())
        assert [event["event"] for event in heard] == ["phase-started"]

        _stopped(busy)
        assert finished(waiting, heard).exit_status == 0


def test_a_job_goes_to_the_host_that_its_manifest_names(engine: ClusterStarter, source: Path, tmp_path: Path) -> None:
    went: dict[str, set[object]] = {}
    for number in range(4):
        name = ("one", "two")[number % 2]
        heard: Heard = []
        finished(engine.start(copy_order(source, tmp_path / f"{number}.raw", host=name)), heard)
        went.setdefault(name, set()).add(next(event["worker"] for event in heard if event["event"] == "worker"))

    assert len(went["one"]) == len(went["two"]) == 1
    assert went["one"] != went["two"]


def test_a_shared_storage_is_asked_by_so_many_in_the_whole_cluster(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    wish = ClusterWish(running.engine, storages=(Storage("one-at-once", tmp_path, 1),))
    with open_engine(wish, tmp_path / "batch.sqlite") as engine:
        heard: list[Heard] = [[], []]
        first = engine.start(copy_order(source, tmp_path / "0.raw", "--limit", "128K"))
        until(lambda: ("phase-started", "copy") in _phases(_more(first, heard[0])), "the first copy")
        second = engine.start(copy_order(source, tmp_path / "1.raw"))
        until(lambda: _phases(_more(second, heard[1])), "the second at its worker")
        time.sleep(2.0)  # for which it would otherwise copy
        heard[1].extend(second.heard())
        assert first.ended() is None
        assert ("phase-started", "copy") not in _phases(heard[1])
        assert _worker_of(first, heard[0]) != _worker_of(second, heard[1])

        first.stop()
        assert finished(first).exit_status == 143
        assert finished(second, heard[1]).exit_status == 0

    phases = _phases(heard[1])
    assert phases.index(("phase-finished", "wait-one-at-once")) < phases.index(("phase-started", "copy"))


def test_a_job_that_no_worker_fits_is_told_so_when_patience_is_over(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    wish = ClusterWish(running.engine, storages=(Storage("san", tmp_path),), patience_seconds=0.0)
    with open_engine(wish, tmp_path / "batch.sqlite") as engine:
        ended = finished(engine.start(copy_order(source, tmp_path / "never.raw")))

    assert "storage-san" in ended.lost
    assert ended.exit_status == 75


def test_two_batches_that_count_a_storage_otherwise_are_told(running: Cluster, source: Path, tmp_path: Path) -> None:
    heard: Heard = []
    for count, status in ((2, 0), (3, 64)):
        wish = ClusterWish(running.engine, storages=(Storage("counted", tmp_path, count),))
        with open_engine(wish, tmp_path / "batch.sqlite") as engine:
            assert finished(engine.start(copy_order(source, tmp_path / f"{count}.raw")), heard).exit_status == status
    assert next(event for event in heard if event["event"] == "error")["code"] == "usage"


def test_the_scheduler_moves_no_task_from_a_worker_to_another(running: Cluster, engine: ClusterStarter) -> None:
    with Client(running.engine.replace("dask", "tcp"), set_as_default=False) as client:
        callbacks = client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.periodic_callbacks))
    assert "stealing" not in callbacks
    assert callbacks


def test_a_task_whose_token_is_gone_is_not_begun(running: Cluster, source: Path, tmp_path: Path) -> None:
    """Dask runs a task again whose worker went away: whether the first run has ended, nobody knows."""
    target = tmp_path / "twice.raw"
    record = Task("k", "t", copy_order(source, target), tmp_path / "batch.sqlite").record()
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite"):
        with Client(running.engine.replace("dask", "tcp"), set_as_default=False) as client:
            until(lambda: all(client.run(_is_ready).values()), "workers that know of tasks")
            token = Queue("k", client=client)
            token.put(1)
            client.submit(run_task, record, key="first", pure=False).result(PATIENCE)
            assert target.read_bytes() == source.read_bytes()
            target.unlink()

            with pytest.raises(BegunElsewhere):
                client.submit(run_task, record, key="again", pure=False).result(PATIENCE)
            token.close()
    assert not list(tmp_path.glob("*twice*"))


def _is_ready(dask_worker: Any) -> bool:
    return "p2v-children" in dask_worker.plugins


@pytest.mark.parametrize("what", ["version", "plain"])
def test_workers_that_are_no_use_get_nothing(
    what: str, running: Cluster, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if what == "version":
        monkeypatch.setattr("p2v.__version__", "0.0.0")
    else:
        monkeypatch.setattr(placing, "objection", lambda address: "is plain")
    with open_engine(ClusterWish(running.engine, patience_seconds=0.0), tmp_path / "batch.sqlite") as engine:
        ended = finished(engine.start(copy_order(source, tmp_path / "never.raw")))

    assert what in ended.lost


def test_a_scheduler_that_everybody_reaches_is_refused_whatever_address_it_was_found_at(
    running: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(roster, "objection", lambda address: f"{address} is plain")

    with pytest.raises(ClusterRefused), open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite"):
        pass


_RUNNER = """
import sys, time
from pathlib import Path
from p2v.batch.cluster import ClusterWish, open_engine
from tests.batch.cluster.clusters import copy_order, heard_of
with open_engine(ClusterWish(sys.argv[1]), Path(sys.argv[3]).parent / "batch.sqlite") as engine:
    child = engine.start(copy_order(Path(sys.argv[2]), Path(sys.argv[3]), "--limit", "512K"))
    heard_of(child, "bytes-done", [])
    print("copies", flush=True)
    time.sleep(3600)
"""


def test_a_runner_that_is_killed_leaves_no_child_in_the_cluster(running: Cluster, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "orphan.raw"
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUNNER, running.engine, str(source), str(target)],
        stdout=subprocess.PIPE, start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"copies\n"
        assert any(pid != runner.pid for pid in processes_with(str(target)))
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.communicate()

    until(lambda: not processes_with(str(target)), "the end of the child of a runner that is gone")
    assert not target.exists()
