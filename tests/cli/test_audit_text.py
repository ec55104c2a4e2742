"""The audit as people read it: a table that stays one, however many machines and whatever their names."""

from __future__ import annotations

from datetime import date

from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AuditDocument, MachineAudit, Origin, SystemAudit, Verdict
from p2v.audit.findings import AuditFinding, Severity
from p2v.cli.audit_text import render

RULE = catalogue()["audit.bad-image"]


def machine(name: str, system: str = "Debian", verdict: Verdict = Verdict.READY) -> MachineAudit:
    findings = (AuditFinding(RULE.id, Severity.BLOCKER, "it is cut"),) if verdict is Verdict.BLOCKED else ()
    told = SystemAudit("linux", "debian", "12", system, "x86_64")
    return MachineAudit(name, Origin.DISKS, "", (f"/{name}",), verdict, findings, system=told)


def lines(*machines: MachineAudit) -> list[str]:
    return render(AuditDocument(date(2026, 11, 26), machines, rules=(RULE,))).split("\n")


def test_a_thousand_machines_are_a_screen_or_two_the_worst_first() -> None:
    told = lines(*(machine(f"m{n}", verdict=Verdict.BLOCKED if n == 999 else Verdict.READY) for n in range(1000)))
    assert len(told) < 80
    assert told[1].startswith("m999 ")
    assert any(line.startswith("... and 940 more") for line in told)
    assert told[-2].startswith("1000 machines: 999 ready, 1 blocked.")


def test_names_that_are_too_long_for_the_table_are_seen_to_be_cut() -> None:
    told = lines(machine("n" * 1000, "s" * 1000))
    assert "n..." in told[1]
    assert told[1].endswith("s...")
    assert len(told[1]) < 150


def test_no_name_makes_a_line_of_its_own() -> None:
    name = "evil\n2 machines: 2 ready.\x1b[2J\u202e"
    told = lines(machine(name, f"sys{name}", Verdict.BLOCKED))
    assert not any(line.startswith("2 machines") for line in told)
    assert not any(letter in line for line in told for letter in "\x1b\u202e")
