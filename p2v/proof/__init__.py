"""The proof: a result holds what its source held, but for what the plan says, byte by byte and name by name."""

from p2v.proof.prove import Pair, prove
from p2v.record.proof import PROOF_SCHEMA, DiskProof, FileSystemProof, ProofDocument, ProofVerdict

__all__ = ["PROOF_SCHEMA", "DiskProof", "FileSystemProof", "Pair", "ProofDocument", "ProofVerdict", "prove"]
