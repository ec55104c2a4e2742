"""Everything about a record at once: whether it is whole, who signed it, what its files say, what it proves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import NoSource, P2vError, Usage
from p2v.core.events import Reporter, silent
from p2v.record.claims import Claim, Verdict, Why, verdicts
from p2v.record.files import Files, Places, State, look
from p2v.record.proof import ProofDocument, load_proof, proof_path
from p2v.record.reading import OpenedRecord, open_record
from p2v.record.signature import NAMESPACE, Signature, Signers, Standing, check


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a record. ``places``: None when its files are not to be read.

    ``signers``: None when a signature is only looked at where there is one.
    """

    record: Path
    places: Places | None = None
    signers: Signers | None = None
    namespace: str = NAMESPACE
    required: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found. ``proof_said``: about the proof beside the record; ``verdicts`` is empty for a record that is not whole."""

    opened: OpenedRecord
    signature: Signature
    proof_said: str
    files: Files | None
    verdicts: tuple[Verdict, ...]
    failures: tuple[str, ...]
    """A clause for everything that was asked for and is different or not proven."""

    @property
    def exit_code(self) -> int:
        """0: all that was asked is proven; 1: something is different or not proven; 65: the record is not whole."""
        if self.opened.problems:
            return 65
        return 1 if self.failures else 0


def examine(question: Question, report: Reporter = silent) -> Answer:
    """Look at a record and at what was asked for besides.

    Raises what ``open_record`` and ``signature.check`` raise, and Usage for a scrubbed copy, which proves nothing.
    """
    opened = open_record(question.record)
    record = opened.record
    if record is not None and record.copy_of is not None:
        raise Usage(
            f"{question.record}: a scrubbed copy from a support bundle, which proves nothing",
            f"Name the record itself; its digest is {record.copy_of}.",
        )
    signature = check(question.record, opened.data, question.signers, question.namespace)
    if record is None or opened.problems:
        return Answer(opened, signature, "", None, (), opened.problems)
    proof, proof_said, proof_is_wrong = _proof(question.record, opened.digest)
    files = look(record, question.places, report) if question.places else None
    found = verdicts(record, files, proof)
    failures = [*_signature_failures(question, signature), *([proof_said] if proof_is_wrong else []), *_failures(files)]
    failures += [f"{v.claim.value}: not proven ({v.why.value})" for v in found if _fails(v, question.required)]
    return Answer(opened, signature, proof_said, files, found, tuple(failures))


def _proof(record: Path, digest: str) -> tuple[ProofDocument | None, str, bool]:
    """The proof beside a record if it belongs to it, a clause about it, and whether what is there is wrong."""
    path = proof_path(record)
    try:
        proof = load_proof(path)
    except NoSource:
        return None, "none beside the record; `p2v prove` makes one", False
    except P2vError as error:
        return None, error.sentence(), True
    if proof.record_digest != digest:
        return None, f"{path.name} is of another record", True
    return proof, f"{path.name} of {proof.made}", False


def _signature_failures(question: Question, signature: Signature) -> Iterable[str]:
    if signature.standing is Standing.BAD or (question.signers and signature.standing is not Standing.GOOD):
        yield f"signature: {signature.said}"


def _failures(files: Files | None) -> Iterable[str]:
    for looked in files.asked_for if files else ():
        if looked.state is not State.SAME:
            yield f"{looked.what}: {looked.said}"


def _fails(verdict: Verdict, required: tuple[Claim, ...]) -> bool:
    return verdict.why is Why.FAILED or (verdict.claim in required and not verdict.proven)
