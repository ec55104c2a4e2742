"""The numbers behind the charts, counted from the document; nothing is drawn here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from p2v.audit.document import AuditDocument, DiskAudit, MachineAudit, SupportAudit, Verdict
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.report.words import SUPPORT, group_of, support_state

LEAST_QUARTERS = 8
MOST_QUARTERS = 24
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quarter:
    """How many machines are in which state of support (the keys of SUPPORT) on the last day of a quarter."""

    label: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Space:
    """What disks take, in bytes. ``used`` is of the disks alone whose use is known: ``known`` of ``disks``; None for none."""

    virtual: int
    allocated: int
    used: int | None
    known: int
    disks: int


@dataclass(frozen=True, slots=True)
class Cause:
    """A rule, and how many machines it fired for by the worst severity that it had there."""

    rule: str
    machines: Mapping[Severity, int]

    @property
    def total(self) -> int:
        """Machines that it fired for."""
        return sum(self.machines.values())


def readiness(machines: Sequence[MachineAudit]) -> Mapping[Verdict, int]:
    """Machines by verdict, in the order of the verdicts."""
    counts = Counter(machine.verdict for machine in machines)
    return {verdict: counts[verdict] for verdict in Verdict}


def day_of(text: str) -> date | None:
    """The day that ``YYYY-MM-DD`` names, None for anything else."""
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def state_on(support: SupportAudit | None, day: date) -> str:
    """The state of support on a day after the audit's. What has no date is not known, but what ended stays so."""
    if support is None:
        return "unknown"
    standard, extended = day_of(support.standard_end), day_of(support.extended_end)
    if standard and day <= standard:
        return "supported"
    if extended and day <= extended:
        return "extended"
    return "ended" if standard or extended or support.state == "ended" else "unknown"


def support_by_quarter(document: AuditDocument) -> tuple[Quarter, ...]:
    """The audit's day, as the audit judged it, and the ends of quarters from then on, as the dates say."""
    supports = [machine.support for machine in document.machines]
    now = Counter(support_state(machine) for machine in document.machines)
    quarters = [Quarter("now", _in_order(now))]
    for day in _quarter_ends(document.as_of, _last_day(supports)):
        counts = Counter(state_on(support, day) for support in supports)
        quarters.append(Quarter(f"{day.year} Q{day.month // 3}", _in_order(counts)))
    return tuple(quarters)


def _in_order(counts: Counter[str]) -> Mapping[str, int]:
    return {state: counts[state] for state in SUPPORT}


def _last_day(supports: Sequence[SupportAudit | None]) -> date:
    days = [day_of(text) for each in supports if each for text in (each.standard_end, each.extended_end)]
    return max((day for day in days if day), default=date.min)


def _quarter_ends(start: date, last: date) -> Iterator[date]:
    """Ends of quarters from the one that ``start`` is in to the one after ``last``, within the limits of a chart."""
    year, quarter = start.year, (start.month - 1) // 3
    for index in range(MOST_QUARTERS):
        if year >= date.max.year:
            return
        quarter += 1
        end = date(year + quarter // 4, quarter % 4 * 3 + 1, 1) - timedelta(days=1)
        yield end
        if quarter == 4:
            year, quarter = year + 1, 0
        if index + 1 >= LEAST_QUARTERS and end > last:
            return


def space(disks: Sequence[DiskAudit]) -> Space:
    """What disks take together."""
    used = [disk.used_bytes for disk in disks if disk.used_bytes is not None]
    return Space(
        sum(disk.virtual_bytes for disk in disks),
        sum(disk.allocated_bytes for disk in disks),
        sum(used) if used else None,
        len(used),
        len(disks),
    )


def causes(machines: Sequence[MachineAudit]) -> tuple[Cause, ...]:
    """Rules that ask for somebody's attention, those first that block most machines, then those that concern most."""
    found: dict[str, Counter[Severity]] = {}
    for machine in machines:
        for rule, severity in worst_by_rule(machine.findings).items():
            found.setdefault(rule, Counter())[severity] += 1
    made = [Cause(rule, {each: counts[each] for each in Severity if counts[each]}) for rule, counts in found.items()]
    return tuple(sorted(made, key=lambda each: (-each.machines.get(Severity.BLOCKER, 0), -each.total, each.rule)))


def worst_by_rule(findings: Sequence[AuditFinding]) -> Mapping[str, Severity]:
    """Of what counts against a machine: rules and the worst severity they have there; information is left out."""
    order = list(Severity)
    worst: dict[str, Severity] = {}
    for each in findings:
        if group_of(each).severity in (None, Severity.INFORMATION):
            continue
        known = worst.get(each.rule, each.severity)
        worst[each.rule] = min(known, each.severity, key=order.index)
    return worst
