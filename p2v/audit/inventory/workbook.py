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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import python_calamine

from drivers.confinement import Limits
from p2v.audit.inventory.child import READING, tables_from_child
from p2v.audit.inventory.recognising import OLE, ZIP
from p2v.audit.inventory.sheets import Table, project, sheet_named
from p2v.core.errors import BadDescription
from p2v.core.units import GIB, KIB, MIB, format_bytes

__all__ = ["DEFAULT_BOUNDS", "Bounds", "holds_machines", "read_workbook"]

ADVICE = "Export it again from RVTools (File, Export all to Excel), or give the folder of an export to CSV."
_WORKBOOK_PART = "xl/workbook.xml"
_NAMES_AT_MOST = 1 * MIB
_END_AT_MOST = 22 + 20 + 65535
"""The record at an archive's end with a comment, and what Zip64 has before it."""
_NAMES_SHEET = re.compile(rb"""name\s*=\s*["'](?:tab|RVTools_tab)?vInfo["']""", re.IGNORECASE)
_PARSED_BY = datetime.datetime
"""The parser makes these: their module has to be there before the child is, which can open no file."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a workbook may be: its file, its parts by what the archive declares, and what reading it may use."""

    file_bytes: int = 256 * MIB
    parts: int = 4096
    part_bytes: int = 512 * MIB
    unpacked_bytes: int = 1 * GIB
    reading: Limits = READING


DEFAULT_BOUNDS = Bounds()


def holds_machines(file: BinaryIO) -> bool:
    """Whether an open file is a workbook with a sheet of machines, by its contents; nothing is unpacked but its list of sheets."""
    head = file.read(8)
    if head == OLE:
        rest = file.read(16 * MIB)
        return b"vInfo" in rest or "vInfo".encode("utf-16-le") in rest
    if not head.startswith(ZIP):
        return False
    try:
        with _opened(file, DEFAULT_BOUNDS) as archive, archive.open(_WORKBOOK_PART) as part:
            return _NAMES_SHEET.search(part.read(_NAMES_AT_MOST)) is not None
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError):
        return False


def read_workbook(path: Path, bounds: Bounds = DEFAULT_BOUNDS) -> Mapping[str, Table]:
    """The known sheets by name. Raises BadDescription for what is no workbook, is too large, or is made to do harm."""
    data = _contents(path, bounds)
    return tables_from_child(lambda: _tables(data, path), path, ADVICE, bounds.reading)


def _contents(path: Path, bounds: Bounds) -> bytes:
    with path.open("rb") as file:
        data = file.read(bounds.file_bytes + 1)
    if len(data) > bounds.file_bytes:
        raise BadDescription(
            path, f"is larger than {format_bytes(bounds.file_bytes)}, too large for an inventory", ADVICE
        )
    if data[:8] != OLE:
        _check_archive(path, data, bounds)
    return data


def _opened(file: BinaryIO, bounds: Bounds) -> zipfile.ZipFile:
    """The archive. Raises BadZipFile, also where its directory is larger than that of ``bounds.parts`` parts.

    zipfile reads the whole directory at once, so its length is looked at first: in the record at the end (APPNOTE 4.3.16). One
    of Zip64 says it elsewhere, and is for archives far larger than an inventory.
    """
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - _END_AT_MOST))
    tail = file.read(_END_AT_MOST)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("its directory is not there; the copy may be incomplete")
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise zipfile.BadZipFile("it is an archive of the kind for very large files (Zip64)")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > bounds.parts * KIB:
        raise zipfile.BadZipFile(f"its directory is larger than that of {bounds.parts} parts")
    return zipfile.ZipFile(file)


def _check_archive(path: Path, data: bytes, bounds: Bounds) -> None:
    """What the archive says of itself, before any of it is unpacked."""
    try:
        with _opened(io.BytesIO(data), bounds) as archive:
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


def _tables(data: bytes, path: Path) -> list[Table]:
    try:
        with python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)) as book:
            return list(_known_sheets(book, path))
    except python_calamine.PasswordError as error:
        raise BadDescription(path, "has a password", "Save a copy without a password.") from error
    except python_calamine.CalamineError as error:
        raise BadDescription(path, f"cannot be read as a workbook: {str(error)[:200]}", ADVICE) from error


def _known_sheets(book: python_calamine.CalamineWorkbook, path: Path) -> Iterator[Table]:
    done: set[str] = set()
    for name in book.sheet_names:
        sheet = sheet_named(name)
        if sheet is not None and sheet.name not in done:
            done.add(sheet.name)
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
            yield project(sheet, rows, f"{path.name}: {name}")
