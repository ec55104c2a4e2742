"""What a record proves, and what not: three claims, each with what it rests on. Pure; never more than was recorded or read."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2v.core.units import format_seconds
from p2v.record.conversion import ConversionRecord
from p2v.record.files import Files, State, states
from p2v.record.proof import Problem, ProofDocument, ProofVerdict

_TOLD_AT_MOST = 20


class Claim(enum.Enum):
    """What people want to know of a conversion years later."""

    COPIED = "copied right"
    """Outside the ranges that the rewriting changed, the target is the source, byte for byte."""
    PLANNED = "changed only as planned"
    """Inside them, the differences between the two guests are the plan's changes and nothing else."""
    BOOTS = "boots"
    """The result came up when it was booted."""


class Why(enum.Enum):
    """Why a claim is proven or not."""

    PROVEN = "proven"
    NEVER_ASKED = "never asked for"
    NOT_AT_HAND = "not at hand"
    NOT_PLANNED = "a program of the guest's ran"
    """What it changes nobody can plan; the user asked for it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and what became of it; ``rests_on`` has a clause for each thing it rests on, or what is missing."""

    claim: Claim
    why: Why
    rests_on: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Whether it is proven."""
        return self.why is Why.PROVEN


def verdicts(record: ConversionRecord, files: Files | None, proof: ProofDocument | None) -> tuple[Verdict, ...]:
    """The three claims. ``files``: None when nobody asked to read them; ``proof``: one that belongs to the record."""
    return _copied(record, files, proof), _planned(proof), _boots(record, files)


def _copied(record: ConversionRecord, files: Files | None, proof: ProofDocument | None) -> Verdict:
    if proof is not None and proof.of_disks:
        return Verdict(Claim.COPIED, Why.FAILED, (_of(proof), *_told(proof.of_disks)))
    looked = [disk.copied for disk in files.disks] if files else []
    if State.DIFFERENT in states(looked):
        wrong = tuple(each.said for each in looked if each.state is State.DIFFERENT)
        return Verdict(Claim.COPIED, Why.FAILED, wrong)
    if proof is not None:
        compared = tuple(
            f"{d.target}: every byte compared; those that differ ({d.different_bytes}) lie in {d.changed_ranges} changed ranges"
            for d in proof.disks
        )
        return Verdict(Claim.COPIED, Why.PROVEN, (_of(proof), *compared))
    if looked and states(looked) == {State.SAME}:
        return Verdict(Claim.COPIED, Why.PROVEN, tuple(each.said for each in looked))
    if record.disks and all(d.source_content and d.source_content == d.result_content for d in record.disks):
        said = "source and result had the same content digest when they were read for the record"
        return Verdict(Claim.COPIED, Why.PROVEN, (said,))
    if looked:
        missing = tuple(each.said for each in looked if each.state is not State.SAME)
        return Verdict(Claim.COPIED, Why.NOT_AT_HAND, missing)
    return Verdict(Claim.COPIED, Why.NEVER_ASKED, ("needs source and result: `--files`, or `p2v prove`",))


def _planned(proof: ProofDocument | None) -> Verdict:
    if proof is None:
        said = "needs a look into both guests, file by file: `p2v prove`"
        return Verdict(Claim.PLANNED, Why.NEVER_ASKED, (said,))
    if proof.verdict is ProofVerdict.FAILED:
        return Verdict(Claim.PLANNED, Why.FAILED, (_of(proof), *_told(proof.problems)))
    count = len(proof.file_systems)
    systems = f"{count} file systems" if count != 1 else "one file system"
    names = sum(system.names for system in proof.file_systems)
    walked = f"{names} names in {systems}: nothing differs but what was planned"
    if proof.verdict is ProofVerdict.GUEST_PROGRAM:
        but = f"but for what a program of the guest's changed, as the user asked: {len(proof.by_programs)} differences"
        return Verdict(Claim.PLANNED, Why.NOT_PLANNED, (_of(proof), walked, but))
    return Verdict(Claim.PLANNED, Why.PROVEN, (_of(proof), walked))


def _of(proof: ProofDocument) -> str:
    return f"`p2v prove` of {proof.made}"


def _told(problems: tuple[Problem, ...]) -> tuple[str, ...]:
    told = tuple(f"{each.where}: {each.problem}" for each in problems[:_TOLD_AT_MOST])
    return told if len(problems) <= _TOLD_AT_MOST else (*told, f"and {len(problems) - _TOLD_AT_MOST} more")


def _boots(record: ConversionRecord, files: Files | None) -> Verdict:
    boot = record.boot
    if boot is None:
        return Verdict(Claim.BOOTS, Why.NEVER_ASKED, ("it was converted without --verify",))
    check = f"the boot check of {record.started}: {boot.verdict.sentence}"
    how = f"booted in {format_seconds(boot.seconds)} with {boot.accelerator.value}"
    if not boot.booted:
        return Verdict(Claim.BOOTS, Why.FAILED, (check, how))
    clauses = [check, how]
    if boot.report is not None:
        clauses.append(
            f"the guest's own report: state {boot.report.state}, root {boot.report.root_device or 'unknown'}"
        )
    else:
        clauses.append(f"no report from inside the guest: {boot.not_instrumented or 'none came'}")
    for name in (boot.screenshot, boot.log):
        if name is None:
            continue
        looked = files.of(name) if files else None
        if looked is not None and looked.state is State.DIFFERENT:
            return Verdict(Claim.BOOTS, Why.FAILED, (f"{name} is not what the boot check saved: it {looked.said}",))
        clauses.append(_evidence_clause(record, name, looked.state if looked else None))
    return Verdict(Claim.BOOTS, Why.PROVEN, (*clauses, *_since(files)))


def _evidence_clause(record: ConversionRecord, name: str, state: State | None) -> str:
    if name not in record.boot_files and all(o.sha256 is None for o in record.outputs if o.name == name):
        return f"{name}, of which the record has no digest"
    match state:
        case State.SAME:
            return f"{name}, as it was saved"
        case State.NOT_AT_HAND:
            return f"{name}, which is not at hand"
        case _:
            return f"{name}, not looked at now"


def _since(files: Files | None) -> tuple[str, ...]:
    if files is None or State.DIFFERENT not in states([disk.target for disk in files.disks]):
        return ()
    return ("this holds for the disks as they were made; they are others now",)
