"""Running ``p2v`` as a user does, in a process of its own (or in this one, where that is the same), and what it leaves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.cli.main import main

# generous: a run takes one minute, on a busy machine ten
SECONDS = 1200.0


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    status: int
    out: str
    err: str


def p2v(
    *words: str | Path, env: dict[str, str] | None = None, prefix: Sequence[str] = (), seconds: float = SECONDS
) -> Ran:
    """Run the command line to its end."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "p2v", *map(str, words)],
        capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def typed(*words: str | Path) -> Ran:
    """The same command line in this process, where a start of the program would prove nothing and takes half a second."""
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(map(str, words)))
    except SystemExit as ended:
        status = int(str(ended.code))
    finally:
        # `main` takes them for itself; afterwards they end the test run again
        for number, handler in before.items():
            signal.signal(number, handler)
    return Ran(status, out.getvalue(), err.getvalue())


def proven(record: Path, *words: str | Path) -> None:
    """What was converted is held against its source: nothing differs but what was planned."""
    ran = p2v("prove", record, "--progress", "none", *words)
    assert ran.status == 0, ran.out + ran.err
    assert "PROVEN" in ran.out.splitlines()[0]


def kill_when(words: Sequence[str | Path], reached: Callable[[dict[str, Any]], bool], sig: signal.Signals) -> bool:
    """Start a run with JSON progress and send it a signal at the first event that fits; False when none came."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2v", *map(str, words), "--progress", "json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("{") and reached(json.loads(line)):
                process.send_signal(sig)
                return True
        return False
    finally:
        if process.poll() is None:
            try:
                process.wait(300)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stderr.close()


def started(phase: str) -> Callable[[dict[str, Any]], bool]:
    """The event that a phase starts."""
    return lambda event: event["event"] == "phase-started" and event["phase"] == phase


def sha256(path: Path) -> str:
    """Of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def state(path: Path) -> tuple[str, int, int, int]:
    """What must stay as it was of a source: contents, size, and the times of writing and changing."""
    found = path.stat()
    return sha256(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def programs_with(text: str) -> list[int]:
    """Processes whose command line holds a text, a moment after: they may be on their way out.

    None is none twice: a process that begins another program has no command line for an instant.
    """
    empty = 0
    for _ in range(100):
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if text.encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        empty = 0 if found else empty + 1
        if empty == 2:
            return []
        time.sleep(0.2)
    return found


def compare_outside(source: Path, result: Path, ranges: list[tuple[int, int]]) -> None:
    """Assert that two raw disks are the same to the byte but for some ranges (offset, length)."""
    assert source.stat().st_size == result.stat().st_size
    position = 0
    with source.open("rb") as one, result.open("rb") as other:
        for offset, length in [*sorted(ranges), (source.stat().st_size, 0)]:
            while position < offset:
                step = min(offset - position, 1 << 22)
                assert one.read(step) == other.read(step), f"bytes differ between {position} and {position + step}"
                position += step
            position = offset + length
            one.seek(position)
            other.seek(position)
