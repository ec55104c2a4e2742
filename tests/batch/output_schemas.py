"""The JSON Schemas of what `p2v batch` tells programs, and the tables of docs/batch-json.md, from the dataclasses it is made of.

``python -m tests.batch.schema`` brings them up to date. A field is described by the text below it in the code; one that has none is
an error: no file and no page says anything of a field that the code does not.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2v.batch.clean_document import CLEAN_SCHEMA, CleanDocument
from p2v.batch.event_data import (
    EVENTS_SCHEMA,
    LOG_SCHEMA,
    OF_A_MACHINE,
    OF_A_RUN,
    EventLine,
    LogHead,
    TooLong,
)
from p2v.batch.failure_bundle import BUNDLE_SCHEMA, BundledFailure
from p2v.batch.hook_documents import END_HOOK_SCHEMA, HOOK_SCHEMA, EndHookDocument, HookDocument
from p2v.batch.jobs import JobEvent
from p2v.batch.json_forms import SOMETIMES
from p2v.batch.planned import PLAN_SCHEMA, BatchPlan, PlanHead
from p2v.batch.status import STATUS_SCHEMA, BatchStatus
from p2v.core.events import EVENT_NAMES, PROGRESS_SCHEMA, ErrorLine, ProgressLine
from tests.record.schema import DRAFT, FOLDER, Json, Schemas, classes_of, fields_of, told_of

PAGE = FOLDER.parent / "batch-json.md"


def is_always_there(each: dataclasses.Field[Any]) -> bool:
    """Of a dataclass's field; what has a default is there as well."""
    return each.metadata != SOMETIMES


@dataclass(frozen=True, slots=True)
class Output:
    """A machine-readable output. ``roots``: the dataclasses whose fields its object has, one after the other.

    ``kinds``: of lines that are one of several, by the word that tells which; each has the fields of a dataclass of its own, beside
    those of ``roots``, or in the one of them that is called ``inside``.
    """

    name: str
    number: int
    title: str
    text: str
    roots: tuple[Any, ...]
    kinds: Mapping[str, Any] = field(default_factory=dict)
    word: str = ""
    inside: str = ""

    @property
    def file(self) -> str:
        """Its schema's name."""
        return f"{self.name}-{self.number}.schema.json"

    def schema(self) -> Json:
        """Its schema, every field described. KeyError where the code says nothing of a field."""
        schemas = Schemas(must=is_always_there)
        if self.kinds:
            made: Json = {"oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in self.kinds]}
            schemas.definitions |= {kind: self._line(schemas, kind) for kind in self.kinds}
        else:
            made = self._object(schemas, self.roots)
        for kind in (each for root in (*self.roots, *self.kinds.values(), TooLong) for each in classes_of(root)):
            if (found := schemas.definitions.get(kind.__name__)) is not None:
                schemas.definitions[kind.__name__] = {"description": first_words(kind), **described(found, (kind,))}
        head = {"$schema": DRAFT, "title": self.title, "description": self.text}
        return head | made | ({"$defs": dict(sorted(schemas.definitions.items()))} if schemas.definitions else {})

    def _object(self, schemas: Schemas, roots: Sequence[Any]) -> Json:
        fields = {name: each for root in roots for name, each in fields_of(root, is_always_there).items()}
        made = schemas.object_of(fields)
        (number,) = (each.default for root in roots for each in dataclasses.fields(root) if each.name == "schema")
        made["properties"]["schema"] = {"const": number}
        return described(made, roots)

    def _line(self, schemas: Schemas, kind: str) -> Json:
        own = self.kinds[kind]
        is_whole = self.inside or self.word in fields_of(own)
        made = self._object(schemas, self.roots if self.inside else (own,) if is_whole else (*self.roots, own))
        text = {name: made["properties"][name]["description"] for name in (self.word, self.inside) if name}
        made["properties"][self.word] = {"const": kind, "description": text[self.word]}
        if self.inside:
            inner = {"oneOf": [schemas.of(own), schemas.of(TooLong)]}
            made["properties"][self.inside] = inner | {"description": text[self.inside]}
        return {"description": first_words(own), **made}

    def published(self) -> Json:
        """The file as it is."""
        return dict(json.loads((FOLDER / self.file).read_text("utf-8")))


def described(made: Json, roots: Sequence[Any]) -> Json:
    """An object's schema whose fields are described by what the code says below them in these dataclasses."""
    told = {each: text for root in roots for each, text in told_of(root).items()}
    for name, inner in made["properties"].items():
        texts = [told[root.__name__, name] for root in roots if (root.__name__, name) in told]
        if not texts:
            raise KeyError(f"{' or '.join(root.__name__ for root in roots)}.{name}: the code says nothing of it, below it")
        inner["description"] = texts[0].replace("``", "`")
    for each in (each for root in roots for each in dataclasses.fields(root)):
        if each.metadata == SOMETIMES and each.default is None:
            # it is absent, and never null
            inner = made["properties"][each.name]
            made["properties"][each.name] = inner.pop("anyOf")[0] | inner
    return made


def first_words(kind: Any) -> str:
    """What the code says of a dataclass."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].replace("``", "`").split())


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
    Output(
        "batch-clean",
        CLEAN_SCHEMA,
        "What a crash of a batch of p2v left",
        "What `p2v batch clean --json` prints, with `--remove` when that is done.",
        (CleanDocument,),
    ),
    Output(
        "progress",
        PROGRESS_SCHEMA,
        "What p2v tells of its progress",
        "A line of JSON on standard error for each event of `p2v batch plan` and `init` with `--progress json`, as of other verbs.",
        (ProgressLine,),
        {name: kind for kind, name in EVENT_NAMES.items()} | {"error": ErrorLine},
        word="event",
    ),
    Output(
        "batch-events",
        EVENTS_SCHEMA,
        "What a run of a batch by p2v tells",
        "A line of JSON on standard error for each event of `p2v batch run --progress json`.",
        (EventLine,),
        OF_A_RUN,
        word="event",
    ),
    Output(
        "batch-log",
        LOG_SCHEMA,
        "What happened to a machine of a batch of p2v",
        "A line of JSON for each event that `p2v batch logs --json` prints.",
        (LogHead, JobEvent),
        OF_A_MACHINE,
        word="kind",
        inside="data",
    ),
    Output(
        "batch-failure",
        BUNDLE_SCHEMA,
        "Why a machine of a batch of p2v was parked",
        "The file `failure.json` in a failure bundle; beside it, `events.jsonl` has the last attempt's events, like `logs --json`.",
        (BundledFailure,),
    ),
    Output(
        "batch-hook",
        HOOK_SCHEMA,
        "What a machine's hook gets from a batch of p2v",
        "A line on the standard input of the commands `before` and `after` of a machine.",
        (HookDocument,),
    ),
    Output(
        "batch-end-hook",
        END_HOOK_SCHEMA,
        "What the command at the end of a run of a batch gets from p2v",
        "A line on the standard input of the command `hooks: {end: ...}` of the manifest.",
        (EndHookDocument,),
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
        definitions = schema.get("$defs", {})
        yield f"\n## {each.title}\n\n{each.text} Schema: [{each.file}](schema/{each.file}).\n\n"
        if each.kinds:
            yield _kinds(each, definitions, told)
        else:
            yield _table(schema)
        for name, inner in definitions.items():
            is_line = name in each.kinds or name in {kind.__name__ for kind in each.kinds.values()}
            if name not in told and not is_line:
                told.add(name)
                yield f"\n### {name}\n\n{inner['description']}\n\n{_table(inner)}"
    yield "\n"


def _table(schema: Json) -> str:
    rows = [f"| `{name}` | {_takes(schema, name)} | {inner['description']} |" for name, inner in schema["properties"].items()]
    return "\n".join(["| field | is | |", "|---|---|---|", *rows]) + "\n"


def _kinds(each: Output, definitions: Json, told: set[str]) -> str:
    """What all lines have, and then each kind with what it has beside that; a kind that was told of before is named alone."""
    common = {name for root in each.roots for name in fields_of(root)}
    some = definitions[next(iter(each.kinds))]
    shared = {**some, "properties": {name: inner for name, inner in some["properties"].items() if name in common}}
    shared["properties"][each.word] = {"type": "string", "description": some["properties"][each.word]["description"]}
    if each.inside:
        shared["properties"][each.inside] = {"type": "object", **some["properties"][each.inside]}
        shared["properties"][each.inside].pop("oneOf")
    rows = []
    for kind, own in each.kinds.items():
        line = definitions[own.__name__] if each.inside else definitions[kind]
        as_above = " Fields as above." if own.__name__ in told and dataclasses.fields(own) else ""
        rows.append(f"| `{kind}` | | | {definitions[kind]['description']}{as_above} |")
        if as_above:
            continue
        names = [name for name in line["properties"] if each.inside or name not in common]
        rows += [f"| | `{name}` | {_takes(line, name)} | {line['properties'][name]['description']} |" for name in names]
    told.update(own.__name__ for own in each.kinds.values())
    return _table(shared) + "\n" + "\n".join([f"| `{each.word}` | field | is | |", "|---|---|---|---|", *rows]) + "\n"


_WORDS = {"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "object": "an object"}


def _takes(schema: Json, name: str) -> str:
    return _what(schema["properties"][name]) + ("" if name in schema["required"] else ", or absent")


def _what(schema: Json) -> str:
    """What a field is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return f"{_what(schema['anyOf'][0])}, or null"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"a list: {_what(schema['items'])}"
    if "additionalProperties" in schema:
        return f"by name: {_what(schema['additionalProperties'])}"
    return "a moment" if "pattern" in schema else _WORDS[schema["type"]]


def update() -> Iterator[str]:
    """Write the schemas and the page's tables; the names of the files."""
    for each in OUTPUTS:
        (FOLDER / each.file).write_text(json.dumps(each.schema(), indent=1) + "\n", "utf-8")
        yield each.file
    PAGE.write_text(page_of(PAGE.read_text("utf-8")), "utf-8")
    yield PAGE.name
