"""The audit as SARIF 2.1.0 (OASIS Standard, errata 01): one run, a result a finding.

Severity to level: a blocker is an ``error``, a warning a ``warning``, information a ``note``. What could not be seen has the kind
``open`` (there was too little to decide by), whose level is ``none`` (section 3.27.10). What the conversion sets right by itself is
a ``note``. A finding in a file of the guest's has a physical location below the machine's own base, which stands for the guest's
root and is not given an address; bytes of a disk one in the disk's file; keys and values of a registry a logical one.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from p2v.audit.catalogue_file import Rule
from p2v.audit.document import AuditDocument, MachineAudit
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.core.text import printable

Json = dict[str, Any]
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_TEXT_LETTERS = 10_000
_LEVELS = {
    Severity.BLOCKER: "error",
    Severity.WARNING: "warning",
    Severity.UNKNOWN: "none",
    Severity.INFORMATION: "note",
}
_ESCAPES = str.maketrans({"\\": "\\\\", "[": "\\[", "]": "\\]", "{": "{{", "}": "}}"})
"""What means something in a message (sections 3.11.5, 3.11.6): links and placeholders, which no text of a guest's may make."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whom a finding is about. ``base``: the name of the guest's root; ``is_windows``: its paths have backslashes."""

    name: str
    kind: str
    base: str = ""
    is_windows: bool = False


_FLEET = _Owner("the fleet", "fleet")


def sarif_json(document: AuditDocument) -> str:
    """The log as a file, ASCII alone."""
    return json.dumps(sarif_data(document), indent=1, ensure_ascii=True) + "\n"


def sarif_data(document: AuditDocument) -> Json:
    """The log as plain JSON data."""
    places = {rule.id: index for index, rule in enumerate(document.rules)}
    owners = [_owner(index, machine) for index, machine in enumerate(document.machines)]
    results = [_result(each, _FLEET, places) for each in document.fleet]
    for owner, machine in zip(owners, document.machines, strict=True):
        results += [_result(each, owner, places) for each in machine.findings]
    run: Json = {
        "tool": {
            "driver": {
                "name": "p2v audit",
                "version": document.suite_version,
                "rules": [_rule(each) for each in document.rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {
            each.base: {"description": _message(f"The root of the guest {each.name}")} for each in owners
        },
        "results": results,
        "properties": {"asOf": str(document.as_of), "auditSchema": document.schema, "machines": len(owners)},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _owner(index: int, machine: MachineAudit) -> _Owner:
    is_windows = machine.system is not None and machine.system.kind == "windows"
    return _Owner(machine.name, "machine", f"GUEST{index + 1}", is_windows)


def _rule(rule: Rule) -> Json:
    return {
        "id": _shown(rule.id),
        "shortDescription": _message(rule.title or rule.id),
        "fullDescription": _message(rule.meaning or rule.title or rule.id),
        "help": _message(rule.remedy or "There is nothing to do."),
        "defaultConfiguration": {"level": _level(rule.severity, rule.fixed_by_conversion)},
        "properties": {
            "severity": rule.severity.value,
            "area": rule.area.value,
            "evidence": rule.evidence,
            "fixedByConversion": rule.fixed_by_conversion,
        },
    }


def _level(severity: Severity, is_fixed: bool) -> str:
    return "note" if is_fixed and severity is not Severity.UNKNOWN else _LEVELS[severity]


def _result(finding: AuditFinding, owner: _Owner, places: Mapping[str, int]) -> Json:
    made: Json = {"ruleId": _shown(finding.rule)}
    if finding.rule in places:
        made["ruleIndex"] = places[finding.rule]
    if finding.severity is Severity.UNKNOWN:
        made["kind"] = "open"
    made["level"] = _level(finding.severity, finding.fixed_by_conversion)
    made["message"] = _message(f"{owner.name}: {finding.message}")
    made["locations"] = list(_locations(finding.evidence, owner))
    made["partialFingerprints"] = {"finding/v1": _fingerprint(finding, owner)}
    if finding.suppressed:
        made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": _shown(finding.suppressed)}]
    made["properties"] = {
        "machine": _shown(owner.name) if owner is not _FLEET else "",
        "severity": finding.severity.value,
        "fixedByConversion": finding.fixed_by_conversion,
        "remedy": _shown(finding.remedy),
    }
    return made


def _fingerprint(finding: AuditFinding, owner: _Owner) -> str:
    """The same finding of the same machine has it in the next audit too."""
    text = "\0".join((owner.kind, owner.name, finding.rule, finding.message))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _locations(evidence: Sequence[Evidence], owner: _Owner) -> Iterator[Json]:
    """One for each piece of evidence; without any, the machine itself."""
    whole = {"name": _shown(owner.name), "fullyQualifiedName": _shown(owner.name), "kind": owner.kind}
    if not evidence:
        yield {"logicalLocations": [whole]}
    for each in evidence:
        physical = _physical(each, owner)
        made: Json = {"physicalLocation": physical} if physical else {}
        made["logicalLocations"] = [whole] if physical else [_logical(each, owner), whole]
        if each.text:
            made["message"] = _message(each.text)
        yield made


def _logical(evidence: Evidence, owner: _Owner) -> Json:
    where = _shown(evidence.where)
    return {
        "name": where.rpartition("\\")[2] or where,
        "fullyQualifiedName": f"{_shown(owner.name)}\\{where}",
        "kind": evidence.kind.value,
    }


def _physical(evidence: Evidence, owner: _Owner) -> Json | None:
    artifact = _artifact(evidence, owner)
    if artifact is None:
        return None
    made: Json = {"artifactLocation": artifact}
    if evidence.kind is EvidenceKind.BYTES and evidence.offset is not None and evidence.offset >= 0:
        made["region"] = {"byteOffset": evidence.offset}
    elif evidence.line is not None and evidence.line >= 1:
        made["region"] = {"startLine": evidence.line}
        if evidence.text:
            made["region"]["snippet"] = {"text": _shown(evidence.text)}
    return made


def _artifact(evidence: Evidence, owner: _Owner) -> Json | None:
    """Where a file is: in the guest below its base, on this host by its path. None for what is no file."""
    if not evidence.where or evidence.kind in (EvidenceKind.REGISTRY, EvidenceKind.DATA):
        return None
    if evidence.kind is EvidenceKind.FILE and owner.base:
        path = evidence.where.replace("\\", "/") if owner.is_windows else evidence.where
        # no name from a guest leads out of it
        inside = posixpath.normpath(f"/{path}").lstrip("/")
        return {"uri": _quoted(inside), "uriBaseId": owner.base} if inside else None
    is_absolute = evidence.where.startswith("/")
    return {"uri": f"file://{_quoted(evidence.where)}" if is_absolute else _quoted(evidence.where)}


def _quoted(path: str) -> str:
    """A path in a URI; bytes that were no UTF-8 stay the bytes they were."""
    try:
        raw = path[:_TEXT_LETTERS].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = printable(path[:_TEXT_LETTERS]).encode()
    return quote(raw, safe="/")


def _message(text: str) -> Json:
    return {"text": _shown(text).translate(_ESCAPES)}


def _shown(text: str) -> str:
    return printable(text[:_TEXT_LETTERS])
