"""The JSON Schema of audit documents, as their dataclasses have it.

``python -m tests.audit.schema`` brings docs/schema up to date, whatever fields were added. The structure is the dataclasses'.
A field is described by the text below it in the code; one without any keeps what the file says of it, and a new one is told by its
name until somebody says more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from p2v.audit.document import AUDIT_SCHEMA, AuditDocument
from tests.record.schema import DRAFT, FOLDER, Json, Schemas, fields_of, objects, told_of

FILE = FOLDER / f"audit-{AUDIT_SCHEMA}.schema.json"
HEAD = {
    "$schema": DRAFT,
    "title": "Audit by p2v",
    "description": "What `p2v audit --json` prints: machines with their verdicts and findings, the fleet's, what was left aside.",
}


def audit_schema(published: Json) -> Json:
    """The schema; ``published``: the one that descriptions are taken from where the code has none."""
    schemas = Schemas()
    made = schemas.object_of(fields_of(AuditDocument))
    made["properties"]["schema"] = {"const": AUDIT_SCHEMA}
    whole = {**HEAD, **made, "$defs": dict(sorted(schemas.definitions.items()))}
    known, told = dict(objects(published)), told_of(AuditDocument)
    for place, found in objects(whole):
        owner = place.split("/")[0] or AuditDocument.__name__
        before = known.get(place, {}).get("properties", {})
        for name, inner in found["properties"].items():
            kept = before.get(name, {}).get("description", "")
            inner["description"] = told.get((owner, name)) or kept or f"{name.replace('_', ' ').capitalize()}."
    return whole


def text_of(schema: Json) -> str:
    """The schema as the file has it."""
    return json.dumps(schema, indent=1) + "\n"


def published() -> Json:
    """The file as it is."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


if __name__ == "__main__":
    FILE.write_text(text_of(audit_schema(published())))
    print(Path(FILE).name, "is up to date", file=sys.stderr)
