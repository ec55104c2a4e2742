"""The whole audit: look at everything side by side, compare the machines, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2v.audit.document import AuditDocument, LeftAside, MachineAudit, verdict
from p2v.audit.examine import Examination, Wish, examine, nameless
from p2v.audit.faults import NO_DISK, cut_off
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.fleet import fleet_findings
from p2v.audit.gather import Gathered, Subject, SubjectKind
from p2v.audit.side_by_side import Answered, Bounds, side_by_side
from p2v.audit.suppressing import Suppression, suppressed
from p2v.core import jsonio
from p2v.core.acceleration import Acceleration
from p2v.core.events import ItemDone, Reporter, phase

_BESIDE = "source.disks-beside"


@dataclass(frozen=True, slots=True)
class Running:
    """How the work is done. ``at_once``: machines looked at at the same time."""

    at_once: int
    bounds: Bounds


def audit(
    gathered: Gathered,
    wish: Wish,
    running: Running,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
    suppressions: Sequence[Suppression] = (),
) -> AuditDocument:
    """Audit everything that was gathered; nothing is written.

    ``acceleration`` is asked only when an appliance is needed (``Wish.deep``), once, before anything is looked at.
    """
    if wish.deep:
        # found out once, and not by each machine's process for itself
        found = acceleration()
        acceleration = lambda: found  # noqa: E731
    with phase(report, "audit", f"Auditing {_counted(gathered.subjects)}"):
        # machines first: a disk that one of them has need not be looked at once more
        loose = [each for each in gathered.subjects if each.kind is SubjectKind.DISK]
        others = [each for each in gathered.subjects if each.kind is not SubjectKind.DISK]
        examinations = list(_all(others, wish, running, acceleration, report))
        owned = _owners(examinations)
        loose = [each for each in loose if str(each.path.absolute()) not in owned]
        examinations += _all(loose, wish, running, acceleration, report)
    kept, aside = _sorted_out(examinations)
    machines = tuple(_judged(each, wish, suppressions) for each in _without_neighbours(kept))
    fleet = suppressed(fleet_findings(machines, wish.rules), "", suppressions)
    fired = {finding.rule for each in machines for finding in each.findings} | {each.rule for each in fleet}
    return AuditDocument(
        as_of=wish.as_of,
        machines=machines,
        fleet=fleet,
        left_aside=(*gathered.left_aside, *aside),
        rules=tuple(rule for name, rule in wish.rules.items() if name in fired),
    )


def _counted(subjects: Sequence[Subject]) -> str:
    disks = sum(each.kind is SubjectKind.DISK for each in subjects)
    others = len(subjects) - disks
    return ", ".join(
        f"{count} {what}" for count, what in ((others, "named or described"), (disks, "loose disks at most")) if count
    )


@dataclass(frozen=True, slots=True)
class _Looked:
    """An examination, and the subject that it came from."""

    subject: Subject
    examination: Examination


def _all(
    subjects: Sequence[Subject],
    wish: Wish,
    running: Running,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
) -> Iterator[_Looked]:
    """Everything that was found, in the order of the subjects."""
    conv = jsonio.converter()

    def work(number: int) -> Any:
        found = examine(subjects[number], wish, acceleration)
        return jsonio.encode(conv, found, tuple[Examination, ...])

    by_number: dict[int, tuple[Examination, ...]] = {}
    for answered in side_by_side(work, len(subjects), running.at_once, running.bounds):
        examinations = _understood(answered, subjects[answered.number], wish)
        by_number[answered.number] = examinations
        subject = subjects[answered.number]
        names = ", ".join(each.machine.name for each in examinations) or subject.path.name
        report(ItemDone("audit", names, len(by_number), len(subjects)))
    for number, subject in enumerate(subjects):
        for each in by_number[number]:
            yield _Looked(subject, each)


def _understood(answered: Answered, subject: Subject, wish: Wish) -> tuple[Examination, ...]:
    path = str(subject.path)
    if answered.failure:
        finding = cut_off(path, answered.failure, answered.timed_out, wish.rules)
        return (nameless(subject.path, [finding]),)
    try:
        return jsonio.decode(jsonio.converter(), answered.data, tuple[Examination, ...])
    except jsonio.BadDocument as error:
        return (nameless(subject.path, [cut_off(path, f"gave no audit: {error}", False, wish.rules)]),)


def _sorted_out(looked: Sequence[_Looked]) -> tuple[list[Examination], list[LeftAside]]:
    """Without the loose disks that are parts of others, and files that only their names make disks."""
    owners = _owners(looked)
    kept: list[Examination] = []
    aside: list[LeftAside] = []
    for each in looked:
        machine = each.examination.machine
        if each.subject.kind is not SubjectKind.DISK or machine.described_by:
            kept.append(each.examination)
        elif (owner := owners.get(str(each.subject.path.absolute()))) is not None and owner != machine.paths:
            continue
        elif (why := _why_no_disk(machine)) is not None:
            aside.append(LeftAside(str(each.subject.path), why))
        else:
            kept.append(each.examination)
    return kept, aside


def _owners(looked: Sequence[_Looked]) -> dict[str, tuple[str, ...]]:
    """By its absolute path each file that a machine stands in: the machine's paths. Descriptions own before loose disks."""
    owners: dict[str, tuple[str, ...]] = {}
    for described in (True, False):
        for each in looked:
            machine = each.examination.machine
            if bool(machine.described_by) is not described:
                continue
            own = {str(Path(disk.path).absolute()) for disk in machine.disks}
            for file in {*map(_absolute, machine.signs.files), *map(_absolute, machine.paths)}:
                # a file that is another's tip and one's own base is the other's part
                if described or file not in own:
                    owners.setdefault(file, machine.paths)
    return owners


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _why_no_disk(machine: MachineAudit) -> str | None:
    """Why a file that only its name makes a disk is none; None where it may be one."""
    return next((finding.message for finding in machine.findings if finding.rule == NO_DISK), None)


def _without_neighbours(examinations: Iterable[Examination]) -> Iterator[MachineAudit]:
    """The machines, without the remark on disks beside them where those are all other machines' own."""
    every = list(examinations)
    owned = {_absolute(file) for each in every for file in (*each.machine.signs.files, *each.machine.paths)}
    for each in every:
        strangers = [file for file in each.beside if _absolute(file) not in owned]
        findings = each.machine.findings
        if not strangers:
            findings = tuple(finding for finding in findings if finding.rule != _BESIDE)
        yield replace(each.machine, findings=findings)


def _judged(machine: MachineAudit, wish: Wish, suppressions: Sequence[Suppression]) -> MachineAudit:
    findings = suppressed(_in_order(machine.findings), machine.name, suppressions)
    return replace(machine, findings=findings, verdict=verdict(findings, wish.rules))


def _in_order(findings: Iterable[AuditFinding]) -> list[AuditFinding]:
    """The worst first; what is said twice in the same words once."""
    ranks = {severity: rank for rank, severity in enumerate(Severity)}
    return sorted(dict.fromkeys(findings), key=lambda each: ranks[each.severity])
