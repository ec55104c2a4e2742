"""The audit as JUnit XML: a test suite a machine, a test case a rule that fired for it.

A blocker fails, what could not be seen is skipped, a warning passes and is told. What the conversion sets right by itself passes;
what is suppressed is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from p2v.audit.document import AuditDocument, MachineAudit
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.formats.csv_table import told_evidence
from p2v.core.text import printable

_TEXT_LETTERS = 10_000
FLEET = "the fleet"


def junit_xml(document: AuditDocument) -> str:
    """An XML document with its declaration. Suites and cases are in the order of the audit."""
    root = ET.Element("testsuites", name="p2v audit")
    if document.fleet:
        root.append(_suite(FLEET, document.fleet, {"as-of": str(document.as_of)}, 0.0))
    for machine in document.machines:
        root.append(_suite(machine.name, machine.findings, dict(_properties(document, machine)), machine.seconds))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(machine.seconds for machine in document.machines):.3f}")
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _properties(document: AuditDocument, machine: MachineAudit) -> Iterator[tuple[str, str]]:
    yield "as-of", str(document.as_of)
    yield "verdict", machine.verdict.value
    yield "origin", machine.origin.value
    yield "described-by", machine.described_by
    if machine.system is not None:
        yield "system", machine.system.name
        yield "arch", machine.system.arch
    if machine.support is not None:
        yield "support", machine.support.state
    yield "firmware", machine.firmware


def _suite(name: str, findings: Sequence[AuditFinding], properties: dict[str, str], seconds: float) -> ET.Element:
    suite = ET.Element("testsuite", name=_shown(name), errors="0", time=f"{seconds:.3f}")
    listed = ET.SubElement(suite, "properties")
    for key, value in properties.items():
        if value:
            ET.SubElement(listed, "property", name=key, value=_shown(value))
    by_rule: dict[str, list[AuditFinding]] = {}
    for each in findings:
        by_rule.setdefault(each.rule, []).append(each)
    for rule, found in by_rule.items():
        suite.append(_case(name, rule, found))
    if not by_rule:
        # a suite without a case is dropped by many readers, and the machine with it
        ET.SubElement(suite, "testcase", name="audit", classname=_shown(name), time="0")
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    return suite


def _case(machine: str, rule: str, findings: Sequence[AuditFinding]) -> ET.Element:
    case = ET.Element("testcase", name=_shown(rule), classname=_shown(machine), time="0")
    counted = [each for each in findings if not each.suppressed and not each.fixed_by_conversion]
    blockers = [each for each in counted if each.severity is Severity.BLOCKER]
    unseen = [each for each in counted if each.severity is Severity.UNKNOWN]
    suppressed = [each for each in findings if each.suppressed]
    if blockers:
        failure = ET.SubElement(case, "failure", type=Severity.BLOCKER.value, message=_shown(blockers[0].message))
        failure.text = _shown("\n".join(map(_told, blockers)))
    elif unseen:
        ET.SubElement(case, "skipped", message=_shown(f"could not be seen: {unseen[0].message}"))
    elif suppressed and len(suppressed) == len(findings):
        ET.SubElement(case, "skipped", message=_shown(f"suppressed: {suppressed[0].suppressed}"))
    others = [each for each in findings if each not in blockers]
    if others:
        ET.SubElement(case, "system-out").text = _shown("\n".join(map(_told, others)))
    return case


def _told(finding: AuditFinding) -> str:
    lines = [f"{finding.severity.value}: {finding.message}"]
    lines += [f"suppressed: {finding.suppressed}"] if finding.suppressed else []
    lines += ["the conversion sets it right by itself"] if finding.fixed_by_conversion else []
    lines += [f"evidence: {told_evidence(each)}" for each in finding.evidence]
    lines += [f"what to do: {finding.remedy}"] if finding.remedy and not finding.fixed_by_conversion else []
    return "\n".join(lines)


def _shown(text: str) -> str:
    """XML 1.0 has no control characters and no surrogates, not even escaped ones."""
    return printable(text[:_TEXT_LETTERS])
