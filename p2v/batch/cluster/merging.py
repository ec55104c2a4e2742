"""Events on their way from a worker: a copy tells of each piece, which is too much for a network and a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_STEP_SECONDS = 0.5


@dataclass(slots=True)
class Merged:
    """Passes events on, bytes that are done added up and at most twice a second."""

    onward: Callable[[Mapping[str, Any]], None]
    clock: Callable[[], float] = time.monotonic
    _counts: dict[str, int] = field(default_factory=dict)
    _said: float = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event."""
        match event:
            case {"event": "bytes-done", "phase": str(phase), "count": int(count)}:
                self._counts[phase] = self._counts.get(phase, 0) + count
                if self.clock() - self._said >= _STEP_SECONDS:
                    self.flush()
            case _:
                self.flush()
                self.onward(event)

    def flush(self) -> None:
        """Tell what was held back."""
        counts, self._counts = self._counts, {}
        self._said = self.clock()
        for phase, count in counts.items():
            self.onward({"event": "bytes-done", "phase": phase, "count": count})
