"""``python -m p2v.core.freeze_guard SECONDS STATUS_FD FD...``: freezes file systems, and thaws them, whoever may be killed.

A program of its own, in a session of its own: a starter that is killed cannot thaw anything. It thaws when its standard input
ends, when its starter is gone, when it is told to end, and when the time is up, and tells so in lines on STATUS_FD. Each FD is open
on a file system; they are frozen in that order and thawed in the other. It runs while file systems stand still, so it opens
nothing and writes to nothing but its pipe.

Source: ioctl_fsfreeze in the kernel's fs/ioctl.c; fsfreeze(8).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence

# _IOWR('X', 119, int) and _IOWR('X', 120, int)
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
_LOOK_SECONDS = 0.25


class Guard:
    """Freezes in a thread of its own: writing back what is dirty can take long, and the time is up all the same.

    The kernel lets nobody take a freeze back that is under way. It is waited for, and thawed when it is done: a guard that ended
    before would leave a file system that nobody thaws.
    """

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places
        self._frozen: list[int] = []
        self._is_over = False
        self._lock = threading.Lock()
        self._freezing = threading.Thread(target=self._freeze)
        self.is_done = threading.Event()
        self.failed: tuple[int, int] | None = None
        """Which one could not be frozen, by its place in the order, and the error's number."""

    def start(self) -> None:
        """Begin to freeze all, up to the first that cannot be."""
        self._freezing.start()

    def _freeze(self) -> None:
        for index, place in enumerate(self._places):
            try:
                fcntl.ioctl(place, FIFREEZE, 0)
            except OSError as error:
                self.failed = (index, error.errno or 0)
                break
            with self._lock:
                if self._is_over:
                    thaw(place)
                    return
                self._frozen.append(place)
        self.is_done.set()

    def thaw(self) -> bool:
        """Thaw all that is frozen, and what is being frozen, as soon as it is; whether all that were still are."""
        with self._lock:
            self._is_over = True
            thawed = [thaw(place) for place in reversed(self._frozen)]
        self._freezing.join()
        return all(thawed)


def thaw(place: int) -> bool:
    """Thaw one file system; False when it was not frozen (any more)."""
    try:
        fcntl.ioctl(place, FITHAW, 0)
    except OSError:
        return False
    return True


def main() -> int:
    """Freeze, wait for a reason to end, thaw."""
    starter = os.getppid()
    deadline = time.monotonic() + float(sys.argv[1])
    status, *places = map(int, sys.argv[2:])
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told.set())
    guard = Guard(places)
    guard.start()
    was_told = False
    why = ""
    while not why:
        if guard.is_done.is_set() and not was_told:
            _tell(status, f"failed {guard.failed[0]} {guard.failed[1]}" if guard.failed else "frozen")
            was_told = True
        why = _reason(told, starter, deadline)
    kept = guard.thaw()
    _tell(status, f"thawed {why if kept else 'lost'}")
    return 0


def _reason(told: threading.Event, starter: int, deadline: float) -> str:
    """Why to end by now; empty when there is no reason. Waits a moment for one."""
    left = deadline - time.monotonic()
    if left <= 0:
        return "time"
    if os.getppid() != starter:
        return "gone"
    if told.is_set():
        return "told"
    ready = select.select([0], [], [], min(left, _LOOK_SECONDS))[0]
    return "end" if ready and not os.read(0, 1) else ""


def _tell(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
