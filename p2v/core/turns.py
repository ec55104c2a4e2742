"""Turns at what only so many processes of a host may do at once, where who started them says so: launching an appliance, booting.

The places are files that are locked; a lock goes with its process, so that a place is free again however its holder ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.events import BytesDone, Reporter, phase

BOOT_TURNS = "P2V_BOOT_TURNS"
"""In the environment: ``COUNT:FOLDER``."""
APPLIANCE_TURNS = "P2V_APPLIANCE_TURNS"
"""The same for appliances."""
PHASE = "turn"
APPLIANCE_PHASE = "appliance-turn"
_LOOK_SECONDS = 0.2
_TELL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Kind:
    """``variable``: of the environment; ``stem``: of the places' files; ``phase``: that waiting is told as."""

    variable: str
    stem: str
    phase: str
    title: str


_BOOT = _Kind(BOOT_TURNS, "boot", PHASE, "Waiting for its turn to boot")
_APPLIANCE = _Kind(APPLIANCE_TURNS, "appliance", APPLIANCE_PHASE, "Waiting for its turn to start an appliance")


def boot_turns(count: int, folder: Path) -> dict[str, str]:
    """What is said to those that are started, so that no more than ``count`` of them boot at once."""
    return {BOOT_TURNS: f"{count}:{folder}"}


def appliance_turns(count: int, folder: Path) -> dict[str, str]:
    """The same for appliances."""
    return {APPLIANCE_TURNS: f"{count}:{folder}"}


def boot_turn(report: Reporter) -> AbstractContextManager[None]:
    """Boot in this context: it begins when there is a place. Where nobody spoke of places, or their folder is gone, at once."""
    return _turn(_BOOT, report, lambda: False)


def appliance_turn(report: Reporter, stopped: Callable[[], bool] = lambda: False) -> AbstractContextManager[None]:
    """The same for an appliance; one at a time in a process, for a second would wait for the first. It begins without a place when
    ``stopped`` says that nothing will be started any more.
    """
    return _turn(_APPLIANCE, report, stopped)


@contextmanager
def _turn(kind: _Kind, report: Reporter, stopped: Callable[[], bool]) -> Iterator[None]:
    count, _, folder = os.environ.get(kind.variable, "").partition(":")
    numbers = range(int(count)) if count.isdigit() and folder else ()
    places = [Path(folder) / f"{kind.stem}-{number}" for number in numbers]
    with ExitStack() as stack:
        if places and not _takes_one(places, stack):
            with phase(report, kind.phase, kind.title):
                _wait_for_one(places, stack, kind, report, stopped)
        yield


def _wait_for_one(
    places: list[Path], stack: ExitStack, kind: _Kind, report: Reporter, stopped: Callable[[], bool]
) -> None:
    told = time.monotonic()
    while not stopped() and not _takes_one(places, stack):
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - told >= _TELL_SECONDS:
            # who waits is not to be taken for one that hangs
            told = time.monotonic()
            report(BytesDone(kind.phase, 0))


def _takes_one(places: list[Path], stack: ExitStack) -> bool:
    """Whether a place was taken, or there is nothing to wait for."""
    for place in places:
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:
            os.close(descriptor)
            return True
        stack.callback(os.close, descriptor)
        return True
    return False
