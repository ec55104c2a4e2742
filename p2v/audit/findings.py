"""What an audit finds: a rule that fired, how much it matters, and where that is to be seen."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """How much a finding matters, the worst first."""

    BLOCKER = "blocker"
    """It will not run, or the conversion refuses it."""
    WARNING = "warning"
    """It will run, and something is lost or needs a hand."""
    UNKNOWN = "unknown"
    """It could not be seen, which never means that it is fine."""
    INFORMATION = "information"


class EvidenceKind(enum.Enum):
    """What a piece of evidence points into."""

    FILE = "file"
    """A file of the guest's; ``line`` where it is a text."""
    REGISTRY = "registry"
    """A key or value of the guest's registry, from its hive on (``SYSTEM\\ControlSet001\\Services\\vioscsi\\Start``)."""
    BYTES = "bytes"
    """Bytes of a disk, ``offset`` in its virtual disk."""
    DESCRIPTION = "description"
    """A machine's description, or a row of an inventory; ``line`` from 1."""
    DATA = "data"
    """A dated file of the suite's own, with its published source in ``text``."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a finding can be seen. ``line`` counts from 1; ``offset`` in bytes; ``text``: what stands there, cut short."""

    kind: EvidenceKind
    where: str
    line: int | None = None
    offset: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One rule that fired for one machine (or for the fleet). ``remedy``: what to do about it, for this machine.

    ``fixed_by_conversion``: nobody need do anything, the conversion does. ``suppressed``: the user's reason for not wanting to
    hear of it; empty where nobody gave one.
    """

    rule: str
    severity: Severity
    message: str
    remedy: str = ""
    evidence: tuple[Evidence, ...] = ()
    fixed_by_conversion: bool = False
    suppressed: str = ""
