"""A look at a machine's storages before anything is begun there: whether they answer, whether the target's takes what is written
to it, and whether the machine's result stands there already.

From a process of its own, which the run does not wait for: a mount whose server is gone may never answer, and the other machines
are not to wait with it. On a file system that is frozen not even a kill ends the process. There is one at most for each folder
then: as long as it is there, it tells that nothing has changed.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.audit.side_by_side import Answered, Aside, Bounds
from p2v.batch.children import Ended, Heard
from p2v.batch.failures import of_words
from p2v.batch.jobs import Failure, MachineJob
from p2v.batch.results import Result, record_path, result_since
from p2v.batch.trial import try_to_write

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
    _steps: _Steps
    _stopped: bool = False

    @classmethod
    def begun(
        cls,
        machine: MachineJob,
        since: float | None,
        *,
        at_sources: bool,
        seconds: float = LOOK_SECONDS,
        kept: Container[Path] = (),
    ) -> Look:
        """Begin one. ``since``: a result is looked for as well, one that was begun then or later; None: none.

        ``at_sources``: at the storages of the sources, too, and whether the target's takes anything, for it is this host that
        reads and writes; ``kept``: folders that nothing is written to. Raises OSError where the host starts no more programs.
        """
        steps = _Steps((machine.folder, *(machine.sources if at_sources else ())))
        return cls(machine, seconds, Aside(lambda: _seen(machine, since, steps, at_sources, kept), Bounds(seconds)), steps)

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

    @property
    def where(self) -> Path:
        """The path whose storage was asked last."""
        return self._steps.at

    @property
    def is_writing(self) -> bool:
        """Whether it was at writing there."""
        return self._steps.writes

    @property
    def is_stuck(self) -> bool:
        """Whether it waits, though it was killed, for the target's storage to take what is written there."""
        return self.is_silent and self.is_writing and not self.is_gone

    @property
    def is_gone(self) -> bool:
        """Whether nothing of its process is left."""
        return self._aside.is_gone()

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


class _Steps:
    """Which path a look is at; the process that looks writes it, and the run reads it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._shared = mmap.mmap(-1, 8)

    @property
    def at(self) -> Path:
        """The path."""
        return self.paths[min(int.from_bytes(self._shared[:4]), len(self.paths) - 1)]

    @property
    def writes(self) -> bool:
        """Whether it is being written to."""
        return self._shared[4] == 1

    def go(self, number: int, *, writes: bool = False) -> None:
        """To a path."""
        self._shared[:5] = number.to_bytes(4) + bytes([writes])


@dataclass
class Quiet:
    """Of a conversion of this host that has not been heard of for a while: does it work at something, or hang on a storage?"""

    _look: Look | None = None
    _hangs: bool = False

    def hangs(self, machine: MachineJob, quiet_seconds: float, silences: Silences) -> bool:
        """Whether a storage does not answer, as far as is known now; so until it is heard again. Ask now and then."""
        if quiet_seconds < silences.seconds:
            self.close()
            self._hangs = False
        elif not self._hangs:
            self._hangs = silences.is_known(machine) or self._has_found(machine, silences)
        return self._hangs

    def _has_found(self, machine: MachineJob, silences: Silences) -> bool:
        if self._look is None:
            with suppress(OSError):
                self._look = silences.look(machine, None, at_sources=True, seconds=silences.seconds)
            return False
        if self._look.ended() is None:
            return False
        # one that answered is asked again
        look, self._look = self._look, None
        return look.is_silent

    def close(self) -> None:
        """End the look that is under way."""
        if self._look is not None:
            self._look.stop()
            self._look = None


@dataclass
class Silences:
    """Folders at whose machines a storage was silent a moment ago: the next ones there need not wait as long to be told so.

    Without it a hundred machines of a storage that is gone would hold their places in the budget for 20 seconds each. ``kept``:
    folders that no look writes to, those of all sources.
    """

    seconds: float = LOOK_SECONDS
    kept: frozenset[Path] = frozenset()
    _at: dict[Path, float] = field(default_factory=dict)
    _looks: list[Look] = field(default_factory=list)
    """Those that are under way, and those of whose processes something is left."""

    @classmethod
    def of(cls, machines: Sequence[MachineJob], seconds: float) -> Silences:
        """Of those that are to be converted."""
        return cls(seconds, frozenset(source.parent for machine in machines for source in machine.sources))

    def look(self, machine: MachineJob, since: float | None, *, at_sources: bool, seconds: float) -> Look:
        """See ``Look.begun``; one that hangs at writing to that folder is asked once more, and none is begun."""
        # what the kernel has let go is reaped by that
        self._looks = [each for each in self._looks if not each.is_gone]
        stuck = self._stuck(machine) if at_sources else None
        if stuck is not None:
            return stuck
        look = Look.begun(machine, since, at_sources=at_sources, seconds=seconds, kept=self.kept)
        self._looks.append(look)
        return look

    def is_known(self, machine: MachineJob) -> bool:
        """Whether a look at its target hangs still, which only an answer of the storage ends."""
        return self._stuck(machine) is not None

    def _stuck(self, machine: MachineJob) -> Look | None:
        return next((each for each in self._looks if each.machine.folder == machine.folder and each.is_stuck), None)

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


def silence(look: Look) -> Failure:
    """The failure of a machine whose storages did not answer."""
    if look.is_writing:
        words = f"the storage of {look.where} took nothing that was written to it in {look.seconds:g} s; it is frozen, or it hangs"
        hint = "Thaw it (`fsfreeze --unfreeze`), or bring its disk or server back, then `p2v batch retry`."
    else:
        words = f"the storage of {look.where} did not answer in {look.seconds:g} s"
        hint = "`stat -f` on it hangs where the server is gone. Bring it back or unmount it, then `p2v batch retry`."
    return of_words(SILENT, 75, words, hint)


def _seen(
    machine: MachineJob, since: float | None, steps: _Steps, at_sources: bool, kept: Container[Path]
) -> dict[str, Any] | None:
    for number, path in enumerate(steps.paths):
        steps.go(number)
        _ask(path)
    if at_sources:
        steps.go(0, writes=True)
        try_to_write(machine.folder, machine.name, machine.sources, kept)
    steps.go(0)
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
