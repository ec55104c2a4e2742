"""Copying without disturbing the host: no faster than asked, with a low I/O priority, and beside the page cache."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2v.core.units import KIB, MIB

_WAIT_SECONDS = 0.1
_NOTHING = 1e-9  # sums of parts of seconds are never exact
# ioprio_set(2) has no wrapper in the C library; cachestat(2) (Linux 6.5) has one number everywhere
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "ppc64le": 273, "s390x": 282, "riscv64": 30}
_CACHESTAT = 451
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_SHIFT = 1, 13
_SYNC_FILE_RANGE = 1 | 2 | 4  # wait for what is being written, write what is not, wait again
_STEP_BYTES = 64 * KIB
# what may be waiting to be written: two seconds of a slow disk
_WINDOW_BYTES = 64 * MIB


class RateLimit:
    """At most so many bytes a second, of all threads together. Who asks waits for its turn; nothing is saved up.

    The rate may change at any time, also for who waits already: what has been read before is paid for at the rate of its time.
    """

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._rate = _positive(bytes_per_second)
        # bytes that could have been read until the moment of the second number, and that were promised: the clock of turns
        self._passed, self._until, self._promised = 0.0, clock(), 0.0

    @property
    def bytes_per_second(self) -> int:
        """The rate now."""
        return self._rate

    def change(self, bytes_per_second: int) -> None:
        """Go by another rate from now on."""
        rate = _positive(bytes_per_second)
        with self._lock:
            self._pass()
            self._rate = rate

    def take(self, count: int, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until ``count`` bytes more may be read, or until ``stopped`` says that they need not."""
        with self._lock:
            turn = max(self._pass(), self._promised)
            self._promised = turn + count
        while not stopped() and (left := self._seconds_until(turn)) > _NOTHING:
            self._sleep(min(left, _WAIT_SECONDS))

    def _pass(self) -> float:
        now = self._clock()
        self._passed += (now - self._until) * self._rate
        self._until = now
        return self._passed

    def _seconds_until(self, turn: float) -> float:
        with self._lock:
            return (turn - self._pass()) / self._rate


def _positive(bytes_per_second: int) -> int:
    if bytes_per_second <= 0:
        raise ValueError(f"{bytes_per_second} bytes a second")
    return bytes_per_second


@dataclass(frozen=True, slots=True)
class IoPriority:
    """An I/O scheduling class and level, as ioprio_set(2) takes them: 3 idle, 2 best-effort (level 0, first, to 7)."""

    scheduling_class: int
    level: int = 0

    def apply(self) -> bool:
        """Give it to the calling thread; whether the kernel took it."""
        number = _IOPRIO_SET.get(platform.machine())
        if number is None:
            return False
        libc = ctypes.CDLL(None, use_errno=True)
        value = self.scheduling_class << _IOPRIO_CLASS_SHIFT | self.level
        return bool(libc.syscall(ctypes.c_long(number), _IOPRIO_WHO_PROCESS, 0, value) == 0)


@dataclass(frozen=True, slots=True)
class Care:
    """How gently a source is read. ``spare_cache``: what reading and writing brings into the page cache goes out again."""

    limit: RateLimit | None = None
    priority: IoPriority | None = None
    spare_cache: bool = False


NO_CARE = Care()


def is_cached(handle: int, offset: int, length: int) -> int | None:
    """How many bytes of a range of a file are in the page cache (whole pages); None where the kernel does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    asked = (ctypes.c_uint64 * 2)(offset, length)
    found = (ctypes.c_uint64 * 5)()
    if libc.syscall(ctypes.c_long(_CACHESTAT), handle, ctypes.byref(asked), ctypes.byref(found), 0) != 0:
        return None
    return int(found[0]) * os.sysconf("SC_PAGE_SIZE")


def not_cached(handle: int, offset: int, length: int) -> list[tuple[int, int]]:
    """The parts of a range (offset, length) of which nothing is in the page cache; all of it where the kernel does not tell."""
    cached = is_cached(handle, offset, length)
    if not cached:
        return [(offset, length)]
    if cached >= length:
        return []
    steps = [(at, min(_STEP_BYTES, offset + length - at)) for at in range(offset, offset + length, _STEP_BYTES)]
    return [(at, size) for at, size in steps if not is_cached(handle, at, size)]


def drop(handle: int, offset: int, length: int) -> None:
    """Let the pages of a range go, as far as they are clean. ``length`` 0: to the end."""
    os.posix_fadvise(handle, offset, length, os.POSIX_FADV_DONTNEED)


class WriteBehind:
    """Sees to it that what is written to a file soon is on its disk, and in the page cache no more.

    Not for durability: metadata stay where they are. Any thread may call ``written``.
    """

    def __init__(self, path: Path, window_bytes: int = _WINDOW_BYTES) -> None:
        # a descriptor of its own: which one the writer uses is the writer's matter
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._window_bytes = window_bytes
        self._waiting = 0
        self._lock = threading.Lock()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._sync = getattr(self._libc, "sync_file_range", None)

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._flush()
        os.close(self._handle)

    def written(self, count: int) -> None:
        """So many bytes more were written; every now and then, the caller waits until they are on the disk."""
        with self._lock:
            self._waiting += count
            if self._waiting < self._window_bytes:
                return
            self._waiting = 0
        self._flush()

    def _flush(self) -> None:
        if self._sync is not None:
            zero = ctypes.c_int64(0)
            if self._sync(self._handle, zero, zero, ctypes.c_uint(_SYNC_FILE_RANGE)) and ctypes.get_errno() != errno.EINTR:
                # where this cannot be done, and where writing fails: the writer's own sync tells
                self._sync = None
        drop(self._handle, 0, 0)


def memory_bytes() -> int:
    """The memory of this host."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
