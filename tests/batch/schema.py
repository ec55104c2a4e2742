"""The JSON Schema of a batch's manifest, as the table of its keys has it.

``python -m tests.batch.schema`` brings docs/schema and the tables of docs/batch-manifest.md up to date, and those of what
`p2v batch` tells programs (tests/batch/output_schemas.py). The schema is of what
editors and their like read YAML as; the suite's own reader takes every scalar as the text it is and so accepts a little more
(a machine that is called 17).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from p2v.batch.jobs import MANIFEST_SCHEMA
from p2v.batch.manifest_keys import (
    BATCH_HOOK_KEYS,
    BUDGET_KEYS,
    MACHINE_KEYS,
    NETWORK,
    OPTION_KEYS,
    SHARE_KEYS,
    Kind,
    ManifestKey,
)
from tests.batch import output_schemas
from tests.record.schema import DRAFT, FOLDER, Json

FILE = FOLDER / f"batch-{MANIFEST_SCHEMA}.schema.json"
PAGE = FOLDER.parent / "batch-manifest.md"
_BEGIN, _END = "<!-- keys: written by `python -m tests.batch.schema` -->", "<!-- end of keys -->"
_SIZE = r"^\s*[0-9]+(\.[0-9]+)?\s*[kmgtKMGT]?([iI]?[bB])?(\s*/s|ps)?\s*$"
_TEXT = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"


def batch_schema() -> Json:
    """The whole schema."""
    shared = [key for key in (*MACHINE_KEYS, *OPTION_KEYS) if not key.own]
    machine = _object((*MACHINE_KEYS, *OPTION_KEYS), "One machine.")
    for name in ("name", "source"):
        machine["properties"][name] = machine["properties"][name]["anyOf"][0] | {
            "description": machine["properties"][name]["description"]
        }
    return {
        "$schema": DRAFT,
        "title": "A batch of p2v",
        "description": "What `p2v batch run` converts. Relative paths begin at the folder of the manifest. A value that is null "
        "says nothing: for a machine, also what `defaults` says of it does not count.",
        "type": "object",
        "properties": {
            "schema": {"const": MANIFEST_SCHEMA, "description": "Which form of manifests this is."},
            "store": {
                **_nullable({"type": "string", "pattern": _TEXT}),
                "description": "The file that tells what became of each machine; it must stand on this host's own disks. Otherwise "
                "NAME.batch.sqlite in the target of `defaults`, or beside the manifest.",
            },
            "budget": _nothing_too(_object(BUDGET_KEYS, "What may run at the same time.")),
            "hooks": _nothing_too(_object(BATCH_HOOK_KEYS, "Commands about the batch itself.")),
            "defaults": _nothing_too(_object(shared, "What counts for every machine that does not say otherwise.")),
            "machines": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100_000,
                "items": {**machine, "required": ["name", "source"]},
                "description": "The machines; each has a name of its own, and a target, if not by `defaults`.",
            },
        },
        "required": ["schema", "machines"],
        "additionalProperties": False,
    }


def _object(keys: Iterable[ManifestKey], text: str) -> Json:
    properties = {key.name: {**_nullable(_of(key)), "description": key.text} for key in keys}
    return {"type": "object", "properties": properties, "additionalProperties": False, "description": text}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _nothing_too(schema: Json) -> Json:
    return {**schema, "type": ["object", "null"]}


def _of(key: ManifestKey) -> Json:
    one: Json = {"type": "string", "pattern": f"^(?:{key.form})$" if key.form else _TEXT, "maxLength": 4096}
    number: Json = {"minimum": key.least} | ({} if key.most is None else {"maximum": key.most})
    command = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 1000}
    made: dict[Kind, Any] = {
        Kind.TEXT: one,
        Kind.PATH: {**one, "pattern": r"^[^~\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"},
        Kind.FLAG: {"type": "boolean"},
        Kind.COUNT: {"type": "integer", **number},
        Kind.SECONDS: {"type": "number", **number},
        Kind.SIZE: {"anyOf": [{"type": "string", "pattern": _SIZE}, {"type": "integer", **number}]},
        Kind.CHOICE: {"enum": list(key.choices)},
        Kind.FLAG_OR_CHOICE: {"enum": [True, False, *key.choices]},
        Kind.MAP: {"type": "object", "additionalProperties": {"type": "string", "pattern": f"^(?:{NETWORK})$"}},
        Kind.WINDOW: one,
        Kind.HOOK: {
            "anyOf": [
                command,
                {
                    "type": "object",
                    "properties": {
                        "command": {**command, "description": "The program and its arguments; there is no shell."},
                        "seconds": {
                            "type": "number",
                            "exclusiveMinimum": 0,
                            "maximum": 7 * 24 * 3600,
                            "description": "It is ended after this time; 600 otherwise.",
                        },
                    },
                    "required": ["command"],
                    "additionalProperties": False,
                },
            ]
        },
    }
    if key.kind in (Kind.STORAGES, Kind.HOSTS):
        form = key.form or r"[^~\x00-\x1f\x7f][^\x00-\x1f\x7f]*"
        share = _object(SHARE_KEYS, "What may go over it.")
        return {"type": "object", "propertyNames": {"pattern": f"^(?:{form})$"}, "additionalProperties": share}
    made[Kind.TEXTS] = _one_or_more(made[Kind.TEXT])
    made[Kind.PATHS] = _one_or_more(made[Kind.PATH])
    made[Kind.SECRETS] = _one_or_more(
        {"type": "string", "pattern": r"^((?!(file|env|key):)[^:]+:)?(file:.+|env:[A-Za-z_][A-Za-z0-9_]*)$"}
    )
    return dict(made[key.kind])


def _one_or_more(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1, "maxItems": 1000}]}


def text_of(schema: Json) -> str:
    """The schema as the file has it."""
    return json.dumps(schema, indent=1) + "\n"


def page_of(text: str) -> str:
    """The user's page with its tables as they are to be."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables()}{_END}{after}"


def tables() -> str:
    """Every key with what it may be, as Markdown."""
    parts = (
        ("Of a machine, or of `defaults` (but for those marked *)", MACHINE_KEYS),
        ("Options of `p2v convert`, in the same places", OPTION_KEYS),
        ("Of `budget`", BUDGET_KEYS),
        ("Of `hooks`", BATCH_HOOK_KEYS),
        ("Of each of its `storages` and `hosts`", SHARE_KEYS),
    )
    return "\n".join(f"{title}:\n\n{_table(keys)}" for title, keys in parts)


def _table(keys: Iterable[ManifestKey]) -> str:
    rows = (f"| `{key.name}`{' *' if key.own else ''} | {_takes(key)} | {key.text} |" for key in keys)
    return "\n".join(["| key | takes | |", "|---|---|---|", *rows]) + "\n"


_WORDS = {
    Kind.TEXT: "a text",
    Kind.TEXTS: "a text or a list",
    Kind.PATH: "a path",
    Kind.PATHS: "a path or a list",
    Kind.FLAG: "true or false",
    Kind.COUNT: "a number",
    Kind.SECONDS: "seconds",
    Kind.SIZE: "a size, as 2G or 512M",
    Kind.MAP: "a mapping",
    Kind.SECRETS: "a text or a list",
    Kind.WINDOW: "BEGIN-END",
    Kind.HOOK: "a list of words, or a mapping of command and seconds",
    Kind.STORAGES: "a mapping of paths",
    Kind.HOSTS: "a mapping of names",
}


def _takes(key: ManifestKey) -> str:
    words = {
        Kind.CHOICE: ", ".join(key.choices),
        Kind.FLAG_OR_CHOICE: ", ".join(("true", "false", *key.choices)),
    }.get(key.kind) or _WORDS[key.kind]
    return f"{words}, as `{key.example}`" if key.example else words


if __name__ == "__main__":
    FILE.write_text(text_of(batch_schema()))
    PAGE.write_text(page_of(PAGE.read_text()))
    print(", ".join((FILE.name, PAGE.name, *output_schemas.update())), "are up to date", file=sys.stderr)
