"""What a conversion may use is told to it while it goes on; what makes no sense is passed over."""

from __future__ import annotations

import os
import queue

import pytest

from p2v import source_care
from p2v.core.disk import DiskReader
from p2v.core.events import Event, LimitHeard, silent
from p2v.source_care import SourceWish, care_of
from p2v.told_limits import heed, limit_of, told

NO_DISKS: tuple[DiskReader, ...] = ()


def test_a_limit_that_is_told_counts_and_then_it_is_answered() -> None:
    ours, theirs = os.pipe()
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    now: list[int] = []

    def report(event: Event) -> None:
        assert now  # what is answered counts already
        heard.put(event)

    thread = heed(now.append, report, ours)
    try:
        os.write(theirs, told(5) + b'nonsense\n{"limit": 0}\n{"limit": true}\n' + told(7)[:4])
        assert heard.get(timeout=60) == LimitHeard(5)
        os.write(theirs, told(7)[4:])
        assert heard.get(timeout=60) == LimitHeard(7)
    finally:
        os.close(theirs)
    thread.join(60)
    os.close(ours)
    assert not thread.is_alive()
    assert now == [5, 7]


def test_a_line_without_end_is_not_kept() -> None:
    ours, theirs = os.pipe()
    thread = heed(lambda limit: None, silent, ours)
    os.write(theirs, b"x" * 5000)
    thread.join(60)
    os.close(theirs)
    os.close(ours)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"7", b'{"limit": 1.5}', b'{"limit": -1}', b'{"limit": 1e400}', b"[" * 300, b"\xff"]
)
def test_what_makes_no_sense_says_nothing(line: bytes) -> None:
    assert limit_of(line) is None


def test_the_lesser_of_ones_own_limit_and_the_share_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = []
    monkeypatch.setattr(source_care, "heed", lambda change, report: changes.append(change))
    limit = care_of(SourceWish(limit=100, share=40), NO_DISKS, silent).limit
    assert limit is not None
    rates = [limit.bytes_per_second]
    for share in (70, 300, 20):
        changes[0](share)
        rates.append(limit.bytes_per_second)
    assert rates == [40, 70, 100, 20]
    # without a share nobody listens: what stands on standard input may be anything
    assert care_of(SourceWish(limit=100), NO_DISKS, silent).limit is not None
    assert len(changes) == 1
