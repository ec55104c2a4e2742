"""Ctrl-C, SIGTERM and SIGHUP end the program also when its main thread waits for a disk that gives no answer.

Python's own handlers run in the main thread, between two steps of it; and while that thread waits in the kernel, not even the
signal is taken. So a thread looks at what is taken, and at what is waiting to be.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2v.cli import console

# closing what is owned takes seconds: an appliance is ended, what was copied is synced
GRACE_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@contextmanager
def bounded_ending(grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """While the context lasts, the process ends within ``grace_seconds`` of SIGINT, SIGTERM or SIGHUP, whatever it waits for.

    What was copied is kept, as after a kill. For the main thread; in another one there are no signals to look at.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    looking = threading.Thread(target=_look, args=(reading, grace_seconds), name="ending", daemon=True)
    looking.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        looking.join()
        os.close(reading)


def _look(reading: int, grace_seconds: float) -> None:
    number = 0
    while number not in _STATUS:
        ready, _, _ = select.select([reading], [], [], _LOOK_SECONDS)
        if not ready:
            number = _waiting()
            continue
        got = os.read(reading, 1)
        if not got:
            return
        number = got[0]
    poll = select.poll()
    # only the end of the program closes the other end
    poll.register(reading, 0)
    if poll.poll(grace_seconds * 1000):
        return
    console.note(f"p2v: ended without waiting any longer for a disk or program that does not answer ({grace_seconds:g} s)")
    os._exit(_STATUS[signal.Signals(number)])


def _waiting() -> int:
    """A signal to end that nobody has taken yet; 0: none."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("ShdPnd", "SigPnd"):
                found = [number for number in _STATUS if int(value, 16) >> (number - 1) & 1]
                if found:
                    return found[0]
    return 0
