"""JSON as text: the one spelling that digests are taken of, and the one people read."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(data: Any) -> bytes:
    """JSON with one spelling: sorted keys, no blanks, UTF-8. What digests are taken of.

    Lone surrogates (undecodable bytes of a guest's file) stay as escapes.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(data: Any) -> str:
    """SHA-256 of the canonical form, in hex."""
    return hashlib.sha256(canonical(data)).hexdigest()


def pretty(data: Any) -> str:
    """JSON for people and files: indented, keys in the order of the fields."""
    return json.dumps(data, indent=2, ensure_ascii=True) + "\n"
