"""Sizes and durations: the constants, how they are written for people, how options spell them."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

SECTOR_BYTES = 512

_SUFFIXES = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)


def format_bytes(count: int) -> str:
    """Write a byte count with a binary unit and at most one decimal: ``3.0 GiB``, ``512 bytes``."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def format_seconds(seconds: float) -> str:
    """Write a duration as people read it: ``0.4 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def parse_size(text: str) -> int:
    """Read ``2G``, ``512MiB`` or ``1048576`` as bytes (binary units).

    Raises ValueError when the text is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size (examples: 2G, 512M, 1048576)")
    return int(float(match[1]) * _SUFFIXES[match[2].lower()])


def round_up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step
