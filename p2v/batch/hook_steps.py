"""A job's hooks as steps of its attempt: begun, noted, given time to come to their end, and judged."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass

from p2v.batch.attempt import Attempt
from p2v.batch.children import Child, Ended, LocalStarter
from p2v.batch.event_data import data_of
from p2v.batch.failures import how_it_ended
from p2v.batch.hooks_past import (
    HOOK,
    HOOK_BEGAN,
    HOOK_RUNS,
    StrayHook,
    began_data,
    ended_data,
    in_words,
    past_hooks,
    runs_data,
    stray_of,
)
from p2v.batch.store import Store
from p2v.batch.telling import Teller
from p2v.core.events import Warned


@dataclass(frozen=True, slots=True)
class HookSteps:
    """What is done with the hook of the step that an attempt is at (``Attempt.hook``)."""

    store: Store
    teller: Teller
    local: LocalStarter

    def stray(self, attempt: Attempt) -> StrayHook | None:
        """One that a killed run left and that runs still: it is to be waited for, and told of."""
        found = None
        if attempt.lease.fence > 1:
            found = stray_of(past_hooks(self.store, attempt.name), self.local.grace_seconds)
        if found is not None:
            self.teller.job(attempt, "warning", data_of(Warned(found.words)))
        return found

    def begin(self, attempt: Attempt) -> bytes:
        """Note that it begins, before it does: whoever finds no end of it knows that it may have done a part. What it is to get."""
        hook, when = attempt.hook(), attempt.step.value
        assert hook is not None
        past = past_hooks(self.store, attempt.name).get(when) if attempt.lease.fence > 1 else None
        if past is not None and past.is_unfinished:
            self.teller.job(attempt, "warning", data_of(Warned(f"{in_words(past)}; it is run again, and told so")))
        document = json.dumps(attempt.hook_document(when, past)).encode() + b"\n"
        attempt.cut_at, attempt.is_cut = math.inf, False
        self.teller.job(attempt, HOOK_BEGAN, began_data(when, hook, attempt.lease.job.attempts), durable=True)
        return document

    def start(self, attempt: Attempt, document: bytes) -> Child:
        """Raises as ``LocalStarter.hook``."""
        hook = attempt.hook()
        assert hook is not None
        child = self.local.hook(hook.argv, document)
        runs = runs_data(attempt.step.value, child.pid)
        self.teller.write(attempt, lambda: self.store.event(attempt.lease, HOOK_RUNS, runs, time.time()))
        return child

    def stop(self, attempt: Attempt, child: Child, *, at_once: bool) -> None:
        """Its run is to stop: it may be in the middle of stopping something, and has a while to come to its end."""
        if at_once:
            attempt.is_cut = True
            child.stop(at_once)
        else:
            attempt.cut_at = min(attempt.cut_at, time.monotonic() + self.local.grace_seconds)

    def look_at_time(self, attempt: Attempt, child: Child, now: float) -> None:
        """Ask it to end when that while is over."""
        if now > attempt.cut_at and not attempt.is_cut:
            attempt.is_cut = True
            child.stop()

    def failed(self, attempt: Attempt, ended: Ended) -> bool:
        """Whether it did, which is told."""
        words = "" if ended.exit_status == 0 and not ended.lost else how_it_ended(ended)
        if attempt.is_late:
            words = "took too long, and was ended"
        elif attempt.is_cut:
            words = "was ended before it was done, for the run was to stop"
        is_cut = attempt.is_late or attempt.is_cut
        self.teller.job(attempt, HOOK, ended_data(attempt.step.value, words, is_cut=is_cut))
        return bool(words)
