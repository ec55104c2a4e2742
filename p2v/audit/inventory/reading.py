"""An export of RVTools, whichever form it has: a workbook, or a folder of CSV files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2v.audit.inventory import csv_folder, workbook
from p2v.audit.inventory.machines import Inventory, inventory
from p2v.audit.inventory.sheets import Table
from p2v.core.errors import BadDescription
from p2v.core.io_errors import read_problem


def recognises(path: Path) -> bool:
    """Whether a file or folder is an RVTools export, by its contents; False as well for what cannot be read."""
    try:
        if path.is_dir() or path.suffix.casefold() == ".csv":
            return csv_folder.holds_machines(path)
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return workbook.holds_machines(file)
    except OSError:
        return False


def read_inventory(path: Path) -> Inventory:
    """What an export says. Raises BadDescription where it cannot be read as one, ReadFailed or NotPermitted where not at all."""
    try:
        return inventory(path, _tables(path))
    except OSError as error:
        raise read_problem(error, path) from error


def _tables(path: Path) -> Mapping[str, Table]:
    if path.is_dir() or path.suffix.casefold() == ".csv":
        return csv_folder.read_folder(path)
    if path.exists() and not path.is_file():
        # a pipe would never end
        raise BadDescription(path, "is no file", workbook.ADVICE)
    return workbook.read_workbook(path)
