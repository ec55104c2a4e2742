"""Boots take turns at a worker as they do on one host: others copy meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.children import Child, Order
from p2v.batch.cluster import ClusterWish, open_engine
from p2v.batch.cluster.child import ClusterChild, Stage
from tests.batch.cluster.clusters import Cluster, Heard, cluster, copy_order, finished, until

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    """One worker, of which three conversions may be under way and one boots, done by a stand-in."""
    with cluster(tmp_path) as made:
        made.scheduler()
        made.worker("convert=3 kvm=1", preload="tests.batch.cluster.stand_in")
        yield made


def _phases(heard: Heard) -> list[tuple[object, object]]:
    return [(event["event"], event["phase"]) for event in heard if "phase" in event]


def _order(journal: Path, name: str) -> Order:
    journal.touch()  # a worker looks whether it sees what a job reads
    order = copy_order(journal, journal.parent / name, boots=True)
    return replace(order, argv=("convert", str(journal), name))


def _most_at_once(lines: list[str]) -> int:
    now, most = Counter[str](), 0
    for name, what in (line.split() for line in lines):
        now[name] = {"boots": 1, "booted": 0}.get(what, now[name])
        most = max(most, now.total())
    return most


def test_a_job_is_copied_while_another_boots_and_never_do_two_boot_where_one_may(
    running: Cluster, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    # two batches, for what a worker may do is shared among all
    with (
        open_engine(ClusterWish(running.engine), tmp_path / "a.sqlite") as engine,
        open_engine(ClusterWish(running.engine), tmp_path / "b.sqlite") as other,
    ):
        heard: dict[str, Heard] = {"first": [], "second": [], "third": []}
        children: dict[str, Child] = {"first": engine.start(_order(journal, "first"))}
        until(lambda: ("phase-started", "boot") in _heard(children, heard, "first"), "a boot")

        children["second"] = engine.start(_order(journal, "second"))
        children["third"] = other.start(_order(journal, "third"))
        for name in ("second", "third"):
            _waits(children, heard, name)
            assert ("phase-finished", "copy") in _phases(heard[name])
            assert ("phase-started", "boot") not in _phases(heard[name])
        assert ("phase-finished", "boot") not in _heard(children, heard, "first")

        for name in heard:
            journal.with_name(f"journal.{name}").touch()
        assert [finished(children[name], heard[name]).exit_status for name in heard] == [0, 0, 0]

    lines = journal.read_text().splitlines()
    assert lines.index("second copied") < lines.index("first booted")
    assert lines.index("third copied") < lines.index("first booted")
    assert sorted(line.split()[1] for line in lines) == sorted(["copied", "boots", "booted"] * 3)
    assert _most_at_once(lines) == 1


def _waits(children: dict[str, Child], heard: dict[str, Heard], name: str) -> None:
    until(lambda: ("phase-started", "turn") in _heard(children, heard, name), f"{name} that waits for its turn")


def _heard(children: dict[str, Child], heard: dict[str, Heard], name: str) -> list[tuple[object, object]]:
    assert children[name].ended() is None
    heard[name].extend(children[name].heard())
    return _phases(heard[name])


def test_a_place_to_boot_is_free_again_when_its_holder_is_stopped(running: Cluster, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with open_engine(ClusterWish(running.engine), tmp_path / "a.sqlite") as engine:
        first = engine.start(_order(journal, "first"))
        until(lambda: "first boots" in journal.read_text(), "a boot")
        second = engine.start(_order(journal, "second"))
        heard: Heard = []
        _waits({"second": second}, {"second": heard}, "second")

        first.stop()
        assert finished(first).exit_status != 0
        journal.with_name("journal.second").touch()
        assert finished(second, heard).exit_status == 0
        assert ("phase-finished", "boot") in _phases(heard)


def test_a_machine_that_is_to_boot_waits_where_no_worker_offers_it(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        running.scheduler()
        running.worker("convert=3", preload="tests.batch.cluster.stand_in")
        wish = ClusterWish(running.engine, patience_seconds=0.0)
        with open_engine(wish, tmp_path / "a.sqlite") as engine:
            child = engine.start(_order(tmp_path / "journal", "first"))
            ended = finished(child)
            assert isinstance(child, ClusterChild)
            assert child.stage is Stage.OVER
    assert "kvm" in ended.lost
    assert (tmp_path / "journal").read_text() == ""
