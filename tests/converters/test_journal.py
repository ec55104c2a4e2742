"""The resume record itself."""

from __future__ import annotations

from array import array
from pathlib import Path

from converters.journal import Committing, Copied, Forgotten, JournalFile, JournalHeader, PiecesDone, Record
from p2v.core.units import MIB


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    header = JournalHeader("identity", 10, "raw", 2 * MIB)
    records: list[Record] = [
        PiecesDone(array("I", [1, 2, 3, 4, 5, 6, 7, 8])),
        Copied(),
        Committing(((1, 2), (5, 6))),
        Forgotten(((1, 2),)),
    ]
    journal = JournalFile(path, tmp_path / "target")
    journal.start(header)
    for record in records:
        journal.append(record)
    journal.close()
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == records
    journal.append(Copied())
    journal.close()
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == [*records, Copied()]
    journal.close()


def test_records_of_an_older_journal_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path, tmp_path / "target")
    header = JournalHeader("identity", 10, "raw", 2 * MIB)
    journal.start(header)
    start = path.stat().st_size
    journal.append(Copied())
    old = path.read_bytes()[start:]
    journal.start(header)
    journal.close()
    with path.open("ab") as file:
        file.write(old)
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == []
    journal.close()
