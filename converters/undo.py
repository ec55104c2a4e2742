"""Taking a conversion in place back by its journal: the exact bytes, unless the disks were used since.

A disk counts as used since when a range is not what the commit wrote, when a file has another size, or was written to at a
later time than the commit's end. A guest that ran has mounted its root, whose superblock the rewriting changed too, so it is
always in a range; for block devices, which have no time, the ranges are all there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.storage import FileState, Storage, StoredFile
from converters.transaction import OpenFiles, put_back, require_between
from converters.undo_journal import State, UndoJournal, open_journal
from p2v.core.errors import BadTarget, UsedSince
from p2v.core.units import MIB


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """One file and its ranges: digests (SHA-256 over the ranges' bytes in order) of what stood there, of what stands there now,
    and of what the journal says stood there before the conversion. ``whole_*``: of the whole file, where they are known."""

    path: Path
    ranges: int
    length: int
    found: str
    now: str
    original: str
    whole_found: str | None = None
    whole_now: str | None = None
    whole_original: str | None = None


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did. ``was``: the journal's state when it was opened; nothing was written where it was undone or prepared."""

    was: State
    machine: str
    files: tuple[RestoredFile, ...] = ()


def undo(storage: Storage, path: Path, open_files: OpenFiles, *, force: bool = False, full: bool = False) -> Undone:
    """Put back what the disks of a journal held before the conversion. Killed, it can be done again.

    ``force``: also where the disks were used since; ``full``: read the whole files before and after, for their digests.
    Raises NoSource, BadJournal (with the range; nothing was written), UsedSince, DiskInUse, BadTarget (what was written
    does not read back), ReadFailed.
    """
    with open_journal(storage, path) as journal:
        journal.sync()
        was = journal.state
        if was in (State.UNDONE, State.PREPARED):
            return Undone(was, journal.header.machine)
        for row in journal.rows:
            journal.before(row)
        with open_files(journal.header) as files:
            if not force:
                _require_unused(storage, journal, files)
            _require_room(journal, files)
            found = [_ranges_sha256(journal, files, index) for index in range(len(files))]
            whole_found = [file_sha256(file) if full else None for file in files]
            put_back(storage, journal, files)
            restored = tuple(
                RestoredFile(
                    path=file.path,
                    ranges=sum(row.file == index for row in journal.rows),
                    length=sum(row.length for row in journal.rows if row.file == index),
                    found=found[index],
                    now=_ranges_sha256(journal, files, index),
                    original=_original_sha256(journal, index),
                    whole_found=whole_found[index],
                    whole_now=file_sha256(file) if full else None,
                    whole_original=journal.header.files[index].sha256,
                )
                for index, file in enumerate(files)
            )
    for each in restored:
        if each.now != each.original:
            raise BadTarget(each.path, "what was put back does not read back")
    return Undone(was, journal.header.machine, restored)


def _require_unused(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    if journal.state is not State.COMMITTED:
        require_between(storage, journal, files)
        return
    for file, left in zip(files, journal.committed_files(), strict=True):
        _require_state(file.path, file.state(), left)
    for row in journal.rows:
        file = files[row.file]
        if hashlib.sha256(file.pread(row.length, row.file_offset)).digest() != row.after:
            raise UsedSince(
                file.path, f"the {row.length} bytes at {row.file_offset} are not what the conversion left there"
            )


def _require_state(path: Path, now: FileState, left: FileState) -> None:
    if now.size != left.size:
        raise UsedSince(path, f"it has {now.size} bytes and had {left.size}")
    if now.mtime_ns != left.mtime_ns:
        raise UsedSince(path, "its time of writing is another one than right after the conversion")


def _require_room(journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    """Not even by force is a file made longer."""
    sizes = [file.state().size for file in files]
    for row in journal.rows:
        if row.file_offset + row.length > sizes[row.file]:
            file = files[row.file]
            raise UsedSince(file.path, f"it ends at byte {sizes[row.file]}, before the ranges to be restored do")


def _ranges_sha256(journal: UndoJournal, files: Sequence[StoredFile], index: int) -> str:
    digest = hashlib.sha256()
    for row in journal.rows:
        if row.file == index:
            digest.update(files[index].pread(row.length, row.file_offset))
    return digest.hexdigest()


def _original_sha256(journal: UndoJournal, index: int) -> str:
    digest = hashlib.sha256()
    for row in journal.rows:
        if row.file == index:
            digest.update(journal.before(row))
    return digest.hexdigest()


def file_sha256(file: StoredFile) -> str:
    """SHA-256 of a whole file or device."""
    digest, offset = hashlib.sha256(), 0
    while piece := file.pread(4 * MIB, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()
