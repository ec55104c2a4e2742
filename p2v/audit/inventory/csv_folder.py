"""Reading a folder of RVTools' CSV files (``RVTools_tabvInfo.csv``, ...), as tables of known columns.

Exports are written by people's own machines and scripts: separated by commas, semicolons or tabs, in UTF-8, UTF-16 or the
code page of western Windows, with or without a byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from drivers.confinement import Limits
from p2v.audit.inventory.child import READING, tables_from_child
from p2v.audit.inventory.sheets import SHEETS, Sheet, Table, project, sheet_named
from p2v.core.errors import BadDescription
from p2v.core.units import KIB, MIB, format_bytes

BYTES_AT_MOST = 256 * MIB
_FILES_AT_MOST = 10_000
_FIRST_LINES = 64 * KIB
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")
_ADVICE = "Export it again from RVTools (File, Export all to csv), or give the workbook of an export to Excel."


def holds_machines(path: Path) -> bool:
    """Whether a folder has a CSV of machines, or a file is one, by its headers."""
    file = csv_files(path).get("vInfo")
    if file is None:
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(_FIRST_LINES)
        sheet = SHEETS["vinfo"]
        rows = _rows(_decoded(head), sheet)
        return bool(project(sheet, rows, "").fields)
    except (OSError, csv.Error):
        return False


def csv_files(path: Path) -> Mapping[str, Path]:
    """The CSV files of an export by the sheet that each is; those beside it too, where ``path`` is one of them."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and _sheet_of(path) is None:
        return {}
    found: dict[str, Path] = {}
    try:
        for number, file in enumerate(folder.iterdir()):
            if number >= _FILES_AT_MOST:
                break
            sheet = _sheet_of(file)
            # the first by name where several are one sheet's, so that it does not depend on the file system
            if sheet is not None and (sheet.name not in found or file.name < found[sheet.name].name) and file.is_file():
                found[sheet.name] = file
    except OSError:
        # what cannot be listed has no export that anybody could read
        return {}
    return found


def read_folder(path: Path, limits: Limits = READING) -> Mapping[str, Table]:
    """The known sheets by name. Raises BadDescription for files that are too large, or no CSV."""
    contents: dict[Path, bytes] = {}
    left = BYTES_AT_MOST
    for file in csv_files(path).values():
        with file.open("rb") as opened:
            contents[file] = opened.read(left + 1)
        left -= len(contents[file])
        if left < 0:
            raise BadDescription(
                path, f"has CSV files of more than {format_bytes(BYTES_AT_MOST)}, too large for an inventory", _ADVICE
            )
    for encoding in _ENCODINGS:
        # their modules are loaded on first use, and the child can open no file
        codecs.lookup(encoding)
    return tables_from_child(lambda: (_table(file, data) for file, data in contents.items()), path, _ADVICE, limits)


def _sheet_of(file: Path) -> Sheet | None:
    if file.suffix.casefold() != ".csv":
        return None
    # exports of several servers are told apart by a word before RVTools' own
    name = file.stem.rpartition("RVTools_")[2] if "RVTools_" in file.stem else file.stem
    return sheet_named(name)


def _table(file: Path, data: bytes) -> Table:
    sheet = _sheet_of(file)
    assert sheet is not None
    try:
        return project(sheet, _rows(_decoded(data), sheet), file.name)
    except csv.Error as error:
        raise BadDescription(file, f"is no CSV file: {error}", _ADVICE) from error


def _decoded(data: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if data[1:2] == b"\0":
        return data.decode("utf-16-le", "replace")
    if data[:1] == b"\0":
        return data.decode("utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        # a head that was cut within a letter is UTF-8 all the same
        if error.start >= len(data) - 3:
            return data.decode("utf-8", "replace")
        return data.decode("cp1252", "replace")


def _rows(text: str, sheet: Sheet) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, sheet))


def _delimiter(text: str, sheet: Sheet) -> str:
    """The one that gives the most known columns in the first lines."""
    head = text[:_FIRST_LINES]

    def known(delimiter: str) -> int:
        try:
            return len(project(sheet, csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), "").fields)
        except csv.Error:
            return 0

    return max((",", ";", "\t"), key=known)
