"""What every row of the benchmark is made of: a scratch folder, timed programs, pairs of runs and their medians."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.run import SystemRunner

Say = Callable[[str], None]
RUNNER = SystemRunner()
P2V = [sys.executable, "-m", "p2v"]
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians of both sides in the row's unit, how often each ran (ours, other), and a word on what was seen."""

    ours: float
    other: float
    runs: tuple[int, int]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``goal`` is the least ratio other/ours that is good enough."""

    name: str
    title: str
    unit: str
    goal: float
    measure: Callable[[Say], Outcome]


@contextmanager
def scratch_folder(below: Path | None = None) -> Iterator[Path]:
    """A scratch folder."""
    path = Path(tempfile.mkdtemp(prefix="p2v-bench-", dir=below))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def timed(argv: Sequence[str], env: dict[str, str] | None = None) -> float:
    """Seconds that a program took. Raises what the runner raises."""
    return RUNNER.run(argv, timeout=2 * HOUR, env=env).seconds


def paired(
    ours: Callable[[Path], float],
    other: Callable[[Path], float],
    say: Say,
    *,
    turns: int = 5,
    below: Path | None = None,
) -> tuple[float, float]:
    """Medians of both sides, run in turn, each in a folder of its own below ``below``; a first pair warms up."""
    mine, theirs = [], []
    for turn in range(turns + 1):
        with scratch_folder(below) as place:
            ours_seconds = ours(place)
        with scratch_folder(below) as place:
            other_seconds = other(place)
        if turn:
            mine.append(ours_seconds)
            theirs.append(other_seconds)
    say(f"ours {[round(s, 2) for s in mine]}, other {[round(s, 2) for s in theirs]}")
    return statistics.median(mine), statistics.median(theirs)
