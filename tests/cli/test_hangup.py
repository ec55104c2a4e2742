"""A terminal that is closed ends the program as Ctrl-C does: nothing stays behind, what was copied is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.cli import console, doctor
from p2v.cli.main import main
from p2v.core.interrupts import held_back
from p2v.core.units import MIB
from tests.batch.dos import dos_disk

SECONDS = 120.0


def heed() -> None:
    """As a shell starts a program, also where these tests were begun with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def ignore() -> None:
    """As nohup does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def converting(folder: Path, limit: str, before: Callable[[], None] = heed) -> subprocess.Popen[str]:
    """A conversion that copies no faster than so much a second, and has begun to; its scratch folder is ``folder / "tmp"``."""
    (folder / "tmp").mkdir()
    disk = dos_disk(folder / "web.raw", words=os.urandom(6 * MIB), size=16 * MIB)
    words = [
        sys.executable,
        "-m",
        "p2v",
        "convert",
        str(disk),
        "-o",
        str(folder / "out"),
        "--limit",
        limit,
        "--progress",
        "json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=before
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "bytes-done" and json.loads(line)["phase"] == "copy":
            return process
    raise AssertionError(f"it copied nothing, and ended with {process.wait()}")


def test_a_conversion_ends_in_order_and_keeps_what_it_copied(tmp_path: Path) -> None:
    # it would go on for most of a minute, on however busy a host
    process = converting(tmp_path, "128K")
    with process:
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGHUP
    assert "SIGHUP" in said.splitlines()[-1]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "out" / "web.qcow2.partial").exists()
    assert not (tmp_path / "out" / "web.qcow2").exists()


def test_one_that_was_started_with_nohup_goes_on(tmp_path: Path) -> None:
    process = converting(tmp_path, "2M", ignore)
    with process:
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert (tmp_path / "out" / "web.qcow2").exists()


@pytest.mark.parametrize("is_ignored", [False, True], ids=["usual", "nohup"])
def test_one_more_hangup_ends_it_while_it_says_that_it_ends(monkeypatch: pytest.MonkeyPatch, is_ignored: bool) -> None:
    """A shell sends one to its jobs, and the kernel another when the shell has ended."""
    handlers: list[object] = []
    number = signal.SIGTERM if is_ignored else signal.SIGHUP
    (ignore if is_ignored else heed)()
    monkeypatch.setattr(doctor, "run", lambda arguments: signal.raise_signal(number))
    monkeypatch.setattr(console, "note", lambda text: handlers.append(signal.getsignal(signal.SIGHUP)))
    assert main(["doctor"]) == 128 + number
    assert handlers == [signal.SIG_IGN if is_ignored else signal.SIG_DFL]


def test_a_hangup_waits_for_the_end_of_what_must_not_be_cut() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: came.append(number))
    try:
        with held_back():
            signal.raise_signal(signal.SIGHUP)
            assert came == []
        assert came == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)
