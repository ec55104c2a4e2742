"""One conversion as a child process: its events as they come, the tail of what else it says, and a sure end.

The child answers in JSON lines on its stderr (`p2v convert --progress json`). ``Starter`` and ``Child`` are what the runner knows
of it; ``LocalStarter`` starts it on this host.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from p2v.batch.jobs import MachineJob
from p2v.batch.marking import marked_environment
from p2v.batch.said_file import SaidFile
from p2v.core.memory_group import MemoryWatch, ended_first
from p2v.core.run import Piped, start_piped
from p2v.core.text import printable
from p2v.core.units import KIB, MIB
from p2v.told_limits import told

GRACE_SECONDS = 20.0
"""Between asking a child to end and killing it: it closes an appliance and syncs what it copied."""
_UNKILLABLE_SECONDS = 10.0
_READ_BYTES = 256 * KIB
_LONGEST_LINE = 1 * MIB
_TAIL_LINES, _TAIL_LETTERS = 40, 2000
_LOOK_SECONDS = 0.2

Heard = Mapping[str, Any]
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run: values only, so that it can go to another host.

    ``argv``: p2v's own arguments, the verb first. ``environment``: beside the starter's own. ``fence``: the lease's number.
    ``is_told``: it heeds limits that it is told while it runs. ``since``: when the machine was first taken, where earlier attempts
    may have converted it already (seconds since 1970, by the clock of the host that is furthest behind).
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    fence: int
    machine: MachineJob
    is_told: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. ``exit_status``: negative for the signal that ended it. ``tail``: what it said that was no event.

    ``lost``: in words, that nobody knows how it ended. ``stdout``: its beginning, where it was listened to. ``record``: where this
    host has its record, if that is not beside its results: those are on another host's disk.
    """

    exit_status: int
    tail: str
    seconds: float
    lost: str = ""
    stdout: str = ""
    record: Path | None = None


class Child(Protocol):
    """A child that was started. Nothing here waits, but ``close``."""

    def heard(self) -> Sequence[Heard]:
        """The events since the last call; asked after ``ended`` told of an end: the last there will be."""
        ...

    def ended(self) -> Ended | None:
        """How it ended; None while it runs. Its last events are there to be heard then."""
        ...

    def stop(self, at_once: bool = False) -> None:
        """Ask it to end, and end it after a grace; ``at_once``: end it now. ``ended`` tells when it did."""
        ...

    def limit(self, bytes_per_second: int) -> None:
        """Tell it what its copy may use from now on; it answers by an event ``limit`` when it goes by that. Only one whose
        order says so heeds it.
        """
        ...

    def fds(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to hear; with none it is looked at now and then.

        The first one tells of its end, at least; ``wait_for`` may wait a little for more than a word from the others.
        """
        ...

    def close(self) -> None:
        """End it if it still runs, and free what it has."""
        ...


class Starter(Protocol):
    """What starts children."""

    def start(self, order: Order) -> Child:
        """Start one. Raises P2vError: this attempt's failure."""
        ...


@dataclass
class LocalStarter:
    """Starts children on this host, marked as the batch's; they get SIGTERM when the thread ends that started them.

    ``program``: what p2v's arguments are given to. ``environment``: beside ours, for all of them.
    """

    store: Path
    program: tuple[str, ...] = (sys.executable, "-m", "p2v")
    grace_seconds: float = GRACE_SECONDS
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, order: Order) -> LocalChild:
        """See ``Starter.start``. Raises ToolMissing, and OSError where the host starts no more programs."""
        child = self.run((*self.program, *order.argv), order.name, order.environment, is_told=order.is_told)
        ended_first(child.pid)
        return child

    def run(
        self,
        argv: Sequence[str],
        job: str,
        environment: Mapping[str, str] = _NOTHING,
        *,
        stdout_bytes: int = 0,
        is_told: bool = False,
    ) -> LocalChild:
        """Any program, for a job; ``stdout_bytes``: how much of what it says there is kept. Raises as ``start``."""
        with contextlib.ExitStack() as stack:
            marks = stack.enter_context(marked_environment(self.store, job))
            env = {**self.environment, **environment, **marks}
            memory = MemoryWatch.begun()
            piped = start_piped(argv, env=env, with_stdout=stdout_bytes > 0, is_told=is_told)
            return LocalChild(piped, stdout_bytes, self.grace_seconds, stack.pop_all(), memory)

    def hook(self, argv: Sequence[str], stdin: bytes) -> LocalChild:
        """A command of the batch's owner: what it leaves running is its own affair, and it goes on should we be killed.

        Raises as ``start``.
        """
        with contextlib.ExitStack() as stack:
            said = stack.enter_context(contextlib.closing(SaidFile.made()))
            piped = start_piped(argv, env=self.environment, stdin=stdin, said=said.writer, ends_with_us=False)
            return LocalChild(piped, 0, self.grace_seconds, stack.pop_all(), MemoryWatch.begun(), _said=said)


@dataclass
class LocalChild:
    """A process of this host, and what it has said so far."""

    _piped: Piped
    _stdout_bytes: int
    _grace_seconds: float
    _folders: contextlib.ExitStack
    _memory: MemoryWatch
    _began: float = field(default_factory=time.monotonic)
    _lines: _Lines = field(default_factory=lambda: _Lines())
    _stdout: bytearray = field(default_factory=bytearray)
    _events: list[Heard] = field(default_factory=list)
    _asked: float | None = None
    _killed: float | None = None
    _end: Ended | None = None
    _stdout_over: bool = False
    _said: SaidFile | None = None
    _untold: int | None = None

    @property
    def pid(self) -> int:
        """Its number, which is its own until ``close``."""
        return self._piped.process.pid

    def heard(self) -> Sequence[Heard]:
        """See ``Child.heard``."""
        if self._end is None:
            self._listen()
            if self._untold is not None:
                self.limit(self._untold)
        events, self._events = self._events, []
        return events

    def ended(self) -> Ended | None:
        """See ``Child.ended``."""
        if self._end is not None:
            return self._end
        now = time.monotonic()
        if self._piped.has_ended():
            # first what is left of its group, which may write for ever
            self._piped.kill()
            self._listen(to_the_end=True)
            self._finish(self._piped.close())
        elif self._killed is not None and now - self._killed >= _UNKILLABLE_SECONDS:
            self._piped.close(0.0)
            self._finish(None)
        elif self._asked is not None and self._killed is None and now - self._asked >= self._grace_seconds:
            self.stop(at_once=True)
        return self._end

    def stop(self, at_once: bool = False) -> None:
        """See ``Child.stop``."""
        if self._end is not None:
            return
        if at_once and self._killed is None:
            self._killed = time.monotonic()
            self._piped.kill()
        elif self._asked is None:
            self._asked = time.monotonic()
            self._piped.ask_to_end()

    def limit(self, bytes_per_second: int) -> None:
        """See ``Child.limit``."""
        # one that has not read the last ones for long is told of the newest later
        heard = self._end is not None or self._piped.tell(told(bytes_per_second))
        self._untold = None if heard else bytes_per_second

    def fds(self) -> tuple[int, ...]:
        """See ``Child.fds``."""
        if self._end is not None:
            return ()
        listened = [self._piped.ended]
        # a file is always readable
        if self._said is None and not self._lines.is_over:
            listened.append(self._piped.stderr)
        if self._piped.stdout is not None and not self._stdout_over:
            listened.append(self._piped.stdout)
        return tuple(listened)

    def close(self) -> None:
        """See ``Child.close``."""
        if self._end is None:
            self._finish(self._piped.close())
        self._folders.close()

    def _listen(self, to_the_end: bool = False) -> None:
        pieces = 64 if to_the_end else 4  # of one that writes without end, no more than that at a time
        for _ in range(pieces):
            piece = self._piece()
            if piece is None:
                break
            self._events += self._lines.add(piece)
        if to_the_end and self._said is not None:
            self._events += self._lines.add(b"")  # a last line that was not ended
        while self._piped.stdout is not None and not self._stdout_over:
            piece = _read(self._piped.stdout)
            if piece is None:
                break
            self._stdout_over = not piece
            # what is over the bound is read all the same: nobody waits for us
            self._stdout += piece[: max(0, self._stdout_bytes - len(self._stdout))]

    def _piece(self) -> bytes | None:
        if self._said is not None:
            return self._said.read() or None
        return _read(self._piped.stderr) if not self._lines.is_over else None

    def _finish(self, status: int | None) -> None:
        lost = (
            ""
            if status is not None
            else "it did not end though it was killed: it waits for a disk that does not answer"
        )
        seconds = time.monotonic() - self._began
        status = -signal.SIGKILL if status is None else status
        stdout = bytes(self._stdout).decode("utf-8", "replace")
        if status != 0 and (short := self._memory.words()):
            # the kernel tells nobody else; it may have been a program that the child had started
            self._events.append({"event": "warning", "message": short})
        self._end = Ended(status, "\n".join(self._lines.tail), seconds, lost, stdout)
        self._folders.close()


@dataclass
class _Lines:
    """A stream of lines, some of which are events; the others are kept, the last of them, each cut."""

    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    is_over: bool = False
    _rest: bytearray = field(default_factory=bytearray)
    _skips: bool = False

    def add(self, piece: bytes) -> list[Heard]:
        """What came; nothing: the end. The events among it."""
        self.is_over = not piece
        *lines, rest = (bytes(self._rest) + (piece or b"\n")).split(b"\n")
        self._rest = bytearray(rest)
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) > _LONGEST_LINE:
            self._rest.clear()
            self._skips = True
        return events

    def _line(self, line: bytes) -> Heard | None:
        if self._skips:
            self._skips = False
            return None
        event = event_of(line)
        if event is None and line.strip():
            self.tail.append(printable(line.decode("utf-8", "replace"))[:_TAIL_LETTERS])
        return event


def event_of(line: bytes) -> Heard | None:
    """A line as an event: a JSON object that names it; None where it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def _read(descriptor: int) -> bytes | None:
    """What there is to read; nothing: the end; None: nothing yet."""
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None


def wait_for(children: Sequence[Child], seconds: float, also: Sequence[int] = (), pace: float = 0.0) -> None:
    """Until one of them has something to tell, one of ``also`` is readable, or the time is over.

    ``pace``: when it is no end that is told of, wait so long for more: copies tell of each piece.
    """
    heard = [child.fds() for child in children]
    if any(not descriptors for descriptors in heard):
        seconds = min(seconds, _LOOK_SECONDS)
    ends = [*also, *(descriptors[0] for descriptors in heard if descriptors)]
    words = [descriptor for descriptors in heard for descriptor in descriptors[1:]]
    ready = _wait([*ends, *words], seconds)
    if ready and pace and not ready & set(ends):
        _wait(ends, pace)


def _wait(descriptors: Sequence[int], seconds: float) -> set[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}


def run_to_end(
    starter: Starter,
    order: Order,
    hear: Callable[[Heard], None],
    must_stop: Callable[[], bool] = lambda: False,
    new_limit: Callable[[], int | None] = lambda: None,
) -> Ended:
    """Run a child in this thread to its end. ``new_limit``: what it is to be told now, each once.

    Raises what starting raises, and what ``hear`` does, the child ended.
    """
    child = starter.start(order)

    def look() -> None:
        if (limit := new_limit()) is not None:
            child.limit(limit)
        if must_stop():
            child.stop()

    return follow(child, look, hear)


def follow(
    child: Child, look: Callable[[], None], hear: Callable[[Heard], None] = lambda event: None, also: Sequence[int] = ()
) -> Ended:
    """Wait in this thread for a child's end; ``look`` is called now and then, and when one of ``also`` is readable.

    The child is closed in any case. Raises what ``hear`` and ``look`` do.
    """
    try:
        while True:
            wait_for([child], _LOOK_SECONDS, also)
            ended = child.ended()
            for event in child.heard():
                hear(event)
            if ended is not None:
                return ended
            look()
    finally:
        child.close()
