"""Whether a path is worth looking at as an inventory export, told without what reads one."""

from __future__ import annotations

from pathlib import Path

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""What an .xls, and a workbook with a password, begins with ([MS-CFB] section 2.2)."""
ZIP = b"PK"
"""What an .xlsx begins with."""


def may_be_inventory(path: Path) -> bool:
    """False for what surely is none: a file that is neither a CSV by its name nor begins as a workbook, or cannot be read."""
    try:
        if path.is_dir() or path.suffix.casefold() == ".csv":
            return True
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(OLE)).startswith((OLE, ZIP))
    except OSError:
        return False
