"""A look at a machine's storages before anything is begun there: whether they answer, and whether its result stands there already.

From a process of its own, which the run does not wait for: a mount whose server is gone may never answer, and the other machines
are not to wait with it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.audit.side_by_side import Answered, Aside, Bounds
from p2v.batch.children import Ended, Heard
from p2v.batch.failures import of_words
from p2v.batch.jobs import Failure, MachineJob
from p2v.batch.results import Result, record_path, result_since

LOOK_SECONDS = 20.0
"""For a storage to answer; what spins up a disk or fails over to another path takes less."""
SILENT = "storage-silent"
_KNOWN_SECONDS, _HURRY = 60.0, 10.0


@dataclass
class Look:
    """See ``p2v.batch.children.Child``: it says nothing, and ``found`` tells what it saw when it has ended."""

    machine: MachineJob
    seconds: float
    _aside: Aside
    _stopped: bool = False

    @classmethod
    def begun(
        cls, machine: MachineJob, since: float | None, *, at_sources: bool, seconds: float = LOOK_SECONDS
    ) -> Look:
        """Begin one. ``since``: a result is looked for as well, one that was begun then or later; None: none.

        ``at_sources``: at the storages of the sources, too. Raises OSError where the host starts no more programs.
        """
        return cls(machine, seconds, Aside(lambda: _seen(machine, since, at_sources=at_sources), Bounds(seconds)))

    @property
    def found(self) -> Result | None:
        """The result that stands there."""
        answered = self._aside.answered()
        match answered.data if answered is not None else None:
            case {"booted": bool(booted), "asked": bool(asked), "losses": bool(losses)}:
                return Result(record_path(self.machine), booted if asked else None, losses)
        return None

    @property
    def is_silent(self) -> bool:
        """Whether a storage did not answer."""
        answered = self._aside.answered()
        return answered is not None and answered.timed_out and not self._stopped

    def heard(self) -> Sequence[Heard]:
        """See ``Child.heard``."""
        return ()

    def ended(self) -> Ended | None:
        """See ``Child.ended``."""
        answered: Answered | None = self._aside.answered()
        return None if answered is None else Ended(0, answered.failure, answered.seconds)

    def stop(self, at_once: bool = False) -> None:
        """See ``Child.stop``; it is ended in any case."""
        self._stopped = self._stopped or self._aside.answered() is None
        self._aside.close()

    def limit(self, bytes_per_second: int) -> None:
        """See ``Child.limit``: it copies nothing."""

    def fds(self) -> tuple[int, ...]:
        """See ``Child.fds``."""
        return () if self._aside.fd < 0 else (self._aside.fd,)

    def close(self) -> None:
        """See ``Child.close``."""
        self._aside.close()


@dataclass
class Quiet:
    """Of a conversion of this host that has not been heard of for a while: does it work at something, or hang on a storage?"""

    _look: Look | None = None
    _is_told: bool = False

    def hangs(self, machine: MachineJob, quiet_seconds: float, seconds: float = LOOK_SECONDS) -> bool:
        """Ask now and then; once for each time that it is quiet, whether a storage does not answer, as far as is known now."""
        if quiet_seconds < seconds:
            self.close()
            self._is_told = False
            return False
        if self._is_told:
            return False
        if self._look is None:
            with suppress(OSError):
                self._look = Look.begun(machine, None, at_sources=True, seconds=seconds)
            return False
        if self._look.ended() is None:
            return False
        # one that answered is asked again
        self._is_told = self._look.is_silent
        self._look = None
        return self._is_told

    def close(self) -> None:
        """End the look that is under way."""
        if self._look is not None:
            self._look.stop()
            self._look = None


@dataclass
class Silences:
    """Folders at whose machines a storage was silent a moment ago: the next ones there need not wait as long to be told so.

    Without it a hundred machines of a storage that is gone would hold their places in the budget for 20 seconds each.
    """

    seconds: float = LOOK_SECONDS
    _at: dict[Path, float] = field(default_factory=dict)

    def patience(self, machine: MachineJob, now: float) -> float:
        """For how long an answer is waited for; ``now``: of the monotonic clock."""
        is_known = any(now - self._at.get(folder, -math.inf) < _KNOWN_SECONDS for folder in _folders(machine))
        return self.seconds / _HURRY if is_known else self.seconds

    def heard_nothing(self, machine: MachineJob, seconds: float, now: float) -> None:
        """A look there got no answer; what is known from a short one alone is not known for longer by it."""
        if seconds >= self.seconds:
            self._at.update(dict.fromkeys(_folders(machine), now))


def _folders(machine: MachineJob) -> tuple[Path, ...]:
    return (machine.folder, *(source.parent for source in machine.sources))


def silence(machine: MachineJob, seconds: float = LOOK_SECONDS) -> Failure:
    """The failure of a machine whose storages did not answer."""
    places = ", ".join(dict.fromkeys(str(path) for path in (machine.folder, *machine.sources)))
    words = f"a storage did not answer in {seconds:g} s: one of {places}"
    hint = "See which: `stat -f` on each hangs where the server is gone. Bring it back or unmount it, then `p2v batch retry`."
    return of_words(SILENT, 75, words, hint)


def _seen(machine: MachineJob, since: float | None, *, at_sources: bool) -> dict[str, Any] | None:
    for path in (machine.folder, *(machine.sources if at_sources else ())):
        _ask(path)
    found = None if since is None else result_since(machine, since)
    if found is None:
        return None
    return {"booted": bool(found.booted), "asked": found.booted is not None, "losses": found.has_losses}


def _ask(path: Path) -> None:
    """Ask the file system that a path is on, or will be: unlike names and sizes, this is never answered from memory."""
    for each in (path, *path.parents):
        with suppress(OSError):
            os.statvfs(each)
            return
