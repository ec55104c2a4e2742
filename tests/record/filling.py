"""Values of any dataclass with every field filled: what a round trip loses, or a bundle gives away, is seen in them."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass
class Filler:
    """Fills every text with a marker of its own; ``places`` tells which field a marker is in."""

    prefix: str = "Xmarker"
    places: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def value(self, kind: type[_T]) -> _T:
        """A value of a dataclass."""
        return typing.cast(_T, self._fill(kind, kind.__name__))

    def _fill(self, kind: Any, place: str) -> Any:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._fill(next(each for each in inner if each is not type(None)), place)
        if origin is tuple:
            if inner[-1] is Ellipsis:
                return tuple(self._fill(each, place) for each in _members(inner[0]))
            return tuple(self._fill(each, place) for each in inner)
        if origin is not None and issubclass(origin, Mapping):
            return {self._fill(inner[0], f"{place} (a key)"): self._fill(inner[1], place)}
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            fields = [f for f in dataclasses.fields(kind) if f.init]
            made: Any = kind
            return made(**{f.name: self._fill(hints[f.name], f"{kind.__name__}.{f.name}") for f in fields})
        return self._plain(kind, place)

    def _plain(self, kind: Any, place: str) -> Any:
        if issubclass(kind, enum.Enum):
            return next(iter(kind))
        if kind is bool:
            return True
        if kind is date:
            return date.fromordinal(next(self._numbers))
        if kind in (str, Path):
            marker = f"{self.prefix}{next(self._numbers)}"
            self.places[marker] = place
            return Path("/", marker) if kind is Path else marker
        return kind(next(self._numbers))


def _members(kind: Any) -> tuple[Any, ...]:
    """All of a union of dataclasses, so that each is there once."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(each for each in typing.get_args(kind) if each is not type(None))
    return (kind,)


def stands_in(text: str, marker: str) -> bool:
    """Whether a marker is in a text, and no longer one that begins with it."""
    at = text.find(marker)
    while at >= 0:
        if not text[at + len(marker) : at + len(marker) + 1].isdigit():
            return True
        at = text.find(marker, at + 1)
    return False
