"""The user's prices, from a TOML file: keys for both sides, and tables ``[before]`` and ``[after]`` where they differ."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from p2v.audit.sizing.given_files import read_at_most
from p2v.audit.sizing.inputs import Prices, SidePrices
from p2v.core.errors import Usage
from p2v.core.text import printable

_LARGEST_BYTES = 64 * 1024
_LONGEST_CURRENCY = 20
_LARGEST_PRICE = 1e12
_NAMES = tuple(each.name for each in fields(SidePrices))
_ADVICE = f"Keys: currency, {', '.join(_NAMES)}; all but currency also in [before] and [after] (docs/audit-sizing.md)."


def read_prices(file: Path) -> Prices:
    """Read and check a prices file. Raises Usage (with every key that is wrong), NotPermitted, ReadFailed."""
    raw = read_at_most(file, _LARGEST_BYTES + 1)
    if len(raw) > _LARGEST_BYTES:
        raise Usage(f"{file}: is larger than {_LARGEST_BYTES} bytes, and no prices file", _ADVICE)
    try:
        data = tomllib.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Usage(f"{file}: is no TOML: {printable(str(error))[:200]}", _ADVICE) from error
    return _prices(file, data)


def _prices(file: Path, data: Mapping[str, object]) -> Prices:
    problems: list[str] = []
    currency = data.get("currency")
    if not isinstance(currency, str) or not currency.strip() or len(currency) > _LONGEST_CURRENCY:
        problems.append(f'currency must be a text of 1 to {_LONGEST_CURRENCY} letters, as in currency = "EUR"')
    tables = {}
    for side in ("before", "after"):
        table = data.get(side, {})
        if not isinstance(table, dict):
            problems.append(f"{side} must be a table: [{side}]")
            table = {}
        tables[side] = table
    both = {name: value for name, value in data.items() if name not in ("currency", "before", "after")}
    for where, table in (("", both), *((f"[{side}] ", table) for side, table in tables.items())):
        problems += [f"{where}{problem}" for name, value in table.items() if (problem := _problem(name, value))]
    if problems:
        raise Usage(f"{file}: {printable('; '.join(problems))[:2000]}", _ADVICE)
    before, after = (_side({**both, **table}) for table in tables.values())
    return Prices(printable(str(currency).strip()), before, after, str(file))


def _side(values: Mapping[str, object]) -> SidePrices:
    return SidePrices(**{name: float(value) for name, value in values.items() if isinstance(value, (int, float))})


def _problem(name: str, value: object) -> str:
    shown = name[:60]
    if name not in _NAMES:
        return f"{shown} is no price that is known"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{shown} must be a number"
    if not math.isfinite(value) or not 0 <= value <= _LARGEST_PRICE:
        return f"{shown} must be between 0 and {_LARGEST_PRICE:.0e}"
    return ""
