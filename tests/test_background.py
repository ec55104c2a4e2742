"""Programs that run beside us: they end with us, also when we die before they have begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2v.core.run import background, find_program
from tests.processes import is_running

pytestmark = pytest.mark.skipif(find_program("setpriv") is None, reason="setpriv is not installed")

PARENT = """\
import sys, time
from p2v.core.run import background
with background(["sh", "-c", 'echo $$ > "$0"; sleep 600', sys.argv[1]], ends_with_us=True):
    time.sleep(600)
"""


def pid_in(file: Path) -> int:
    for _ in range(2400):
        if file.exists() and file.read_text().strip():
            return int(file.read_text())
        time.sleep(0.05)
    raise AssertionError("the program did not start")


def test_a_program_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(file)])
    program = pid_in(file)
    parent.send_signal(signal.SIGKILL)
    parent.wait(30)
    until = time.monotonic() + 120
    while is_running(program) and time.monotonic() < until:
        time.sleep(0.05)
    went_on = is_running(program)
    if went_on:
        os.kill(program, signal.SIGKILL)
    assert not went_on


def test_a_program_whose_parent_died_before_it_could_ask_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with background(["touch", str(tmp_path / "done")], ends_with_us=True) as program:
        assert program.wait(30) != 0
    assert not (tmp_path / "done").exists()


def test_a_program_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "arguments"
    with background(["sh", "-c", 'printf "%s|" "$@" > "$0"', str(file), "a b", "$(x)", ""], ends_with_us=True) as program:
        assert program.wait(30) == 0
    assert file.read_text() == "a b|$(x)||"
