"""Writing several disks in place as one transaction: killed at any point, all of them are as they were, or all as they will be.

1. ``JournalWriter`` puts both images of every range on stable storage, apart from the disks.
2. ``commit`` notes beside the disks where the journal is, and appends *committing*. From here on it counts.
3. It writes every range of every disk and syncs them.
4. It appends *committed* and drops the post-images; the journal with the pre-images stays, for undo.

``recover`` is what the next start does with what it finds: without *committing* the disks were not touched and the journal goes
away; with it, every range is written again (or taken back). Both may be killed and done again.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from converters.c_undo import Row
from converters.pending import pending_journal, remove_notes, write_notes
from converters.storage import FileState, Storage, StoredFile
from converters.undo_journal import (
    JournalHeader,
    Record,
    State,
    UndoJournal,
    open_journal,
    open_redo,
    partial_path,
    redo_path,
    write_redo,
)
from p2v.core.errors import BadJournal, Interrupted, NoSource, P2vError, UsedSince

OpenFiles = Callable[[JournalHeader], AbstractContextManager[Sequence[StoredFile]]]
"""Opens the files that a journal names, in its order, for reading and writing and for nobody else."""


class Outcome(enum.Enum):
    """What ``recover`` found, or did."""

    NOTHING = "there is no journal"
    NOT_BEGUN = "an interrupted run had not begun to write; its journal is removed"
    FINISHED = "an interrupted commit was finished"
    TAKEN_BACK = "an interrupted commit was taken back"
    COMMITTED = "the commit was complete"
    UNDONE = "the commit was complete and has been undone"


def commit(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    """Carry a prepared journal out. On return all disks are new and on stable storage, and the journal says so.

    ``files``: those of the journal's header, open. When writing fails (a full or failing device), everything is taken back
    as far as the device lets us, and the error is raised; should even that fail, the journal says that it is not done.

    Raises NoSpace before anything is written, ReadFailed, BadJournal, UsedSince (a disk is not as it was read),
    Interrupted.
    """
    if journal.state is not State.PREPARED:
        raise ValueError(f"{journal.path} is {journal.state.value}")
    redo = open_redo(storage, journal)
    try:
        for row in journal.rows:
            file = files[row.file]
            if file.pread(row.length, row.file_offset) != journal.before(row):
                raise UsedSince(file.path, f"byte {row.file_offset} changed while the conversion ran")
            # a hole that cannot be filled is told of now
            file.allocate(row.file_offset, row.length)
        _begin(storage, journal)
        try:
            _write_rows(journal, files, lambda row: journal.after(row, redo))
        except P2vError as error:
            try:
                _take_back(storage, journal, files)
            except P2vError:
                raise Interrupted(files[0].path, journal.path) from error
            raise
    finally:
        redo.close()
    _committed(storage, journal, files)


def recover(storage: Storage, path: Path, open_files: OpenFiles, *, forward: bool = True) -> Outcome:
    """Bring what an interrupted run left to an end: ``forward`` finishes a commit, otherwise it is taken back.

    A commit whose post-images are damaged is taken back in any case, one whose pre-images are damaged finished.
    Raises BadJournal (neither is possible; nothing was written), UsedSince (somebody else has written to the ranges), and
    what opening the files raises.
    """
    if not storage.exists(path):
        left = [p for p in (partial_path(path), redo_path(path)) if storage.exists(p)]
        for each in left:
            storage.unlink(each)
        return Outcome.NOT_BEGUN if left else Outcome.NOTHING
    with open_journal(storage, path) as journal:
        journal.sync()
        match journal.state:
            case State.PREPARED:
                remove_notes(storage, _noted(journal))
                _remove(storage, path)
                return Outcome.NOT_BEGUN
            case State.COMMITTED:
                _clean(storage, journal)
                return Outcome.COMMITTED
            case State.UNDONE:
                _clean(storage, journal)
                return Outcome.UNDONE
        with open_files(journal.header) as files:
            if journal.state is State.UNDOING:
                require_between(storage, journal, files)
                put_back(storage, journal, files)
                return Outcome.UNDONE
            require_between(storage, journal, files)
            if _choose_forward(storage, journal, forward):
                _roll_forward(storage, journal, files)
                return Outcome.FINISHED
            _take_back(storage, journal, files)
            return Outcome.TAKEN_BACK


def interrupted_journal(storage: Storage, file: Path) -> Path | None:
    """The journal of a transaction that was interrupted while it wrote a file; None where the file is in no doubt."""
    path = pending_journal(storage, file)
    if path is None:
        return None
    try:
        with open_journal(storage, path) as journal:
            return path if journal.state in (State.COMMITTING, State.UNDOING) else None
    except NoSource:
        return None  # the note is all that is left of a run that was taken back
    except P2vError:
        return path  # damaged, or not ours to read


def put_back(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    """Write every pre-image. On return all disks are as they were, on stable storage, and the journal says undone.

    All pre-images are checked before the first is written. Raises BadJournal, NoSpace, ReadFailed.
    """
    _check_undo(journal)
    if journal.state is State.COMMITTED and _is_new(journal, files):
        # What is about to be overwritten is kept again: should this be killed, only with both images can it be told
        # what it left from what somebody else wrote since.
        write_redo(storage, journal, lambda row: files[row.file].pread(row.length, row.file_offset))
    if journal.state is not State.UNDOING:
        write_notes(storage, _noted(journal), journal.path)
        journal.append(Record(State.UNDOING, _now()))
    _write_rows(journal, files, journal.before)
    journal.append(Record(State.UNDONE, _now()))
    _clean(storage, journal)


def require_between(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    """Raise UsedSince unless every bit of every range is its pre-image's or its post-image's.

    That is how a commit or undo leaves a disk that was killed, wherever a write was torn. Where the post-images are gone,
    each range must be one of the two as a whole.
    """
    redo = _redo_if_sound(storage, journal)
    try:
        for row in journal.rows:
            file = files[row.file]
            found = file.pread(row.length, row.file_offset)
            if hashlib.sha256(found).digest() in (row.before, row.after):
                continue
            if redo is None or not _is_between(found, journal.before(row), journal.after(row, redo)):
                raise UsedSince(
                    file.path, f"the {row.length} bytes at {row.file_offset} are neither the old nor the new ones"
                )
    finally:
        if redo is not None:
            redo.close()


def _is_new(journal: UndoJournal, files: Sequence[StoredFile]) -> bool:
    read = (files[row.file].pread(row.length, row.file_offset) for row in journal.rows)
    return all(hashlib.sha256(data).digest() == row.after for data, row in zip(read, journal.rows, strict=True))


def _is_between(found: bytes, before: bytes, after: bytes) -> bool:
    if len(found) != len(before):
        return False
    now, old, new = (int.from_bytes(data, "little") for data in (found, before, after))
    return (now ^ old) & (now ^ new) == 0


def _redo_if_sound(storage: Storage, journal: UndoJournal) -> StoredFile | None:
    """The redo file when both images of every range are sound."""
    try:
        redo = open_redo(storage, journal)
    except BadJournal:
        return None
    try:
        for row in journal.rows:
            journal.after(row, redo)
            journal.before(row)
    except BadJournal:
        redo.close()
        return None
    return redo


def _choose_forward(storage: Storage, journal: UndoJournal, wanted: bool) -> bool:
    """Which way is possible, the wanted one first. Raises BadJournal of the wanted one when neither is."""
    ways = {True: lambda: _check_redo(storage, journal), False: lambda: _check_undo(journal)}
    try:
        ways[wanted]()
    except BadJournal as error:
        try:
            ways[not wanted]()
        except BadJournal:
            raise error from None
        return not wanted
    return wanted


def _check_redo(storage: Storage, journal: UndoJournal) -> None:
    redo = open_redo(storage, journal)
    try:
        for row in journal.rows:
            journal.after(row, redo)
    finally:
        redo.close()


def _check_undo(journal: UndoJournal) -> None:
    for row in journal.rows:
        journal.before(row)


def _begin(storage: Storage, journal: UndoJournal) -> None:
    write_notes(storage, _noted(journal), journal.path)
    journal.append(Record(State.COMMITTING, _now()))


def _roll_forward(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    redo = open_redo(storage, journal)
    try:
        _write_rows(journal, files, lambda row: journal.after(row, redo))
    finally:
        redo.close()
    _committed(storage, journal, files)


def _take_back(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    """Undo a commit that is not complete; of its journal nothing is left."""
    put_back(storage, journal, files)
    _remove(storage, journal.path)


def _write_rows(journal: UndoJournal, files: Sequence[StoredFile], image: Callable[[Row], bytes]) -> None:
    for row in journal.rows:
        files[row.file].pwrite(image(row), row.file_offset)
    for file in files:
        file.sync()


def _committed(storage: Storage, journal: UndoJournal, files: Sequence[StoredFile]) -> None:
    states: tuple[FileState, ...] = tuple(file.state() for file in files)
    journal.append(Record(State.COMMITTED, _now(), states))
    _clean(storage, journal)


def _clean(storage: Storage, journal: UndoJournal) -> None:
    """What is not needed any more once the journal says committed or undone."""
    remove_notes(storage, _noted(journal))
    storage.unlink(redo_path(journal.path))


def _remove(storage: Storage, path: Path) -> None:
    """The journal goes last: without it nobody knows whose the redo file is, and with it both are removed again."""
    storage.unlink(redo_path(path))
    storage.unlink(path)
    storage.sync_folder(path.parent)


def _noted(journal: UndoJournal) -> list[Path]:
    return [file.path for file in journal.header.files if not file.state.is_block_device]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
