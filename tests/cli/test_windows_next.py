"""What is said to do next with a converted Windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from drivers.changes import Change, WriteFile
from p2v.cli import report, windows_next
from p2v.record import ConversionRecord
from tests.record.making import filled_record

FOLDER = "/Windows/p2v/firstboot-0123456789ab"
LIST = "p2v-firstboot-1 10 1 words\r\ndrivers 600 3 drivers.cmd\r\n# a remark\r\nnetwork 300 3 network.cmd\r\n"


def record(*changes: Change) -> ConversionRecord:
    made = filled_record()
    plan = replace(made.document.plan, changes=changes)
    return replace(made, document=replace(made.document, plan=plan))


def test_the_steps_of_the_first_start_and_where_their_result_will_be() -> None:
    text = "\n".join(windows_next.rows(record(WriteFile(f"{FOLDER}/steps.txt", LIST, 0o644, "t"))))
    assert "by itself: drivers, network (" in text
    assert "\\Windows\\p2v\\firstboot-0123456789ab\\result.txt" in text
    assert "first start is still to be seen" in text


def test_without_steps_nothing_is_promised_of_the_first_start() -> None:
    text = "\n".join(windows_next.rows(record(WriteFile("/Windows/steps.txt", LIST, 0o644, "t"))))
    assert "by itself" not in text
    assert "first start is still to be seen" in text


def test_other_guests_are_told_nothing_and_the_report_has_it_for_windows_alone() -> None:
    made = record()
    other = replace(made, document=replace(made.document, facts=replace(made.document.facts, windows=None)))
    assert list(windows_next.rows(other)) == []
    assert "What to do next" in report.render(made, Path("out"))
    assert "What to do next" not in report.render(other, Path("out"))
