"""Which workers do not see which paths, for as long as that is worth remembering: a mount may come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.jobs import MachineJob

_SECONDS = 30.0
_MOST_PATHS = 200


@dataclass
class Blindness:
    """What workers, by their addresses, have said that they do not see: the path, in words how, and until when it is believed."""

    _paths: dict[str, dict[Path, tuple[str, float]]] = field(default_factory=dict)

    def note(self, worker: str, path: Path, why: str, now: float) -> None:
        """A worker has said so. Times are of the monotonic clock."""
        known = self._paths.setdefault(worker, {})
        while len(known) >= _MOST_PATHS:
            del known[next(iter(known))]
        known[path] = (why, now + _SECONDS)

    def forget(self, worker: str) -> None:
        """It has gone."""
        self._paths.pop(worker, None)

    def sighted(self, workers: Iterable[str], machine: MachineJob, now: float) -> tuple[str, ...]:
        """Those of them that have not said that they miss something of a machine's."""
        return tuple(worker for worker in workers if self.missed(worker, machine, now) is None)

    def missed(self, worker: str, machine: MachineJob, now: float) -> tuple[Path, str] | None:
        """What of a machine's a worker does not see, and in words how."""
        wanted = (*machine.sources, machine.folder)
        for path, (why, until) in self._paths.get(worker, {}).items():
            if until > now and any(each.is_relative_to(path) for each in wanted):
                return path, why
        return None
