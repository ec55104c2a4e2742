"""The words that a report has for values."""

from __future__ import annotations

from dataclasses import dataclass

from p2v.audit.document import MachineAudit, Origin, Verdict
from p2v.audit.findings import AuditFinding, EvidenceKind, Severity

VERDICTS = {
    Verdict.BLOCKED: ("Blocked", "blocker"),
    Verdict.UNKNOWN: ("Unknown", "unknown"),
    Verdict.WARNINGS: ("Ready with warnings", "warning"),
    Verdict.READY: ("Ready", "ready"),
}
"""A verdict's word and its colour."""

SEVERITIES = {
    Severity.BLOCKER: ("Blocker", "blocker"),
    Severity.WARNING: ("Warning", "warning"),
    Severity.UNKNOWN: ("Unknown", "unknown"),
    Severity.INFORMATION: ("Information", "information"),
}

EVIDENCE = {
    EvidenceKind.FILE: "File",
    EvidenceKind.REGISTRY: "Registry",
    EvidenceKind.BYTES: "Disk",
    EvidenceKind.DESCRIPTION: "Description",
    EvidenceKind.DATA: "Published data",
}

ORIGINS = {Origin.DISKS: "its disks were read", Origin.INVENTORY: "an inventory says so; nobody looked inside"}

SUPPORT = {
    "supported": ("Standard support", "ready"),
    "extended": ("Extended support", "warning"),
    "ended": ("Support ended", "blocker"),
    "unknown": ("Not known", "unknown"),
}
"""States of support, the best first: a word and its colour."""


@dataclass(frozen=True, slots=True)
class Group:
    """A heading that findings stand below, and the colour of it."""

    title: str
    colour: str
    words: tuple[str, str]
    """For one finding and for several: ``1 blocker``, ``2 blockers``."""
    severity: Severity | None = None

    def counted(self, count: int) -> str:
        """``2 blockers``."""
        return f"{count:,} {self.words[count != 1]}"


FIXED = Group("Set right by the conversion itself", "ready", ("set right by the conversion",) * 2)
SUPPRESSED = Group("Suppressed", "muted", ("suppressed",) * 2)
GROUPS = (
    Group("Blockers", "blocker", ("blocker", "blockers"), Severity.BLOCKER),
    Group("Warnings", "warning", ("warning", "warnings"), Severity.WARNING),
    Group("Could not be seen", "unknown", ("not seen",) * 2, Severity.UNKNOWN),
    Group("Information", "information", ("for information",) * 2, Severity.INFORMATION),
    FIXED,
    SUPPRESSED,
)
_BY_SEVERITY = {group.severity: group for group in GROUPS if group.severity is not None}


def group_of(finding: AuditFinding) -> Group:
    """The heading that a finding stands below."""
    if finding.suppressed:
        return SUPPRESSED
    return FIXED if finding.fixed_by_conversion else _BY_SEVERITY[finding.severity]


def system_name(machine: MachineAudit) -> str:
    """The guest's system in a few words; a dash where it is not known."""
    system = machine.system
    if system is None:
        return "–"
    return system.name or " ".join(filter(None, (system.id, system.version))) or system.kind or "–"


def support_state(machine: MachineAudit) -> str:
    """One of the keys of SUPPORT."""
    state = machine.support.state if machine.support else "unknown"
    return state if state in SUPPORT else "unknown"
