"""Values to JSON and back, checked: unknown keys, missing keys and wrong types are errors with their place.

Frozen dataclasses, enums, tuples, mappings, paths, dates and optional values are understood; a union of
dataclasses is told apart by a ``"type"`` key that holds the class name.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.strategies import configure_tagged_union

_T = TypeVar("_T")


class BadDocument(ValueError):
    """A JSON document does not have the shape it should have."""


def _structure_path(value: object, _: type) -> Path:
    if not isinstance(value, str):
        raise TypeError(f"expected a path, got {type(value).__name__}")
    return Path(value)


def _structure_date(value: object, _: type) -> date:
    if not isinstance(value, str):
        raise TypeError(f"expected a date, got {type(value).__name__}")
    return date.fromisoformat(value)


def _strict(kind: type[Any]) -> Any:
    def check(value: object, _: type) -> object:
        # bool is an int to Python, not to the reader of a document
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                return float(value)
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


def converter(*unions: Any) -> cattrs.Converter:
    """A converter that also knows the given unions of dataclasses."""
    made = cattrs.Converter(forbid_extra_keys=True)
    for kind in (str, int, float, bool):
        made.register_structure_hook(kind, _strict(kind))
    made.register_structure_hook(Path, _structure_path)
    made.register_unstructure_hook(Path, str)
    made.register_structure_hook(date, _structure_date)
    made.register_unstructure_hook(date, date.isoformat)
    for union in unions:
        configure_tagged_union(union, made, tag_name="type")
    return made


def encode(conv: cattrs.Converter, value: Any, declared: Any = None) -> Any:
    """Plain JSON data for a value; ``declared`` where the value's own class is not the declared type."""
    return conv.unstructure(value, unstructure_as=declared)


def decode(conv: cattrs.Converter, data: Any, kind: type[_T]) -> _T:
    """The value that JSON data describes. Raises BadDocument, naming the place."""
    try:
        return conv.structure(data, kind)
    except Exception as error:  # cattrs raises whatever a hook raised, wrapped in groups
        raise BadDocument("; ".join(cattrs.transform_error(error))) from error
