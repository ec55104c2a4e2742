"""docs/batch-night.md: its units are ones that systemd takes, and what they start is what the program takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2v.cli.main import _parser

PAGE = (Path(__file__).parents[2] / "docs" / "batch-night.md").read_text("utf-8")
PROGRAM = "/opt/p2v-suite/.venv/bin/p2v"


def units() -> dict[str, str]:
    found = dict(re.findall(r"`/etc/systemd/system/(\S+)`:\n\n```ini\n(.*?)```", PAGE, re.DOTALL))
    assert set(found) == {"p2v-batch.service", "p2v-batch.timer"}
    return found


def commands() -> list[list[str]]:
    """All that is started with the program in files of the page, as words."""
    return [shlex.split(line) for line in re.findall(rf"{PROGRAM} (.*)", PAGE)]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    for name, text in units().items():
        # the program is to be there
        (tmp_path / name).write_text(text.replace(PROGRAM, sys.executable))
    # as they would be in the system's folder, and nowhere else
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units())]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stderr
    about = [line for line in said.stderr.splitlines() if "p2v-batch" in line]
    assert about == []


def test_the_program_takes_what_is_started() -> None:
    assert len(commands()) == 2
    for words in commands():
        arguments = _parser().parse_args(words)
        assert (arguments.batch, arguments.report) == (Path("jobs.yaml"), Path("fleet.html"))
        assert arguments.stop_at > 0


def test_a_stop_leaves_the_run_the_time_that_it_takes_at_most() -> None:
    service = units()["p2v-batch.service"]
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    arguments = _parser().parse_args(commands()[0])
    assert int(seconds) > arguments.ending_seconds
    assert "KillMode=mixed" in service
