"""Fields of events and records: a child said what is in them. One of the wrong type counts as not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def text_of(data: Mapping[str, Any], name: str) -> str:
    """A field that should be a text; empty for anything else."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


def message_of(data: Mapping[str, Any]) -> str:
    """What an event says: itself, or the failure that it tells of."""
    failure = data.get("failure")
    return text_of(data, "message") or (text_of(failure, "message") if isinstance(failure, dict) else "")


def number_of(data: Mapping[str, Any], name: str) -> int | None:
    """A field that should be a count; None for anything else."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return int(value)
