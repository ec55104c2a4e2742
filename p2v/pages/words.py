"""The words that all pages have for numbers."""

from __future__ import annotations

from p2v.core.units import format_bytes


def counted(count: int, noun: str) -> str:
    """``1 machine``, ``1,200 machines``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int | None) -> str:
    """Bytes for people; a dash for what is not known."""
    return "–" if count is None else format_bytes(max(count, 0))
