"""Progress as bars, lines and JSON: what a person, a log and a program get to see of the same events."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2v.cli import console
from p2v.cli.bars import Bars
from p2v.core.errors import NoSpace, NotPermitted
from p2v.core.events import BytesDone, ChangeApplied, Event, ItemDone, PhaseFinished, PhaseStarted, Warned
from p2v.core.units import MIB

COPY: tuple[Event, ...] = (
    PhaseStarted("copy", "Copying", 100 * MIB),
    BytesDone("copy", 25 * MIB),
    BytesDone("copy", 25 * MIB),
    PhaseStarted("apply", "Rewriting the guest"),
    ChangeApplied("edit /etc/fstab"),
    ChangeApplied("link /etc/x\x1b[31m", skipped=True),
    Warned("the guest's clock is wrong\x07"),
    PhaseFinished("apply", 1.25),
    BytesDone("copy", 50 * MIB),
    PhaseFinished("copy", 20.0, failed=True),
)


def told(kind: str, monkeypatch: pytest.MonkeyPatch, events: Sequence[Event] = COPY) -> str:
    """What a sink writes to stderr when eleven seconds pass between any two events."""
    clock = iter(range(0, 10_000, 11))
    monkeypatch.setattr("p2v.cli.console.time.monotonic", lambda: float(next(clock)))
    # tqdm's watching thread would outlive the test, and meet others that count threads
    monkeypatch.setattr("p2v.cli.bars.tqdm.monitor_interval", 0)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    report = console.reporter(kind)
    for event in events:
        report(event)
    return stream.getvalue()


def test_plain_lines_tell_percent_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told("plain", monkeypatch).splitlines()
    assert lines[0] == "Copying ..."
    # 25 of 100 MiB after 11 s
    assert lines[1].split() == ["copy:", "25", "%,", "2.3", "MiB/s,", "33.0", "s", "left"]
    assert lines[2].split()[:3] == ["copy:", "50", "%,"]
    assert any("changed: edit /etc/fstab" in line for line in lines)
    assert any("already so" in line for line in lines)
    assert any(line.startswith("warning: ") for line in lines)
    assert lines[-1].startswith("copy: failed in 20")


def test_plain_lines_do_not_repeat_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    report = console.reporter("plain")
    report(COPY[0])
    for _ in range(100):
        report(BytesDone("copy", MIB))
    assert stream.getvalue().splitlines() == ["Copying ..."]


def test_json_lines_are_one_object_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in told("json", monkeypatch).splitlines()]
    assert [line["event"] for line in lines] == [
        "phase-started", "bytes-done", "bytes-done", "phase-started", "change-applied", "change-applied", "warning",
        "phase-finished", "bytes-done", "phase-finished",
    ]  # fmt: skip
    assert lines[0]["total_bytes"] == 100 * MIB
    assert sum(line["count"] for line in lines if line["event"] == "bytes-done") == 100 * MIB
    assert lines[-1]["failed"] is True
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


@pytest.mark.parametrize("kind", ["plain", "bars"])
def test_control_characters_from_a_guest_never_reach_the_terminal(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(kind, monkeypatch)
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    assert "\\x1b" in text


def test_none_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("none", monkeypatch) == ""


def test_bars_have_bytes_rate_and_time_left() -> None:
    shown = _on_a_terminal("for event in COPY[:3]: report(event)")
    assert "Copying" in shown
    assert "50%" in shown
    assert "50.0M/100M" in shown
    assert "B/s" in shown


def test_lines_stand_above_the_bars_and_bars_end_with_their_phase() -> None:
    shown = _on_a_terminal("for event in COPY: report(event)\nprint('bars left:', len(report.bars), file=sys.stderr)")
    assert "changed: edit /etc/fstab" in shown
    assert "copy: failed in" in shown
    assert "bars left: 0" in shown


def test_bars_are_not_drawn_again_for_a_terminal_that_takes_nothing() -> None:
    class Behind(io.StringIO):
        is_behind = True

    stream = Behind()
    bars = Bars(stream)
    bars(PhaseStarted("copy", "Copying", 100))
    bars(ItemDone("look", "first", 1, 50))
    for each in bars.bars.values():
        each.mininterval = 0
    before = stream.getvalue()
    for number in range(2, 40):
        bars(BytesDone("copy", 1))
        bars(ItemDone("look", "another", number, 50))
    assert stream.getvalue() == before
    assert {phase: each.n for phase, each in bars.bars.items()} == {"copy": 38, "look": 39}
    for each in bars.bars.values():
        each.close()


def _on_a_terminal(code: str) -> str:
    """What a process of its own writes to a real terminal through the sink that ``auto`` picks there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    script = (
        "import sys, time\nfrom p2v.cli import console\nfrom tests.cli.test_console import COPY\n"
        f"report = console.reporter('auto')\ntime.sleep(0.2)\n{code}\n"
    )
    try:
        process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdin=subprocess.DEVNULL)
        os.close(theirs)
        shown = _read_to_the_end(ours)
        assert process.wait(30) == 0, shown
        return shown
    finally:
        os.close(ours)


def _read_to_the_end(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            break  # the terminal's other side is closed
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("progress", "check"),
    [
        ("plain", lambda said: "p2v: /x: 10 bytes are needed" in said and said.count("\n") == 2),
        ("json", lambda said: json.loads(said)["exit_code"] == 73 and json.loads(said)["hint"] != ""),
    ],
)
def test_an_error_is_one_sentence_and_a_hint(
    progress: str, check: Callable[[str], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    console.error(NoSpace(Path("/x"), 10, 5), progress)
    assert check(capsys.readouterr().err)


@pytest.mark.parametrize(("action", "is_of_mounts"), [("read", False), ("open", False), ("write to", True), ("create", True)])
def test_only_what_cannot_be_written_may_be_mounted_read_only(action: str, is_of_mounts: bool) -> None:
    assert ("read-only" in NotPermitted("/x", action).hint()) is is_of_mounts
