"""What a record proves, and what not: three claims, each with what it rests on. Pure; never more than was recorded or read."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2v.core.units import format_seconds
from p2v.record.conversion import ConversionRecord
from p2v.record.files import Files, State, states
from p2v.record.proof import Outcome, ProofRecord


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


def verdicts(record: ConversionRecord, files: Files | None, proof: ProofRecord | None) -> tuple[Verdict, ...]:
    """The three claims. ``files``: None when nobody asked to read them; ``proof``: one that belongs to the record."""
    return _copied(record, files, proof), _planned(proof), _boots(record, files)


def _copied(record: ConversionRecord, files: Files | None, proof: ProofRecord | None) -> Verdict:
    by_proof = _by_proof(Claim.COPIED, proof.copied if proof else Outcome.NOT_LOOKED_AT, proof)
    if by_proof is not None and not by_proof.proven:
        return by_proof
    looked = [disk.copied for disk in files.disks] if files else []
    if State.DIFFERENT in states(looked):
        wrong = tuple(each.said for each in looked if each.state is State.DIFFERENT)
        return Verdict(Claim.COPIED, Why.FAILED, wrong)
    if by_proof is not None:
        return by_proof
    if looked and states(looked) == {State.SAME}:
        return Verdict(Claim.COPIED, Why.PROVEN, tuple(each.said for each in looked))
    if record.disks and all(d.source_content and d.source_content == d.result_content for d in record.disks):
        said = "source and result had the same content digest when they were read for the record"
        return Verdict(Claim.COPIED, Why.PROVEN, (said,))
    if looked:
        missing = tuple(each.said for each in looked if each.state is not State.SAME)
        return Verdict(Claim.COPIED, Why.NOT_AT_HAND, missing)
    return Verdict(Claim.COPIED, Why.NEVER_ASKED, ("needs source and result: `--files`, or `p2v prove`",))


def _planned(proof: ProofRecord | None) -> Verdict:
    by_proof = _by_proof(Claim.PLANNED, proof.changed if proof else Outcome.NOT_LOOKED_AT, proof)
    if by_proof is not None:
        return by_proof
    said = "needs a look into both guests, file by file: `p2v prove`"
    return Verdict(Claim.PLANNED, Why.NEVER_ASKED, (said,))


def _by_proof(claim: Claim, outcome: Outcome, proof: ProofRecord | None) -> Verdict | None:
    if proof is None or outcome is Outcome.NOT_LOOKED_AT:
        return None
    why = Why.PROVEN if outcome is Outcome.PROVEN else Why.FAILED
    return Verdict(claim, why, (f"`p2v prove` of {proof.when}", *proof.rests_on))


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
