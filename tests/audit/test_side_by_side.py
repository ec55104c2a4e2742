"""Work in processes of its own: answers, faults, hangs and crashes of one never cost another's."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from p2v.audit.side_by_side import Answered, Bounds, side_by_side
from p2v.core.units import MIB
from tests.address_space import take
from tests.processes import is_running

_QUICK = Bounds(seconds=30.0)


def answers(work: Any, count: int, at_once: int = 2, bounds: Bounds = _QUICK) -> dict[int, Answered]:
    return {each.number: each for each in side_by_side(work, count, at_once, bounds)}


def test_every_piece_of_work_answers_once() -> None:
    found = answers(lambda number: {"square": number * number}, 20, 3)
    assert {number: each.data for number, each in found.items()} == {n: {"square": n * n} for n in range(20)}
    assert not any(each.failure for each in found.values())


def test_no_more_than_are_wanted_run_at_once(tmp_path: Path) -> None:
    def work(number: int) -> int:
        mark = tmp_path / str(number)
        mark.touch()
        time.sleep(0.05)
        running = len(list(tmp_path.iterdir()))
        mark.unlink()
        return running

    assert max(each.data for each in answers(work, 12, 3).values()) <= 3


@pytest.mark.parametrize("how", ["exception", "exit", "signal", "memory"])
def test_one_that_fails_says_so_and_the_others_answer(how: str) -> None:
    def work(number: int) -> Any:
        if number != 1:
            return number
        if how == "exception":
            raise ValueError("the disk bites")
        if how == "exit":
            os._exit(0)
        if how == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        return len(take(512 * MIB))

    found = answers(work, 3, bounds=Bounds(seconds=30.0, memory_bytes=128 * MIB))
    assert (found[0].data, found[2].data) == (0, 2)
    expected = {"exception": "ValueError: the disk bites", "memory": "memory"}.get(how, "without an answer")
    assert expected in found[1].failure
    assert not found[1].timed_out


def test_one_that_hangs_is_cut_off_with_what_it_started(tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number == 0:
            child = os.fork()
            if child == 0:
                time.sleep(600)
                os._exit(0)
            (tmp_path / "child").write_text(str(child))
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_IGN)
            time.sleep(600)
        return number

    started = time.monotonic()
    for seconds in (1, 10, 60):
        found = answers(work, 4, bounds=Bounds(seconds=float(seconds)))
        assert found[0].timed_out
        assert f"longer than {seconds} s" in found[0].failure
        if not any(found[number].timed_out for number in (1, 2, 3)):
            break  # a busy host may take longer for them, too
    assert [found[number].data for number in (1, 2, 3)] == [1, 2, 3]
    assert time.monotonic() - started < 300
    deadline = time.monotonic() + 120
    while is_running(int((tmp_path / "child").read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(int((tmp_path / "child").read_text()))


def test_an_answer_without_end_is_refused() -> None:
    found = answers(
        lambda number: "x" * (2 * MIB) if number == 0 else "short", 2, bounds=Bounds(30.0, answer_bytes=MIB)
    )
    assert "more than" in found[0].failure
    assert found[1].data == "short"


def test_who_stops_listening_leaves_no_process_behind(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / str(number)).write_text(str(os.getpid()))
        if number:
            time.sleep(600)
        return number

    several = side_by_side(work, 3, 3, Bounds(seconds=600.0))
    assert next(several).number == 0
    deadline = time.monotonic() + 120
    while len([each for each in tmp_path.iterdir() if each.read_text()]) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    several.close()  # type: ignore[attr-defined]
    # killed, they may take a moment to be gone
    while [each for each in tmp_path.iterdir() if is_running(int(each.read_text()))]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_piece_of_work_holds_nothing_that_its_parent_has_open() -> None:
    """Whoever reads the parent's output, or waits for a pipe of it to end, does not wait for one that cannot be killed."""
    reading, writing = os.pipe()
    try:
        found = answers(lambda _: _held(), 1)
        held = os.readlink(f"/proc/self/fd/{writing}")
    finally:
        os.close(reading)
        os.close(writing)
    assert held not in found[0].data
    assert found[0].data.count(os.devnull) == 3


def test_work_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    mark = tmp_path / "worker"

    def work(number: int) -> int:
        mark.with_suffix(".new").write_text(str(os.getpid()))
        mark.with_suffix(".new").rename(mark)
        time.sleep(600)
        return number

    parent = os.fork()
    if parent == 0:
        try:
            list(side_by_side(work, 1, 1, Bounds(seconds=600.0)))
        finally:
            os._exit(0)
    deadline = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    worker = int(mark.read_text())
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(worker)


def test_signals_of_the_parent_are_as_they_were_and_reach_the_work() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    found = answers(lambda _: [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())], 1)
    assert found[0].data == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def _held() -> list[str]:
    held = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
    return held
