"""Several threads walking the pieces of one disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from converters.care import NO_CARE, Care
from converters.faults import Faults
from converters.piece_reader import Manner, PieceReader
from converters.pieces import DataPiece, PieceBuffer, ZeroPieces, cut_pieces, first_file
from converters.read_watch import ReadWatch
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError
from p2v.core.events import BytesDone, Event, Reporter
from p2v.core.io_errors import read_problem

_REPORT_SECONDS = 0.05
_LOOK_SECONDS = 0.5
# after so long a read without an answer is told first
_TOLD_SECONDS = 10.0
# a read of a sound disk is answered in less; one that is not may never be
_GRACE_SECONDS = 5.0


@dataclass(eq=False)
class CopyCancelled(P2vError):
    """The caller's ``cancelled`` event was set before the disk was done; what was written is kept."""

    disk: str
    exit_code: ClassVar[int] = 130
    code: ClassVar[str] = "cancelled"

    def sentence(self) -> str:
        return f"{self.disk}: cancelled before it was done"


class PieceSink(Protocol):
    """What becomes of the pieces; every method is called from several threads at once."""

    def zeroes(self, run: ZeroPieces) -> None:
        """Take pieces that read as zero."""
        ...

    def wants(self, piece: DataPiece) -> bool:
        """Whether the piece has to be read at all."""
        ...

    def data(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        """Take a piece that was read; the buffer is reused afterwards."""
        ...


@dataclass
class _Walk:
    """What the threads share."""

    parts: Iterator[DataPiece | ZeroPieces]
    report: Reporter
    phase: str
    cancelled: threading.Event | None
    watch: ReadWatch
    stop: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Nobody waits for the threads any more: what they still read is not to be written."""
    errors: list[BaseException] = field(default_factory=list)
    exhausted: bool = False
    _cutting: threading.Lock = field(default_factory=threading.Lock)
    _reporting: threading.Lock = field(default_factory=threading.Lock)

    def stopped(self) -> bool:
        """Whether somebody wants it to end."""
        return self.stop.is_set() or (self.cancelled is not None and self.cancelled.is_set())

    def next_part(self) -> DataPiece | ZeroPieces | None:
        """The next part for whoever asks first; None when there is nothing left to do."""
        if self.stopped():
            return None
        with self._cutting:
            part = next(self.parts, None)
        if part is None:
            self.exhausted = True
        return part

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self.stop.set()

    def tell_of(self, event: Event) -> None:
        """Pass an event on."""
        with self._reporting:  # a reporter need not be safe for threads
            self.report(event)

    def tell(self, count: int) -> None:
        if count:
            self.tell_of(BytesDone(self.phase, count))


def walk_pieces(
    reader: DiskReader,
    sink: PieceSink,
    *,
    report: Reporter,
    phase: str,
    threads: int = 2,
    cancelled: threading.Event | None = None,
    parts: Iterator[DataPiece | ZeroPieces] | None = None,
    care: Care = NO_CARE,
    faults: Faults | None = None,
) -> None:
    """Give every piece of a disk to ``sink``, with ``threads`` threads.

    Pieces are handed out in the disk's order and finish in any. BytesDone events sum up to the virtual
    size, at most about 20 a second and thread. The first error of any thread ends all of them, after the
    piece each is at, and is raised as it is; so is KeyboardInterrupt in the caller's thread. A thread whose read has had
    no answer for some seconds by then is waited for no longer.
    Memory: one piece for each thread, whatever the size of the disk. ``parts``: the disk as it is cut already. ``care``: how
    gently it is read; ``faults``: what becomes of what cannot be read (default: it is an error).

    Raises what the reader and the sink raise, and CopyCancelled.
    """
    walk = _Walk(_readable(reader, parts or cut_pieces(reader)), report, phase, cancelled, ReadWatch(_TOLD_SECONDS))
    manner = Manner(care, faults or Faults(), walk.watch, walk.stopped)
    sources = [PieceReader(reader, manner=manner) for _ in range(max(1, threads))]
    # daemons, so that one that waits for a dead server does not keep the program from ending
    workers = [
        threading.Thread(target=_work, args=(walk, source, sink, manner), name=phase, daemon=True) for source in sources
    ]
    try:
        for source in sources:
            source.open_ahead()
        for worker in workers:
            worker.start()
        _wait(walk, workers)
    except BaseException:
        walk.stop.set()
        _wait(walk, workers)
        raise
    finally:
        for source, worker in zip(sources, workers, strict=True):
            if not worker.is_alive():
                source.close()
    if walk.errors:
        raise walk.errors[0]
    if not walk.exhausted or walk.abandoned.is_set():
        raise CopyCancelled(str(first_file(reader)))


def _wait(walk: _Walk, workers: Sequence[threading.Thread]) -> None:
    """Until all have ended; once they are to end, not for those that get no answer from the source."""
    for worker in workers:
        while worker.ident is not None and worker.is_alive():
            worker.join(_LOOK_SECONDS)
            walk.watch.look(walk.tell_of)
            if walk.stopped() and walk.watch.waits_since(worker.ident) > _GRACE_SECONDS:
                walk.abandoned.set()
                break


def _readable(reader: DiskReader, parts: Iterator[DataPiece | ZeroPieces]) -> Iterator[DataPiece | ZeroPieces]:
    try:
        yield from parts
    except OSError as error:
        named = Path(error.filename) if error.filename else None
        raise read_problem(error, named or first_file(reader)) from error


def _work(walk: _Walk, source: PieceReader, sink: PieceSink, manner: Manner) -> None:
    try:
        if manner.care.priority is not None:
            manner.care.priority.apply()
        _walk_until_done(walk, source, sink)
    except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
        walk.fail(error)


def _walk_until_done(walk: _Walk, source: PieceReader, sink: PieceSink) -> None:
    buffer: PieceBuffer | None = None
    untold, told = 0, time.monotonic()
    with source:
        while (part := walk.next_part()) is not None:
            if isinstance(part, ZeroPieces):
                sink.zeroes(part)
            elif sink.wants(part):
                buffer = buffer or PieceBuffer()
                source.fill(part, buffer)
                if walk.abandoned.is_set():
                    return
                sink.data(part, buffer)
            untold += part.length
            if (now := time.monotonic()) - told >= _REPORT_SECONDS:
                walk.tell(untold)
                untold, told = 0, now
    walk.tell(untold)
