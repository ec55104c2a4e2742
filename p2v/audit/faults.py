"""Errors that stop the reading of one machine, as findings: one bad disk never stops a fleet's audit."""

from __future__ import annotations

from collections.abc import Mapping

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.core import errors
from p2v.core.errors import P2vError
from p2v.core.text import printable

_LONGEST = 2000
NO_DISK = "audit.no-known-format"
"""What has no format is most often no disk; an audit that walked into it by its name says so in passing."""
# their hints name options of other verbs
_OWN_REMEDY = (NO_DISK, "audit.ambiguous-format")

# the first that fits; subclasses stand before what they are a kind of
_RULES: tuple[tuple[type[P2vError], str], ...] = (
    (errors.ParentMissing, "audit.parent-missing"),
    (errors.WrongParent, "audit.wrong-parent"),
    (errors.ForbiddenReference, "audit.forbidden-reference"),
    (errors.NoKnownFormat, NO_DISK),
    (errors.AmbiguousFormat, "audit.ambiguous-format"),
    (errors.UnsupportedImage, "audit.unsupported-image"),
    (errors.BadImage, "audit.bad-image"),
    (errors.BadDescription, "audit.bad-description"),
    (errors.NotPermitted, "audit.not-permitted"),
    (errors.NoSource, "audit.not-there"),
    (errors.ReadFailed, "audit.read-failed"),
    (errors.ReaderCrashed, "audit.reader-crashed"),
    (errors.Interrupted, "audit.half-converted"),
)


def fault(error: P2vError, path: str, rules: Mapping[str, Rule]) -> AuditFinding:
    """The finding that an error is."""
    name = next((rule for kind, rule in _RULES if isinstance(error, kind)), "audit.failed")
    message = printable(error.sentence()[:_LONGEST], keep="")
    remedy = "" if name in _OWN_REMEDY else printable(error.hint()[:_LONGEST], keep="")
    return found(rules[name], message, Evidence(EvidenceKind.BYTES, path), remedy=remedy)


def cut_off(path: str, failure: str, timed_out: bool, rules: Mapping[str, Rule]) -> AuditFinding:
    """The finding that a machine's own process came to no end, or to none that tells anything."""
    rule = rules["audit.took-too-long" if timed_out else "audit.failed"]
    message = f"{printable(path, keep='')}: reading it {printable(failure[:_LONGEST], keep='')}"
    return found(rule, message, Evidence(EvidenceKind.BYTES, path))
