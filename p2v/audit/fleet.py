"""What only several machines together show: one identity twice, one file in two machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.document import MachineAudit, Signs
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.same_file import file_key
from p2v.core.text import listed

_NAMED_AT_MOST = 8
# machines that were made to have a thousand addresses in common do not fill a report with them
_PER_RULE_AT_MOST, _EVIDENCE_AT_MOST = 200, 100

_Sign = Callable[[str, Signs], Iterable[str]]

_SAME: tuple[tuple[str, str, _Sign], ...] = (
    ("fleet.mac-twice", "the MAC address {}", lambda name, signs: signs.macs),
    ("fleet.address-twice", "the static address {}", lambda name, signs: signs.addresses),
    ("fleet.uuid-twice", "the SMBIOS UUID {}", lambda name, signs: filter(None, [signs.uuid])),
    ("fleet.machine-id-twice", "the machine id {}", lambda name, signs: filter(None, [signs.machine_id])),
    ("fleet.hostname-twice", "the host name {}", lambda name, signs: filter(None, [signs.hostname])),
    ("fleet.disk-id-twice", "the disk signature {}", lambda name, signs: signs.disk_ids),
    ("fleet.name-twice", "the name {}", lambda name, signs: [name]),
)


@dataclass(frozen=True, slots=True)
class Twice:
    """What several machines have: the rule about it, what it is in words, and which they are, by their places among all."""

    rule: str
    what: str
    machines: tuple[int, ...]


def twice(machines: Sequence[tuple[str, Signs]]) -> Iterator[Twice]:
    """Everything by which machines (name and signs of each) should be told apart, and are not."""
    for rule, words, sign in _SAME:
        owners: dict[str, list[int]] = defaultdict(list)
        for number, (name, signs) in enumerate(machines):
            # one machine may have it twice by itself (two disks of a mirror), which is not the fleet's matter
            for value in dict.fromkeys(sign(name, signs)):
                owners[value].append(number)
        yield from (Twice(rule, words.format(value), tuple(each)) for value, each in owners.items() if len(each) > 1)


def fleet_findings(machines: Sequence[MachineAudit], rules: Mapping[str, Rule]) -> tuple[AuditFinding, ...]:
    """The findings, one for each thing that several machines share, the machines named in it."""
    return (*_signs_twice(machines, rules), *_shared_files(machines, rules))


def _signs_twice(machines: Sequence[MachineAudit], rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    every = twice([(each.name, each.signs) for each in machines])
    for rule, several in groupby(every, key=lambda each: each.rule):
        more = 0
        for number, each in enumerate(several):
            if number < _PER_RULE_AT_MOST:
                yield _finding(rules[rule], each.what, [machines[place] for place in each.machines])
            else:
                more += 1
        if more:
            yield found(rules[rule], f"there are {more} more of these, which are not listed")


def _finding(rule: Rule, what: str, sharing: Sequence[MachineAudit]) -> AuditFinding:
    evidence = (
        Evidence(EvidenceKind.DESCRIPTION, where_of(each), text=each.name) for each in sharing[:_EVIDENCE_AT_MOST]
    )
    return found(rule, f"{len(sharing)} machines have {what}: {_named(sharing)}", *evidence)


def _named(machines: Sequence[MachineAudit]) -> str:
    return listed((each.name for each in machines), _NAMED_AT_MOST)


def where_of(machine: MachineAudit) -> str:
    """The first path that a machine was found by."""
    return machine.paths[0] if machine.paths else machine.name


def _files(machine: MachineAudit) -> Iterator[str]:
    """The files that its disks stand in; of an archive the members, for its machines share it and yet no disk."""
    for file in machine.signs.files:
        members = [disk.path for disk in machine.disks if disk.path.startswith(f"{file}/")]
        yield from members or (file,)


def _shared_files(machines: Sequence[MachineAudit], rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    """Files that several machines stand in: a disk of both, or what both were cloned from and only read."""
    owners: dict[str, list[MachineAudit]] = defaultdict(list)
    names: dict[str, str] = {}
    for machine in machines:
        for key, file in {file_key(file): file for file in _files(machine)}.items():
            names.setdefault(key, file)
            owners[key].append(machine)
    for key, sharing in owners.items():
        if len(sharing) < 2:
            continue
        # a tip is written to by its machine; a base below two tips is not
        tips = [each for each in sharing if any(file_key(disk.path) == key for disk in each.disks)]
        rule = rules["fleet.disk-shared" if len(tips) > 1 else "fleet.base-shared"]
        yield _finding(rule, f"the file {names[key]}", sharing)
