"""A target file that appears whole or not at all, and that an interrupted run can go on with.

The disk is written to the partial name the caller gives, with a journal beside it (``NAME.journal``).
Whatever ends a run, a later run with the same source finds the pieces that were safely written, copies the
others, and ends with the same image. A commit of an overlay into the target writes into finished pieces:
``note_committing`` is called before it, and should the commit be interrupted, those pieces are taken from
the source again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from converters.checkpoints import CHECKPOINT_BYTES, CHECKPOINT_SECONDS, Checkpoints
from converters.faults import BadRanges, Faults
from converters.host_file import open_in_qemu, open_target_file
from converters.journal import Committing, Copied, JournalFile, JournalHeader, Naming, PieceRuns
from converters.pieces import PIECE_BYTES, piece_count, piece_length
from converters.qcow2_preallocated import PreallocatedQcow2Writer
from converters.qcow2_writer import Qcow2Writer
from converters.raw_writer import RawWriter
from converters.reflink import Share, SharedRange, touched
from converters.resumed import Resumed, checksum
from converters.target_formats import PLAIN, Preallocation, TargetOptions, require_sensible
from converters.target_formats import TargetFormat as TargetFormat
from converters.target_writer import PlacedWriter
from p2v.core.errors import P2vError, TargetBusy
from p2v.core.interrupts import held_back
from p2v.core.io_errors import close_written, read_problem
from p2v.core.workspace import rename_new, sync_folder


@dataclass
class RecordedWriter:
    """A ``TargetWriter`` that notes each piece it wrote and knows those of an earlier run."""

    resumed: Resumed
    checkpoints: Checkpoints
    held_back: frozenset[int] = frozenset()
    """Pieces that are written last: without them, an unfinished disk on a device does not look like one."""
    _held: dict[int, tuple[bytes, int]] = field(default_factory=dict, repr=False)

    @property
    def inner(self) -> PlacedWriter:
        """What writes."""
        return self.resumed.writer

    @property
    def path(self) -> Path:
        """See ``TargetWriter``."""
        return self.inner.path

    @property
    def virtual_size(self) -> int:
        """See ``TargetWriter``."""
        return self.inner.virtual_size

    @property
    def starts_empty(self) -> bool:
        """See ``TargetWriter``."""
        return self.inner.starts_empty

    def is_done(self, index: int) -> bool:
        """Whether an earlier run left the piece complete, and it still is as it was written then: it is read, once."""
        if index not in self.resumed.done:
            return False
        if self.resumed.still_done(index):
            return True
        self.checkpoints.take_back(index)
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter``; a failed checkpoint is raised here too."""
        if index in self.held_back:
            self._held[index] = (bytes(data), data_map)
            return 0
        place = self.inner.write_piece(index, data, data_map)
        self.checkpoints.note(index, place, data_map, checksum(data, data_map), len(data))
        return place

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter``."""
        place = None if index in self.held_back else self.inner.share_piece(index, ranges, share)
        if place is not None:
            # nobody has read it: the next run shares it once more
            self.checkpoints.note(index, place, touched(ranges), 0, piece_length(index, self.virtual_size))
        return place

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter``; pieces that an earlier run left are passed over."""
        start = first
        while start < first + count:
            stop = start
            while stop < first + count and stop not in self.resumed.done:
                stop += 1
            self.inner.write_zeroes(start, stop - start)
            for index in range(start, stop):
                self.checkpoints.note(index, 0, 0, 0, piece_length(index, self.virtual_size))
            start = stop + 1

    def finish(self) -> None:
        """Record what is written, then complete the image."""
        self.checkpoints.flush()
        if self._held:
            # killed right behind this, the next run knows that what looks like a disk there is its own
            self.checkpoints.journal.append(Committing(tuple((index, 1) for index in self._held)))
            self.checkpoints.journal.sync()
        for index, (data, data_map) in self._held.items():
            view = memoryview(data)
            place = self.inner.write_piece(index, view, data_map)
            self.checkpoints.note(index, place, data_map, checksum(view, data_map), len(data))
        self._held.clear()
        self.checkpoints.flush()
        self.inner.finish()

    def close(self) -> None:
        """Close the file."""
        self.inner.close()


@dataclass
class Target:
    """An open target. Leaving its context keeps file and journal, whatever happened, until ``publish`` or
    ``discard``.

    ``resumed_bytes`` were recorded as complete; ``restart_reason`` says why nothing was taken over although there
    was something (empty otherwise). ``is_device``: it is no file and has its name already.
    """

    path: Path
    format: TargetFormat
    writer: RecordedWriter
    journal: JournalFile
    resumed_bytes: int = 0
    restart_reason: str = ""
    is_device: bool = False
    unreadable: BadRanges = field(default_factory=BadRanges)
    """Ranges of the disk that earlier runs could not read."""
    lost: BadRanges = field(default_factory=BadRanges)
    """Those among them that are zeroes in pieces which are taken over."""
    _closed: bool = field(default=False, repr=False)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            self.close()
        except P2vError:
            if kind is None:  # closing never hides the first error
                raise

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of an earlier run's part, in sentences; after the copy, for only then it was looked at."""
        damaged = self.writer.resumed.damaged_bytes
        if not damaged:
            return ()
        return (f"{self.path.name}: {damaged} bytes of an earlier run were not as it wrote them; they were copied again",)

    def finish_copy(self) -> None:
        """All pieces are written: complete the image. On return it is on stable storage.

        Raises NoSpace, ReadFailed.
        """
        self.writer.finish()
        self.journal.append(Copied())
        self.journal.sync()

    def faults(self, disk: int, *, skip: bool) -> Faults:
        """What to do about what cannot be read of the source's disk with this number; the journal will know of it."""
        found = self.writer.checkpoints.note_unreadable
        return Faults(skip, disk, known=self.unreadable, lost=self.lost, found=found)

    def note_committing(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Call before anything writes into ranges (offset, length, in bytes) of the finished target.

        On return this is on stable storage.
        """
        self.journal.append(Committing(piece_runs(ranges, self.writer.virtual_size)))
        self.journal.sync()

    def sync(self) -> None:
        """Put the finished target on stable storage, with what others wrote into it."""
        self.writer.inner.sync()

    def publish(self, final: Path) -> None:
        """Sync the finished target, give it its final name (but a device) and remove the journal. Closes the target.

        Killed in the middle of that, ``finish_published`` ends it. Raises TargetExists when the name is taken.
        """
        self.sync()
        if self.is_device:
            self.release()
            return
        try:
            found = self.path.stat()
        except OSError as error:
            raise read_problem(error, self.path) from error
        self.journal.append(Naming(found.st_ino, found.st_size))
        self.journal.sync()
        with held_back():
            rename_new(self.path, final)
            sync_folder(final.parent)
            self.release()

    def release(self) -> None:
        """Close the target, which has its final name by now, and remove the journal."""
        self._shut()
        self.journal.remove()

    def discard(self) -> None:
        """Remove the target (but a device) and its journal. Closes the target."""
        self._shut()
        if not self.is_device:
            with contextlib.suppress(OSError):  # what is left is overwritten: the journal that speaks of it goes
                self.path.unlink()
        self.journal.remove()

    def close(self) -> None:
        """Record what was written, close, and keep everything for a later run. Closing twice is harmless."""
        if self._closed:
            return
        try:
            self.writer.checkpoints.stop()
            if self.writer.checkpoints.error is None:
                self.writer.checkpoints.flush()
        finally:
            self._shut()
            self.journal.close()

    def _shut(self) -> None:
        self._closed = True
        self.writer.checkpoints.stop()
        self.writer.close()


def journal_path(partial: Path) -> Path:
    """Where the journal of a partial target is."""
    return partial.with_name(partial.name + ".journal")


def open_target(
    partial: Path,
    target_format: TargetFormat,
    virtual_size: int,
    identity: str,
    *,
    options: TargetOptions = PLAIN,
    skip_unreadable: bool = False,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Target:
    """Open a target for writing, going on with an earlier run's where that is safe.

    ``identity`` is the source's, as the caller understands it: another text means another source, and the
    target is begun anew; so do other ``options``. Whatever else has the partial name is overwritten. Unless
    ``skip_unreadable``, pieces with zeroes for what could not be read are copied again.

    Raises TargetBusy (another run, or an orphaned qemu-img, is at it), TargetExists (the name is a folder, a
    link, a device), Usage (options that make no sense), NotPermitted, NoSpace, ReadFailed.
    """
    require_sensible(target_format, options)
    header = JournalHeader(identity, virtual_size, options.text(target_format), PIECE_BYTES)
    journal = JournalFile(journal_path(partial), partial)
    opening = _Opening(partial, target_format, options, virtual_size)
    try:
        _require_unused(partial)
        resumed, reason = _resume(opening, journal, header, skip_unreadable=skip_unreadable)
        if resumed is None:
            resumed = Resumed(_start(opening, journal, header))
    except BaseException:
        journal.close()
        raise
    checkpoints = Checkpoints(resumed.writer, journal, checkpoint_bytes, checkpoint_seconds)
    writer = RecordedWriter(resumed, checkpoints)
    return Target(
        partial, target_format, writer, journal, resumed.done_bytes, reason, unreadable=resumed.unreadable, lost=resumed.lost
    )


def piece_runs(ranges: Iterable[tuple[int, int]], virtual_size: int) -> PieceRuns:
    """The runs of pieces that byte ranges (offset, length) touch, in order and joined."""
    touched = sorted((start, min(start + length, virtual_size)) for start, length in ranges)
    runs: list[tuple[int, int]] = []
    for start, end in touched:
        if start >= end:
            continue
        first, stop = start // PIECE_BYTES, piece_count(end)
        if runs and first <= runs[-1][0] + runs[-1][1]:
            first, stop = runs[-1][0], max(stop, runs[-1][0] + runs[-1][1])
            runs.pop()
        runs.append((first, stop - first))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a writer is made for."""

    partial: Path
    format: TargetFormat
    options: TargetOptions
    virtual_size: int

    def writer(self, *, resume: bool) -> PlacedWriter:
        if self.format is TargetFormat.RAW:
            return RawWriter(self.partial, self.virtual_size, resume=resume, options=self.options)
        if self.options.preallocation is not Preallocation.OFF:
            return PreallocatedQcow2Writer(self.partial, self.virtual_size, self.options, resume=resume)
        return Qcow2Writer(self.partial, self.virtual_size, resume=resume, options=self.options)


def _resume(
    opening: _Opening, journal: JournalFile, header: JournalHeader, *, skip_unreadable: bool
) -> tuple[Resumed | None, str]:
    """What an earlier run left, or None and the reason when there is nothing to go on with."""
    partial = opening.partial
    found = journal.read_header()
    if found is None:
        return None, "the partial file has no sound record" if partial.exists() else ""
    if found != header:
        return None, difference(found, header)
    if not partial.exists():
        # killed between the two: nothing was lost, and there is nothing to tell
        is_empty = next(journal.records(), None) is None
        return None, "" if is_empty else "the partial file is gone"
    resumed = Resumed(opening.writer(resume=True))
    try:
        resumed.replay(journal, skip_unreadable=skip_unreadable)
        if resumed.is_empty:
            resumed.writer.close()
            return None, ""
        resumed.tidy(journal)
    except ValueError as error:
        resumed.writer.close()
        return None, str(error)
    except BaseException:
        resumed.writer.close()
        raise
    return resumed, ""


def difference(found: JournalHeader, wanted: JournalHeader) -> str:
    """Why a journal is of no use for what is wanted."""
    if found.device != wanted.device:
        return "the device is not the one that was being written"
    if found.identity != wanted.identity:
        return "the source is not the one that was being copied"
    if found.virtual_size != wanted.virtual_size:
        return f"the disk had {found.virtual_size} bytes and has {wanted.virtual_size} now"
    if found.format != wanted.format:
        return f"the partial file was to become {found.format}"
    return "the record was written by another version"


def _start(opening: _Opening, journal: JournalFile, header: JournalHeader) -> PlacedWriter:
    # First the journal: an old one must never speak about the new file.
    journal.start(header)
    writer = opening.writer(resume=False)
    try:
        sync_folder(opening.partial.parent)
    except BaseException:
        writer.close()
        raise
    return writer


def _require_unused(partial: Path) -> None:
    """Raise TargetBusy when QEMU has the file open: our lock died with the run that started it, it did not."""
    if not partial.exists():
        return
    handle = open_target_file(partial, resume=True)
    try:
        if open_in_qemu(handle):
            raise TargetBusy(partial)
    finally:
        close_written(handle)
