"""What goes wrong at workers and schedulers without anybody's going away: each costs a moment, and never a machine."""

from __future__ import annotations

import json
import pickle
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client

from p2v.batch.children import Ended, Order
from p2v.batch.cluster import ClusterWish, link, open_engine, roster, worker
from p2v.batch.cluster.child import ClusterChild, Stage
from p2v.batch.cluster.messages import Begun, Left, Over, Piece, Task, Told, message_text
from p2v.batch.cluster.placing import amounts
from p2v.batch.cluster.sent import Sent
from p2v.batch.cluster.worker import describe, new_limit, run_task
from p2v.batch.failures import failure_of
from p2v.core.turns import APPLIANCE_TURNS, BOOT_TURNS
from tests.batch.cluster.clusters import (
    Cluster,
    Heard,
    cluster,
    copy_order,
    disk,
    finished,
    heard_of,
    until,
)

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        made.scheduler()
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return disk(tmp_path / "source.raw", 1)


def _warnings(heard: Heard) -> list[str]:
    return [str(event["message"]) for event in heard if event["event"] == "warning"]


def test_another_scheduler_in_the_place_of_one_is_found_out_though_nothing_was_under_way(
    running: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask connects anew by itself, and asks for nothing that workers tell."""
    # the runner looks so seldom that it sees nobody away
    monkeypatch.setattr(link, "_LOOK_SECONDS", 600.0)
    first = running.programs[0]
    running.worker()
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        assert finished(engine.start(copy_order(source, tmp_path / "first.raw"))).exit_status == 0
        first.kill()
        second = running.scheduler()
        running.worker()
        until(lambda: b"Receive client connection: Client-p2v" in second.log.read_bytes(), "Dask's own connecting anew")
        monkeypatch.setattr(link, "_LOOK_SECONDS", 1.0)
        ended = finished(engine.start(copy_order(source, tmp_path / "second.raw")))
    assert (ended.exit_status, ended.lost) == (0, "")


def test_a_worker_that_has_no_room_for_temporary_files_gives_machines_back_and_the_other_converts_them(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    running.worker("convert=8", "full", preload="tests.batch.cluster.no_room")
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        heard: Heard = []
        child = engine.start(copy_order(source, tmp_path / "target.raw"))
        heard_of(child, "warning", heard)
        running.worker("convert=1", "sound")
        assert finished(child, heard).exit_status == 0
    assert "its host cannot begin it (/tmp/p2v-batch-" in _warnings(heard)[0]
    assert (tmp_path / "target.raw").read_bytes() == source.read_bytes()


def _lacking(order: Order, tool: str, marker: Path) -> Order:
    """A conversion that a worker's host lacks a tool for unless a file is there."""
    event = {"event": "error", "code": "tool-missing", "exit_code": 69, "message": f"{tool} is not available on this host",
             "hint": f"Install {tool}."}  # fmt: skip
    return replace(order, argv=(json.dumps(event), str(marker)))


def test_a_machine_goes_from_a_worker_that_lacks_a_tool_to_one_that_has_it(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    running.worker("convert=4", "lacks", preload="tests.batch.cluster.lacking")
    order = _lacking(copy_order(source, tmp_path / "target.raw"), "qemu-img", tmp_path / "made")
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        child, heard = engine.start(order), list[Any]()
        ended = finished(child, heard)
        # no other is there: the failure is that of the tool, and stands at once
        failure = failure_of(ended, [event for event in heard if event["event"] == "error"][-1])
        assert (failure.code, failure.exit_code, failure.may_help, failure.hint) == (
            "tool-missing",
            69,
            False,
            "Install qemu-img.",
        )
        assert "qemu-img is not available on this host" in failure.message

    running.worker("convert=1", "has", preload="tests.batch.cluster.lacking", environment={"HAS_TOOL": "1"})
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        heard = []
        assert finished(engine.start(replace(order, fence=2)), heard).exit_status == 0
    # the one with more room was asked first
    assert "qemu-img is not available on this host" in _warnings(heard)[0]
    assert (tmp_path / "made").read_text() == "made"


def test_a_guest_s_half_letters_and_huge_numbers_cost_a_worker_nothing(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    half = running.worker("convert=1", preload="tests.batch.cluster.lacking", environment={"HAS_TOOL": "1"})
    event = {"event": "change-applied", "summary": "a file \udcff\ud800", "number": 10**40}
    order = replace(copy_order(source, tmp_path / "target.raw"), argv=(json.dumps(event), str(tmp_path / "made")))
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        heard: Heard = []
        assert finished(engine.start(order), heard).exit_status == 0
    assert event["summary"] in [each.get("summary") for each in heard]
    assert b"onnection to scheduler broken" not in half.log.read_bytes()


def test_a_worker_that_is_started_anew_at_its_port_is_asked_again_and_converts(
    running: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the runner looks so seldom that it never sees the worker away
    monkeypatch.setattr(link, "_LOOK_SECONDS", 5.0)
    first = running.worker("convert=1", port=(port := _free_port()))
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        assert finished(engine.start(copy_order(source, tmp_path / "first.raw"))).exit_status == 0
        first.kill()
        running.worker("convert=1", port=port)
        heard: Heard = []
        assert finished(engine.start(copy_order(source, tmp_path / "second.raw", fence=2)), heard).exit_status == 0
    assert not [event for event in heard if event["event"] == "error"]


def test_a_task_that_never_began_is_sent_again_and_is_no_failed_attempt(
    running: Cluster, source: Path, tmp_path: Path
) -> None:
    running.worker("convert=1", preload="tests.batch.cluster.late")
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        heard: Heard = []
        ended = finished(engine.start(copy_order(source, tmp_path / "target.raw")), heard)
    assert (ended.exit_status, ended.lost) == (0, "")
    assert [event["event"] for event in heard].count("worker") == 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_scheduler_of_another_python_is_given_no_code_of_ours(
    running: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that goes by value crashes another version of Python; all else goes by name."""
    sent: list[object] = []
    run_on_scheduler: Any = Client.run_on_scheduler

    def noted(self: Client, function: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(function)
        return run_on_scheduler(self, function, *args, **kwargs)

    monkeypatch.setattr(Client, "run_on_scheduler", noted)
    running.worker()
    for is_same in (True, False):
        with monkeypatch.context() as patched:
            if not is_same:
                patched.setattr(roster, "_python_of", _another_python)
            with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
                target = tmp_path / f"{is_same}.raw"
                assert finished(engine.start(copy_order(source, target))).exit_status == 0
        assert bool(sent) is is_same
        sent.clear()
    for function in (run_task, describe, new_limit):
        assert function.__name__.encode() in pickle.dumps(function)
        assert len(pickle.dumps(function)) < 100


async def _another_python(client: Client) -> tuple[int, ...]:
    return sys.version_info[0], sys.version_info[1] + 1


def test_the_scheduler_keeps_nothing_of_what_was_told(
    running: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_FORGET_SECONDS", 0.2)
    running.worker()
    with open_engine(ClusterWish(running.engine), tmp_path / "batch.sqlite") as engine:
        assert finished(engine.start(copy_order(source, tmp_path / "target.raw"))).exit_status == 0
        topic = engine.link.topic
        scheduler: Any = Client
        with scheduler(running.engine.replace("dask", "tcp"), set_as_default=False) as client:
            until(lambda: client.get_events(topic) == (), "an empty log")


def test_what_is_told_of_an_earlier_attempt_twice_or_too_late_changes_nothing(tmp_path: Path) -> None:
    """Messages as a link takes them that sent a second attempt; without a cluster."""
    made = link.Link(_NOTHING, ClusterWish("dask://127.0.0.1"), _NOTHING, "topic")
    order = copy_order(tmp_path / "a.raw", tmp_path / "b.raw", fence=2)
    child = ClusterChild(Task("now", "topic", order, tmp_path / "s"), lambda: None, stage=Stage.SENT, worker="tcp://w")
    made._sent["now"] = Sent(child, _NOTHING, _NOTHING, {})

    def hear(*messages: Any) -> None:
        for message in messages:
            made._on_message((0.0, message_text(message)))

    hear(
        Begun("before", "tcp://old", 1.0), Told("before", {"event": "warning", "message": "old"}), Over("before", _DONE)
    )
    hear(Left("now", Piece.RECORD, b"too early"))
    assert (child.stage, child.heard(), made._sent["now"].left) == (Stage.SENT, [], {})

    hear(*[Begun("now", "tcp://w", 1.0)] * 2)
    begun = [event["event"] for event in child.heard()]
    assert begun.count("worker") == begun.count("phase-finished") == 1

    failed = Ended(74, "first", 1.0)
    hear(Over("now", failed), Over("now", _DONE), Begun("now", "tcp://w", 1.0), Told("now", {"event": "error"}))
    assert child.ended() == failed
    assert child.stage is Stage.OVER
    assert child.heard() == []
    made._on_message((0.0, {"kind": "over"}))
    made._on_message((0.0, "{"))


def test_a_worker_that_goes_away_after_its_last_word_does_not_lose_a_result_that_is_being_kept(tmp_path: Path) -> None:
    """As at the end of a job of Slurm; without a cluster."""
    made = link.Link(_NOTHING, ClusterWish("dask://127.0.0.1"), _NOTHING, "topic")
    order = copy_order(tmp_path / "a.raw", tmp_path / "b.raw")
    child = ClusterChild(Task("now", "topic", order, tmp_path / "s"), lambda: None, stage=Stage.BEGUN, worker="tcp://w")
    future: Any = SimpleNamespace(status="lost")
    keeping: Any = SimpleNamespace()
    each = Sent(child, future, _NOTHING, {}, keeping=keeping)

    made._judge(each, 0.0)
    assert child.ended() is None

    # who leaves at once waits for nobody
    child.stop(at_once=True)
    made._judge(each, 0.0)
    ended = child.ended()
    assert ended is not None
    assert "went away" in ended.lost


_DONE = Ended(0, "", 1.0)
_NOTHING: Any = None


@pytest.mark.parametrize(
    ("said", "counted"),
    [({"convert": 2}, {"convert": 2.0}), ({"convert": float("inf")}, {"convert": 1000.0}), ({"convert": float("nan")}, {}),
     ({"convert": -1, "kvm": "2", 3: True}, {"3": 1.0})],
)  # fmt: skip
def test_what_workers_offer_are_numbers_to_count_with(said: dict[Any, Any], counted: dict[str, float]) -> None:
    assert amounts(said) == counted


def test_children_take_turns_at_what_their_worker_offers_and_at_nothing_else() -> None:
    def told(**offered: float) -> dict[str, str]:
        made: Any = SimpleNamespace(state=SimpleNamespace(total_resources=offered), local_directory="/scratch/worker-1")
        return dict(worker._turns_of(made))

    assert told(convert=4) == {}
    assert told(convert=4, kvm=1) == {BOOT_TURNS: "1:/scratch/worker-1"}
    assert told(convert=4, appliance=2) == {APPLIANCE_TURNS: "2:/scratch/worker-1"}
    assert told(appliance=float("inf")) == {APPLIANCE_TURNS: "1000:/scratch/worker-1"}
