"""The text of a machine's description, for findings to point at a line of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from p2v.core.units import MIB

BYTES_AT_MOST = 4 * MIB
_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))


def description_text(path: Path | None) -> str:
    """The text of a description that is a file by itself; empty for a folder, an archive, a store, and what cannot be read."""
    data = _read(path) if path is not None else b""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if b"\0" in data:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # as programs of Windows wrote them
        return data.decode("cp1252", "replace")


def _read(path: Path) -> bytes:
    try:
        handle = _opened(path)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return b""
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(BYTES_AT_MOST + 1)
    except OSError:
        return b""
    finally:
        os.close(handle)
    return data if len(data) <= BYTES_AT_MOST else b""


def _opened(path: Path) -> int:
    # a FIFO in its place must not hold the audit up
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        # only the file's owner may leave its access time alone
        return os.open(path, flags)
