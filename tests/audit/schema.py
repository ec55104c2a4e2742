"""The JSON Schema of audit documents, as their dataclasses have it.

``python -m tests.audit.schema`` brings docs/schema up to date, whatever fields were added. The structure is the dataclasses'.
A field is described by the text below it in the code; one without any keeps what the file says of it, and a new one is told by its
name until somebody says more.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from p2v.audit.document import AUDIT_SCHEMA, AuditDocument
from tests.record.schema import DRAFT, FOLDER, Json, Schemas, fields_of, objects

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
    known, told = dict(objects(published)), dict(_told())
    for place, found in objects(whole):
        owner = place.split("/")[0] or AuditDocument.__name__
        before = known.get(place, {}).get("properties", {})
        for name, inner in found["properties"].items():
            kept = before.get(name, {}).get("description", "")
            inner["description"] = told.get((owner, name)) or kept or f"{name.replace('_', ' ').capitalize()}."
    return whole


def _told() -> Iterator[tuple[tuple[str, str], str]]:
    """What the code says below fields, by class and field."""
    for kind in _classes(AuditDocument, set()):
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                words = " ".join(str(ast.literal_eval(text.value)).split())  # type: ignore[attr-defined]
                yield (kind.__name__, field.target.id), words


def _classes(kind: Any, seen: set[Any]) -> Iterator[type]:
    """The dataclasses that documents are made of."""
    if is_dataclass(kind) and isinstance(kind, type) and kind not in seen:
        seen.add(kind)
        yield kind
        hints = typing.get_type_hints(kind)
        for each in fields(kind):
            yield from _classes(hints[each.name], seen)
    for inner in typing.get_args(kind):
        yield from _classes(inner, seen)


def text_of(schema: Json) -> str:
    """The schema as the file has it."""
    return json.dumps(schema, indent=1) + "\n"


def published() -> Json:
    """The file as it is."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


if __name__ == "__main__":
    FILE.write_text(text_of(audit_schema(published())))
    print(Path(FILE).name, "is up to date", file=sys.stderr)
