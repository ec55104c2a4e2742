"""Documents held against a published schema, and which of its shapes they had: what none had was tried by nobody."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema

from p2v.cli.main import main
from tests.record.schema import Json


def printed(*words: str, status: int = 0) -> str:
    """What `p2v batch` with these words prints on its standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["batch", *words]) == status
    return out.getvalue()


def said_for_programs(*words: str, status: int = 0) -> str:
    """The lines of JSON that it writes to its standard error."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        printed(*words, status=status)
    return "".join(line for line in err.getvalue().splitlines(keepends=True) if line.startswith("{"))


def strictly(text: str) -> Any:
    """JSON as every reader takes it: Python's writes and reads infinity, which is none."""
    assert text.isascii()
    return json.loads(text, parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@dataclass
class Fitting:
    """A schema and what fitted it."""

    schema: Json
    _seen: set[str] = field(default_factory=set)

    def take(self, text: str) -> Any:
        """A document, which must fit; its data."""
        data = strictly(text)
        found = [f"{each.json_path}: {each.message}" for each in self._validator().iter_errors(data)]
        assert found == []
        self._seen.update(_shapes(self.schema, self.schema, data, ""))
        return data

    def fits(self, data: Any) -> bool:
        """Whether it does."""
        return self._validator().is_valid(data)

    def unseen(self) -> list[str]:
        """Places of the schema of which no document had one of the shapes: null or a value, a list with something in it, an absent
        field.
        """
        return sorted(_every(self.schema) - self._seen)

    def _validator(self) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator(self.schema, format_checker=jsonschema.FormatChecker())


def _shapes(whole: Json, schema: Json, data: Any, place: str) -> Iterator[str]:
    """Of a value that fits."""
    if "$ref" in schema:
        place = schema["$ref"].rpartition("/")[2]
        schema = whole["$defs"][place]
    if "oneOf" in schema:
        fitting = (each for each in schema["oneOf"] if Fitting({**each, "$defs": whole["$defs"]}).fits(data))
        yield from _shapes(whole, next(fitting), data, place)
    elif "anyOf" in schema:
        yield f"{place}: {'null' if data is None else 'a value'}"
        if data is not None:
            yield from _shapes(whole, schema["anyOf"][0], data, place)
    elif isinstance(data, list):
        yield from [f"{place}: a list with something"] if data else []
        for each in data:
            yield from _shapes(whole, schema["items"], each, place)
    elif isinstance(data, dict) and "properties" in schema:
        yield from (f"{place}.{name}: absent" for name in schema["properties"] if name not in data)
        for name, value in data.items():
            yield f"{place}.{name}: there"
            yield from _shapes(whole, schema["properties"][name], value, f"{place}.{name}")
    elif isinstance(data, dict):
        yield from [f"{place}: a list with something"] if data else []
        for value in data.values():
            yield from _shapes(whole, schema["additionalProperties"], value, place)


def _every(schema: Json) -> set[str]:
    """All that there may be."""
    found = set(_possible(schema, ""))
    for name, inner in schema.get("$defs", {}).items():
        found |= set(_possible(inner, name))
    return found


def _possible(schema: Json, place: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        at = f"{place}.{name}"
        yield f"{at}: there"
        if name not in schema["required"]:
            yield f"{at}: absent"
        yield from _possible(inner, at)
    if "anyOf" in schema:
        yield f"{place}: null"
        yield f"{place}: a value"
        yield from _possible(schema["anyOf"][0], place)
    if "items" in schema or isinstance(schema.get("additionalProperties"), dict):
        yield f"{place}: a list with something"
        yield from _possible(schema.get("items") or schema["additionalProperties"], place)
