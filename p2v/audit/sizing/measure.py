"""Measures what copying would get: random data to the target storage, and the sources by the reader that conversions use.

The only part of sizing that writes. Its scratch files have no names from the moment they are made, so the kernel frees them
whatever ends the program: an error, an interrupt, a kill, a loss of power. Where a file system does not let an open file lose its
name, they are removed at the end.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from converters.direct_file import DirectFile
from p2v.audit.sizing.source_reads import Sources, open_sources
from p2v.audit.sizing.values import Measured, Rate
from p2v.core.errors import NoSpace, NotPermitted, ReadFailed, Usage
from p2v.core.interrupts import held_back
from p2v.core.io_errors import write_problem
from p2v.core.units import KIB, MIB
from p2v.core.workspace import free_bytes

_CHUNK_BYTES = 4 * MIB
_BLOCK_BYTES = 4 * KIB
_SYNCED_BYTES = 32 * MIB
# a quarter of what is free: others write there too
_SHARE_OF_FREE = 4
# fewer bytes say more of the clock than of the storage
_LEAST_BYTES = 16 * MIB
_WAIT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much: each repeat ends after ``seconds``, or when each stream has ``stream_bytes`` done."""

    streams: int = 4
    repeats: int = 5
    seconds: float = 3.0
    stream_bytes: int = 1024 * MIB


USUAL = Bounds()

Clock = Callable[[], float]
Stopped = Callable[[], bool]
Stream = Callable[[Stopped], int]
"""Moves bytes until it is stopped, or has none left, and says how many."""


def measure(folder: Path, disks: Sequence[Path], bounds: Bounds = USUAL, clock: Clock = time.monotonic) -> Measured:
    """Write to ``folder`` and read from ``disks``; what is written is gone afterwards.

    Raises Usage (no folder to measure in, or a source's own), NoSpace, NotPermitted, ReadFailed. A disk that cannot be read is a
    note, no error: the others are read.
    """
    _check_folder(folder, disks)
    write = _write_rate(folder, bounds, clock)
    with open_sources(disks, bounds.streams) as sources:
        read = _read_rate(sources, bounds, clock)
        names, notes = sources.read_disks, sources.notes
    return Measured(str(folder), bounds.streams, write, read, names, notes)


def _check_folder(folder: Path, disks: Sequence[Path]) -> None:
    if not folder.is_dir():
        raise Usage(
            f"--measure {folder}: is no folder", "Name a folder on the storage that the machines will stand on."
        )
    where = folder.resolve()
    beside = next((disk for disk in disks if disk.resolve().parent == where), None)
    if beside is not None:
        raise Usage(
            f"--measure {folder}: {beside.name}, a source, stands in it",
            "Nothing is written beside a source. Name a folder on the storage that the machines will stand on.",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(str(folder), "write to")


def _write_rate(folder: Path, bounds: Bounds, clock: Clock) -> Rate:
    free = free_bytes(folder)
    each = min(bounds.stream_bytes, free // _SHARE_OF_FREE // bounds.streams) // _CHUNK_BYTES * _CHUNK_BYTES
    if each < _CHUNK_BYTES or each * bounds.streams < _LEAST_BYTES:
        needed = _SHARE_OF_FREE * max(_LEAST_BYTES, _CHUNK_BYTES * bounds.streams)
        raise NoSpace(folder, needed, free, "Measure in another folder, or with fewer streams (--concurrent).")
    rates = []
    with ExitStack() as stack:
        writers = [_Writer(folder, stack.enter_context(_scratch_file(folder)), each) for _ in range(bounds.streams)]
        for writer in writers:
            stack.enter_context(contextlib.closing(writer))
        for _ in range(bounds.repeats):
            rates += _one_repeat([writer.run for writer in writers], bounds.seconds, clock)
    rate = _rate(rates)
    if rate is None:
        raise ReadFailed(str(folder), f"too little could be written in {bounds.seconds:g} s to measure a rate")
    return rate


def _read_rate(sources: Sources, bounds: Bounds, clock: Clock) -> Rate | None:
    rates: list[float] = []
    for _ in range(bounds.repeats if sources.streams else 0):
        limited = [stream.up_to(bounds.stream_bytes) for stream in sources.streams]
        rates += _one_repeat(limited, bounds.seconds, clock)
    sources.tell(measured=bool(rates))
    return _rate(rates)


def _rate(rates: Sequence[float]) -> Rate | None:
    return Rate(median(rates), min(rates), max(rates), len(rates)) if rates else None


def _one_repeat(streams: Sequence[Stream], seconds: float, clock: Clock) -> list[float]:
    """The rate of all streams together, for so many seconds; nothing where they moved too little to tell."""
    began = clock()
    moved = _run_together(streams, lambda: clock() - began >= seconds)
    took = clock() - began
    return [moved / took] if moved >= _LEAST_BYTES and took > 0 else []


def _run_together(streams: Sequence[Stream], over: Stopped) -> int:
    """Bytes that all streams moved, each in a thread. An interrupt, or an error of one of them, ends all; it is raised."""
    ended = threading.Event()
    errors: list[BaseException] = []
    moved = [0] * len(streams)

    def work(number: int, stream: Stream) -> None:
        try:
            moved[number] = stream(lambda: ended.is_set() or over())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)
            ended.set()

    threads = [
        threading.Thread(target=work, args=each, name=f"measure-{each[0]}", daemon=True) for each in enumerate(streams)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_WAIT_SECONDS)
    finally:
        ended.set()
        # a second interrupt must not close a file under a thread that still writes to it
        with held_back():
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
    if errors:
        raise errors[0]
    return sum(moved)


class _Writer:
    """One stream of random data into a scratch file, the way that conversions write."""

    def __init__(self, folder: Path, handle: int, limit: int) -> None:
        self._folder, self._handle, self._limit = folder, handle, limit
        self._direct = DirectFile(handle, folder)
        # aligned as direct writes want it; random, so that no storage makes it smaller
        self._memory = mmap.mmap(-1, _CHUNK_BYTES)
        self._memory.write(os.urandom(_CHUNK_BYTES))
        self._stamp = int.from_bytes(os.urandom(6), "little")

    def close(self) -> None:
        """Give back the second way to the file; the file is its maker's."""
        self._direct.close()

    def run(self, stopped: Stopped) -> int:
        """Write from the file's begin on, and wait for the storage every 32 MiB, and at the end."""
        try:
            os.ftruncate(self._handle, 0)
            written = waiting = 0
            while written < self._limit and not stopped():
                self._make_new()
                with memoryview(self._memory) as view:
                    self._direct.write(self._handle, [view], written)
                written += _CHUNK_BYTES
                waiting += _CHUNK_BYTES
                if waiting >= _SYNCED_BYTES:
                    os.fdatasync(self._handle)
                    waiting = 0
            os.fdatasync(self._handle)
        except OSError as error:
            raise write_problem(error, self._folder) from error
        return written

    def _make_new(self) -> None:
        """No block is like one before: storage that looks for equal ones finds none."""
        for at in range(0, _CHUNK_BYTES, _BLOCK_BYTES):
            self._stamp += 1
            self._memory[at : at + 8] = self._stamp.to_bytes(8, "little")


@contextmanager
def _scratch_file(folder: Path) -> Iterator[int]:
    """An open file without a name, or, where that cannot be, one whose name goes at the end."""
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        name = None
    except OSError:
        handle, name = _named_scratch(folder)
    try:
        yield handle
    finally:
        os.close(handle)
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _named_scratch(folder: Path) -> tuple[int, str | None]:
    """For file systems without O_TMPFILE: its name is taken away at once, or is for the caller to remove."""
    try:
        handle, name = tempfile.mkstemp(prefix=".p2v-measure-", dir=folder)
    except OSError as error:
        raise write_problem(error, folder) from error
    try:
        os.unlink(name)
    except OSError:
        return handle, name
    return handle, None
