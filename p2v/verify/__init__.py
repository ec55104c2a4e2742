"""The boot check: boots a throw-away copy of a result and says, with evidence, whether it came up."""

from p2v.verify.boot import EvidenceFiles, require_tools, verify
from p2v.verify.evidence import BootEvidence, GuestReport, InterfaceAddresses, Reason, Verdict

__all__ = ["BootEvidence", "EvidenceFiles", "GuestReport", "InterfaceAddresses", "Reason", "Verdict", "require_tools", "verify"]
