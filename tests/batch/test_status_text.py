"""How a batch is shown: readable for a thousand machines, whole as JSON, and safe for a terminal whatever machines are called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from p2v.batch.estimate import about
from p2v.batch.jobs import Failure, Job, State, Window
from p2v.cli.batch.status_text import Seen, document, overview, table
from tests.batch.making import job, machine

NOW = 10_000.0
FULL = Failure("no-space", 73, "/results: needs 3 GiB, 1 GiB is free", "Free some space.", True, Path("/b/web-1"))


def fleet(count: int) -> tuple[Job, ...]:
    states = [State.DONE] * 7 + [State.WAITING] * 80 + [State.PARKED, State.CANCELLED]
    jobs = [job(f"m{number:04}", states[number % len(states)]) for number in range(count)]
    return tuple(replace(each, failure=FULL) if each.state is State.PARKED else each for each in jobs)


def running(name: str = "web", **rest: object) -> Job:
    known = {"attempts": 1, "began": NOW - 100, "lease_until": NOW + 30, "phase": "copy"}
    return replace(job(name, State.RUNNING), **{**known, **rest})  # type: ignore[arg-type]


def test_a_thousand_machines_fit_on_a_page_with_what_matters() -> None:
    text = overview(Seen("jobs.yaml", (running(bytes_copied=25 << 20, bytes_total=100 << 20), *fleet(1000)), NOW))
    assert len(text.splitlines()) < 110
    assert "jobs.yaml: 1001 machines: 1 running" in text
    (line,) = [each for each in text.splitlines() if each.startswith("  web ")]
    assert "copy" in line
    assert "25 % of 100.0 MiB" in line
    assert "1 of 3" in line
    assert FULL.message in text
    assert FULL.hint in text
    assert "failure bundles: /b" in text


def test_a_table_has_a_line_for_each_machine_of_the_states_wished() -> None:
    jobs = fleet(1000)
    lines = table(Seen("jobs.yaml", jobs, NOW), [State.PARKED]).splitlines()
    parked = [each for each in jobs if each.state is State.PARKED]
    assert [each.machine.name for each in parked] == [line.split()[0] for line in lines if line.startswith("  m0")]
    every = table(Seen("jobs.yaml", jobs, NOW)).splitlines()
    assert len([line for line in every if line.startswith("  m0")]) == 1000


def test_names_and_reasons_of_somebody_else_neither_move_the_cursor_nor_fill_the_screen() -> None:
    evil = "\x1b[2J\nx" + "y" * 5000
    parked = replace(job(evil, State.PARKED), failure=Failure("\x1b]0;", 65, evil, evil))
    seen = Seen("jobs.yaml", (parked, running(evil, phase="\x1b[2J")), NOW)
    for text in (overview(seen), table(seen)):
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) < 500
    assert json.loads(json.dumps(document(seen)))["machines"][0]["name"] == evil


def test_what_a_machine_waits_for_is_said() -> None:
    waiting = Job(machine("night", wave=2, window=Window(time(22), time(5))), State.WAITING, attempts=1, failure=FULL)
    text = overview(Seen("jobs.yaml", (replace(waiting, not_before=NOW + 90),), NOW))
    for words in ("wave 2", "between 22:00 and 05:00", "tried again in 1 min 30 s", FULL.message):
        assert words in text


def test_a_worker_that_is_not_heard_of_any_more_is_told_of() -> None:
    seen = Seen("jobs.yaml", (running(lease_until=NOW - 1),), NOW)
    assert "not heard of any more" in overview(seen)
    assert document(seen)["machines"][0]["expired"] is True


def test_the_document_counts_every_state_and_gives_times_as_utc() -> None:
    done = replace(job("web", State.DONE), began=0.5, ended=60.0, verified=True, seconds={"copy": 3.0})
    data = document(Seen("jobs.yaml", (done, *fleet(100)), NOW, paused=True))
    assert sum(data["counts"].values()) == 101
    assert (data["verified"], data["paused"]) == (1, True)
    assert data["machines"][0]["ended"] == "1970-01-01T00:01:00+00:00"
    assert data["machines"][0]["not_before"] is None


def test_an_empty_batch_says_so() -> None:
    seen = Seen("jobs.yaml", (), NOW)
    assert overview(seen) == "jobs.yaml: 0 machines: none"
    assert "0 machines" in table(seen)


def test_the_host_that_converts_a_machine_is_shown_where_there_is_more_than_the_runner_s() -> None:
    there, pinned = running(host="node2"), running("db", machine=machine("db", host="san1"))
    done = job("old", State.DONE, host="node3", ended=NOW, began=NOW - 5)
    waits = Job(machine("night", host="san1"), State.WAITING)
    jobs = (there, pinned, done, waits, running("here"))

    lines = overview(Seen("jobs.yaml", jobs, NOW)).splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("  machine", "  web", "  db", "  here"))] == [
        ["machine", "host"],
        ["web", "node2"],
        ["db", "san1"],
        ["here", "copy"],
    ]
    assert "  night  for san1" in lines
    every = table(Seen("jobs.yaml", jobs, NOW)).splitlines()
    assert [line.split()[:2] for line in every if line.startswith(("  old", "  night"))] == [
        ["old", "node3"],
        ["night", "san1"],
    ]
    assert "host" not in table(Seen("jobs.yaml", (running("here"),), NOW))
    by_name = {each["name"]: (each["host"], each["pinned_to"]) for each in document(Seen("", jobs, NOW))["machines"]}
    assert by_name["web"] == ("node2", "")
    assert by_name["db"] == ("", "san1")
    assert by_name["old"] == ("node3", "")


def test_a_host_that_means_harm_does_not_move_the_cursor() -> None:
    text = table(Seen("jobs.yaml", (running(host="\x1b[2J" + "y" * 5000),), NOW))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 300


def test_how_long_the_rest_takes_is_said_and_until_when_while_something_runs() -> None:
    hours = [job(f"d{n}", State.DONE, began=4 * NOW - 3600 * (n + 1), ended=4 * NOW - 3600 * n) for n in range(3)]
    waiting = replace(job("w"), machine=machine("w", window=Window(time(22), time(5))))
    seen = Seen("jobs.yaml", (*hours, waiting), 4 * NOW)
    (line,) = [line for line in overview(seen).splitlines() if line.startswith("left: ")]
    assert re.fullmatch(r"left: about \d+ h \d\d min, .* of it waiting for windows of time", line)
    told = document(seen)
    assert told["seconds_left"] == told["left"]["seconds"] >= 3600 + told["left"]["idle_seconds"]
    begun = replace(seen, jobs=(*hours, running(began=4 * NOW - 1, lease_until=5 * NOW)))
    (line,) = [line for line in overview(begun).splitlines() if line.startswith("left: ")]
    assert re.fullmatch(r"left: about 1 h 00 min, until (\w{3} )?\d\d:\d\d", line)
    assert "left:" not in overview(replace(begun, paused=True))
    assert document(replace(begun, paused=True))["seconds_left"] is None


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "less than a minute"), (59.9, "less than a minute"), (60, "about 1 min"), (3570, "about 1 h 00 min"),
     (47 * 3600, "about 47 h 00 min"), (1e6, "about 11 days")],
)  # fmt: skip
def test_a_guess_is_told_as_roughly_as_it_is_known(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_a_rate_is_of_a_copy_that_goes_on() -> None:
    copying = running(bytes_copied=100 << 20, bytes_total=200 << 20)
    assert "1.0 MiB/s" in overview(Seen("jobs.yaml", (copying,), NOW))
    text = overview(Seen("jobs.yaml", (replace(copying, phase="turn"),), NOW))
    assert "/s" not in text
    assert "waits for its turn" in text


def test_machines_that_wait_for_nothing_in_particular_share_lines() -> None:
    late = replace(job("late"), not_before=NOW + 90)
    many = [job(f"m{number:03}") for number in range(100)]
    lines = overview(Seen("jobs.yaml", (late, *many), NOW)).splitlines()
    waiting = lines[lines.index("waiting") + 1 :]
    assert waiting[0].split() == ["late", "tried", "again", "in", "1", "min", "30", "s"]
    assert [name for line in waiting[1:-1] for name in line.strip().rstrip(",").split(", ")] == [
        each.machine.name for each in many[:60]
    ]
    assert all(len(line) < 80 for line in waiting[1:-1])
    assert "40 more" in waiting[-1]


def test_a_table_of_nobody_says_so() -> None:
    assert "no machine is parked or cancelled" in table(Seen("jobs.yaml", (job("a"),), NOW), (State.PARKED, State.CANCELLED))


def test_what_to_do_about_several_is_said_once_and_where_their_bundles_are(tmp_path: Path) -> None:
    def parked(name: str, code: str, hint: str) -> Job:
        return replace(job(name, State.PARKED), failure=Failure(code, 77, f"/{name}: no", hint, bundle=tmp_path / f"{name}-1"))

    jobs = (parked("a", "permission", "Ask."), parked("b", "bad-image", "Copy."), parked("c", "permission", "Ask."))
    lines = overview(Seen("jobs.yaml", jobs, NOW)).splitlines()
    assert [line.strip() for line in lines[-6:]] == [
        "a: /a: no (permission)",
        "c: /c: no (permission)",
        "Ask.",
        "b: /b: no (bad-image)",
        "Copy.",
        f"failure bundles: {tmp_path}",
    ]
