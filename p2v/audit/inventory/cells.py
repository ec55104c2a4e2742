"""What a cell of an export says: texts, numbers, yes and no, sizes and dates, in any of the spellings that exports have.

Everything in a cell is untrusted: a wrong type, an absurd number or a megabyte of text gives None or a short text, no error.
"""

from __future__ import annotations

import math
import re
from datetime import date, timedelta

from p2v.core.text import printable

Cell = str | float | bool | None

TEXT_AT_MOST = 500
_NUMBER_AT_MOST = 1e18
_TRUE = frozenset({"true", "yes", "1", "wahr", "ja", "vrai", "oui", "verdadero", "sí", "vero", "sì", "waar"})
_FALSE = frozenset({"false", "no", "0", "falsch", "nein", "faux", "non", "falso", "onwaar", "nee"})
# what exports write between digits by language: spaces of several widths, apostrophes
_BETWEEN_DIGITS = str.maketrans("", "", " \u00a0\u202f\u2009'\u2019")
_GROUPED = re.compile(r"-?[1-9]\d{0,2}(?:[.,]\d{3})+")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,2})?")
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_OTHER_DATE = re.compile(r"(?<!\d)(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?!\d)")
_EXCEL_EPOCH = date(1899, 12, 30)
_EXCEL_DAYS = range(20_000, 80_000)
"""1954 to 2119: other numbers are no dates."""


def text(cell: Cell) -> str:
    """The cell as a text that is safe to print, in one line and cut short."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < _NUMBER_AT_MOST else str(cell)
    line = " ".join(cell[: 2 * TEXT_AT_MOST].split())
    return (line if line.isprintable() else printable(line, keep=""))[:TEXT_AT_MOST]


def number(cell: Cell) -> float | None:
    """The number, ``1.234,5`` and ``1,234.5`` included; None for what is none."""
    return _number(cell, is_whole=False)


def count(cell: Cell) -> int | None:
    """A number of things; None for a negative one."""
    found = signed(cell)
    return found if found is not None and found >= 0 else None


def signed(cell: Cell) -> int | None:
    """A whole number; VMware writes -1 for "no limit"."""
    found = _number(cell, is_whole=True)
    return int(found) if found is not None else None


def size(cell: Cell, unit: int) -> int | None:
    """Bytes, of a number of ``unit`` bytes each; None for a negative one. Zero is a size."""
    found = _number(cell, is_whole=True)
    return int(found * unit) if found is not None and found >= 0 else None


def _number(cell: Cell, *, is_whole: bool) -> float | None:
    """``is_whole``: three digits after a comma or dot are a group of digits (``40.960`` MiB), no decimals."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, float):
        return cell if math.isfinite(cell) and abs(cell) < _NUMBER_AT_MOST else None
    plain = cell.strip()[:40].removesuffix("%").translate(_BETWEEN_DIGITS)
    if is_whole and _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "").replace(".", "")
    elif plain.rfind(",") > plain.rfind("."):
        plain = plain.replace(".", "").replace(",", ".")
    else:
        plain = plain.replace(",", "")
    found = float(plain) if _NUMBER.fullmatch(plain) else None
    return found if found is not None and abs(found) < _NUMBER_AT_MOST else None


def flag(cell: Cell) -> bool | None:
    """Yes or no; None where the cell says neither."""
    if isinstance(cell, bool):
        return cell
    word = text(cell).strip().casefold()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


def day(cell: Cell) -> date | None:
    """The date of a moment. Where day and month cannot be told apart (``03/04/2024``), the later of the two.

    So nothing is called old that may be young.
    """
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, float):
        found = math.isfinite(cell) and int(cell) in _EXCEL_DAYS
        return _EXCEL_EPOCH + timedelta(days=int(cell)) if found else None
    iso = _ISO_DATE.search(cell[:40])
    if iso is not None:
        return _date(int(iso[1]), int(iso[2]), int(iso[3]))
    other = _OTHER_DATE.search(cell[:40])
    if other is None:
        return None
    first, second, year = int(other[1]), int(other[3]), int(other[4])
    if other[2] == ".":
        return _date(year, second, first)
    return max((found for found in (_date(year, first, second), _date(year, second, first)) if found), default=None)


def _date(year: int, month: int, day_: int) -> date | None:
    try:
        return date(year, month, day_)
    except ValueError:
        return None
