"""What travels between hosts comes back as it went, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.children import Ended, Order
from p2v.batch.cluster.merging import Merged
from p2v.batch.cluster.messages import (
    Begun,
    Left,
    Message,
    Over,
    Piece,
    Task,
    Told,
    Unfit,
    Unseen,
    message_of,
    message_text,
    task_of,
)
from p2v.batch.cluster.placing import Storage
from p2v.batch.jobs import MachineJob, Verify


def _task() -> Task:
    machine = MachineJob(
        "web1", (Path("/in/web1.vmdk"), Path("/in/web2.vmdk")), Path("/out"), options=("--connect=x",), verify=Verify.BOOT
    )
    order = Order("web1", ("convert", "/in/web1.vmdk"), {"A": "b"}, 7, machine, is_told=True, since=12.5)
    return Task("k", "t", order, Path("/out/batch.sqlite"), (Storage("nfs1", Path("/mnt/nfs1"), 4),), fenced=True)


def test_a_task_is_json_on_its_way_and_the_same_afterwards() -> None:
    assert task_of(json.loads(json.dumps(_task().record()))) == _task()


def test_a_task_of_another_protocol_is_not_begun() -> None:
    with pytest.raises(ValueError, match="protocol 99"):
        task_of(_task().record() | {"protocol": 99})


@pytest.mark.parametrize(
    "message",
    [
        Begun("k", "tcp://a:1", 1795000000.5),
        Unseen("k", "tcp://a:1", "/mnt/nas", "is not there"),
        Told("k", {"event": "warning", "message": "x"}),
        Told("k", {"event": "change-applied", "summary": "a guest's \udcff file", "size": 10**30, "deep": [[{}]]}),
        Unfit("k", "tcp://a:1", "tool-missing", 69, "qemu-img is not available", "Install it."),
        Left("k", Piece.SCREENSHOT, bytes(range(256)) * 9),
        Over("k", Ended(3, "tail", 1.5, "lost")),
    ],
)
def test_a_message_is_plain_text_on_its_way_and_the_same_afterwards(message: Message) -> None:
    text = message_text(message)
    assert text.isascii()
    assert message_of(text) == message


@pytest.mark.parametrize(
    "data",
    [None, 3, "begun", {}, {"kind": "begun", "key": "k"}, {"kind": "over", "key": "k", "exit_status": "0"},
     {"kind": "told", "key": "k", "event": [1]}, {"kind": "else", "key": "k"},
     {"kind": "begun", "key": "k", "worker": "w", "clock": float("nan")}, {"kind": "unseen", "key": "k", "worker": "w", "path": 1}],
)  # fmt: skip
def test_what_is_no_message_is_none(data: object) -> None:
    assert message_of(data) is None
    assert message_of(json.dumps(data)) is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 10_000, ""])
def test_what_is_no_json_is_no_message(text: str) -> None:
    assert message_of(text) is None


def test_a_piece_that_unpacks_to_more_than_one_may_be_is_none() -> None:
    most = Piece.LOG.most_bytes
    assert isinstance(message_of(message_text(Left("k", Piece.LOG, bytes(most)))), Left)
    assert message_of(message_text(Left("k", Piece.LOG, bytes(most + 1)))) is None
    packed = json.loads(message_text(Left("k", Piece.RECORD, b"x" * 1000)))
    for data in (packed["data"][:-8], "%%", ""):
        assert message_of(json.dumps(packed | {"data": data})) is None
    assert message_of(json.dumps(packed | {"piece": "passwd"})) is None


def test_a_tail_is_cut_on_both_sides() -> None:
    data = json.loads(message_text(Over("k", Ended(1, "x" * 1_000_000, 1.0))))
    assert len(data["tail"]) == 20_000

    got = message_of(json.dumps(data | {"tail": "y" * 1_000_000}))
    assert isinstance(got, Over)
    assert len(got.ended.tail) == 20_000


def test_bytes_done_are_added_up_and_nothing_is_told_before_them_that_came_after() -> None:
    told: list[Mapping[str, Any]] = []
    now = 100.0
    merged = Merged(told.append, lambda: now)

    for count in (1, 2, 4):
        merged({"event": "bytes-done", "phase": "copy", "count": count, "at": 1})
    now += 0.1
    merged({"event": "bytes-done", "phase": "copy", "count": 8})
    assert [event["count"] for event in told] == [1]
    merged({"event": "phase-finished", "phase": "copy", "seconds": 1.0})

    assert [event.get("count") for event in told] == [1, 14, None]
    now += 1.0
    merged({"event": "bytes-done", "phase": "media", "count": 16})
    assert told[-1] == {"event": "bytes-done", "phase": "media", "count": 16}
