"""One subject looked at: its machines with their findings, whatever goes wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from drivers.inspection import needs_appliance
from drivers.keys import Key
from drivers.layout import Layout
from drivers.plan import PlanOptions
from drivers.plan_text import render
from p2v.audit.catalogue_file import Rule, found
from p2v.audit.checks import CHECKS
from p2v.audit.description_text import description_text
from p2v.audit.document import MachineAudit, Origin, Verdict
from p2v.audit.examined import Examined
from p2v.audit.faults import fault
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.gather import Subject, SubjectKind
from p2v.audit.inventory.hosts import HostRow
from p2v.audit.inventory.recognising import may_be_inventory
from p2v.audit.lifecycle import support_of
from p2v.audit.looking import Looked, Looking
from p2v.audit.portrait import disks_of, known_cpus, known_memory, signs_of, system_of
from p2v.audit.rules.start import chain
from p2v.audit.told_once import once
from p2v.core.acceleration import Acceleration
from p2v.core.errors import P2vError, Usage
from p2v.core.events import silent
from p2v.core.text import printable
from p2v.documents import Inspection, PlanDocument
from p2v.inspection import Reading, inspect
from p2v.live_sources import users_told
from p2v.machine import Machine, MachineDisk
from p2v.planning import plan_found, with_drivers
from p2v.sources.disk_names import name_from
from p2v.sources.recognition import described_in, machine_names, read_machine

# of rules about what is inside the guest; start.: the boot chain
_OF_THE_GUEST = ("guest.", "linux.", "windows.", "start.")
_MAY_BE_AN_INVENTORY = (SubjectKind.NAMED, SubjectKind.INVENTORY)
_NOTHING_MORE = PlanOptions()


@dataclass(frozen=True, slots=True)
class Wish:
    """How to look. ``deep``: with an appliance where only it can see; ``options``: what planning is to know."""

    rules: Mapping[str, Rule]
    as_of: date
    deep: bool = False
    keys: tuple[Key, ...] = ()
    options: PlanOptions = _NOTHING_MORE


@dataclass(frozen=True, slots=True)
class Examination:
    """A machine's audit, and the files in its folder that look like disks and are none of its own."""

    machine: MachineAudit
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subject is: its machines; of an inventory what it says of hosts, and of its machines together."""

    examinations: tuple[Examination, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    fleet: tuple[AuditFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Unread:
    """A machine of a package that cannot be read, by its name."""

    name: str
    error: P2vError


def examine(subject: Subject, wish: Wish, acceleration: Callable[[], Acceleration]) -> Answer:
    """Everything that a subject is; nothing where its name promised more than it holds.

    Raises nothing of the suite's own: what is wrong with it is a finding.
    """
    try:
        if subject.kind in _MAY_BE_AN_INVENTORY and not subject.more and may_be_inventory(subject.path):
            found = _inventory(subject.path, wish)
            if found is not None:
                return found
        machines = _machines(subject)
    except P2vError as error:
        return Answer((_failed(subject.path, error, wish),))
    return Answer(
        tuple(
            _machine(each, wish, acceleration)
            if isinstance(each, Machine)
            else _failed(subject.path, each.error, wish, each.name)
            for each in machines
        )
    )


def _inventory(path: Path, wish: Wish) -> Answer | None:
    """None for what is no inventory. Raises what reading an export raises."""
    from p2v.audit.inventory.audit import audit_machines
    from p2v.audit.inventory.reading import read_inventory, recognises
    from p2v.audit.inventory.rules_fleet import fleet_findings as inventory_findings

    if not recognises(path):
        return None
    inventory = read_inventory(path)
    machines = audit_machines(inventory, wish.rules, wish.as_of)
    fleet = inventory_findings(inventory, wish.rules)
    return Answer(tuple(Examination(each) for each in machines), inventory.hosts, fleet)


def _machines(subject: Subject) -> Sequence[Machine | _Unread]:
    path = subject.path
    if subject.more:
        return (_bare((path, *subject.more)),)
    if subject.kind is SubjectKind.INVENTORY:
        return ()  # a workbook of something else
    try:
        machine = read_machine(path)
    except Usage:
        # several machines in a package, or several packages in an archive
        return tuple(each for described in described_in(path) or (path,) for each in _all_of(described))
    except P2vError:
        # of a package with several machines in it each is one
        if len(_names(path)) < 2:
            raise
        return tuple(_several(path))
    if machine is not None:
        return (machine,)
    if subject.kind is SubjectKind.DESCRIPTION:
        return ()
    return (_bare((path,)),)


def _bare(disks: Sequence[Path]) -> Machine:
    return Machine(name_from(disks[0]), tuple(map(MachineDisk, disks)), assumed=("cpus", "memory", "mac"))


def _all_of(path: Path) -> Iterator[Machine | _Unread]:
    try:
        machine = read_machine(path)
    except Usage:
        yield from _several(path)
    except P2vError as error:
        if len(_names(path)) < 2:
            yield _Unread(path.name, error)
        else:
            yield from _several(path)
    else:
        yield from () if machine is None else (machine,)


def _several(path: Path) -> Iterator[Machine | _Unread]:
    """Each machine of a package, or why it cannot be read. Raises what reading the package raises."""
    for name in machine_names(path):
        try:
            machine = read_machine(path, name=name)
        except P2vError as error:
            yield _Unread(name, error)
        else:
            yield from () if machine is None else (machine,)


def _names(path: Path) -> tuple[str, ...]:
    try:
        return machine_names(path)
    except P2vError:
        return ()


def _machine(machine: Machine, wish: Wish, acceleration: Callable[[], Acceleration]) -> Examination:
    started = time.monotonic()
    path = str(machine.description or machine.disks[0].path) if machine.description or machine.disks else machine.name
    try:
        reading = Reading.AUTO if wish.deep else Reading.HOST
        looking = Looking()
        inspection = inspect(machine.disks, reading, acceleration, silent, wish.keys, looking.facts)
        document = plan_found(machine, inspection, _options(wish, machine, inspection))
    except P2vError as error:
        return _with_time(
            Examination(replace(_described(machine), findings=(fault(error, path, wish.rules),))), started
        )
    looked = looking.seen(machine.disks, document.facts)
    return _with_time(_portrait(document, inspection, wish, looked), started)


def _options(wish: Wish, machine: Machine, inspection: Inspection) -> PlanOptions:
    """What planning is to know of this machine. Raises what reading a medium of drivers raises."""
    # the medium is for whichever guests of a fleet are a Windows: of the others nobody need hear that it is not used
    return replace(with_drivers(wish.options, inspection, machine), virtio_win=None)


def _with_time(examination: Examination, started: float) -> Examination:
    return replace(examination, machine=replace(examination.machine, seconds=round(time.monotonic() - started, 3)))


def _portrait(document: PlanDocument, inspection: Inspection, wish: Wish, looked: Looked) -> Examination:
    machine, facts = document.machine, document.facts
    examined = Examined(
        document,
        wish.rules,
        wish.as_of,
        inside=looked.inside,
        sights=looked.disks,
        description=description_text(machine.description),
    )
    unseen = "" if wish.deep else needs_appliance(Layout.of(facts), facts, wish.keys)
    failed = () if looked.failed is None else (fault(looked.failed, _paths(machine)[0], wish.rules),)
    findings = (*failed, *once(tuple(_findings(examined, unseen))))
    signs, system = signs_of(document), system_of(facts)
    beside = tuple(str(path) for path in machine.beside if str(path) not in signs.files)
    audit = replace(
        _described(machine),
        findings=findings,
        system=system,
        support=support_of(system, wish.as_of) if system is not None else None,
        firmware=document.hardware.firmware.value,
        disks=disks_of(inspection),
        signs=signs,
        read_by=facts.read_by.value,
        plan=render(document.plan),
        chain=chain(examined),
    )
    return Examination(audit, beside)


def _findings(examined: Examined, unseen: str) -> Iterator[AuditFinding]:
    """What the checks say; ``unseen``: why only an appliance could see all of the guest."""
    first = _paths(examined.document.machine)[0]
    if unseen:
        message = printable(unseen, keep="")
        yield found(examined.rules["audit.needs-appliance"], message, Evidence(EvidenceKind.BYTES, first))
    for check in CHECKS:
        for finding in check(examined):
            # what was not seen may be what is missing
            doubtful = unseen and finding.severity is Severity.BLOCKER and finding.rule.startswith(_OF_THE_GUEST)
            yield replace(finding, severity=Severity.UNKNOWN) if doubtful else finding
    for sentence in users_told([source.path for source in examined.document.sources]):
        yield found(examined.rules["audit.in-use"], printable(sentence, keep=""), Evidence(EvidenceKind.BYTES, first))


def _paths(machine: Machine) -> tuple[str, ...]:
    described = [machine.description] if machine.description is not None else []
    return tuple(dict.fromkeys(str(path) for path in (*described, *(disk.path for disk in machine.disks))))


def _described(machine: Machine) -> MachineAudit:
    """What is known of a machine before its disks are read; the verdict comes last of all."""
    return MachineAudit(
        name=machine.name,
        origin=Origin.DISKS,
        described_by=machine.described_by,
        paths=_paths(machine),
        verdict=Verdict.UNKNOWN,
        findings=(),
        firmware=machine.firmware.value if machine.firmware is not None else "",
        cpus=known_cpus(machine),
        memory_bytes=known_memory(machine),
        nics=len(machine.nics),
    )


def nameless(path: Path, findings: Iterable[AuditFinding], name: str = "") -> Examination:
    """What is said of a path of which nothing could be learnt, but perhaps a name."""
    audit = MachineAudit(name or name_from(path), Origin.DISKS, "", (str(path),), Verdict.UNKNOWN, tuple(findings))
    return Examination(audit)


def _failed(path: Path, error: P2vError, wish: Wish, name: str = "") -> Examination:
    return nameless(path, [fault(error, str(path), wish.rules)], printable(name, keep=""))
