"""What a published JSON document says of a value beyond its Python type, as annotations that its schema is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Form:
    """Keywords of JSON Schema; those of None are not said."""

    minimum: int | None = None
    format: str | None = None
    pattern: str | None = None


Count = Annotated[int, Form(minimum=0)]
"""A whole number that is never negative."""
Seconds = Annotated[float, Form(minimum=0)]
"""A time that passes, or seconds since 1970."""
Moment = Annotated[
    str, Form(format="date-time", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$")
]
"""A moment in ISO 8601, in UTC, to the second."""
LocalMinute = Annotated[str, Form(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2}$")]
"""A moment in ISO 8601 by a local clock, with its offset from UTC, to the minute."""
SOMETIMES: Mapping[str, bool] = MappingProxyType({"sometimes": True})
"""Metadata of a dataclass's field that its JSON object has only where the value is another than the default."""
