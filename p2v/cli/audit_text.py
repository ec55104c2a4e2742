"""An audit as people read it on a terminal: a line a machine, then what stands in the way."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from p2v.audit.catalogue_file import Rule
from p2v.audit.document import AuditDocument, MachineAudit, Verdict
from p2v.audit.findings import AuditFinding, Evidence, Severity
from p2v.audit.sizing.text import sizing_text
from p2v.core.text import listed, printable
from p2v.core.units import format_bytes

_WIDTH = 110
# of a larger fleet the findings are told by rule, not by machine
_TOLD_ONE_BY_ONE = 12
_LINES_AT_MOST = 60
_NAME_AT_MOST, _SYSTEM_AT_MOST = 32, 60
_SERIOUS = (Severity.BLOCKER, Severity.WARNING, Severity.UNKNOWN)


def render(document: AuditDocument, *, everything: bool = False, measured: bool = False) -> str:
    """The whole audit; ``everything``: information and each machine's findings too, however many there are.

    ``measured``: something was written, to measure how fast that is.
    """
    lines = [*_table(document, everything), ""]
    if everything or len(document.machines) <= _TOLD_ONE_BY_ONE:
        for machine in document.machines:
            lines += _machine(machine, everything)
    else:
        lines += _by_rule(document)
    lines += _fleet(document, everything)
    lines += _aside(document)
    lines += [*sizing_text(document.sizing), ""] if document.sizing is not None else []
    return "\n".join([*lines, *_sum(document, measured)])


def _table(document: AuditDocument, everything: bool) -> Iterator[str]:
    width = min(_NAME_AT_MOST, max([7, *(len(each.name) for each in document.machines)]))
    yield f"{'machine':<{width}}  {'verdict':<19}  {'findings':<16}  {'used':>10}  system"
    shown = document.machines if everything else _worst_first(document.machines)[:_LINES_AT_MOST]
    for each in shown:
        used = [disk.used_bytes for disk in each.disks]
        known = format_bytes(sum(size for size in used if size is not None)) if used and None not in used else "?"
        system = each.system.name if each.system is not None else "unknown"
        name, told = _cut(each.name, _NAME_AT_MOST), _cut(system, _SYSTEM_AT_MOST)
        yield f"{name:<{width}}  {each.verdict.value:<19}  {_counts(each.findings):<16}  {known:>10}  {told}"
    if len(shown) < len(document.machines):
        yield f"... and {len(document.machines) - len(shown)} more (--all-findings, --json)"


def _cut(text: str, most: int) -> str:
    shown = printable(text, keep="")
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def _worst_first(machines: Sequence[MachineAudit]) -> Sequence[MachineAudit]:
    if len(machines) <= _LINES_AT_MOST:
        return machines
    ranks = {each: rank for rank, each in enumerate(Verdict)}
    return sorted(machines, key=lambda each: ranks[each.verdict])


def _counts(findings: Iterable[AuditFinding]) -> str:
    """``1B 2W 1?``: blockers, warnings and what could not be seen, without what is suppressed or set right by itself."""
    counted = Counter(each.severity for each in findings if not each.suppressed and not each.fixed_by_conversion)
    letters = {Severity.BLOCKER: "B", Severity.WARNING: "W", Severity.UNKNOWN: "?"}
    return (
        " ".join(f"{counted[severity]}{letter}" for severity, letter in letters.items() if counted[severity]) or "none"
    )


def _machine(machine: MachineAudit, everything: bool) -> Iterator[str]:
    told = [each for each in machine.findings if everything or _is_told(each)]
    if not told:
        return
    yield f"{printable(machine.name, keep='')}: {machine.verdict.value}"
    for each in told:
        yield from _finding(each)
    yield ""


def _is_told(finding: AuditFinding) -> bool:
    return finding.severity in _SERIOUS and not finding.suppressed and not finding.fixed_by_conversion


def _finding(finding: AuditFinding) -> Iterator[str]:
    state = f" (suppressed: {finding.suppressed})" if finding.suppressed else ""
    state += " (the conversion sets it right)" if finding.fixed_by_conversion else ""
    yield from _wrapped(f"{finding.severity.value:<11} ", f"{finding.message}{state}  [{finding.rule}]")
    for each in finding.evidence[:3]:
        yield from _wrapped(" " * 12 + "seen in ", place(each))
    if finding.remedy and not finding.fixed_by_conversion:
        yield from _wrapped(" " * 12 + "do      ", finding.remedy)


def place(evidence: Evidence) -> str:
    """Where a piece of evidence is, in a line."""
    at = f":{evidence.line}" if evidence.line is not None else ""
    at += f" at byte {evidence.offset}" if evidence.offset is not None else ""
    text = f": {evidence.text.strip()}" if evidence.text.strip() else ""
    return printable(f"{evidence.where}{at}{text}", keep="")


def _wrapped(start: str, text: str) -> list[str]:
    indent = " " * (2 + len(start))
    return textwrap.wrap(
        printable(text, keep=""), _WIDTH, initial_indent=f"  {start}", subsequent_indent=indent, break_on_hyphens=False
    )


def _by_rule(document: AuditDocument) -> Iterator[str]:
    """What stands in the way, the most frequent first, with the machines it was found in."""
    rules = {rule.id: rule for rule in document.rules}
    for severity in _SERIOUS:
        owners: dict[str, list[str]] = {}
        for machine in document.machines:
            for rule in dict.fromkeys(
                each.rule for each in machine.findings if each.severity is severity and _is_told(each)
            ):
                owners.setdefault(rule, []).append(machine.name)
        if owners:
            yield f"{severity.value.capitalize()}:"
        for rule, names in sorted(owners.items(), key=lambda each: -len(each[1])):
            title = rules[rule].title if rule in rules else rule
            yield from _wrapped(f"{len(names):>5} ", f"{title} [{rule}]: {listed(names, 4)}")
        if owners:
            yield ""


def _fleet(document: AuditDocument, everything: bool) -> Iterator[str]:
    told = [each for each in document.fleet if everything or not each.suppressed]
    if told:
        yield "The fleet:"
    for each in told[:_LINES_AT_MOST]:
        state = f" (suppressed: {each.suppressed})" if each.suppressed else ""
        yield from _wrapped(f"{each.severity.value:<11} ", f"{each.message}{state}  [{each.rule}]")
    if len(told) > _LINES_AT_MOST:
        yield f"  ... and {len(told) - _LINES_AT_MOST} more (--json)"
    if told:
        yield ""


def _aside(document: AuditDocument) -> Iterator[str]:
    if not document.left_aside:
        return
    yield "Left aside:"
    for each in document.left_aside[:_LINES_AT_MOST]:
        yield from _wrapped("", f"{each.path}: {each.why}")
    if len(document.left_aside) > _LINES_AT_MOST:
        yield f"  ... and {len(document.left_aside) - _LINES_AT_MOST} more (--json)"
    yield ""


def _sum(document: AuditDocument, measured: bool) -> Iterator[str]:
    counted = Counter(each.verdict for each in document.machines)
    machines = f"{len(document.machines)} machine{'' if len(document.machines) == 1 else 's'}"
    parts = (
        ", ".join(f"{counted[each]} {each.value}" for each in reversed(Verdict) if counted[each]) or "nothing to audit"
    )
    quiet = sum(
        bool(each.suppressed) for each in (*(f for m in document.machines for f in m.findings), *document.fleet)
    )
    if quiet:
        yield f"{quiet} finding{'' if quiet == 1 else 's'} suppressed (--all-findings and --json show them, with the reasons)."
    written = "Only what was measured with was written, and removed" if measured else "Nothing was written"
    yield f"{machines}: {parts}. {written}; judged as of {document.as_of.isoformat()}."
    if document.rules:
        yield f"`p2v audit explain {document.rules[0].id}` tells what a rule means."


def explain(rule: Rule) -> str:
    """A rule in full."""
    does = "sets" if rule.fixed_by_conversion else "does not set"
    by_itself = f"The conversion {does} it right by itself."
    suppress = f"p2v audit ... --suppress '{rule.id}=REASON' (for one machine: {rule.id}@NAME=REASON); the report shows the reason."
    parts = (
        ("means", rule.meaning),
        ("shown by", rule.evidence),
        ("do", rule.remedy),
        ("", by_itself),
        ("suppress", suppress),
    )
    lines = [rule_line(rule)]
    for name, text in parts:
        lines += _wrapped(f"{name:<9} ", text)
    return "\n".join(lines)


def rule_line(rule: Rule) -> str:
    """A rule in a line."""
    return f"{rule.id}: {rule.title} ({rule.severity.value}, {rule.area.value})"
