"""The plan's own findings as the audit's: blockers and warnings, with the catalogue's severity, remedy and evidence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from drivers.plan import Finding
from p2v.audit.catalogue_file import Rule
from p2v.audit.evidence import evidence_of
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.told_once import told_elsewhere
from p2v.core.text import printable

PER_RULE_AT_MOST = 100
"""A guest that was made to have a finding for each line of a table does not fill a report with them."""
_LETTERS_AT_MOST = 2000


def planned(examined: Examined) -> Iterator[AuditFinding]:
    """The plan's blockers, then its warnings, each in the plan's order."""
    plan = examined.document.plan
    yield from _told(examined, plan.blockers, are_blockers=True)
    is_told = told_elsewhere(examined)
    yield from _told(examined, [each for each in plan.warnings if not is_told(each)], are_blockers=False)


def _told(examined: Examined, findings: Sequence[Finding], *, are_blockers: bool) -> Iterator[AuditFinding]:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.id] += 1
        if seen[finding.id] <= PER_RULE_AT_MOST:
            yield _one(examined, finding, is_blocker=are_blockers)
    for id_, count in seen.items():
        if count > PER_RULE_AT_MOST:
            more = Finding(id_, f"there are {count - PER_RULE_AT_MOST} more of these, which are not listed")
            yield _one(examined, more, is_blocker=are_blockers)


def _one(examined: Examined, finding: Finding, *, is_blocker: bool) -> AuditFinding:
    rule = examined.rules.get(finding.id)
    return AuditFinding(
        rule=_cut(finding.id),
        severity=Severity.BLOCKER if is_blocker else _as_warning(rule),
        message=_cut(finding.message),
        remedy=_cut(finding.hint) or (rule.remedy if rule is not None else ""),
        evidence=evidence_of(examined, finding),
        # what stands in the way of the conversion is not set right by it
        fixed_by_conversion=rule is not None and rule.fixed_by_conversion and not is_blocker,
    )


def _as_warning(rule: Rule | None) -> Severity:
    """The severity among a plan's warnings: never a blocker, as the plan goes on."""
    if rule is None or rule.severity is Severity.BLOCKER:
        return Severity.WARNING
    return rule.severity


def _cut(text: str) -> str:
    shown = text if len(text) <= _LETTERS_AT_MOST else text[:_LETTERS_AT_MOST] + "..."
    return printable(shown, keep="")
