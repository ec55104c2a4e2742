"""Work on many machines at once, each in a process of its own: one that hangs, crashes or eats memory costs its own answer.

A process per machine and not a pool: what a hostile image did to one cannot reach the next, and memory goes back each time.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from drivers.confinement import end_with_parent, leave_parents_garbage, limit
from p2v.core.units import GIB, KIB, MIB

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOMENT = 0.05
"""Seconds in which a process that was killed has ended, unless it waits inside the kernel."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one piece of work may use. ``seconds`` of wall time; bytes of address space beside what is mapped already."""

    seconds: float = 60.0
    memory_bytes: int = 4 * GIB
    answer_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Answered:
    """What a piece of work gave. ``failure``: in words, how it ended without an answer; ``timed_out``: it was cut off."""

    number: int
    data: Any = None
    failure: str = ""
    timed_out: bool = False
    seconds: float = 0.0


@dataclass(slots=True)
class _Running:
    """One process, and what it has said so far."""

    number: int
    pid: int
    pipe: int
    started: float
    received: bytearray = field(default_factory=bytearray)


def side_by_side(
    work: Callable[[int], Any], count: int, at_once: int, bounds: Bounds, *, order: Sequence[int] | None = None
) -> Iterator[Answered]:
    """The JSON data of ``work(0)`` ... ``work(count - 1)``, in the order in which they end, ``at_once`` at a time.

    Work runs in a forked child: no thread of this process may hold a lock it needs. Whatever work does, its answer comes; a
    process that cannot be killed (it waits for a disk that never answers) is left behind, and said to have been cut off.
    """
    waiting = list(order if order is not None else range(count))
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                _start(work, waiting.pop(0), bounds, running)
            yield from _some(running, bounds)
    finally:
        for each in running.values():
            _end(each)


class Aside:
    """One piece of work, begun at once, that nobody waits for: ask ``answered`` now and then, and close it."""

    def __init__(self, work: Callable[[], Any], bounds: Bounds) -> None:
        self._bounds = bounds
        running: dict[int, _Running] = {}
        _start(lambda _: work(), 0, bounds, running)
        (self._running,) = running.values()
        self._answered: Answered | None = None
        self._is_gone = False

    @property
    def fd(self) -> int:
        """Readable when there may be an answer; -1 once there is one."""
        return self._running.pipe if self._answered is None else -1

    def answered(self) -> Answered | None:
        """What it gave, None while it works. Whatever it waits for, there is an answer when its time is over."""
        poll = select.poll()
        if self._answered is None:
            poll.register(self._running.pipe, select.POLLIN)
        while self._answered is None and poll.poll(0):
            self._keep(_heard(self._running, self._bounds))
        seconds = time.monotonic() - self._running.started
        if self._answered is None and seconds >= self._bounds.seconds:
            self._keep(Answered(0, failure=f"took longer than {self._bounds.seconds:g} s", timed_out=True))
        return self._answered

    def is_gone(self) -> bool:
        """Whether nothing of it is left: one that was cut off while it waited inside the kernel is there until that lets it go."""
        self._is_gone = self._is_gone or (self._answered is not None and _is_reaped(self._running))
        return self._is_gone

    def close(self) -> None:
        """End it if it still works; its answer is that it was cut off."""
        if self._answered is None:
            self._keep(Answered(0, failure="was ended", timed_out=True))

    def _keep(self, answered: Answered | None) -> None:
        if answered is not None:
            seconds = time.monotonic() - self._running.started
            self._answered = replace(answered, seconds=seconds)
            self._is_gone = _end(self._running, _MOMENT)


def _start(work: Callable[[int], Any], number: int, bounds: Bounds, running: dict[int, _Running]) -> None:
    ours, theirs = os.pipe()
    parent = os.getpid()
    # an interrupt between the fork and what follows it would leave a child that nobody ends, or one that acts as its parent
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(work, number, bounds, theirs, parent)
        os.close(theirs)
        running[ours] = _Running(number, pid, ours, time.monotonic())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_child(work: Callable[[int], Any], number: int, bounds: Bounds, pipe: int, parent: int) -> NoReturn:
    """Never returns: this process is a copy of its parent and must not act as it."""
    status = 1
    try:
        leave_parents_garbage()
        # a group of its own, so that what it started ends with it; the parent's Ctrl-C is the parent's to pass on
        os.setpgid(0, 0)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        # nobody cuts off a machine that hangs once the parent was killed
        end_with_parent()
        if os.getppid() != parent:
            os._exit(status)
        _let_go(pipe)
        limit(resource.RLIMIT_AS, _mapped_bytes() + bounds.memory_bytes)
        limit(resource.RLIMIT_CORE, 0)
        answer = _answer(work, number)
        view = memoryview(answer)
        while view:
            view = view[os.write(pipe, view) :]
        status = 0
    finally:
        os._exit(status)


def _let_go(keep: int) -> None:
    """Close what the parent had open, its output too: who reads that must not wait for one that even a kill does not end."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd != keep:
            with suppress(OSError):  # the listing's own is gone already
                os.close(fd)


def _answer(work: Callable[[int], Any], number: int) -> bytes:
    try:
        return json.dumps({"data": work(number)}).encode("ascii")
    except MemoryError:
        return b'{"failure": "used more memory than one machine may"}'
    except Exception as error:  # noqa: BLE001 - one machine's fault is its own answer; the fleet's audit goes on
        return json.dumps({"failure": f"{type(error).__name__}: {error}"[:500]}).encode("ascii")


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _some(running: dict[int, _Running], bounds: Bounds) -> Iterator[Answered]:
    """What ends next: waits until something is said, or a time is over."""
    poll = select.poll()
    for pipe in running:
        poll.register(pipe, select.POLLIN)
    first_end = min(each.started for each in running.values()) + bounds.seconds
    ready = {fd for fd, _ in poll.poll(max(0.0, first_end - time.monotonic()) * 1000 + 1)}
    now = time.monotonic()
    for each in list(running.values()):
        over = now - each.started >= bounds.seconds
        answered = _heard(each, bounds) if each.pipe in ready else None
        if answered is None and over:
            answered = Answered(each.number, failure=f"took longer than {bounds.seconds:g} s", timed_out=True)
        if answered is not None:
            del running[each.pipe]
            _end(each)
            yield Answered(
                answered.number, answered.data, answered.failure, answered.timed_out, time.monotonic() - each.started
            )


def _heard(each: _Running, bounds: Bounds) -> Answered | None:
    piece = os.read(each.pipe, 1024 * KIB)
    if piece:
        each.received += piece
        if len(each.received) <= bounds.answer_bytes:
            return None
        return Answered(each.number, failure=f"gave an answer of more than {bounds.answer_bytes} bytes")
    try:
        message = json.loads(bytes(each.received))
    except (ValueError, RecursionError):
        return Answered(each.number, failure="ended without an answer")
    match message:
        case {"data": data}:
            return Answered(each.number, data)
        case {"failure": str(failure)}:
            return Answered(each.number, failure=failure)
    return Answered(each.number, failure="ended without an answer")


def _end(each: _Running, patience: float = 1.0) -> bool:
    """Close, kill and reap; one that even a kill does not end (it waits inside the kernel) is not waited for: False."""
    os.close(each.pipe)
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(each.pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if _is_reaped(each):
            return True
        time.sleep(0.001)
    return False


def _is_reaped(each: _Running) -> bool:
    """Whether it has ended; asked no more once it has, for its number may be another's then."""
    return os.waitpid(each.pid, os.WNOHANG)[0] != 0
