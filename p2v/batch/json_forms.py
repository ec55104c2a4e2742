"""What a published JSON document says of a value beyond its Python type, as annotations that its schema is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Form:
    """Keywords of JSON Schema; those of None are not said."""

    minimum: int | None = None
    format: str | None = None


Count = Annotated[int, Form(minimum=0)]
"""A whole number that is never negative."""
Seconds = Annotated[float, Form(minimum=0)]
"""A time that passes, or seconds since 1970."""
Moment = Annotated[str, Form(format="date-time")]
"""A moment in ISO 8601, with its zone and with seconds."""
