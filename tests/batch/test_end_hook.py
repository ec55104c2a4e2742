"""The batch's own command at the end of a run: it gets a whole document, is bounded, and whatever it does changes nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.end_hook import RunEnd, document_of, run_end_hook
from p2v.batch.jobs import Batch, Failure, Hook, JobEvent, State
from p2v.batch.store import Store
from p2v.cli.batch.progress import told
from tests.batch.fleets import batch
from tests.batch.making import job

FAILURE = Failure("bad-image", 65, "the footer lies", "Copy it again.", bundle=Path("/b/old"))
SECONDS = 120.0


def end(**rest: object) -> RunEnd:
    jobs = (job("web", State.DONE, verified=True), job("old", State.PARKED, failure=FAILURE), job("odd", State.PARKED))
    return replace(RunEnd(jobs, 12.34, 5), **rest)  # type: ignore[arg-type]


def run(folder: Path, *argv: str, seconds: float = SECONDS) -> JobEvent:
    """What is told of such a command; it is noted as well."""
    wished = batch(folder, [])
    heard: list[JobEvent] = []
    with Store.create(wished.store) as store:
        did_well = run_end_hook(wished, Hook(argv, seconds), end(), store, heard.append)
        (noted,) = (event for event in store.events() if event.kind == "hook")
    (event,) = heard
    assert event.data == noted.data
    assert event.data["failed"] is not did_well
    return event


def test_a_document_says_what_became_of_all_and_why_some_are_parked() -> None:
    wished = Batch((), batch(Path("/nowhere"), []).budget, Path("/nowhere/s"), Path("/nowhere/jobs.yaml"))
    data = json.loads(json.dumps(document_of(wished, end(page=Path("/page.html")))))
    assert (data["outcome"], data["machines"], data["verified"], data["page"]) == ("ended", 3, 1, "/page.html")
    assert data["counts"] == {"waiting": 0, "running": 0, "done": 1, "parked": 2, "cancelled": 0}
    assert [each["name"] for each in data["parked"]] == ["old", "odd"]
    assert data["parked"][0]["bundle"] == "/b/old"
    assert data["parked"][1]["code"] is None
    assert document_of(wished, end(signal=15))["outcome"] == "stopped"
    assert document_of(wished, end(jobs=(job("web"),)))["outcome"] == "waiting"


def test_of_a_fleet_in_ruins_a_thousand_are_named_and_all_are_counted() -> None:
    jobs = tuple(job(f"m{number}", State.PARKED, failure=FAILURE) for number in range(5000))
    data = document_of(batch(Path("/nowhere"), []), end(jobs=jobs))
    assert (len(data["parked"]), data["counts"]["parked"]) == (1000, 5000)


def test_it_gets_the_document(tmp_path: Path) -> None:
    copy = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    event = run(tmp_path, sys.executable, "-c", copy, str(tmp_path / "heard"))
    assert event.data == {"when": "end", "failed": False, "message": ""}
    assert json.loads((tmp_path / "heard").read_text())["exit_code"] == 5


def test_one_that_does_not_read_is_no_harm(tmp_path: Path) -> None:
    assert run(tmp_path, "true").data["failed"] is False


@pytest.mark.parametrize(
    "argv, words",
    [
        (("false",), "ended with exit status 1"),
        (("sh", "-c", "echo no mail today >&2; exit 75"), "ended with exit status 75: no mail today"),
        (("sh", "-c", "kill -9 $$"), "was ended by signal 9"),
        (("/none/there",), "/none/there"),
        ((__file__,), ""),
    ],
)
def test_how_it_failed_is_said(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    event = run(tmp_path, *argv)
    assert event.data["failed"] is True
    assert words in str(event.data["message"])


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    event = run(tmp_path, "sleep", "3600", seconds=0.2)
    assert event.data["message"] == "took longer than 0.2 s, and was ended"
    assert time.monotonic() - began < SECONDS


def test_ctrl_c_ends_it_and_a_second_one_at_once(tmp_path: Path) -> None:
    deaf = "trap '' TERM; touch \"$0\"; while :; do sleep 0.1; done"

    def nothing(*_: object) -> None:
        """One that is pressed too late ends no test run."""

    before = signal.signal(signal.SIGINT, nothing)

    def press() -> None:
        while not (tmp_path / "deaf").exists():
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        event = run(tmp_path, "sh", "-c", deaf, str(tmp_path / "deaf"))
    finally:
        (tmp_path / "deaf").touch()
        presser.join()
        found = signal.signal(signal.SIGINT, before)
    assert event.data["message"] == "was stopped"
    assert found is nothing


NOISE = """\
import sys
for _ in range(2000):
    sys.stderr.buffer.write(b"\\xff\\x1b[2J" * 4096)
sys.stderr.buffer.write(b"\\n\\x1b]0;x\\x07\\xfe")
sys.exit(3)
"""


def test_what_it_says_neither_fills_the_memory_nor_moves_the_cursor(tmp_path: Path) -> None:
    event = run(tmp_path, sys.executable, "-c", NOISE)
    words = told(event)
    assert event.data["failed"] is True
    assert "exit status 3" in words
    assert "\x1b" not in words
    assert len(words) < 1000
