"""Utilisation of a fleet from a CSV: one row a machine, 95th percentiles of CPU and memory (docs/audit-sizing.md).

Forgiving about what spreadsheets do to such files (separators, a byte order mark, UTF-16, decimal commas, units in the heading or
in the cell), and about nothing else: a number that could be read in two ways is an error with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2v.audit.sizing.given_files import read_at_most
from p2v.audit.sizing.inputs import Use, key_of
from p2v.core.errors import Usage
from p2v.core.text import printable
from p2v.core.units import GIB, KIB, MIB, TIB

_LARGEST_BYTES = 64 * MIB
_MOST_ROWS = 200_000
_ERRORS_TOLD = 20
_SEPARATORS = ",;\t|"
_NAMES = frozenset({"name", "vm", "vm name", "machine", "machine name", "host name", "hostname", "server"})
_CPU_UNITS = {"mhz": 1.0, "ghz": 1000.0, "%": 0.0, "percent": 0.0, "pct": 0.0}
_MEMORY_UNITS = {
    "bytes": 1.0, "byte": 1.0, "b": 1.0, "kb": KIB, "kib": KIB, "mb": MIB, "mib": MIB, "gb": GIB, "gib": GIB, "tb": TIB, "tib": TIB,
    "%": 0.0, "percent": 0.0, "pct": 0.0,
}  # fmt: skip
_NUMBER = re.compile(r"(\d{1,15})(?:([.,])(\d{1,9}))?\s*([a-z%]*)", re.ASCII)
_LARGEST = {"cpu": 1e9, "memory": float(1 << 60)}
_ADVICE = (
    "The first line names the columns: name, cpu p95 (MHz or %), memory p95 (MiB, GiB, bytes or %), as in "
    "name,cpu p95 mhz,memory p95 mib (docs/audit-sizing.md)."
)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where things stand in a row; units are empty where cells say them. None: there is no such column."""

    name: int
    cpu: int | None
    cpu_unit: str
    memory: int | None
    memory_unit: str


class _Wrong(ValueError):
    """What is wrong with a cell."""


def read_utilisation(file: Path) -> tuple[Use, ...]:
    """Read and check a file. Raises Usage (with the lines that are wrong), NotPermitted, ReadFailed."""
    text = _text(file)
    heading = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=heading.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    columns: _Columns | None = None
    found: dict[str, Use] = {}
    problems: list[str] = []
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _columns(file, row, rows.line_num)
                continue
            try:
                _add(found, _use(row, columns, rows.line_num, separator))
            except _Wrong as wrong:
                problems.append(f"line {rows.line_num}: {wrong}")
            if len(found) > _MOST_ROWS:
                problems.append(f"more than {_MOST_ROWS} machines")
            if len(problems) >= _ERRORS_TOLD or len(found) > _MOST_ROWS:
                problems.append("the rest was not looked at")
                break
    except csv.Error as error:
        problems.append(f"line {rows.line_num}: {error}")
    if columns is None:
        problems.append("has no line that names columns")
    if problems:
        raise Usage(f"{file}: " + printable("; ".join(problems)), _ADVICE)
    return tuple(found.values())


def _text(file: Path) -> str:
    raw = read_at_most(file, _LARGEST_BYTES + 1)
    if len(raw) > _LARGEST_BYTES:
        raise Usage(f"{file}: is larger than {_LARGEST_BYTES // MIB} MiB", _ADVICE)
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Usage(f"{file}: line {line}: is no UTF-8 text; save it as UTF-8", _ADVICE) from error


def _columns(file: Path, row: Sequence[str], line: int) -> _Columns:
    headings = [" ".join(re.findall(r"[a-z0-9]+|%", cell.casefold())) for cell in row]
    names = [at for at, heading in enumerate(headings) if heading in _NAMES]
    cpus = _of_percentiles(headings, {"cpu"})
    memories = _of_percentiles(headings, {"memory", "mem", "ram"})
    for what, found, least in (("name", names, 1), ("cpu p95", cpus, 0), ("memory p95", memories, 0)):
        if not least <= len(found) <= 1:
            raise Usage(f"{file}: line {line}: {len(found)} columns for {what}, one is wanted", _ADVICE)
    if not cpus and not memories:
        raise Usage(f"{file}: line {line}: neither a column cpu p95 nor one memory p95", _ADVICE)
    cpu, memory = (each[0] if each else None for each in (cpus, memories))
    return _Columns(names[0], cpu, _unit(headings, cpu, _CPU_UNITS), memory, _unit(headings, memory, _MEMORY_UNITS))


def _of_percentiles(headings: Sequence[str], words: set[str]) -> list[int]:
    return [at for at, heading in enumerate(headings) if "p95" in heading.split() and words & set(heading.split())]


def _unit(headings: Sequence[str], at: int | None, known: dict[str, float]) -> str:
    return "" if at is None else next((word for word in headings[at].split() if word in known), "")


def _use(row: Sequence[str], columns: _Columns, line: int, separator: str) -> Use:
    name = _cell(row, columns.name)
    if not name or len(name) > 1000:
        raise _Wrong("no name of a machine" if not name else f"a name of {len(name)} letters")
    cpu, cpu_part = _value(row, columns.cpu, columns.cpu_unit, "cpu", _CPU_UNITS, separator)
    memory, memory_part = _value(row, columns.memory, columns.memory_unit, "memory", _MEMORY_UNITS, separator)
    return Use(
        name,
        line,
        cpu_mhz=None if cpu_part else cpu,
        cpu_percent=cpu if cpu_part else None,
        memory_bytes=None if memory_part or memory is None else round(memory),
        memory_percent=memory if memory_part else None,
    )


def _cell(row: Sequence[str], at: int) -> str:
    return row[at].strip() if at < len(row) else ""


def _value(
    row: Sequence[str], at: int | None, unit: str, what: str, units: dict[str, float], separator: str
) -> tuple[float | None, bool]:
    """A cell's number in MHz, bytes or percent, and whether it is percent; None for an empty cell: not measured."""
    text = "" if at is None else _cell(row, at).casefold()
    if not text:
        return None, False
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _Wrong(f"{what} p95 {text[:40]!r} is no number; write 1234.5, without separators of thousands")
    whole, mark, part, own_unit = match[1], match[2], match[3] or "0", match[4]
    # who writes decimal commas writes thousands with points, and the other way round
    unclear = {",": separator == "," or len(part) == 3, ".": separator == ";" and len(part) == 3}
    if unclear.get(mark, False):
        raise _Wrong(f"{what} p95 {text[:40]!r} could be read in two ways; write 1234 or 1234.5")
    chosen = own_unit or unit
    if chosen not in units:
        said = f"{chosen!r} is no unit of it" if chosen else "has no unit, neither here nor in the heading"
        raise _Wrong(f"{what} p95 {text[:40]!r}: {said}")
    number = float(f"{whole}.{part}")
    if not units[chosen]:
        if number > 100:
            raise _Wrong(f"{what} p95 {text[:40]!r}: percent are of the machine's own {what}, 100 at most")
        return number, True
    if number * units[chosen] > _LARGEST[what]:
        raise _Wrong(f"{what} p95 {text[:40]!r} is larger than any machine")
    return number * units[chosen], False


def _add(found: dict[str, Use], use: Use) -> None:
    key = key_of(use.name)
    if key in found:
        raise _Wrong(f"{use.name[:80]!r} stands in line {found[key].line} already")
    found[key] = use
