"""CSV that spreadsheets and programs read, and that runs nothing."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from p2v.audit.document import AuditDocument
from p2v.audit.formats import findings_csv, machines_csv
from p2v.audit.formats.csv_table import CELL_LETTERS, FINDING_COLUMNS, MACHINE_COLUMNS
from p2v.core.units import GIB
from tests.audit.documents import AGENT as RULE
from tests.audit.documents import AS_OF, DC, WEB, finding, hostile, sample


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_one_line_a_finding() -> None:
    text = findings_csv(sample())
    found = rows(text)
    assert list(found[0]) == list(FINDING_COLUMNS)
    assert len(found) == 1 + 3 + 3 + 1
    assert found[0]["machine"] == ""
    by_path = next(each for each in found if each["rule"] == "fstab-by-path")
    assert (by_path["machine"], by_path["severity"], by_path["verdict"]) == ("web01", "blocker", "blocked")
    assert by_path["evidence"].startswith("file /etc/fstab:7: /dev/disk/by-path/")
    suppressed = [each for each in found if each["suppressed"]]
    assert [each["suppressed"] for each in suppressed] == ["removed by our own tooling, ticket 4711"]
    assert text.count("\r\n") == len(found) + 1


def test_one_line_a_machine() -> None:
    found = {each["machine"]: each for each in rows(machines_csv(sample()))}
    assert list(found["web01"]) == list(MACHINE_COLUMNS)
    assert found["dc-2012"]["virtual_bytes"] == str(580 * GIB)
    assert found["dc-2012"]["used_bytes"] == "", "of one disk it is not known"
    assert found["web01"]["used_bytes"] == str(9 * GIB)
    assert (found["dc-2012"]["warnings"], found["dc-2012"]["suppressed"]) == ("1", "1")
    assert (found["vault"]["cpus"], found["vault"]["powered_on"], found["print"]["powered_on"]) == ("", "", "yes")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "'=1+1", '"=1', "\uff1d1", "\uff20x", "=cmd|' /C calc'!A0"],
)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    document = AuditDocument(AS_OF, (replace(WEB, name=text, findings=(finding(RULE, text),)),))
    for found in (rows(findings_csv(document)), rows(machines_csv(document))):
        assert found[0]["machine"] == f"'{text}"
    assert rows(findings_csv(document))[0]["message"] == f"'{text}"


@pytest.mark.parametrize("text", ["a=b", "1.5", "/etc/fstab", "a\\b", "", "ü"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    document = AuditDocument(AS_OF, (replace(WEB, name=text),))
    assert rows(machines_csv(document))[0]["machine"] == text


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    for text, columns in ((findings_csv(hostile()), FINDING_COLUMNS), (machines_csv(hostile()), MACHINE_COLUMNS)):
        text.encode("utf-8")
        lines = text.split("\r\n")[:-1]
        assert all(len(next(csv.reader([line]))) == len(columns) for line in lines)
        assert all(line.isprintable() for line in lines)


def test_a_cell_is_no_longer_than_spreadsheets_have_room_for() -> None:
    found = rows(machines_csv(AuditDocument(AS_OF, (replace(DC, name="\x00" * 100_000),))))
    assert len(found[0]["machine"]) == CELL_LETTERS
