"""Files that the user gives for a sizing, read within a bound."""

from __future__ import annotations

from pathlib import Path

from p2v.core.errors import NotPermitted, ReadFailed


def read_at_most(file: Path, count: int) -> bytes:
    """The first ``count`` bytes of a file, or all of a shorter one. Raises NotPermitted, ReadFailed."""
    try:
        with file.open("rb") as opened:
            return opened.read(count)
    except PermissionError as error:
        raise NotPermitted(str(file), "read") from error
    except OSError as error:
        raise ReadFailed(str(file), error.strerror or "cannot be read") from error
