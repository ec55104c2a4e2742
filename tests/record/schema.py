"""The JSON Schema of records and proofs, as their dataclasses have it.

``python -m tests.record.schema`` brings docs/schema up to date: the structure comes from the dataclasses, the descriptions
stay as they are in the file. A new field needs one (a test says so).
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from drivers.plan import GuestPlan
from p2v.documents import PlanDocument
from p2v.record.conversion import RECORD_SCHEMA, ConversionRecord
from p2v.record.parts import OF_FINDINGS, OF_PARTS, OF_SOURCE, PARTS, Link
from p2v.record.proof import PROOF_SCHEMA, ProofDocument

Json = dict[str, Any]
FOLDER = Path(__file__).parents[2] / "docs" / "schema"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}


Must = Callable[[dataclasses.Field[Any]], bool]


def has_no_default(each: dataclasses.Field[Any]) -> bool:
    """Of a dataclass's field."""
    return each.default is each.default_factory is dataclasses.MISSING


@dataclass
class Schemas:
    """Schemas of types; those of dataclasses are gathered in ``definitions``.

    ``must``: whether a dataclass's field must be in its object; otherwise what has no default.
    """

    definitions: Json = field(default_factory=dict)
    must: Must = has_no_default

    def of(self, kind: Any) -> Json:
        """The schema of any type that documents are made of."""
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self.of(inner[0]) | _said(inner[1])
        if origin in (typing.Union, types.UnionType):
            members = [each for each in inner if each is not type(None)]
            if len(members) == 1:
                return {"anyOf": [self.of(members[0]), {"type": "null"}]}
            return {"oneOf": [self.definition(each, tagged=True) for each in members]}
        if origin is tuple and inner[-1] is Ellipsis:
            return {"type": "array", "items": self.of(inner[0])}
        if origin is tuple:
            items = [self.of(each) for each in inner]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        if origin is not None and issubclass(origin, Mapping):
            return {"type": "object"} | ({} if inner[1] is Any else {"additionalProperties": self.of(inner[1])})
        if dataclasses.is_dataclass(kind):
            return self.definition(kind)
        if issubclass(kind, enum.Enum):
            return {"enum": [each.value for each in kind]}
        if kind is date:
            return {"type": "string", "format": "date"}
        return {"type": _PLAIN[kind]}

    def definition(self, kind: Any, *, tagged: bool = False) -> Json:
        """A reference to the schema of a dataclass; ``tagged``: one of a union, told apart by its ``type``."""
        if kind.__name__ not in self.definitions:
            self.definitions[kind.__name__] = {}  # those that it holds may hold it
            made = self.object_of(fields_of(kind, self.must))
            if tagged:
                made["properties"] = {"type": {"const": kind.__name__}, **made["properties"]}
                made["required"] = ["type", *made["required"]]
            self.definitions[kind.__name__] = made
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def object_of(self, fields: Mapping[str, tuple[Any, bool]]) -> Json:
        """An object of fields: their types, and whether they must be there."""
        return {
            "type": "object",
            "properties": {name: self.of(kind) for name, (kind, _) in fields.items()},
            "required": [name for name, (_, required) in fields.items() if required],
            "additionalProperties": False,
        }


def fields_of(kind: Any, must: Must = has_no_default) -> dict[str, tuple[Any, bool]]:
    """Fields of a dataclass: type, and whether it must be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {each.name: (hints[each.name], must(each)) for each in dataclasses.fields(kind)}


def _said(form: Any) -> Json:
    """What an annotation says of a type (``p2v.batch.json_forms.Form``): keywords of JSON Schema."""
    return {name: value for name, value in dataclasses.asdict(form).items() if value is not None}


def told_of(root: Any) -> dict[tuple[str, str], str]:
    """What the code says below fields of the dataclasses that documents are made of, by class and field."""
    return dict(each for kind in classes_of(root) for each in _told(kind))


def _told(kind: type) -> Iterator[tuple[tuple[str, str], str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for each, text in zip(tree.body, tree.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and is_text:
            words = " ".join(str(ast.literal_eval(text.value)).split())  # type: ignore[attr-defined]
            yield (kind.__name__, each.target.id), words


def classes_of(root: Any) -> Iterator[type]:
    """The dataclasses that a document is made of."""
    seen, left = set[Any](), [root]
    while left:
        kind = left.pop()
        left += typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in seen:
            seen.add(kind)
            yield kind
            hints = typing.get_type_hints(kind)
            left += [hints[each.name] for each in dataclasses.fields(kind)]


def record_schema() -> Json:
    """Of a conversion record's file, without descriptions."""
    schemas = Schemas()
    parts = {name: schemas.object_of(fields) for name, fields in _parts().items()}
    head = {"schema": {"const": RECORD_SCHEMA}, "digest": {"type": "string"}, "chain": schemas.of(tuple[Link, ...])}
    return {
        "$schema": DRAFT,
        "type": "object",
        "properties": {**head, **parts},
        "required": [*head, *parts],
        "additionalProperties": False,
        "$defs": dict(sorted(schemas.definitions.items())),
    }


def _parts() -> dict[str, dict[str, tuple[Any, bool]]]:
    """The fields of every part, as ``p2v.record.parts`` lays them out."""
    rest = fields_of(ConversionRecord)
    rest.pop("schema")
    rest.pop("document")
    document, guest_plan = fields_of(PlanDocument), fields_of(GuestPlan)
    document.pop("plan")
    parts = {
        "source": {name: document.pop(name) for name in OF_SOURCE},
        "findings": {name: guest_plan.pop(name) for name in OF_FINDINGS},
    }
    parts |= {part: {names[name]: rest.pop(name) for name in names} for part, names in OF_PARTS.items()}
    parts["plan"] |= guest_plan | document
    return {name: (parts | {"making": rest})[name] for name in PARTS}


def proof_schema() -> Json:
    """Of a proof's file, without descriptions."""
    schemas = Schemas()
    made = schemas.object_of(fields_of(ProofDocument))
    made["properties"] = {"digest": {"type": "string"}, **made["properties"], "schema": {"const": PROOF_SCHEMA}}
    made["required"] = ["digest", *made["required"]]
    return {
        "$schema": DRAFT,
        **made,
        **({"$defs": dict(sorted(schemas.definitions.items()))} if schemas.definitions else {}),
    }


SCHEMAS = {f"record-{RECORD_SCHEMA}.schema.json": record_schema, f"proof-{PROOF_SCHEMA}.schema.json": proof_schema}


def objects(schema: Json, place: str = "") -> Iterator[tuple[str, Json]]:
    """Every object schema in it with named properties, and where it is."""
    if "properties" in schema:
        yield place, schema
        for name, inner in schema["properties"].items():
            yield from objects(inner, f"{place}/{name}")
    for name, inner in schema.get("$defs", {}).items():
        yield from objects(inner, name)


def undescribed(schema: Json) -> Json:
    """The same without titles and descriptions."""
    plain = json.loads(json.dumps(schema))
    for _, found in [("", plain), *objects(plain)]:
        for name in ("title", "description", "$id"):
            found.pop(name, None)
        for inner in found.get("properties", {}).values():
            inner.pop("description", None)
    return dict(plain)


def update(name: str) -> None:
    """Bring a file up to date; what it describes already stays."""
    path, made = FOLDER / name, SCHEMAS[name]()
    old = json.loads(path.read_text()) if path.exists() else {}
    known = dict(objects(old))
    for place, found in objects(made):
        before = known.get(place, {})
        for field_name, inner in found["properties"].items():
            inner["description"] = before.get("properties", {}).get(field_name, {}).get("description", "")
    head = {key: old.get(key, "") for key in ("title", "description")}
    path.write_text(
        json.dumps(
            {"$schema": made.pop("$schema"), **head, **{k: v for k, v in made.items() if k not in head}}, indent=1
        )
        + "\n"
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SCHEMAS:
        update(each)
