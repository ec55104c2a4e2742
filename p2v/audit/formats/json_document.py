"""The whole document as JSON, as docs/schema/audit-1.schema.json has it."""

from __future__ import annotations

from p2v.audit.document import AuditDocument
from p2v.core import jsonio, jsontext


def audit_json(document: AuditDocument) -> str:
    """The document as a file, ASCII alone: what is not stands there as escapes, lone surrogates too."""
    return jsontext.pretty(jsonio.encode(jsonio.converter(), document))
