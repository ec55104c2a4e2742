"""A single target whose run was killed between its rename and the removal of its journal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from converters.faults import BadRanges
from converters.journal import CannotRead, Forgotten, JournalFile, JournalHeader, Naming
from converters.resumed import Filled
from converters.target import journal_path
from p2v.core.workspace import rename_new, sync_folder


@dataclass(frozen=True, slots=True)
class Published:
    """What a run had published: what its journal was about, and the ranges of the source that are zeroes in it."""

    header: JournalHeader
    lost: BadRanges


def finish_published(partial: Path, final: Path) -> Published | None:
    """End what a run left that was killed while it gave a single target its name; None when ``final`` is not what it made.

    Raises TargetBusy while that run lives.
    """
    if not journal_path(partial).exists():
        return None
    journal = JournalFile(journal_path(partial), partial)
    try:
        header, last, filled = journal.read_header(), None, Filled()
        for record in journal.records() if header is not None else ():
            last = record
            match record:
                case CannotRead():
                    filled.add(record)
                case Forgotten(runs):
                    filled.forget(runs)
        found = os.lstat(final)
        if header is None or last != Naming(found.st_ino, found.st_size):
            return None
        if partial.exists():
            rename_new(partial, final)  # both are names of one file
        sync_folder(final.parent)
        journal.remove()
        return Published(header, BadRanges(each for ranges in filled.by_piece.values() for each in ranges))
    finally:
        journal.close()
