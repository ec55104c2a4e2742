"""What `p2v prove` found, as a small file beside the record that it is about."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import p2v
from p2v.core import jsonio, jsontext
from p2v.documents import CONVERTER, to_data
from p2v.record.reading import BadRecord, parse, read_document

PROOF_SCHEMA = 1


class Outcome(enum.Enum):
    """How one question came out."""

    PROVEN = "proven"
    DIFFERENT = "different"
    """Something was found that the record does not explain."""
    NOT_LOOKED_AT = "not-looked-at"
    """It was not asked, or could not be answered."""


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """The outcome of one proof.

    ``record_digest``: of the record it is about. ``copied``: outside the changed ranges the target is the source, byte for
    byte. ``changed``: inside them the differences are the plan's changes and nothing else. ``rests_on``: a clause each on
    what was read. ``figures``: counts by name, bytes where the name ends in ``_bytes``. ``document`` is the name of the
    file with the whole proof, where one was written, and ``document_sha256`` its digest.
    """

    record_digest: str
    when: str
    copied: Outcome
    changed: Outcome
    rests_on: tuple[str, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)
    document: str | None = None
    document_sha256: str | None = None
    schema: int = PROOF_SCHEMA
    suite_version: str = p2v.__version__


def proof_path(record: Path) -> Path:
    """Where the proof of a record is: NAME.proof.json beside NAME.json."""
    return record.with_name(f"{record.name.removesuffix('.json')}.proof.json")


def proof_json(proof: ProofRecord) -> str:
    """The proof as a file: its digest first."""
    data = to_data(proof)
    return jsontext.pretty({"digest": jsontext.digest(data), **data})


def load_proof(path: Path) -> ProofRecord:
    """Read a proof. Raises NoSource, NotPermitted, ReadFailed, BadRecord (it is none, or was changed)."""
    try:
        data = parse(read_document(path))
    except ValueError as error:
        raise BadRecord(path, (f"not a JSON document ({error})",)) from error
    if not isinstance(data, dict) or data.get("schema") != PROOF_SCHEMA:
        raise BadRecord(path, ("not a proof that this version reads",))
    digest = data.pop("digest", None)
    try:
        proof = jsonio.decode(CONVERTER, data, ProofRecord)
    except jsonio.BadDocument as error:
        raise BadRecord(path, (f"not a proof: {error}",)) from error
    if digest != jsontext.digest(data):
        raise BadRecord(path, ("the proof was changed after it was written: its digest does not fit",))
    return proof
