"""Fences of jobs that have ended: taken away many at a time, from a process that nobody waits for, since a mount may not answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from p2v.audit.side_by_side import Aside, Bounds, side_by_side
from p2v.batch.jobs import MachineJob
from p2v.core.errors import P2vError
from p2v.core.fence import remove_fence

_SECONDS = 10.0
_TOGETHER = 16


@dataclass
class FencesLeft:
    """What cannot be taken away is no harm: `p2v batch clean` shows it."""

    _fences: list[tuple[MachineJob, int]] = field(default_factory=list)
    _tidying: Aside | None = None

    def add(self, machine: MachineJob, fence: int) -> None:
        """A job has ended under a lease with this number."""
        self._fences.append((machine, fence))

    def tidy(self, *, now: bool = False) -> None:
        """Take them away, many at a time unless ``now``, which waits for the end of it, within limits."""
        if self._tidying is not None and (now or self._tidying.answered() is not None):
            self._tidying.close()
            self._tidying = None
        if self._fences and self._tidying is None and (now or len(self._fences) >= _TOGETHER):
            fences, self._fences = self._fences, []
            if now:
                for _ in side_by_side(lambda _: _remove(fences), 1, 1, Bounds(_SECONDS)):
                    pass
            else:
                self._tidying = Aside(lambda: _remove(fences), Bounds(_SECONDS))


def _remove(fences: Sequence[tuple[MachineJob, int]]) -> None:
    for machine, fence in fences:
        with suppress(P2vError):
            remove_fence(machine.folder, machine.name, fence)
