"""What ``p2v prove`` found, as a document beside the record; ``p2v.proof`` finds it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import p2v
from drivers.planned import Explained, Unexplained
from p2v.core import jsonio, jsontext
from p2v.documents import document_converter, to_data
from p2v.record.reading import BadRecord, parse, read_document

PROOF_SCHEMA = 1


class ProofVerdict(enum.Enum):
    """What is proven."""

    PROVEN = "proven"
    """Nothing differs from the source but what was planned."""
    GUEST_PROGRAM = "a program of the guest's ran"
    """The same, but for what a program of the guest's changed that the user asked for: nobody can plan that."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that nothing accounts for. ``where``: a disk, or a path in the guest."""

    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class DiskProof:
    """One disk compared with its source. Sizes in bytes.

    ``read_bytes`` were read of both together; ``changed_bytes`` is what the record's ranges cover, and ``different_bytes`` of
    the whole disk differ.
    """

    source: str
    target: str
    virtual_size: int
    read_bytes: int
    changed_ranges: int
    changed_bytes: int
    different_bytes: int


@dataclass(frozen=True, slots=True)
class FileSystemProof:
    """One file system walked on both sides.

    ``device``: as the guest names it. ``names`` are in it now; ``files_read`` had their contents compared through it, those of all
    others stand in bytes that do not differ (``read_all``: where contents stand cannot be told, so that all were read).
    ``kinds``: the bytes that differ, by what they are; empty where that cannot be told.
    """

    device: str
    kind: str
    mountpoints: tuple[str, ...]
    names: int
    files_read: int
    read_all: bool
    explained: tuple[Explained, ...]
    unexplained: tuple[Unexplained, ...]
    kinds: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProofDocument:
    """A proof of one conversion. ``record_digest`` names the record by the digest it bears."""

    record_digest: str
    machine: str
    made: str
    verdict: ProofVerdict
    disks: tuple[DiskProof, ...]
    file_systems: tuple[FileSystemProof, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    by_programs: tuple[Problem, ...]
    """What differs, is not planned, and was there to be changed while a program of the guest's ran."""
    seconds: Mapping[str, float]
    load: float
    """The machine's load (one minute's average) when it ended: what the seconds are to be judged by."""
    schema: int = PROOF_SCHEMA
    suite_version: str = p2v.__version__

    @property
    def of_disks(self) -> tuple[Problem, ...]:
        """What was found of the disks as such: bytes outside the changed ranges, or others than the record says."""
        disks = {name for disk in self.disks for name in (disk.source, disk.target)}
        return tuple(problem for problem in self.problems if problem.where in disks)


def proof_json(proof: ProofDocument) -> str:
    """The proof as a file: its digest first."""
    data = to_data(proof)
    return jsontext.pretty({"digest": jsontext.digest(data), **data})


def proof_path(record: Path) -> Path:
    """Where the proof of a record is: NAME.proof.json beside NAME.json."""
    return record.with_name(f"{record.stem}.proof.json")


def load_proof(path: Path) -> ProofDocument:
    """Read a proof. Raises NoSource, NotPermitted, ReadFailed, BadRecord (it is none, or was changed)."""
    try:
        data = parse(read_document(path))
    except ValueError as error:
        raise BadRecord(path, (f"not a JSON document ({error})",)) from error
    if not isinstance(data, dict) or data.get("schema") != PROOF_SCHEMA:
        raise BadRecord(path, ("not a proof that this version reads",))
    digest = data.pop("digest", None)
    if digest != jsontext.digest(data):
        raise BadRecord(path, ("the proof was changed after it was written: its digest does not fit",))
    try:
        proof = jsonio.decode(document_converter(), data, ProofDocument)
    except jsonio.BadDocument as error:
        raise BadRecord(path, (f"not a proof: {error}",)) from error
    if (proof.verdict is ProofVerdict.FAILED) is not bool(proof.problems):
        raise BadRecord(path, ("its verdict contradicts what it found",))
    return proof
