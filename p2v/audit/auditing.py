"""The whole audit: look at everything side by side, compare the machines, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drivers.disk_sights import DiskSight
from drivers.facts import GuestFacts
from drivers.guest_sights import GuestSights
from p2v import planning
from p2v.audit.belonging import looked_at, owners, sorted_out, without_neighbours
from p2v.audit.catalogue_file import Rule, found
from p2v.audit.document import AuditDocument, MachineAudit, verdict
from p2v.audit.examine import Answer, Wish, examine, nameless
from p2v.audit.faults import cut_off
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.fleet import fleet_findings
from p2v.audit.gather import Gathered, Subject, SubjectKind
from p2v.audit.lifecycle_data import lifecycle
from p2v.audit.same_file import file_key
from p2v.audit.side_by_side import Answered, Bounds, side_by_side
from p2v.audit.sizing.findings import sizing_findings
from p2v.audit.sizing.values import Sizing
from p2v.audit.suppressing import Suppression, suppressed
from p2v.core import jsonio
from p2v.core.acceleration import Acceleration
from p2v.core.events import Event, ItemDone, Reporter, phase
from p2v.core.text import printable
from p2v.sources.recognition import load_readers


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
        known = acceleration()
        acceleration = lambda: known  # noqa: E731
    # what hangs on nothing else: a disk that a machine has need not be looked at once more
    loose = [each for each in gathered.subjects if each.kind is SubjectKind.DISK]
    others = [each for each in gathered.subjects if each.kind is not SubjectKind.DISK]
    with phase(report, "audit", f"Auditing {_counted(gathered.subjects)}"):
        if len(gathered.subjects) > 1:
            # one needs but its own, or none
            _ready_for_many()
        first = list(_answers(others, wish, running, acceleration, _counting(report, 0, len(others) + len(loose))))
        owned = owners(looked_at(first))
        loose = [each for each in loose if file_key(str(each.path)) not in owned]
        every = len(others) + len(loose)
        answers = [*first, *_answers(loose, wish, running, acceleration, _counting(report, len(others), every))]
    kept, aside = sorted_out(looked_at(answers))
    machines = tuple(_judged(each, wish, suppressions) for each in without_neighbours(kept))
    fleet = (
        *_missing(gathered, machines, wish),
        *fleet_findings(machines, wish.rules),
        *(finding for _, answer in answers for finding in answer.fleet),
    )
    document = AuditDocument(
        as_of=wish.as_of,
        machines=machines,
        fleet=suppressed(fleet, "", suppressions),
        left_aside=(*gathered.left_aside, *aside),
        hosts=tuple(host for _, answer in answers for host in answer.hosts),
    )
    return _with_rules(document, wish.rules)


def _ready_for_many() -> None:
    """Have what each machine's process would else import, read or write itself for itself alone."""
    load_readers()
    planning.load_all()
    lifecycle()
    jsonio.prepare(jsonio.converter(), Answer, GuestFacts, GuestSights, tuple[DiskSight, ...])


def with_sizing(
    document: AuditDocument, sizing: Sizing, rules: Mapping[str, Rule], suppressions: Sequence[Suppression] = ()
) -> AuditDocument:
    """The document with a sizing, and what that found."""
    found = suppressed(sizing_findings(sizing, rules), "", suppressions)
    return _with_rules(replace(document, sizing=sizing, fleet=(*document.fleet, *found)), rules)


def _with_rules(document: AuditDocument, rules: Mapping[str, Rule]) -> AuditDocument:
    """The document with the rules that fired in it."""
    fired = {finding.rule for each in document.machines for finding in each.findings}
    fired |= {each.rule for each in document.fleet}
    return replace(document, rules=tuple(rule for name, rule in rules.items() if name in fired))


def _missing(gathered: Gathered, machines: Sequence[MachineAudit], wish: Wish) -> Iterator[AuditFinding]:
    """Where machines may be that were not found: in a report without them nobody would miss them."""
    for each in gathered.unread:
        where = Evidence(EvidenceKind.DESCRIPTION, printable(each.path, keep=""))
        yield found(wish.rules["audit.folder-unread"], printable(f"{each.path}: {each.why}", keep=""), where)
    if not machines:
        yield found(wish.rules["audit.nothing-found"], "neither a machine nor a disk was found")


def _counting(report: Reporter, before: int, total: int) -> Reporter:
    """The reporter, told how many of all are done: what is looked at second is counted on from the first."""

    def counted(event: Event) -> None:
        report(replace(event, done=event.done + before, total=total) if isinstance(event, ItemDone) else event)

    return counted


def _counted(subjects: Sequence[Subject]) -> str:
    disks = sum(each.kind is SubjectKind.DISK for each in subjects)
    others = len(subjects) - disks
    counts = ((others, "named or described"), (disks, "loose disks at most"))
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing: there is no machine and no disk"


def _answers(
    subjects: Sequence[Subject],
    wish: Wish,
    running: Running,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
) -> Iterator[tuple[Subject, Answer]]:
    """What each subject is, in their order."""
    conv = jsonio.converter()

    def work(number: int) -> Any:
        return jsonio.encode(conv, examine(subjects[number], wish, acceleration))

    by_number: dict[int, Answer] = {}
    for answered in side_by_side(work, len(subjects), running.at_once, running.bounds):
        subject = subjects[answered.number]
        answer = _understood(answered, subject, wish)
        by_number[answered.number] = answer
        report(ItemDone("audit", _named(answer, subject), len(by_number), len(subjects)))
    for number, subject in enumerate(subjects):
        yield subject, by_number[number]


def _named(answer: Answer, subject: Subject) -> str:
    names = [each.machine.name for each in answer.examinations]
    return (
        names[0] if len(names) == 1 else f"{subject.path.name} ({len(names)} machines)" if names else subject.path.name
    )


def _understood(answered: Answered, subject: Subject, wish: Wish) -> Answer:
    path = str(subject.path)
    if answered.failure:
        finding = cut_off(path, answered.failure, answered.timed_out, wish.rules)
        return Answer((nameless(subject.path, [finding]),))
    try:
        return jsonio.decode(jsonio.converter(), answered.data, Answer)
    except jsonio.BadDocument as error:
        return Answer((nameless(subject.path, [cut_off(path, f"gave no audit: {error}", False, wish.rules)]),))


def _judged(machine: MachineAudit, wish: Wish, suppressions: Sequence[Suppression]) -> MachineAudit:
    findings = suppressed(_in_order(machine.findings), machine.name, suppressions)
    return replace(machine, findings=findings, verdict=verdict(findings, wish.rules))


def _in_order(findings: Iterable[AuditFinding]) -> list[AuditFinding]:
    """The worst first; what is said twice in the same words once."""
    ranks = {severity: rank for rank, severity in enumerate(Severity)}
    return sorted(dict.fromkeys(findings), key=lambda each: ranks[each.severity])
