"""Room on a file system that others fill: looked at while a program writes there that would wait for ever without a word."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.units import MIB
from p2v.core.workspace import free_bytes

# QEMU stops its guest when a write finds no room, and goes on when told to, which nobody would.
_LEAST_BYTES = MIB
_LOOK_SECONDS = 1.0


@dataclass
class RoomWatch:
    """``full`` is true from the moment on that hardly anything could be written any more; ``stop`` is set then."""

    folder: Path
    stop: threading.Event
    full: bool = False
    _ended: threading.Event = field(default_factory=threading.Event)

    def free(self) -> int:
        """Bytes that may still be written. What is kept back for root does not count: not all of it could be written either."""
        return free_bytes(self.folder)

    def run(self) -> None:
        """Look until the end."""
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                free = self.free()
            except OSError:
                return  # the folder is gone: whoever writes there will tell
            if free < _LEAST_BYTES:
                self.full = True
                self.stop.set()
                return

    def end(self) -> None:
        """Look no more."""
        self._ended.set()


@contextmanager
def room_watched(folder: Path, stop: threading.Event) -> Iterator[RoomWatch]:
    """Look every second, while the context lasts, whether ``folder``'s file system is full, and set ``stop`` when it is."""
    watch = RoomWatch(folder, stop)
    thread = threading.Thread(target=watch.run, name="room", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
