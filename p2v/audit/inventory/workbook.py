"""Reading a workbook (.xlsx, or RVTools 3's .xls) with calamine, as tables of known columns.

A workbook is untrusted. What its archive declares is looked at before anything is unpacked, and the parser (Rust, compiled)
runs in a child like those that read guests' file systems: no files, no network, limits on memory and time. A workbook that
unpacks to more than fits there, or whose only two cells are the first and the last that a sheet can have, ends that child and is an
error.
"""

from __future__ import annotations

import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import python_calamine

from drivers.confinement import Limits, confined
from p2v.audit.inventory.sheets import SHEETS, Table, project, sheet_named
from p2v.core.errors import BadDescription, ReaderCrashed
from p2v.core.units import GIB, KIB, MIB, format_bytes

__all__ = ["DEFAULT_BOUNDS", "Bounds", "holds_machines", "read_workbook"]

ADVICE = "Export it again from RVTools (File, Export all to Excel), or give the folder of an export to CSV."
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""What an .xls, and a workbook with a password, begins with ([MS-CFB] section 2.2)."""
_WORKBOOK_PART = "xl/workbook.xml"
_NAMES_AT_MOST = 1 * MIB
_NAMES_SHEET = re.compile(rb"""name\s*=\s*["'](?:tab|RVTools_tab)?vInfo["']""", re.IGNORECASE)
_PARSED_BY = datetime.datetime
"""The parser makes these: their module has to be there before the child is, which can open no file."""


_READING = Limits(memory_bytes=1536 * MIB, seconds=60.0, cpu_seconds=60, result_bytes=256 * MIB)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a workbook may be: its file, its parts by what the archive declares, and what reading it may use."""

    file_bytes: int = 256 * MIB
    parts: int = 4096
    part_bytes: int = 512 * MIB
    unpacked_bytes: int = 1 * GIB
    reading: Limits = _READING


DEFAULT_BOUNDS = Bounds()


def holds_machines(file: BinaryIO) -> bool:
    """Whether an open file is a workbook with a sheet of machines, by its contents; nothing is unpacked but its list of sheets."""
    head = file.read(8)
    if head == _OLE:
        rest = file.read(16 * MIB)
        return b"vInfo" in rest or "vInfo".encode("utf-16-le") in rest
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_WORKBOOK_PART) as part:
            return _NAMES_SHEET.search(part.read(_NAMES_AT_MOST)) is not None
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def read_workbook(path: Path, bounds: Bounds = DEFAULT_BOUNDS) -> Mapping[str, Table]:
    """The known sheets by name. Raises BadDescription for what is no workbook, is too large, or is made to do harm."""
    data = _contents(path, bounds)
    try:
        found = confined(lambda _: _tables_as_data(data, path), (), limits=bounds.reading)
    except ReaderCrashed as error:
        raise BadDescription(path, f"reading the workbook {_how(error, bounds)}", ADVICE) from error
    return {table.sheet: table for table in _understood(found, path)}


def _how(error: ReaderCrashed, bounds: Bounds) -> str:
    """What ended the child, in words. A program in Rust that gets no more memory ends with SIGABRT."""
    memory = format_bytes(bounds.reading.memory_bytes)
    return f"needs more than {memory} of memory, or its parser failed" if "SIGABRT" in error.how else error.how


def _contents(path: Path, bounds: Bounds) -> bytes:
    with path.open("rb") as file:
        data = file.read(bounds.file_bytes + 1)
    if len(data) > bounds.file_bytes:
        raise BadDescription(
            path, f"is larger than {format_bytes(bounds.file_bytes)}, too large for an inventory", ADVICE
        )
    if data[:8] != _OLE:
        _check_archive(path, data, bounds)
    return data


def _check_archive(path: Path, data: bytes, bounds: Bounds) -> None:
    """What the archive says of itself, before any of it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise BadDescription(path, f"is no workbook: {error}", ADVICE) from error
    largest = max((part.file_size for part in parts), default=0)
    total = sum(part.file_size for part in parts)
    if len(parts) > bounds.parts:
        raise BadDescription(path, f"has {len(parts)} parts, more than {bounds.parts}", ADVICE)
    if largest > bounds.part_bytes or total > bounds.unpacked_bytes:
        raise BadDescription(
            path,
            f"says that it unpacks to {format_bytes(total)} ({format_bytes(largest)} in one part), too much for an inventory",
            ADVICE,
        )


# --- in the child ----------------------------------------------------------------------------------------


def _tables_as_data(data: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        with python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)) as book:
            return list(_known_sheets(book, path))
    except python_calamine.PasswordError as error:
        raise BadDescription(path, "has a password", "Save a copy without a password.") from error
    except python_calamine.CalamineError as error:
        raise BadDescription(path, f"cannot be read as a workbook: {str(error)[:200]}", ADVICE) from error


def _known_sheets(book: python_calamine.CalamineWorkbook, path: Path) -> Iterator[dict[str, Any]]:
    done: set[str] = set()
    for name in book.sheet_names:
        sheet = sheet_named(name)
        if sheet is None or sheet.name in done:
            continue
        done.add(sheet.name)
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        table = project(sheet, rows, f"{path.name}: {name}")
        yield {
            "sheet": table.sheet, "where": table.where, "fields": table.fields, "units": table.units, "lines": table.lines,
        }  # fmt: skip


# --- in the parent, which believes nothing ---------------------------------------------------------------


def _understood(found: object, path: Path) -> Iterator[Table]:
    try:
        for entry in _list(found):
            yield _table(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise BadDescription(path, "reading the workbook gave nonsense", ADVICE) from error


def _table(entry: Any) -> Table:
    sheet = SHEETS[str(entry["sheet"]).casefold()]
    known = {column.field for column in sheet.columns}
    fields = tuple(str(each) for each in _list(entry["fields"]))
    units = tuple(int(each) for each in _list(entry["units"]))
    if not known.issuperset(fields) or len(set(fields)) != len(fields) or len(units) != len(fields):
        raise ValueError("columns of no sheet")
    return Table(
        sheet.name,
        str(entry["where"])[: 4 * KIB],
        fields,
        units,
        tuple(_line(each, len(fields)) for each in _list(entry["lines"])),
    )


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
