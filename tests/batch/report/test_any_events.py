"""Events of any shape, from whoever has written to the store: each way to look at them stays whole and says only text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.report import batch_html
from p2v.batch.report.pictures import boot_of
from p2v.cli.batch import event_text
from p2v.cli.batch.progress import told
from tests.batch.report.samples import NOW, START, batch_of, machine
from tests.pages.hostile import HOSTILE as TEXTS
from tests.pages.nesting import Nesting

HOSTILE = " ".join(text for text in TEXTS if len(text) < 1000)
KINDS = (
    "added", "again", "batch-began", "batch-ended", "began", "bytes-done", "cancelled", "changed", "change-applied", "claimed",
    "done", "error", "hook", "late", "lease-lost", "parked", "paused", "phase-finished", "phase-started", "released", "resumed",
    "retried", "stopping", "strange", "warning", "worker", HOSTILE,
)  # fmt: skip
FIELDS = (
    "attempt", "bundle", "chosen", "code", "count", "done", "failed", "failure", "hint", "host", "limit", "lost_worker", "machines",
    "message", "not_before", "phase", "record", "seconds", "signal", "skipped", "summary", "title", "total_bytes", "verified",
    "waiting", "when", "why", "worker",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**400, -(10**400), 2**63, 1e308, -1e308, math.inf, math.nan, 0.5, "", HOSTILE, "x" * 5000,
    "\ud800", "\u202eabc", "\x1b[2J\n\r\0", "copy", "rewrite", "boot", "before", "end", [], [HOSTILE, 7, None], {}, {"a": [1]},
    {"message": HOSTILE, "code": [7], "hint": 10**400}, {"name": HOSTILE, "seconds": 10**400},
)  # fmt: skip


def events(random: Random, count: int) -> tuple[JobEvent, ...]:
    """A story that nobody would tell."""
    made = []
    for number in range(1, count + 1):
        data = {random.choice(FIELDS): random.choice(VALUES) for _ in range(random.randrange(6))}
        at = START + random.uniform(-10, 4000)
        made.append(
            JobEvent(
                number, at, random.choice(("", "web", "db", "gone")), random.randrange(3), random.choice(KINDS), data
            )
        )
    return tuple(made)


@pytest.mark.parametrize("seed", range(40))
def test_the_page_is_whole_and_runs_nothing_whatever_events_say(seed: int) -> None:
    random = Random(seed)
    states = [random.choice(list(State)) for _ in range(2)]
    jobs = [
        Job(machine(name), state, began=START, ended=NOW, lease_until=NOW)
        for name, state in zip(("web", "db"), states, strict=True)
    ]
    refresh = random.choice((None, 5))
    page = batch_html(batch_of(tuple(jobs)), jobs, events(random, 300), NOW, refresh)
    page.encode("utf-8")
    seen = Nesting(page)
    assert len(seen.ids) == len(set(seen.ids))
    assert page.count("<script") == batch_html(batch_of(tuple(jobs)), jobs, (), NOW, refresh).count("<script")


@pytest.mark.parametrize("seed", range(40))
def test_a_line_of_each_is_short_and_plain_whatever_it_says(seed: int) -> None:
    for event in events(Random(seed), 300):
        for text in (event_text.line(event), told(event)):
            assert len(text) < 3000
            assert not set("\x1b\n\r\0") & set(text)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", ["seconds", "verdict", "screenshot", "accelerator"])
def test_a_boot_check_in_a_record_may_say_anything(tmp_path: Path, name: str, value: object) -> None:
    evidence = {"verdict": {"reason": "booted", "sentence": "it came up"}, "seconds": 5.0, name: value}
    (tmp_path / "r.json").write_text(json.dumps({"boot": {"evidence": evidence}}))
    found = boot_of(tmp_path / "r.json")
    assert found is None or found.seconds is None or 0 <= found.seconds < 1e12
