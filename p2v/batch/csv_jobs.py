"""The simple case of a manifest: a table with a line for each machine, as a spreadsheet writes it.

The first line names the columns, which are the keys of a machine (``name``, ``source``, ``target`` and whatever else is one text);
a list is separated by ``|``. An empty cell says nothing. The columns' values are then read as those of any manifest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.batch.jobs import MANIFEST_SCHEMA
from p2v.batch.manifest_keys import MACHINE_KEYS, OPTION_KEYS, Kind, by_name
from p2v.batch.nodes import Node, NotYaml

BETWEEN = "|"
_SEPARATORS = ",;\t"
_LISTS = (Kind.TEXTS, Kind.PATHS, Kind.SECRETS)
# what a cell cannot hold
_NOT_HERE = (Kind.HOOK, Kind.MAP)
_KEYS = by_name(MACHINE_KEYS, OPTION_KEYS)


def is_csv(path: Path, text: str) -> bool:
    """Whether a manifest is a table: by its name, or by a first line that names columns (one on a pipe has no name)."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return True
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return False
    columns = _columns(text.partition("\n")[0].rstrip("\r"))
    return {"name", "source"} <= set(columns)


def csv_node(text: str) -> Node:
    """The table as a manifest. Raises NotYaml for one that cannot be taken apart; values are not looked at."""
    first, _, _ = text.partition("\n")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(first), strict=True)
    try:
        columns = [cell.strip().lower() for cell in next(rows, [])]
        _check(columns)
        machines = list(_machines(rows, columns))
    except csv.Error as error:
        raise NotYaml(rows.line_num, f"is no line of a table: {error}") from error
    schema = (Node(1, "schema"), Node(1, str(MANIFEST_SCHEMA)))
    return Node(1, pairs=[schema, (Node(1, "machines"), Node(1, items=machines))])


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


def _machines(rows: Iterator[list[str]], columns: Sequence[str]) -> Iterator[Node]:
    last = 1
    for row in rows:
        # a cell may have line breaks in it: a machine begins where the one before ended
        line, last = last + 1, rows.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        if len(row) > len(columns):
            raise NotYaml(line, f"has {len(row)} cells, and there are {len(columns)} columns")
        cells = [(name, cell.strip()) for name, cell in zip(columns, row, strict=False) if cell.strip()]
        yield Node(line, pairs=[(Node(line, name), _cell(line, name, cell)) for name, cell in cells])


def _cell(line: int, name: str, text: str) -> Node:
    if name in _KEYS and _KEYS[name].kind in _LISTS:
        return Node(line, items=[Node(line, each.strip()) for each in text.split(BETWEEN)])
    return Node(line, text)
