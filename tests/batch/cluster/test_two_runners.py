"""Two runners at one scheduler: of one batch they share the machines, of two each has its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.core.units import MIB
from p2v.record import load_record
from tests.batch.cluster.batches import NAMES, disks, manifest, python_path, runner
from tests.batch.cluster.clusters import Cluster, cluster, until

_ENVIRONMENT = {**os.environ, "PYTHONPATH": python_path()}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    disks(tmp_path)
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as made:
        made.scheduler()
        made.worker("convert=2")
        yield made


def _converted(folder: Path, name: str) -> None:
    for each in NAMES:
        target = load_record(folder / name / f"{each}.json").disks[0].target
        assert (folder / name / target).read_bytes() == (folder / "exports" / f"{each}.raw").read_bytes()
    assert len(list((folder / name).glob("*.json"))) == len(NAMES)
    assert not [path.name for path in (folder / name).iterdir() if path.name.startswith(".")]


def test_two_runs_of_one_batch_convert_each_machine_once_between_them(running: Cluster, tmp_path: Path) -> None:
    command = ["batch", "run", str(manifest(tmp_path, "there", limit="8M")), "--engine", running.engine]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with runner(command, tmp_path / "a", _ENVIRONMENT) as first:
        until(lambda: [event for event in first.events() if event["event"] == "claimed"], "a machine of the first")
        with runner(command, tmp_path / "b", _ENVIRONMENT) as second:
            ends = [each.end() for each in (second, first)]
            assert [status for status, _ in ends] == [0, 0], first.said() + second.said()
            claimed = [
                event["job"] for each in (first, second) for event in each.events() if event["event"] == "claimed"
            ]

    assert sorted(claimed) == sorted(NAMES)
    _converted(tmp_path, "there")


def test_two_batches_at_one_scheduler_do_not_hear_each_other(running: Cluster, tmp_path: Path) -> None:
    """Of the same machines, by the same names, into folders of their own."""
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    commands = [["batch", "run", str(manifest(tmp_path, each.name)), "--engine", running.engine] for each in folders]
    with (
        runner(commands[0], tmp_path / "a", _ENVIRONMENT) as first,
        runner(commands[1], tmp_path / "b", _ENVIRONMENT) as second,
    ):
        moved = []
        for each in (first, second):
            status, machines = each.end()
            assert status == 0, each.said()
            assert {name: machine["state"] for name, machine in machines.items()} == dict.fromkeys(NAMES, "done")
            copied = [event for name in NAMES for event in each.of(name, "bytes-done") if event["phase"] == "copy"]
            moved.append({name: sum(event["count"] for event in copied if event["job"] == name) for name in NAMES})
    assert moved[0] == moved[1]
    assert all(0 < count <= 16 * MIB for count in moved[0].values())
    _converted(tmp_path, "a")
    _converted(tmp_path, "b")
