"""Sizes in an OVF: a number beside an allocation unit, as the specification and as products write units.

Sources: DSP0004 (CIM Infrastructure), annex C, programmatic units ("byte * 2^20"); DSP0243 (OVF), which takes ``capacity`` for
bytes where no unit stands; the words are those of OVF 0.9 drafts and of products that still write them ("MegaBytes").
"""

from __future__ import annotations

import re

_WORDS_AT_MOST = 100
_PREFIXES = {"": 0, "k": 1, "kilo": 1, "kibi": 1, "m": 2, "mega": 2, "mebi": 2, "g": 3, "giga": 3, "gibi": 3, "t": 4, "tera": 4,
             "tebi": 4}  # fmt: skip
# "kb", "KBytes", "MiB", "mebibytes"; CIM has no lower-case b for bits
_WORD = re.compile(r"(kilo|kibi|mega|mebi|giga|gibi|tera|tebi|[kmgt]?)i?(?:b|bytes?)")
_FACTOR = re.compile(r"\*?([0-9]{1,15})(?:\^\+?([0-9]{1,2}))?")


def unit_bytes(text: str) -> int | None:
    """How many bytes a unit is; None for what is no unit of sizes. Prefixes are powers of 1024, as all products take them."""
    words = re.sub(r"\s+", "", text[:_WORDS_AT_MOST].lower())
    base, star, rest = words.partition("*")
    match = _WORD.fullmatch(base)
    if match is None or (star and not rest):
        return None
    made = 1024 ** _PREFIXES[match[1]]
    for factor in rest.split("*") if rest else ():
        found = _FACTOR.fullmatch(factor)
        if found is None:
            return None
        made *= int(found[1]) ** int(found[2] or 1)
        if made.bit_length() > 64:
            return None
    return made or None


def size_bytes(number: str, unit: str, default: int) -> int | None:
    """A size: a number, fractions allowed, of a unit, or of ``default`` bytes where no unit is named. None for what is none."""
    match = re.fullmatch(r"\+?([0-9]{1,20})(\.[0-9]{1,9})?", number.strip())
    each = unit_bytes(unit) if unit.strip() else default
    if match is None or each is None:
        return None
    whole = int(match[1]) * each
    if match[2]:
        digits = match[2][1:]
        whole += int(digits) * each // 10 ** len(digits)
    return whole
