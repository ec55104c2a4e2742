"""Values to JSON and back, checked: unknown keys, missing keys and wrong types are errors with their place.

Frozen dataclasses, enums, tuples, mappings, paths, dates and optional values are understood; a union of
dataclasses is told apart by a ``"type"`` key that holds the class name.
"""

from __future__ import annotations

import functools
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import cattrs

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


@functools.cache
def converter(*unions: Any) -> cattrs.Converter:
    """The converter that also knows the given unions of dataclasses: everybody's, so nothing is registered with it.

    It writes itself a function for each class when that class is first met, which costs more than most values do.
    """
    return new_converter(*unions)


def new_converter(*unions: Any) -> cattrs.Converter:
    """A converter like that, for one who has more to register."""
    # not at the top: much of what a process starts for has no document to read
    import cattrs
    from cattrs.strategies import configure_tagged_union

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


def prepare(conv: cattrs.Converter, *kinds: Any) -> None:
    """Have the functions for values of these kinds written now: who forks many processes has them once, and not in each."""
    for kind in kinds:
        conv.get_structure_hook(kind)
        conv.get_unstructure_hook(kind)


def encode(conv: cattrs.Converter, value: Any, declared: Any = None) -> Any:
    """Plain JSON data for a value; ``declared`` where the value's own class is not the declared type."""
    return conv.unstructure(value, unstructure_as=declared)


def decode(conv: cattrs.Converter, data: Any, kind: type[_T]) -> _T:
    """The value that JSON data describes. Raises BadDocument, naming the place."""
    try:
        return conv.structure(data, kind)
    except Exception as error:  # cattrs raises whatever a hook raised, wrapped in groups
        import cattrs

        raise BadDocument("; ".join(cattrs.transform_error(error))) from error
