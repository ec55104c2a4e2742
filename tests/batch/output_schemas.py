"""The JSON Schemas of what `p2v batch` tells programs, and the tables of docs/batch-json.md, from the dataclasses it is made of.

``python -m tests.batch.schema`` brings them up to date. A field is described by the text below it in the code; one that has none is
an error: no file and no page says anything of a field that the code does not.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from p2v.batch.planned import PLAN_SCHEMA, BatchPlan, PlanHead
from p2v.batch.status import STATUS_SCHEMA, BatchStatus
from tests.record.schema import DRAFT, FOLDER, Json, Schemas, classes_of, fields_of, objects, told_of

PAGE = FOLDER.parent / "batch-json.md"


@dataclass(frozen=True, slots=True)
class Output:
    """A machine-readable output. ``roots``: the dataclasses whose fields its object has, one after the other."""

    name: str
    number: int
    title: str
    text: str
    roots: tuple[Any, ...]

    @property
    def file(self) -> str:
        """Its schema's name."""
        return f"{self.name}-{self.number}.schema.json"

    def schema(self) -> Json:
        """Its schema, every field described. KeyError where the code says nothing of a field."""
        schemas = Schemas(all_there=True)
        made = schemas.object_of({name: each for root in self.roots for name, each in fields_of(root).items()})
        made["properties"]["schema"] = {"const": self.number}
        made |= {"$defs": dict(sorted(schemas.definitions.items()))} if schemas.definitions else {}
        return {"$schema": DRAFT, "title": self.title, "description": self.text, **described(made, self.roots)}

    def published(self) -> Json:
        """The file as it is."""
        return dict(json.loads((FOLDER / self.file).read_text("utf-8")))


def described(made: Json, roots: tuple[Any, ...]) -> Json:
    """A schema whose objects and fields are described by what the code says of them."""
    told = {each: text for root in roots for each, text in told_of(root).items()}
    for kind in (each for root in roots for each in classes_of(root)):
        if (found := made.get("$defs", {}).get(kind.__name__)) is not None:
            found["description"] = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].replace("``", "`").split())
    for place, found in objects(made):
        for name, inner in found["properties"].items():
            owners = [place] if place else [root.__name__ for root in roots]
            texts = [told[owner, name] for owner in owners if (owner, name) in told]
            if not texts:
                raise KeyError(f"{' or '.join(owners)}.{name}: the code says nothing of it, below it")
            inner["description"] = texts[0]
    return made


OUTPUTS = (
    Output(
        "batch-plan",
        PLAN_SCHEMA,
        "The plan of a batch by p2v",
        "What `p2v batch plan --json` prints. Sizes are in bytes, times in seconds.",
        (PlanHead, BatchPlan),
    ),
    Output(
        "batch-status",
        STATUS_SCHEMA,
        "How a batch of p2v stands",
        "What `p2v batch status --json` and, at its end, `p2v batch run --json` print. With `--watch` it is a line each time. "
        "Moments are in UTC.",
        (BatchStatus,),
    ),
)


def output(name: str) -> Output:
    """One of them."""
    return next(each for each in OUTPUTS if each.name == name)


_BEGIN, _END = "<!-- fields: written by `python -m tests.batch.schema` -->", "<!-- end of fields -->"


def page_of(text: str) -> str:
    """The user's page with its tables as they are to be."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{''.join(_tables())}{_END}{after}"


def _tables() -> Iterator[str]:
    """Every field of every output as Markdown; an object that several have stands there once, at the first of them."""
    told = set[str]()
    for each in OUTPUTS:
        schema = each.schema()
        yield f"\n## {each.title}\n\n{each.text} Schema: [{each.file}](schema/{each.file}).\n\n{_table(schema)}"
        for name, inner in schema.get("$defs", {}).items():
            if name not in told:
                told.add(name)
                yield f"\n### {name}\n\n{inner['description']}\n\n{_table(inner)}"
    yield "\n"


def _table(schema: Json) -> str:
    rows = []
    for name, inner in schema["properties"].items():
        may_lack = "" if name in schema["required"] else ", or absent"
        rows.append(f"| `{name}` | {_takes(inner)}{may_lack} | {inner['description']} |")
    return "\n".join(["| field | is | |", "|---|---|---|", *rows]) + "\n"


_WORDS = {"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}


def _takes(schema: Json) -> str:
    """What a field is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return f"{_takes(schema['anyOf'][0])}, or null"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"a list: {_takes(schema['items'])}"
    if schema["type"] == "object":
        return f"by name: {_takes(schema['additionalProperties'])}"
    return "a moment" if "pattern" in schema else _WORDS[schema["type"]]


def update() -> Iterator[str]:
    """Write the schemas and the page's tables; the names of the files."""
    for each in OUTPUTS:
        (FOLDER / each.file).write_text(json.dumps(each.schema(), indent=1) + "\n", "utf-8")
        yield each.file
    PAGE.write_text(page_of(PAGE.read_text("utf-8")), "utf-8")
    yield PAGE.name
