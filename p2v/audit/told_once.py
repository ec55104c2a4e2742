"""What a plan says and the audit leaves out, as it tells the same in better words, or as another finding of the plan does. Pure.

A plan is read from its first line to its last, so that it may say a thing twice; an audit's findings are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from drivers.facts import GuestFacts
from drivers.layout import Layout, place
from drivers.plan import Finding, GuestPlan
from drivers.windows.reading import hive_notes
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding
from p2v.audit.lifecycle import standing_of
from p2v.audit.lifecycle_data import Virtio
from p2v.audit.portrait import system_of
from p2v.audit.rules.partition_tables import is_told_here
from p2v.audit.rules.start import SAID_OTHERWISE

_OF_DRIVERS = frozenset({"windows.no-drivers", "driver.missing-block", "driver.missing-network"})
_NO_SYSTEM = frozenset({"guest.no-os", "guest.encrypted", "windows.bitlocker"})
_READING = "guest.reading"
_NO_SYSTEM_HERE = "no operating system was found on the host's way"


def told_elsewhere(examined: Examined) -> Callable[[Finding], bool]:
    """Whether a finding of the plan says what something else says."""
    ids = _ids(examined)
    notes = frozenset(_notes(examined))

    def is_told(finding: Finding) -> bool:
        if finding.id != _READING:
            return finding.id in ids
        # the rules about raw disks say theirs with the place where it can be seen
        return finding.message in notes or (bool(examined.sights) and is_told_here(finding.message))

    return is_told


def once(findings: Sequence[AuditFinding]) -> Iterator[AuditFinding]:
    """Without those of the plan's that a rule about the start says with more, of the same line where both point at lines."""
    for each in findings:
        better = [other for other in findings if other.rule == SAID_OTHERWISE.get(each.rule)]
        if not any(_may_be_one(each, other) for other in better):
            yield each


def _may_be_one(plans: AuditFinding, rules: AuditFinding) -> bool:
    """Whether two findings may be about one thing: they are not where they point at different lines."""
    first, second = ({(at.where, at.line) for at in each.evidence if at.line is not None} for each in (plans, rules))
    return not first or not second or bool(first & second)


def _ids(examined: Examined) -> frozenset[str]:
    plan, system = examined.document.plan, system_of(examined.document.facts)
    ids: set[str] = set()
    # no medium has any, and support.no-virtio says so
    if system is not None and standing_of(system, examined.as_of).virtio is Virtio.NONE:
        ids |= _OF_DRIVERS
    if _has(plan, "windows.no-disk-driver"):
        ids.add("windows.no-drivers")
    # the HAL is why, and the edition's limits have no part in it
    if _has(plan, "windows.hal-one-processor"):
        ids.add("hardware.cpus")
    return frozenset(ids)


def _has(plan: GuestPlan, id_: str) -> bool:
    return any(finding.id == id_ for finding in (*plan.blockers, *plan.warnings))


def _notes(examined: Examined) -> Iterator[str]:
    facts, plan = examined.document.facts, examined.document.plan
    for hive in facts.windows.registry.values() if facts.windows is not None else ():
        # windows.hive-replayed, -unreadable and -damaged tell of all but a further remark
        yield from (note for note in hive_notes(hive) if not note.endswith(tuple(hive.remarks[1:])))
    # what another system was told by is the evidence of other.not-rewritten
    yield from told_by(facts)
    if any(finding.id in _NO_SYSTEM for finding in plan.blockers):
        yield _NO_SYSTEM_HERE
        yield from _contents(facts)


def told_by(facts: GuestFacts) -> Iterator[str]:
    """The note of what a system that is not rewritten was told by."""
    if facts.os is not None and facts.os.kind == "other":
        yield from (note for note in facts.notes if note.startswith(f"{facts.os.name}, told by "))


def _contents(facts: GuestFacts) -> Iterator[str]:
    """What is on each device, which the blocker's evidence shows."""
    for device in Layout.of(facts).devices:
        if device.filesystem is not None:
            label = f" {device.filesystem.label!r}" if device.filesystem.label else ""
            yield f"{place(device)} holds {device.filesystem.kind}{label}"
