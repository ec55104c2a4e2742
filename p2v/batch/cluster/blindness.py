"""Which workers cannot do what, for as long as that is worth remembering: a mount may come, and a full disk be tidied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2v.batch.cluster.sight import Here
from p2v.batch.jobs import MachineJob

_SECONDS = 30.0
_MOST_PATHS = 200
_HOSTS_NAMED = 5
EVERYTHING = Path("/")
"""What a worker misses that can begin nothing at all."""
_MOUNT_IT = "Mount it at the same place on all hosts, or name the host that has it as the machine's `host`."
_SEE_TO_IT = "See to the hosts of the workers: room for temporary files (TMPDIR), memory and processes."


@dataclass(frozen=True, slots=True)
class Missed:
    """What a worker has said: that it does not see ``path``, or can do nothing with it. ``why``: in words.

    ``until``: believed so long, by the monotonic clock. ``code``, ``exit_code``, ``hint``: of an error that ends the attempt where
    all workers say so, for nobody but who sees to them helps; empty: it may pass.
    """

    path: Path
    why: str
    until: float = 0.0
    code: str = ""
    exit_code: int = 0
    hint: str = ""


@dataclass
class Blindness:
    """What workers, by their addresses, have said that they do not see."""

    _paths: dict[str, dict[Path, Missed]] = field(default_factory=dict)

    def note(self, worker: str, missed: Missed, now: float) -> None:
        """A worker has said so. ``now``: of the monotonic clock."""
        known = self._paths.setdefault(worker, {})
        while len(known) >= _MOST_PATHS:
            del known[next(iter(known))]
        known[missed.path] = replace(missed, until=now + _SECONDS)

    def forget(self, worker: str) -> None:
        """It has gone."""
        self._paths.pop(worker, None)

    def sighted(self, workers: Iterable[str], machine: MachineJob, now: float) -> tuple[str, ...]:
        """Those of them that have not said that they miss something of a machine's."""
        return tuple(worker for worker in workers if self.missed(worker, machine, now) is None)

    def missed(self, worker: str, machine: MachineJob, now: float) -> Missed | None:
        """What of a machine's a worker does not see."""
        wanted = (*machine.sources, machine.folder)
        for path, missed in self._paths.get(worker, {}).items():
            if missed.until > now and any(each.is_relative_to(path) for each in wanted):
                return missed
        return None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why an attempt ends that no worker can carry out. ``may_pass``: it is worth waiting for a while before that."""

    code: str
    exit_code: int
    message: str
    hint: str
    may_pass: bool


def why_given_up(missed: Mapping[str, Missed], here: Here) -> GivenUp:
    """``missed``: what workers have said, by their hosts; ``here``: what the runner's host sees."""
    words = "; ".join(f"at {host} {each.why}" for host, each in list(missed.items())[:_HOSTS_NAMED])
    if missed and all(each.code for each in missed.values()):
        last = list(missed.values())[-1]
        return GivenUp(last.code, last.exit_code, f"no worker can convert this machine: {words}", last.hint, may_pass=False)
    if any(each.path == EVERYTHING for each in missed.values()):
        return GivenUp("program-failed", 74, f"no worker can begin this machine: {words}", _SEE_TO_IT, may_pass=True)
    code = "not-seen" if here.sources else "no-source"
    message = f"no worker sees what this machine needs: {words}"
    return GivenUp(code, 66, message, _MOUNT_IT, may_pass=here.sources)
