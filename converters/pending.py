"""The note beside a disk that a conversion in place is writing it: whoever opens the disk meanwhile finds the journal by it.

It is there whenever a disk may be neither as it was nor as it will be. Block devices have no folder of their own and no note.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from converters.storage import Storage
from p2v.core.errors import P2vError

_SUFFIX = ".p2v-pending"
_LONGEST_BYTES = 4096
_END = b"\n"


def note_path(disk: Path) -> Path:
    """Where the note is of a file that is written to."""
    return disk.with_name(f".{disk.name}{_SUFFIX}")


def write_notes(storage: Storage, files: Iterable[Path], journal: Path) -> None:
    """Put a note beside each file. On return they are on stable storage."""
    text = os.fsencode(journal.absolute()) + _END
    folders = {}
    for file in files:
        path = note_path(file)
        storage.unlink(path)
        note = storage.create(path)
        try:
            note.pwrite(text, 0)
            note.sync()
        finally:
            note.close()
        folders[path.parent] = True
    for folder in folders:
        storage.sync_folder(folder)


def remove_notes(storage: Storage, files: Iterable[Path]) -> None:
    """Take them away; their folders are not synced: a note that comes back leads to a journal that says it is done."""
    for file in files:
        storage.unlink(note_path(file))


def pending_journal(storage: Storage, disk: Path) -> Path | None:
    """The journal that a disk's note names; None without a note, or with one that was not written whole."""
    path = note_path(disk)
    if not storage.exists(path):
        return None
    try:
        note = storage.open(path)
    except P2vError:
        return None
    try:
        text = note.pread(_LONGEST_BYTES, 0)
    finally:
        note.close()
    name = text.removesuffix(_END)
    return Path(os.fsdecode(name)) if name.startswith(b"/") and text.endswith(_END) and b"\0" not in name else None
