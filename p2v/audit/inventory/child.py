"""The parsing of an export in a confined child, and its tables back out of there.

The child has no files, no network, and limits on memory and time; it may have been taken over by what it parsed, so that what it
answers is checked like any other input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivers.confinement import Limits, confined
from p2v.audit.inventory.sheets import SHEETS, Table
from p2v.core.errors import BadDescription, ReaderCrashed
from p2v.core.units import KIB, MIB, format_bytes

READING = Limits(memory_bytes=1536 * MIB, seconds=60.0, cpu_seconds=60, result_bytes=256 * MIB)


def tables_from_child(
    make: Callable[[], Iterable[Table]], path: Path, advice: str, limits: Limits = READING
) -> Mapping[str, Table]:
    """What ``make`` gives when it runs in a child, by sheet. Raises BadDescription, also where the child comes to grief."""
    try:
        found = confined(lambda _: [_as_data(table) for table in make()], (), limits=limits)
    except ReaderCrashed as error:
        raise BadDescription(path, f"reading it {_how(error, limits)}", advice) from error
    try:
        return {table.sheet: table for table in _understood(found)}
    except (KeyError, TypeError, ValueError) as error:
        raise BadDescription(path, "reading it gave nonsense", advice) from error


def _how(error: ReaderCrashed, limits: Limits) -> str:
    """What ended the child, in words. A program in Rust that gets no more memory ends with SIGABRT."""
    memory = format_bytes(limits.memory_bytes)
    return f"needs more than {memory} of memory, or its parser failed" if "SIGABRT" in error.how else error.how


def _as_data(table: Table) -> dict[str, Any]:
    return {
        "sheet": table.sheet, "where": table.where, "fields": table.fields, "units": table.units, "lines": table.lines,
    }  # fmt: skip


def _understood(found: object) -> Iterator[Table]:
    for entry in _list(found):
        sheet = SHEETS[str(entry["sheet"]).casefold()]
        known = {column.field for column in sheet.columns}
        fields = tuple(str(each) for each in _list(entry["fields"]))
        units = tuple(int(each) for each in _list(entry["units"]))
        if not known.issuperset(fields) or len(set(fields)) != len(fields) or len(units) != len(fields):
            raise ValueError("columns of no sheet")
        lines = tuple(_line(each, len(fields)) for each in _list(entry["lines"]))
        yield Table(sheet.name, str(entry["where"])[: 4 * KIB], fields, units, lines)


def _line(entry: Any, width: int) -> tuple[int, tuple[Any, ...]]:
    number, cells = entry
    if not isinstance(number, int) or len(cells) != width:
        raise ValueError("a row of another width")
    if not all(each is None or isinstance(each, (str, float, bool)) for each in cells):
        raise TypeError("a cell of no known type")
    return number, tuple(cells)


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value
