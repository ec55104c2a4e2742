"""The chain of a machine's start, link by link: what was proven from its disks, what is broken, what nobody could see."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from drivers.facts import GuestFacts
from drivers.plan import Finding
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.core.text import printable

TEXT_AT_MOST = 200
MESSAGE_AT_MOST = 1000


class LinkState(enum.Enum):
    """What is known of a link."""

    PROVEN = "proven"
    BROKEN = "broken"
    UNSEEN = "unseen"
    """It may hold or not: nobody could look."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the chain: its name (``boot loader``), and the sentence that says why it is in its state."""

    name: str
    state: LinkState
    message: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A link with the findings that come of it.

    ``proven``: what to say where it holds. ``told``: what breaks it, where the plan has told that already; ``unseen``: why it
    could not be seen, where another finding says so.
    """

    name: str
    proven: str
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[AuditFinding, ...] = ()
    told: str = ""
    unseen: str = ""

    def link(self) -> Link:
        """The link as the report shows it. What the conversion sets right by itself does not break it."""
        left = [each for each in self.findings if not each.fixed_by_conversion]
        for severity, state, otherwise in (
            (Severity.BLOCKER, LinkState.BROKEN, self.told),
            (Severity.UNKNOWN, LinkState.UNSEEN, self.unseen),
        ):
            worst = next((each for each in left if each.severity is severity), None)
            if worst is not None:
                return Link(self.name, state, worst.message, worst.evidence)
            if otherwise:
                return Link(self.name, state, shown(otherwise, MESSAGE_AT_MOST), self.evidence)
        return Link(self.name, LinkState.PROVEN, self.proven, self.evidence)

    def with_findings(self, findings: Iterable[AuditFinding]) -> Judged:
        """The same with more findings."""
        return replace(self, findings=(*self.findings, *findings))


def findings_of(links: Iterable[Judged]) -> Iterator[AuditFinding]:
    """The findings of all links, in their order."""
    for link in links:
        yield from link.findings


def finding(
    examined: Examined, rule: str, message: str, *evidence: Evidence, severity: Severity | None = None
) -> AuditFinding:
    """A finding of one of the rules of the start."""
    return found(examined.rules[rule], message[:MESSAGE_AT_MOST], *evidence, severity=severity)


def plan_blocker(examined: Examined, *ids: str) -> Finding | None:
    """The first of the plan's blockers with one of these ids: such a fault is the plan's to tell."""
    return next((each for each in examined.document.plan.blockers if each.id in ids), None)


def told_by_plan(examined: Examined, *ids: str) -> str:
    """What the plan says of such a fault; empty where it says nothing."""
    blocker = plan_blocker(examined, *ids)
    return blocker.message if blocker is not None else ""


def shown(text: str, at_most: int = TEXT_AT_MOST) -> str:
    """A text of the guest's, safe to be shown, and cut."""
    safe = printable(text[: at_most + 1], keep="")
    return safe if len(text) <= at_most else f"{safe[:at_most]}..."


def at_disk(examined: Examined, index: int, offset: int | None = None, text: str = "") -> Evidence:
    """Bytes of one of the machine's disks."""
    disks = examined.document.machine.disks
    where = str(disks[index].path) if 0 <= index < len(disks) else f"disk {index + 1}"
    return Evidence(EvidenceKind.BYTES, where, offset=offset, text=shown(text))


def at_file(path: str, line: int | None = None, text: str = "") -> Evidence:
    """A file of the guest's."""
    return Evidence(EvidenceKind.FILE, shown(path), line=line, text=shown(text))


def at_text(facts: GuestFacts, path: str, wanted: str) -> Evidence:
    """The first line of a file of the guest's that holds a text; the file alone where that is not to be found."""
    text = facts.texts[path].text if path in facts.texts else ""
    if wanted:
        for number, line in enumerate(text.splitlines(), 1):
            if wanted in line:
                return at_file(path, number, line.strip())
    return at_file(path, text=wanted)
