"""docs/batch-night.md: its units are ones that systemd takes, and what they start is what the program takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2v.cli.main import whole_parser
from tests.batch.night.page import PROGRAM, confined, runs, units


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    for name, text in units().items():
        # the program is to be there
        (tmp_path / name).write_text(text.replace(PROGRAM, sys.executable))
    (tmp_path / "p2v-batch.service.d").mkdir()
    (tmp_path / "p2v-batch.service.d" / "confined.conf").write_text(confined())
    # as they would be in the system's folder, and nowhere else
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units())]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stderr
    about = [line for line in said.stderr.splitlines() if "p2v-batch" in line]
    assert about == []


def test_the_program_takes_what_is_started() -> None:
    for words in runs():
        arguments = whole_parser().parse_args(words)
        assert (arguments.batch, arguments.report) == (Path("jobs.yaml"), Path("fleet.html"))
        assert arguments.stop_at > 0


def test_a_stop_leaves_the_run_the_time_that_it_takes_at_most() -> None:
    service = units()["p2v-batch.service"]
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    arguments = whole_parser().parse_args(runs()[0])
    assert int(seconds) > arguments.ending_seconds
    assert "KillMode=mixed" in service
