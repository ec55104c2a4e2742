"""In the machine: takes rows from a serial line and answers them: ``python -m tests.batch.nfs.agent /dev/ttyS1``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tty
from pathlib import Path
from typing import Any

READY = "ready"
_SECONDS = 3000.0
FIGURES = Path("/tmp/figures.json")
"""Where a row writes what it measured."""


def main(place: str) -> None:
    """Until the line ends."""
    line = os.open(place, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    _say(line, READY)
    with os.fdopen(os.dup(line), "rb", buffering=0) as heard:
        for asked in iter(heard.readline, b""):
            with contextlib.suppress(ValueError):
                _say(line, json.dumps(_answer(json.loads(asked))))


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What it prints goes to the console, which is kept."""
    FIGURES.unlink(missing_ok=True)
    words = [sys.executable, "-u", "-m", "tests.batch.nfs.row", asked["row"], *asked["words"]]
    row = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        status = row.wait(_SECONDS)
        failed = "" if status == 0 else f"exit status {status}"
    except subprocess.TimeoutExpired:
        failed = f"no end in {_SECONDS:g} s"
        row.send_signal(signal.SIGKILL)
    return {"failed": failed, "told": json.loads(FIGURES.read_text()) if FIGURES.exists() else {}}


def _say(line: int, words: str) -> None:
    rest = words.encode() + b"\n"
    while rest:
        rest = rest[os.write(line, rest) :]


if __name__ == "__main__":
    main(sys.argv[1])
