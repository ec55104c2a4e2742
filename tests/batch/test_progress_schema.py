"""The published schema of progress is of the lines that `--progress json` writes: every kind, and what a verb failed with."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2v.cli import console
from p2v.core.events import EVENT_NAMES, Event, PhaseStarted
from tests.batch.fitting import Fitting, said_for_programs
from tests.batch.output_schemas import output
from tests.batch.test_planning import HEAD, small_disk
from tests.record.filling import Filler


def progress() -> Fitting:
    return Fitting(output("progress").published())


def test_planning_and_beginning_a_batch_tell_what_is_published(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    (tmp_path / "jobs.yaml").write_text(f"{HEAD}- {{name: a, source: a.img}}\n")
    fitting = progress()
    planned = said_for_programs("plan", str(tmp_path / "jobs.yaml"), "--progress", "json")
    assert [fitting.take(line)["event"] for line in planned.splitlines()] == [
        "phase-started",
        "item-done",
        "phase-finished",
    ]
    begun = said_for_programs("init", str(tmp_path), "--progress", "json")
    assert "item-done" in [fitting.take(line)["event"] for line in begun.splitlines()]


def test_every_event_has_a_name_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(EVENT_NAMES) == set(typing.get_args(Event))
    report = console.reporter("json")
    for kind in EVENT_NAMES:
        report(Filler().value(kind))
    report(replace(Filler().value(PhaseStarted), total_bytes=None))
    fitting = progress()
    for line in capsys.readouterr().err.splitlines():
        fitting.take(line)
    assert [each for each in fitting.unseen() if not each.startswith("error.")] == []


def test_what_a_verb_failed_with_is_the_last_line_of_it(tmp_path: Path) -> None:
    for verb in ("plan", "run"):
        (line,) = said_for_programs(verb, str(tmp_path / "none.yaml"), "--progress", "json", status=66).splitlines()
        assert progress().take(line)["code"] == "no-source"
        assert Fitting(output("batch-events").published()).take(line)["exit_code"] == 66


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda line: line.update(schema=2),
    lambda line: line.update(event="began"),
    lambda line: line.pop("at"),
    lambda line: line.pop("title"),
    lambda line: line.update(total_bytes="all"),
    lambda line: line.update(more=1),
)


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_what_is_no_such_line_does_not_fit(number: int) -> None:
    line = {"schema": 1, "event": "phase-started", "at": 0.5, "phase": "copy", "title": "Copying", "total_bytes": 5}
    assert progress().fits(line)
    EDITS[number](line)
    assert not progress().fits(line)
