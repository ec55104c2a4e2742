"""libguestfs itself: read when it is wanted, called in one thread, and its QEMU found by a name.

The only module that imports guestfs.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from p2v.core.errors import ToolMissing


def library() -> ModuleType:
    """guestfs, read by those runs alone that start an appliance. Raises ToolMissing."""
    try:
        import guestfs
    except ImportError as error:
        raise ToolMissing(f"libguestfs ({error})", "python3-guestfs") from error
    return cast(ModuleType, guestfs)


def silence(handle: Any) -> None:
    """Keep libguestfs from writing each error of the calling thread to our stderr as well as raising it.

    Its Python module has no call for that, so the C one is made; where it cannot be, messages appear twice.
    """
    with suppress(OSError, AttributeError, ValueError):
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        library = ctypes.CDLL("libguestfs.so.0")
        library.guestfs_set_error_handler.restype = None
        library.guestfs_set_error_handler.argtypes = [ctypes.c_void_p] * 3
        library.guestfs_set_error_handler(pointer(handle._o, b"guestfs_h"), None, None)


@dataclass
class Outcome:
    """The result of one call, carried from the thread that makes it."""

    function: Callable[[], Any]
    value: Any = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            self.value = self.function()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error
        self.done.set()


class Caller:
    """The one thread that calls into libguestfs, which keeps a handle's error handling by thread."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="appliance", daemon=True)
        self._thread.start()

    def start(self, function: Callable[[], Any]) -> Outcome:
        """Have it called as soon as the thread is free."""
        outcome = Outcome(function)
        self._calls.put(outcome)
        return outcome

    def end(self) -> None:
        """Let the thread end when it is free."""
        self._calls.put(None)

    def _run(self) -> None:
        while outcome := self._calls.get():
            outcome.run()


def processes_with_argument(argument: bytes) -> Iterator[int]:
    """Descriptors (pidfd) of the processes that have exactly this argument; the caller closes them."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            # opened first: what is read afterwards is about this very process, however ids are reused
            process = os.pidfd_open(int(entry))
            try:
                if argument in Path("/proc", entry, "cmdline").read_bytes().split(b"\0"):
                    yield process
                    continue
            except OSError:
                pass
            os.close(process)
