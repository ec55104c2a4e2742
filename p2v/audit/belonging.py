"""Which files belong to which machine, so that no disk is told of as a machine of its own that is a part of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from p2v.audit.document import LeftAside, MachineAudit
from p2v.audit.examine import Answer, Examination
from p2v.audit.faults import NO_DISK
from p2v.audit.gather import Subject, SubjectKind
from p2v.audit.same_file import file_key

_BESIDE = "source.disks-beside"


@dataclass(frozen=True, slots=True)
class Looked:
    """An examination, and the subject that it came from."""

    subject: Subject
    examination: Examination


def looked_at(answers: Iterable[tuple[Subject, Answer]]) -> list[Looked]:
    """Every examination with its subject."""
    return [Looked(subject, each) for subject, answer in answers for each in answer.examinations]


def sorted_out(looked: Sequence[Looked]) -> tuple[list[Examination], list[LeftAside]]:
    """Without the loose disks that are parts of others, and files that only their names make disks."""
    owned = owners(looked)
    # a package's machine that could not be read is no part of the package's others, though all stand in its file
    packages = {each.subject.path for each in looked if each.examination.machine.described_by}
    kept: list[Examination] = []
    aside: list[LeftAside] = []
    for each in looked:
        machine = each.examination.machine
        if each.subject.kind is not SubjectKind.DISK or each.subject.path in packages:
            kept.append(each.examination)
        elif (owner := owned.get(file_key(str(each.subject.path)))) is not None and owner != machine.paths:
            continue
        elif (why := _why_no_disk(machine)) is not None:
            # whoever tells of it names the file first
            aside.append(LeftAside(str(each.subject.path), why.removeprefix(f"{each.subject.path}: ")))
        else:
            kept.append(each.examination)
    return kept, aside


def owners(looked: Sequence[Looked]) -> dict[str, tuple[str, ...]]:
    """By its key (``file_key``) each file that a machine stands in: the machine's paths. Descriptions own before loose disks."""
    owners: dict[str, tuple[str, ...]] = {}
    for described in (True, False):
        for each in looked:
            machine = each.examination.machine
            if bool(machine.described_by) is not described:
                continue
            own = {file_key(disk.path) for disk in machine.disks}
            for file in {*map(file_key, machine.signs.files), *map(file_key, machine.paths)}:
                # a file that is another's tip and one's own base is the other's part
                if described or file not in own:
                    owners.setdefault(file, machine.paths)
    return owners


def _why_no_disk(machine: MachineAudit) -> str | None:
    """Why a file that only its name makes a disk is none; None where it may be one."""
    return next((finding.message for finding in machine.findings if finding.rule == NO_DISK), None)


def without_neighbours(examinations: Iterable[Examination]) -> Iterator[MachineAudit]:
    """The machines, without the remark on disks beside them where those are all other machines' own."""
    every = list(examinations)
    owned = {file_key(file) for each in every for file in (*each.machine.signs.files, *each.machine.paths)}
    for each in every:
        strangers = [file for file in each.beside if file_key(file) not in owned]
        findings = each.machine.findings
        if not strangers:
            findings = tuple(finding for finding in findings if finding.rule != _BESIDE)
        yield replace(each.machine, findings=findings)
