"""What happens, told to the store and to who watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2v.batch.attempt import Attempt
from p2v.batch.children import Heard
from p2v.batch.event_data import LostLease, data_of
from p2v.batch.jobs import JobEvent
from p2v.batch.store import Store
from p2v.core.errors import LeaseLost, NoSpace, P2vError, ReadFailed, StoreBusy
from p2v.core.events import BytesDone, Warned
from p2v.core.units import format_seconds

_EVERY_SECONDS = 1.0
# nobody has tried for so long: what is refused now is another trouble
_ANEW_SECONDS = 120.0


@dataclass
class Teller:
    """Writes to the store and tells the reporter. ``patience``: seconds that a store which cannot be written is waited for."""

    store: Store
    report: Callable[[JobEvent], None]
    patience: float
    _trouble_since: float | None = None
    _refused_at: float = 0.0

    def write(self, attempt: Attempt | None, action: Callable[[], object], *, reads: bool = False) -> bool:
        """Do something with the store; whether it was done. One whose lease is lost is ended at once.

        ``reads``: it may have done no more than look, which a full disk allows: that it was done does not end a trouble.
        Raises what the store raises when it cannot be used for longer than the patience.
        """
        if attempt is not None and attempt.is_lost:
            return False
        try:
            action()
        except LeaseLost as error:
            if attempt is None:
                raise
            self._lose(attempt, error)
            return False
        except (StoreBusy, NoSpace, ReadFailed) as error:
            self._be_patient(error)
            return False
        if not reads:
            self._trouble_since = None
        return True

    def _be_patient(self, error: P2vError) -> None:
        """Tell of a trouble when it begins; raise it when it has lasted for longer than the patience."""
        now = time.monotonic()
        is_new = self._trouble_since is None or now - self._refused_at > _ANEW_SECONDS
        self._refused_at = now
        if is_new:
            self._trouble_since = now
            words = f"{error.sentence()}; waiting for it, {format_seconds(self.patience)} at most"
            self.fleet("warning", data_of(Warned(words)))
        elif now - (self._trouble_since or 0.0) > self.patience:
            raise error

    def fleet(self, kind: str, data: Mapping[str, Any], *, stored: bool = False) -> None:
        """Something about the batch as a whole; ``stored`` as of ``job``."""
        event = JobEvent(0, time.time(), "", 0, kind, data)
        if stored:
            self.write(None, lambda: self.store.note(kind, data, event.at))
        self.report(event)

    def job(
        self, attempt: Attempt, kind: str, data: Mapping[str, Any], *, stored: bool = True, durable: bool = False
    ) -> None:
        """Something about a job; ``stored``: in the store as well, which writes events of its own about what it is asked for;
        ``durable``: of ``Store.event``.
        """
        event = JobEvent(0, time.time(), attempt.name, attempt.lease.fence, kind, data)
        attempt.told.append(event)
        if stored:
            self.write(attempt, lambda: self.store.event(attempt.lease, kind, data, event.at, durable=durable))
        self.report(event)

    def heard(self, attempt: Attempt, event: Heard) -> None:
        """What a child said."""
        told = attempt.hear(event)
        if told is not None:
            # bytes of a phase come before its end
            self.flush(attempt)
            self.job(attempt, *told)

    def flush_now_and_then(self, attempt: Attempt, now: float) -> None:
        """Tell of bytes that are done, about once a second."""
        if attempt.unsaid and now - attempt.said_at >= _EVERY_SECONDS:
            attempt.said_at = now
            self.flush(attempt)

    def flush(self, attempt: Attempt) -> None:
        """Tell of bytes that are done."""
        unsaid, attempt.unsaid = attempt.unsaid, {}
        for phase, count in unsaid.items():
            self.job(attempt, "bytes-done", data_of(BytesDone(phase, count)))

    def _lose(self, attempt: Attempt, error: LeaseLost) -> None:
        attempt.is_lost = True
        # a hook is not cut off: who has the lease now waits for its end
        if attempt.child is not None and attempt.hook() is None:
            attempt.child.stop(at_once=True)
        self.job(attempt, "lease-lost", data_of(LostLease(error.sentence())), stored=False)
