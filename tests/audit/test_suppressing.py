"""Suppressions: each has a reason, and names a rule that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.audit.catalogue_file import catalogue
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.suppressing import Suppression, parse_suppression, read_suppressions, suppressed
from p2v.core.errors import NoSource, Usage

RULES = catalogue()
FOUND = AuditFinding("fleet.mac-twice", Severity.WARNING, "two of them")


def test_one_from_the_command_line_is_for_all_machines_or_for_those_of_a_name() -> None:
    assert parse_suppression("fleet.mac-twice=an old copy", RULES) == Suppression("fleet.mac-twice", "an old copy")
    assert parse_suppression("fleet.mac-twice@web*=a = b", RULES) == Suppression("fleet.mac-twice", "a = b", "web*")


@pytest.mark.parametrize(
    "text", ["fleet.mac-twice", "fleet.mac-twice=", "fleet.mac-twice= ", "no.such-rule=because", "=x", ""]
)
def test_one_without_a_reason_or_of_no_rule_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_suppression(text, RULES)


def test_a_file_of_them(tmp_path: Path) -> None:
    file = tmp_path / "quiet.toml"
    file.write_text('[[suppress]]\nrule = "fleet.mac-twice"\nreason = "ticket 12"\nmachine = "web??"\n')
    assert read_suppressions(file, RULES) == (Suppression("fleet.mac-twice", "ticket 12", "web??"),)
    for wrong in (
        '[[suppress]]\nrule = "fleet.mac-twice"\n',
        "[[suppress]]\nrule = 1\nreason = 'x'\n",
        "[[supress]]\n",
        "\0",
        "x",
    ):
        file.write_text(wrong)
        with pytest.raises(Usage):
            read_suppressions(file, RULES)
    with pytest.raises(NoSource):
        read_suppressions(tmp_path / "absent.toml", RULES)


def test_only_its_rule_and_its_machines_are_quiet() -> None:
    reasons = [Suppression("fleet.mac-twice", "known", "web*")]
    assert [each.suppressed for each in suppressed([FOUND], "web01", reasons)] == ["known"]
    assert [each.suppressed for each in suppressed([FOUND], "db01", reasons)] == [""]
    other = AuditFinding("fleet.name-twice", Severity.WARNING, "two of them")
    assert [each.suppressed for each in suppressed([other], "web01", reasons)] == [""]
