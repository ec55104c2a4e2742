"""A run that was killed between the rename of its target and the removal of its journal."""

from __future__ import annotations

from array import array
from pathlib import Path

from converters.journal import CannotRead, Copied, Forgotten, JournalFile, JournalHeader, Naming, PiecesDone
from converters.pieces import PIECE_BYTES
from converters.published import finish_published
from converters.target import journal_path


def test_only_what_is_still_zeroes_in_the_result_is_lost(tmp_path: Path) -> None:
    """Two pieces had zeroes for what could not be read; one of them was copied again later, and whole."""
    partial, final = tmp_path / "disk.partial", tmp_path / "disk"
    final.write_bytes(b"the disk")
    header = JournalHeader("one", 3 * PIECE_BYTES, "raw", PIECE_BYTES)
    journal = JournalFile(journal_path(partial), partial)
    journal.start(header)
    journal.append(CannotRead(((4096, 512), (PIECE_BYTES, 512)), filled=True))
    journal.append(CannotRead(((2 * PIECE_BYTES, 512),), filled=False))
    journal.append(PiecesDone(array("I", [0, 0, 1, 7, 1, 0, 1, 7])))
    journal.append(Forgotten(((0, 1),)))
    journal.append(PiecesDone(array("I", [0, 0, 1, 9, 2, 0, 1, 9])))
    journal.append(Copied())
    found = final.stat()
    journal.append(Naming(found.st_ino, found.st_size))
    journal.close()
    published = finish_published(partial, final)
    assert published is not None
    assert published.header == header
    assert published.lost.ranges == ((PIECE_BYTES, 512),)
    assert not journal_path(partial).exists()
