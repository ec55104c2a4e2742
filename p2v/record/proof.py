"""What `p2v prove` found, as far as a record's claims rest on it: the file beside the record that it is about.

The whole of it is ``p2v.proof``'s matter, which stands on this package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.core import jsonio, jsontext
from p2v.documents import CONVERTER
from p2v.record.reading import BadRecord, parse, read_document

_SCHEMA = 1


class Outcome(enum.Enum):
    """How a proof came out; the values are those of ``p2v.proof.ProofVerdict``."""

    PROVEN = "proven"
    GUEST_PROGRAM = "a program of the guest's ran"
    """Proven, but for what that program changed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Something that nothing accounts for. ``where``: a disk by its name in the record, another output, or a path in the guest."""

    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class ComparedDisk:
    """One disk that was compared with its source; sizes in bytes."""

    source: str
    target: str
    virtual_size: int
    read_bytes: int
    changed_ranges: int
    changed_bytes: int
    different_bytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of one proof; ``file_systems`` and ``names`` are how many were walked."""

    record_digest: str
    made: str
    verdict: Outcome
    disks: tuple[ComparedDisk, ...]
    problems: tuple[Unexplained, ...]
    by_programs: tuple[Unexplained, ...]
    file_systems: int
    names: int

    @property
    def of_disks(self) -> tuple[Unexplained, ...]:
        """What was found of the disks as such: bytes outside the changed ranges, or others than the record says."""
        disks = {name for disk in self.disks for name in (disk.source, disk.target)}
        return tuple(problem for problem in self.problems if problem.where in disks)


def proof_path(record: Path) -> Path:
    """Where the proof of a record is: NAME.proof.json beside NAME.json."""
    return record.with_name(f"{record.stem}.proof.json")


def load_proof(path: Path) -> Proof:
    """Read a proof. Raises NoSource, NotPermitted, ReadFailed, BadRecord (it is none, or was changed)."""
    try:
        data = parse(read_document(path))
    except ValueError as error:
        raise BadRecord(path, (f"not a JSON document ({error})",)) from error
    if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
        raise BadRecord(path, ("not a proof that this version reads",))
    digest = data.pop("digest", None)
    if digest != jsontext.digest(data):
        raise BadRecord(path, ("the proof was changed after it was written: its digest does not fit",))
    try:
        proof = jsonio.decode(CONVERTER, _summary(data), Proof)
    except (jsonio.BadDocument, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(path, (f"not a proof: {error}",)) from error
    if (proof.verdict is Outcome.FAILED) is not bool(proof.problems):
        raise BadRecord(path, ("its verdict contradicts what it found",))
    return proof


def _summary(data: dict[str, Any]) -> dict[str, Any]:
    walked = data["file_systems"]
    return {
        **{name: data[name] for name in ("record_digest", "made", "verdict", "disks", "problems", "by_programs")},
        "file_systems": len(walked),
        "names": sum(each["names"] for each in walked),
    }
