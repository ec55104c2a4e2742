"""The options about how a source is read, and the end of a program whose source gives no answer."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from converters.care import IoPriority
from p2v.cli import gentle_options
from p2v.core.errors import Usage
from p2v.core.events import Event, Warned
from p2v.core.units import KIB, MIB
from p2v.core.waiting import told_when_slow
from p2v.source_care import SourceWish
from tests.faulty_files import NEEDS_FUSE, Faults, faulty_file
from tests.pipeline.running import p2v


def wish(*words: str) -> SourceWish:
    parser = argparse.ArgumentParser()
    gentle_options.configure(parser)
    return gentle_options.wish_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("text", "rate"), [("20M", 20 * MIB), ("20M/s", 20 * MIB), ("1.5MiB/s", 3 * MIB // 2), ("500K", 500 * KIB), ("70000", 70000)]
)
def test_rates_are_sizes_a_second(text: str, rate: int) -> None:
    assert wish("--limit", text).limit == rate


@pytest.mark.parametrize("text", ["20", "0", "fast", "", "-1M", "20Mbit"])
def test_rates_that_nobody_means_are_refused(text: str) -> None:
    with pytest.raises(Usage):
        wish(f"--limit={text}")


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("idle", IoPriority(3)),
        ("best-effort", IoPriority(2, 4)),
        ("best-effort:0", IoPriority(2, 0)),
        ("best-effort:7", IoPriority(2, 7)),
    ],
)
def test_classes_are_those_of_ionice(text: str, priority: IoPriority) -> None:
    assert wish("--ionice", text).priority == priority


@pytest.mark.parametrize("text", ["realtime", "idle:3", "best-effort:8", "best-effort:", "", "3"])
def test_other_classes_are_refused(text: str) -> None:
    with pytest.raises(Usage):
        wish(f"--ionice={text}")


def test_nothing_said_is_nothing_asked_for() -> None:
    assert wish() == SourceWish()


def test_a_limit_holds_for_a_whole_run(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(6 * MIB))
    started = time.monotonic()
    ran = p2v("disk", "convert", disk, tmp_path / "made.raw", "--input-format", "raw", "--limit", "2M", "--ionice", "idle")
    assert ran.status == 0, ran.err
    # three pieces, of which the last one's time is not waited for
    assert time.monotonic() - started >= 2.0
    assert (tmp_path / "made.raw").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("option", [("--limit", "20M"), ("--ionice", "idle"), ("--skip-bad-sectors",)])
def test_they_are_for_copies(tmp_path: Path, option: tuple[str, ...]) -> None:
    ran = p2v("convert", "--in-place", tmp_path / "disk", "-o", tmp_path / "out", *option)
    assert ran.status == 64
    assert option[0] in ran.err


# --- no answer ----------------------------------------------------------------------------------------------------


def ended(source: Path, target: Path, sig: signal.Signals, when: str) -> tuple[int, float, str]:
    """Status, seconds from the signal to the end, stderr. The signal is sent when it says ``when``, of what gets no answer."""
    words = ["disk", "convert", source, target, "--input-format", "raw", "--progress", "plain"]
    process = subprocess.Popen(
        [sys.executable, "-c", _QUICK, *map(str, words)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    # pytest's own timeout ends a run that never says it
    said = ""
    try:
        for line in process.stderr:
            said += line
            if when in line:
                break
        started = time.monotonic()
        process.send_signal(sig)
        status = process.wait(300)
        return status, time.monotonic() - started, said + process.stderr.read()
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()


# the same program, less patient
_QUICK = """
import sys
from converters import piece_walk
from p2v.core import waiting
from p2v.cli import main
piece_walk._GRACE_SECONDS = 1.0
piece_walk._TOLD_SECONDS = 1.0
waiting.told_when_slow.__wrapped__.__defaults__ = (1.0,)
main.GRACE_SECONDS = 3.0
sys.exit(main.main(sys.argv[1:]))
"""


@NEEDS_FUSE
class TestNoAnswer:
    @pytest.fixture
    def contents(self, tmp_path: Path) -> Path:
        path = tmp_path / "contents"
        path.write_bytes(os.urandom(8 * MIB))
        return path

    @pytest.mark.parametrize(("sig", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_it_is_told_and_the_program_ends_when_asked_to(
        self, tmp_path: Path, contents: Path, sig: signal.Signals, status: int
    ) -> None:
        with faulty_file(tmp_path, contents, Faults(hangs=((3 * MIB + 70_000, 4096),))) as file:
            # on a busy host the first look at the disk may be told of as well
            found, seconds, said = ended(file.path, tmp_path / "made.raw", sig, "to a read at byte")
        assert found == status, said
        assert seconds < 240
        assert "to a read at byte" in said
        assert not (tmp_path / "made.raw").exists()

    def test_it_ends_when_its_first_look_at_the_disk_hangs(self, tmp_path: Path, contents: Path) -> None:
        with faulty_file(tmp_path, contents, Faults(hangs=((3 * MIB, 4096),))) as file:
            found, seconds, said = ended(file.path, tmp_path / "made.raw", signal.SIGINT, "no answer")
        assert found == 130, said
        assert seconds < 240
        assert "no answer to a first look" in said
        assert "does not answer" in said


def test_what_is_quick_is_not_told() -> None:
    told: list[Event] = []
    with told_when_slow(told.append, "disk", first_seconds=600.0):
        pass
    assert told == []


def test_what_is_slow_is_told_at_growing_intervals() -> None:
    told: list[Event] = []
    third = threading.Event()

    def report(event: Event) -> None:
        told.append(event)
        if len(told) == 3:
            third.set()

    started = time.monotonic()
    with told_when_slow(report, "disk", first_seconds=0.1):
        assert third.wait(120)
    # at 0.1, 0.2 and 0.4 s; at even intervals it were 0.3
    assert time.monotonic() - started >= 0.4
    messages = [event.message for event in told if isinstance(event, Warned)]
    assert messages[0].startswith("disk: no answer")
