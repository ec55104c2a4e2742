"""Which programs of this host have something open for writing, as far as this user may see them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_FLAGS = re.compile(r"^flags:\s*([0-7]+)", re.MULTILINE)


def writers(is_wanted: Callable[[Path], bool], proc: Path = Path("/proc")) -> Iterator[tuple[int, str]]:
    """Process number and name of each that has something open for writing for whose handle ``is_wanted`` says yes.

    ``is_wanted`` gets a path like /proc/PID/fd/N; an OSError of it is a no. Source: proc_pid_fdinfo(5).
    """
    for process in _entries(proc):
        if process.name.isdigit() and any(_writes(process, h, is_wanted) for h in _entries(process / "fd")):
            yield int(process.name), _text(process / "comm").strip()


def _writes(process: Path, handle: Path, is_wanted: Callable[[Path], bool]) -> bool:
    try:
        if not is_wanted(handle):
            return False
    except OSError:
        return False  # closed meanwhile
    told = _FLAGS.search(_text(process / "fdinfo" / handle.name))
    return told is not None and int(told[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()  # another user's, or gone


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
