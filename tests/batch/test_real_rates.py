"""Two real conversions share what their storage gives: what each is told, and that it goes by it."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from p2v.batch.jobs import Batch, Budget, Hook, JobEvent, MachineJob
from p2v.batch.marking import marked_processes
from p2v.batch.runner import run_batch
from p2v.batch.store import Store
from p2v.core.units import MIB
from tests.batch.dos import dos_disk

TOTAL = 4 * MIB
ALONE, HALF, FIRST = TOTAL - TOTAL // 40, TOTAL // 2, TOTAL // 40


def disk(path: Path, size: int) -> Path:
    """With so much in it that is copied: more than the pieces that are read before anybody has to wait."""
    return dos_disk(path, random.Random(size).randbytes(size), size + 8 * MIB)


def test_a_copy_gives_half_when_another_begins_and_gets_all_when_it_has_ended(tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = Hook(("/bin/sh", "-c", 'until test -e "$0"; do sleep 0.05; done', str(go)))
    machines = (
        MachineJob("short", (disk(tmp_path / "short.raw", 10 * MIB),), tmp_path / "out"),
        MachineJob("long", (disk(tmp_path / "long.raw", 24 * MIB),), tmp_path / "out", before=wait),
    )
    wished = Batch(machines, Budget(copies=2, bytes_per_second=TOTAL), tmp_path / "jobs.p2v", tmp_path / "jobs.yaml")
    told: list[JobEvent] = []

    def send(number: signal.Signals, name: str) -> None:
        for process in marked_processes(wished.store):
            if process.job == name:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def report(event: JobEvent) -> None:
        told.append(event)
        if event.kind == "phase-started" and event.data["phase"] == "copy":
            # the short one stands still until the other has begun to copy, so that they meet on any machine
            send(signal.SIGSTOP if event.job == "short" else signal.SIGCONT, "short")
        elif event.kind == "limit" and event.job == "short":
            go.touch()

    try:
        with Store.create(wished.store) as store:
            outcome = run_batch(wished, store, report)
    finally:
        send(signal.SIGCONT, "short")  # one that stands still does not hear that it is to end
    assert outcome.exit_code == 0
    limits = {
        name: [e.data["limit"] for e in told if e.job == name and e.kind == "limit"] for name in ("short", "long")
    }
    assert limits["short"] == [ALONE, HALF]
    # the long one gets its half only when the other, a real child, has said that it goes by its own
    assert limits["long"] == [HALF, ALONE]
    assert _most_at_once(told) <= TOTAL
    assert {e.data["limit"] for e in told if e.kind == "began"} == {FIRST}


def _most_at_once(told: list[JobEvent]) -> int:
    """Of what they were allowed; one that was told less may have gone on at what it had until the next was told more."""
    may: dict[str, int] = {}
    most = 0
    for event in told:
        if event.kind in ("began", "limit"):
            may[event.job] = event.data["limit"]
        elif event.kind == "phase-finished" and event.data["phase"] == "copy":
            may[event.job] = 0
        most = max(most, sum(may.values()))
    return most
