"""SIGINT, SIGTERM and SIGHUP as wishes: a run ends what it started and gives its leases back, then it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Wishes:
    """Signals that came. ``number``: the first one's; ``count``: how many; ``fd``: readable after one."""

    number: int = 0
    count: int = 0
    fd: int | None = None

    def take(self) -> int:
        """How many there were until now; ``fd`` is no longer readable."""
        if self.fd is not None:
            with suppress(BlockingIOError):
                os.read(self.fd, 1024)
        return self.count


@contextmanager
def signals_as_wishes() -> Iterator[Wishes]:
    """While the context lasts. In another thread than the main one there are no signals to take.

    What is ignored stays so: a run that was started with nohup goes on when its terminal is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Wishes()
        return
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    wishes = Wishes(fd=reading)

    def take(number: int, _: FrameType | None) -> None:
        wishes.number = wishes.number or number
        wishes.count += 1
        with suppress(BlockingIOError):
            os.write(writing, b"s")

    taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, take) for number in taken}
    try:
        yield wishes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
