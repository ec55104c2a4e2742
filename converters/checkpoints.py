"""Recording finished pieces in the background: first the data are synced, then the record is written."""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, field

from converters.journal import CannotRead, Forgotten, JournalFile, PiecesDone
from converters.target_writer import PlacedWriter
from p2v.core.errors import P2vError
from p2v.core.units import GIB

# Where 5 seconds are more than this, syncing is cheap; where they are less, they come first.
CHECKPOINT_BYTES = GIB
CHECKPOINT_SECONDS = 5.0


@dataclass
class Checkpoints:
    """Pieces written and not yet recorded, and the thread that records them.

    Every ``every_bytes`` or ``every_seconds``, whichever comes first. Copying threads never wait for it; an
    error it meets is raised to the next of them.
    """

    writer: PlacedWriter
    journal: JournalFile
    every_bytes: int = CHECKPOINT_BYTES
    every_seconds: float = CHECKPOINT_SECONDS
    error: P2vError | None = None
    _pending: array[int] = field(default_factory=lambda: array("I"))
    _pending_bytes: int = 0
    _unreadable: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {False: [], True: []})
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _recording: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
    _thread: threading.Thread | None = None

    def note(self, index: int, place: int, data_map: int, checksum: int, length: int) -> None:
        """A piece was written (not synced). Raises the error an earlier checkpoint met."""
        with self._changed:
            if self.error is not None:
                raise self.error
            self._pending.extend((index, place, data_map, checksum))
            self._pending_bytes += length
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()
            if self._pending_bytes >= self.every_bytes:
                self._changed.notify_all()

    def note_unreadable(self, offset: int, length: int, filled: bool) -> None:
        """A range of the disk cannot be read; noted before the piece that it is in, where zeroes took its place."""
        with self._changed:
            self._unreadable[filled].append((offset, length))

    def flush(self) -> None:
        """Sync and record everything noted so far."""
        if self.error is not None:
            raise self.error
        with self._recording:
            with self._changed:
                done, self._pending, self._pending_bytes = self._pending, array("I"), 0
                unreadable = {filled: tuple(ranges) for filled, ranges in self._unreadable.items()}
                self._unreadable = {False: [], True: []}
            for filled, ranges in unreadable.items():
                # before the pieces: a piece with zeroes in it is never taken for a whole one
                self.journal.append(CannotRead(ranges, filled))
            if done:
                # Every piece in ``done`` was written before it was noted, hence before this sync.
                self.writer.sync()
                self.journal.append(PiecesDone(done))
                self.journal.sync()

    def take_back(self, index: int) -> None:
        """A piece that was recorded is not there, or not sound, and reads as zero now."""
        with self._recording:
            self.journal.append(Forgotten(((index, 1),)))

    def stop(self) -> None:
        """End the thread; what is pending stays so."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._due, self.every_seconds)
                if self._stopping:
                    return
            try:
                self.flush()
            except P2vError as error:
                with self._changed:
                    self.error = error
                return

    def _due(self) -> bool:
        return self._stopping or self._pending_bytes >= self.every_bytes
