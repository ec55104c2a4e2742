"""The batch's own hook: a command that hears how a run ended, whatever ended it, with a JSON document on its standard input."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.batch.children import LocalStarter, follow
from p2v.batch.jobs import Batch, Hook, Job, JobEvent, State
from p2v.batch.steps import how_it_ended
from p2v.batch.stopping import signals_as_wishes
from p2v.batch.store import Store
from p2v.core.errors import P2vError

SCHEMA = 1
_PARKED_AT_MOST = 1000
_SAID_LETTERS = 500


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. ``error``: what it failed with; None: it came to its end, or was stopped. ``page``: of the fleet."""

    jobs: tuple[Job, ...]
    seconds: float
    exit_code: int
    signal: int = 0
    error: P2vError | None = None
    page: Path | None = None

    @property
    def outcome(self) -> str:
        """``ended``: all machines have; ``waiting``: some wait for the next run; ``stopped`` by a signal; ``failed``."""
        if self.error is not None:
            return "failed"
        if self.signal:
            return "stopped"
        return "ended" if all(job.state.is_end for job in self.jobs) else "waiting"


def document_of(batch: Batch, end: RunEnd) -> Mapping[str, Any]:
    """What the hook gets. Of parked machines no more than a thousand are in it; the counts are of all."""
    counts = Counter(job.state for job in end.jobs)
    parked = [job for job in end.jobs if job.state is State.PARKED]
    return {
        "schema": SCHEMA,
        "when": "end",
        "outcome": end.outcome,
        "manifest": str(batch.manifest),
        "store": str(batch.store),
        "page": None if end.page is None else str(end.page.absolute()),
        "seconds": round(end.seconds, 1),
        "exit_code": end.exit_code,
        "signal": end.signal,
        "error": None if end.error is None else {"code": end.error.code, "message": end.error.sentence()},
        "machines": len(end.jobs),
        "counts": {state.value: counts[state] for state in State},
        "verified": sum(1 for job in end.jobs if job.state is State.DONE and job.verified),
        "parked": [_parked(job) for job in parked[:_PARKED_AT_MOST]],
    }


def _parked(job: Job) -> Mapping[str, Any]:
    failure = job.failure
    return {
        "name": job.machine.name,
        "code": None if failure is None else failure.code,
        "message": None if failure is None else failure.message,
        "hint": None if failure is None else failure.hint,
        "bundle": None if failure is None or failure.bundle is None else str(failure.bundle),
    }


def run_end_hook(
    batch: Batch, hook: Hook, end: RunEnd, store: Store | None, report: Callable[[JobEvent], None]
) -> bool:
    """Run it to its end, or to its limit of time, or to a signal; whether it did well. What came of it is told, and noted.

    It changes nothing about how the run ended. ``store``: None where it cannot be used any more.
    """
    words = _run(batch, hook, end)
    data = {"when": "end", "failed": bool(words), "message": words}
    at = time.time()
    if store is not None:
        try:
            store.note("hook", data, at)
        except P2vError as error:
            report(JobEvent(0, at, "", 0, "warning", {"message": f"not noted in the store: {error.sentence()}"}))
    report(JobEvent(0, at, "", 0, "hook", data))
    return not words


def _run(batch: Batch, hook: Hook, end: RunEnd) -> str:
    """What went wrong; empty: nothing."""
    document = json.dumps(document_of(batch, end)).encode() + b"\n"
    began = time.monotonic()
    late = stopped = False
    with signals_as_wishes() as wishes:
        try:
            child = LocalStarter(batch.store).run(hook.argv, "", stdin=document, marked=False)
        except P2vError as error:
            return error.sentence()
        except OSError as error:
            return f"could not be started: {error.strerror or error}"

        def look() -> None:
            nonlocal late, stopped
            if count := wishes.take():
                stopped = True
                child.stop(at_once=count > 1)
            if time.monotonic() - began > hook.seconds:
                late = True
                child.stop()

        ended = follow(child, look, also=() if wishes.fd is None else (wishes.fd,))
    if late:
        return f"took longer than {hook.seconds:g} s, and was ended"
    if stopped:
        return "was stopped"
    return "" if ended.exit_status == 0 and not ended.lost else how_it_ended(ended)[:_SAID_LETTERS]
