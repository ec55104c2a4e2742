"""The simple case of a manifest: a table with a line for each machine, as a spreadsheet writes it.

The first line names the columns, which are the keys of a machine (``name``, ``source``, ``target`` and whatever else is one text);
a list is separated by ``|``. An empty cell says nothing. The columns' values are then read as those of any manifest.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.batch.jobs import MANIFEST_SCHEMA
from p2v.batch.manifest_keys import MACHINE_KEYS, OPTION_KEYS, Kind, by_name
from p2v.batch.nodes import Node, NotYaml

BETWEEN = "|"
TABLES = (".csv", ".tsv")
"""What a table's file is called, in small letters."""
_SEPARATORS = ",;\t"
WIDE = (b"\xff\xfe", b"\xfe\xff")
"""How UTF-16 begins, which would be letters of every code page."""
_LISTS = (Kind.TEXTS, Kind.PATHS, Kind.SECRETS)
# what a cell cannot hold
_NOT_HERE = (Kind.HOOK, Kind.MAP)
_KEYS = by_name(MACHINE_KEYS, OPTION_KEYS)
# what Excel takes, and writes in some countries, above the columns
_SAID = re.compile(r"(?i)sep=(?P<separator>[,;\t])\r?\n")


def is_csv(path: Path, text: str) -> bool:
    """Whether a manifest is a table: by its name, or by a first line that names columns (one on a pipe has no name)."""
    if path.suffix.lower() in TABLES:
        return True
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return False
    _, table = _said_separator(text)
    columns = _columns(table.partition("\n")[0].rstrip("\r"))
    return {"name", "source"} <= set(columns)


def decoded(raw: bytes) -> str:
    """A table's text: UTF-8, or else western Windows' code page, as spreadsheets there write it. Raises UnicodeDecodeError."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if raw.startswith(WIDE):
            raise
        try:
            return raw.decode("cp1252")
        except UnicodeDecodeError:
            raise error from None


def csv_node(text: str) -> Node:
    """The table as a manifest. Raises NotYaml for one that cannot be taken apart; values are not looked at."""
    said, table = _said_separator(text)
    before = 1 if said else 0
    separator = said or _separator(table.partition("\n")[0])
    rows = csv.reader(io.StringIO(table, newline=""), delimiter=separator, strict=True)
    try:
        columns = [cell.strip().lower() for cell in next(rows, [])]
        # cells that somebody once wrote into, and emptied
        while columns and not columns[-1]:
            columns.pop()
        _check(columns)
        machines = list(_machines(rows, columns, before))
    except csv.Error as error:
        raise NotYaml(before + rows.line_num, f"is no line of a table: {error}") from error
    if not machines:
        raise NotYaml(1, "has no machines: its first line names the columns (name, source, ...), each further line is a machine")
    schema = (Node(1, "schema"), Node(1, str(MANIFEST_SCHEMA)))
    return Node(1, pairs=[schema, (Node(1, "machines"), Node(1, items=machines))])


def _said_separator(text: str) -> tuple[str, str]:
    """What a line above the columns says is between cells, and the text below it; nothing and all of it where there is none."""
    said = _SAID.match(text)
    return (said["separator"], text[said.end() :]) if said is not None else ("", text)


def _separator(line: str) -> str:
    return max(_SEPARATORS, key=line.count)


def _columns(line: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(_separator(line))]


def _check(columns: Sequence[str]) -> None:
    """Raise NotYaml for columns that no cell could be read for."""
    for name in columns:
        if columns.count(name) > 1:
            raise NotYaml(1, f"the column '{name[:80]}' is there twice" if name else "two columns have no name")
        if name in _KEYS and _KEYS[name].kind in _NOT_HERE:
            raise NotYaml(1, f"the column {name}: this is for a manifest in YAML; a table has what is one text")


def _machines(rows: Iterator[list[str]], columns: Sequence[str], before: int) -> Iterator[Node]:
    """``before``: lines above the first one."""
    last = before + 1
    for row in rows:
        # a cell may have line breaks in it: a machine begins where the one before ended
        line, last = last + 1, before + rows.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        while len(row) > len(columns) and not row[-1].strip():
            row.pop()
        if len(row) > len(columns):
            raise NotYaml(line, f"has {len(row)} cells, and there are {len(columns)} columns")
        cells = [(name, cell.strip()) for name, cell in zip(columns, row, strict=False) if cell.strip()]
        yield Node(line, pairs=[(Node(line, name), _cell(line, name, cell)) for name, cell in cells])


def _cell(line: int, name: str, text: str) -> Node:
    if name in _KEYS and _KEYS[name].kind in _LISTS:
        return Node(line, items=[Node(line, each.strip()) for each in text.split(BETWEEN)])
    return Node(line, text)
