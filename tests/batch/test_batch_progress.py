"""A run's events on stderr: the same on a terminal, in a log, and as JSON lines."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from p2v.batch.estimate import Look
from p2v.batch.jobs import Budget, JobEvent, State
from p2v.batch.terms import Terms
from p2v.cli.batch import event_text
from p2v.cli.batch.fleet_bars import FleetBars
from p2v.cli.batch.progress import Fleet, JsonLines, PlainLines, sink
from tests.batch.making import event, job

FAILURE = {"code": "read-failed", "exit_code": 74, "message": "disk: EIO", "hint": "Look at it.", "may_help": True}
RUN = [
    event("claimed", worker="here", attempt=1),
    event("phase-started", phase="copy", title="Copying", total_bytes=100),
    event("phase-started", phase="rewrite", title="Rewriting", total_bytes=None),
    event("bytes-done", phase="copy", count=60),
    event("bytes-done", phase="copy", count=40),
    event("phase-finished", phase="copy", seconds=1.5, failed=False),
    event("phase-finished", phase="rewrite", seconds=2.5, failed=False),
    event("done", record="/r/web.json", seconds={}, verified=True),
    event("claimed", "db", worker="here", attempt=1),
    event("again", "db", failure=FAILURE, not_before=1090.0),
    event("claimed", "db", worker="here", attempt=2),
    event("parked", "db", failure=FAILURE),
    event("paused", ""),
]
ENDED = [job(f"e{number}", State.DONE, began=1 + 300.0 * number, ended=301 + 300.0 * number) for number in range(3)]
ONE = Terms(Budget(copies=1))
JOBS = [job("web"), job("db"), job("old", State.DONE)]


def test_json_lines_hold_everything_of_every_event() -> None:
    stream = io.StringIO()
    say = JsonLines(stream)
    for each in RUN:
        say(each)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["job"]) for line in lines] == [(each.kind, each.job) for each in RUN]
    assert lines[3] == {
        "event": "bytes-done", "job": "web", "at": 1000.0, "number": 1, "fence": 1, "phase": "copy", "count": 60, "schema": 1
    }  # fmt: skip


def test_an_event_cannot_pass_for_another_by_its_data() -> None:
    stream = io.StringIO()
    JsonLines(stream)(JobEvent(1, 5.0, "web", 1, "warning", {"event": "done", "job": "db", "message": "x"}))
    assert json.loads(stream.getvalue())["event"] == "warning"
    assert json.loads(stream.getvalue())["job"] == "web"


def test_a_log_has_beginnings_ends_and_reasons_and_no_phases() -> None:
    stream = io.StringIO()
    say = PlainLines(stream, Fleet.of(JOBS))
    for each in RUN:
        say(each)
    text = stream.getvalue()
    assert f"{datetime.fromtimestamp(1000.0):%Y-%m-%d %H:%M:%S}  web: converted, verified: /r/web.json [2 of 3]\n" in text
    assert "db: failed, will be tried again in 1 min 30 s: disk: EIO (read-failed) Look at it." in text
    assert "db: PARKED: disk: EIO (read-failed) Look at it. [3 of 3]" in text
    assert "paused: nothing more begins" in text
    assert "Copying" not in text


def test_a_journal_notes_the_times_of_its_lines_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def written(journal: str) -> str:
        monkeypatch.setenv("JOURNAL_STREAM", journal)
        sink("plain", JOBS)(RUN[0])
        return capfd.readouterr().err

    here = os.fstat(2)
    assert written(f"{here.st_dev}:{here.st_ino}").startswith("web: attempt 1")
    # started from a unit, and its lines go into a file
    assert written("1:1").endswith("  web: attempt 1 begins (here, lease 1)\n")


def test_a_log_tells_now_and_then_how_all_stand() -> None:
    stream, now = io.StringIO(), [0.0]
    say = PlainLines(stream, Fleet.of(JOBS), clock=lambda: now[0], now=lambda: 1000.0)
    for at, each in enumerate([RUN[0], RUN[3], RUN[3], RUN[4]]):
        now[0] = at * 50.0
        say(each)
        say.looked(Look([job("web", State.RUNNING), job("db"), *ENDED], ONE, goes_on=True))
    last = stream.getvalue().splitlines()[-1]
    assert last[21:].startswith("4 of 6 machines ended; 1 running, 1 waiting, 120 bytes copied; left: about 10 min, until ")
    first, _, third = stream.getvalue().splitlines()
    assert "web" in first
    # and at the first look, how long all of it takes
    assert "left to do: about 10 min, until " in stream.getvalue()
    assert third == last


def test_a_terminal_has_how_long_it_still_takes_and_what_is_under_way_moves_without_events() -> None:
    stream = Screen()
    bars = FleetBars(stream, Fleet.of([*JOBS, *ENDED]), places=5, clock=lambda: 1000.0)
    bars(RUN[0])
    web = bars.machines["web"].bar
    web.start_t -= 100
    bars.looked(Look([job("web", State.RUNNING), job("db"), *ENDED], ONE))
    assert "~10 min left, 1 running, 1 waiting" in stream.getvalue()
    assert "[01:4" in stream.getvalue()
    bars.looked(Look([job("web", State.RUNNING), job("db"), *ENDED], paused=True))
    assert "left" not in str(bars.whole)
    # somebody else has cancelled one
    bars.looked(Look([job("web", State.RUNNING), job("db", State.CANCELLED), *ENDED]))
    assert (bars.whole.n, "1 cancelled" in str(bars.whole)) == (5, True)
    bars.looked(Look([job("web", State.RUNNING), job("db", State.CANCELLED), *ENDED], ONE))
    assert "left" in str(bars.whole)
    # when the last has ended nothing is left, whatever was told before
    bars(event("done", record="/r/web.json", seconds={}, verified=True))
    assert (bars.whole.n, "left" in str(bars.whole)) == (5 + 1, False)
    bars.close()


def test_the_fleet_counts_by_events() -> None:
    fleet = Fleet.of(JOBS)
    for each in RUN:
        fleet.take(each)
    assert (fleet.ended, fleet.total, fleet.copied) == (3, 3, 100)
    assert fleet.counts() == "1 parked"


class Screen(io.StringIO):
    """A terminal, as far as tqdm asks."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_for_the_fleet_and_one_a_running_machine() -> None:
    stream = Screen()
    bars = FleetBars(stream, Fleet.of(JOBS), places=5)
    for each in RUN[:5]:
        bars(each)
    assert set(bars.machines) == {"web"}
    web = bars.machines["web"]
    assert (web.bar.n, web.bar.total, web.phases) == (100, 100, ["copy", "rewrite"])
    for each in RUN[5:]:
        bars(each)
    assert not bars.machines
    assert (bars.whole.n, bars.whole.total) == (3, 3)
    bars.close()
    text = stream.getvalue()
    assert "fleet" in text
    assert "copy + rewrite" in text
    assert "PARKED: disk: EIO" in text


def test_more_machines_than_the_screen_has_lines_are_counted_all_the_same() -> None:
    names = [f"m{number}" for number in range(50)]
    bars = FleetBars(Screen(), Fleet.of([job(name) for name in names]), places=3)
    for name in names:
        bars(event("claimed", name, worker="here", attempt=1))
    assert len(bars.machines) == 3
    for name in names:
        bars(event("phase-started", name, phase="copy", title="Copying", total_bytes=7))
        bars(event("done", name, record="r", seconds={}, verified=None))
    assert (bars.whole.n, len(bars.machines)) == (50, 0)
    bars.close()


@pytest.mark.parametrize(
    "kind",
    ["claimed", "began", "hook", "phase-started", "phase-finished", "parked", "again", "done", "warning", "strange"],
)
def test_events_of_any_shape_are_told_of(kind: str) -> None:
    wrong: list[dict[str, object]] = [
        {},
        {
            "failure": 3,
            "phase": ["x"],
            "total_bytes": "many",
            "seconds": float("nan"),
            "not_before": None,
            "attempt": True,
        },
        {"failure": {"message": "\x1b[2J", "hint": "h\n" * 9}, "message": "\x1b[2J" * 100_000, "worker": "\x1b"},
    ]
    for data in wrong:
        text = event_text.line(JobEvent(1, 5.0, "web", 1, kind, data))
        assert "\x1b" not in text
        assert "\n" not in text
        assert 0 < len(text) < 1000


def test_there_is_a_sink_for_every_way() -> None:
    assert isinstance(sink("json", JOBS).told, JsonLines)
    assert isinstance(sink("plain", JOBS).told, PlainLines)
    sink("none", JOBS)(RUN[0])


@pytest.mark.parametrize("terminal, drawn", [("xterm", True), ("dumb", False)])
def test_bars_are_for_terminals_that_can_move_their_cursor(
    monkeypatch: pytest.MonkeyPatch, terminal: str, drawn: bool
) -> None:
    monkeypatch.setattr("sys.stderr", Screen())
    monkeypatch.setenv("TERM", terminal)
    made = sink("auto", JOBS)
    assert isinstance(made.told, FleetBars) is drawn
    made.close()
