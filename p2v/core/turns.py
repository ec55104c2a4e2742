"""Turns at what only so many processes of a host may do at once, where who started them says so: booting a guest.

The places are files that are locked; a lock goes with its process, so that a place is free again however its holder ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from p2v.core.events import BytesDone, Reporter, phase

BOOT_TURNS = "P2V_BOOT_TURNS"
"""In the environment: ``COUNT:FOLDER``."""
PHASE = "turn"
_LOOK_SECONDS = 0.2
_TELL_SECONDS = 60.0


def boot_turns(count: int, folder: Path) -> dict[str, str]:
    """What is said to those that are started, so that no more than ``count`` of them boot at once."""
    return {BOOT_TURNS: f"{count}:{folder}"}


@contextmanager
def boot_turn(report: Reporter) -> Iterator[None]:
    """Boot in this context: it begins when there is a place. Where nobody spoke of places, or their folder is gone, at once."""
    count, _, folder = os.environ.get(BOOT_TURNS, "").partition(":")
    places = [Path(folder) / f"boot-{number}" for number in range(int(count))] if count.isdigit() and folder else []
    with ExitStack() as stack:
        if places and not _takes_one(places, stack):
            with phase(report, PHASE, "Waiting for its turn to boot"):
                _wait_for_one(places, stack, report)
        yield


def _wait_for_one(places: list[Path], stack: ExitStack, report: Reporter) -> None:
    told = time.monotonic()
    while not _takes_one(places, stack):
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - told >= _TELL_SECONDS:
            # who waits is not to be taken for one that hangs
            told = time.monotonic()
            report(BytesDone(PHASE, 0))


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
