"""The batch's own hook: a command that hears how a run ended, whatever ended it, with a JSON document on its standard input."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.batch.children import LocalChild, LocalStarter, follow
from p2v.batch.event_data import data_of
from p2v.batch.failures import how_it_ended
from p2v.batch.hook_documents import EndHookDocument, ParkedMachine, RunError, RunOutcome, hook_data
from p2v.batch.hooks_past import (
    HOOK,
    HOOK_BEGAN,
    HOOK_RUNS,
    PastHook,
    began_data,
    ended_data,
    past_hooks,
    runs_data,
    stray_of,
)
from p2v.batch.jobs import Batch, Hook, Job, JobEvent, State
from p2v.batch.status import StateCounts, verified
from p2v.batch.stopping import Wishes, signals_as_wishes
from p2v.batch.store import Store
from p2v.core.errors import P2vError
from p2v.core.events import Warned

_PARKED_AT_MOST = 1000
_SAID_LETTERS = 500
_END = "end"


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
    def outcome(self) -> RunOutcome:
        """What it came to."""
        if self.error is not None:
            return RunOutcome.FAILED
        if self.signal:
            return RunOutcome.STOPPED
        return RunOutcome.ENDED if all(job.state.is_end for job in self.jobs) else RunOutcome.WAITING


def document_of(batch: Batch, end: RunEnd, past: PastHook | None = None) -> Mapping[str, Any]:
    """What the hook gets. Of parked machines no more than a thousand are in it; the counts are of all. ``past``: the hook of an
    earlier run.
    """
    parked = [job for job in end.jobs if job.state is State.PARKED]
    document = EndHookDocument(
        unfinished=past is not None and past.is_unfinished,
        earlier=None if past is None else past.told,
        outcome=end.outcome,
        manifest=batch.manifest,
        store=batch.store,
        page=None if end.page is None else end.page.absolute(),
        seconds=round(end.seconds, 1),
        exit_code=end.exit_code,
        signal=end.signal,
        error=None if end.error is None else RunError.of(end.error),
        machines=len(end.jobs),
        counts=StateCounts.of(end.jobs),
        verified=verified(end.jobs),
        parked=tuple(ParkedMachine.of(job) for job in parked[:_PARKED_AT_MOST]),
    )
    return hook_data(document)


def run_end_hook(
    batch: Batch, hook: Hook, end: RunEnd, store: Store | None, report: Callable[[JobEvent], None]
) -> bool:
    """Run it to its end, or to its limit of time, or to a signal; whether it did well. What came of it is told, and noted.

    It changes nothing about how the run ended. ``store``: None where it cannot be used any more.
    """
    words, cut = _run(batch, hook, end, store, report)
    data = ended_data(_END, words, is_cut=cut)
    _note(store, report, HOOK, data)
    report(JobEvent(0, time.time(), "", 0, HOOK, data))
    return not words


def _note(
    store: Store | None, report: Callable[[JobEvent], None], kind: str, data: Mapping[str, Any], *, durable: bool = False
) -> None:
    at = time.time()
    if store is not None:
        try:
            store.note(kind, data, at, durable=durable)
        except P2vError as error:
            report(JobEvent(0, at, "", 0, "warning", data_of(Warned(f"not noted in the store: {error.sentence()}"))))


def _past(store: Store | None) -> Mapping[str, PastHook]:
    try:
        return {} if store is None else past_hooks(store, "")
    except P2vError:
        return {}


def _run(
    batch: Batch, hook: Hook, end: RunEnd, store: Store | None, report: Callable[[JobEvent], None]
) -> tuple[str, bool]:
    """What went wrong, empty: nothing; and whether it was ended before it was done."""
    local = LocalStarter(batch.store)
    with signals_as_wishes() as wishes:
        also = () if wishes.fd is None else (wishes.fd,)
        past = _past(store)
        stray = stray_of(past, local.grace_seconds)
        if stray is not None:
            report(JobEvent(0, time.time(), "", 0, "warning", data_of(Warned(stray.words))))
            follow(stray, lambda: stray.stop() if wishes.take() else None, also=also)
        document = json.dumps(document_of(batch, end, past.get(_END))).encode() + b"\n"
        _note(store, report, HOOK_BEGAN, began_data(_END, hook, 0), durable=True)
        try:
            child = local.hook(hook.argv, document)
        except P2vError as error:
            return error.sentence(), False
        except OSError as error:
            return f"could not be started: {error.strerror or error}", False
        _note(store, report, HOOK_RUNS, runs_data(_END, child.pid))
        return _followed(child, hook, wishes, also)


def _followed(child: LocalChild, hook: Hook, wishes: Wishes, also: Sequence[int]) -> tuple[str, bool]:
    began = time.monotonic()
    late = stopped = False

    def look() -> None:
        nonlocal late, stopped
        if count := wishes.take():
            stopped = True
            child.stop(at_once=count > 1)
        if time.monotonic() - began > hook.seconds:
            late = True
            child.stop()

    ended = follow(child, look, also=also)
    if late:
        return f"took longer than {hook.seconds:g} s, and was ended", True
    if stopped:
        return "was stopped", True
    return "" if ended.exit_status == 0 and not ended.lost else how_it_ended(ended)[:_SAID_LETTERS], False
