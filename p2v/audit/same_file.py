"""Whether two names mean one file: through links, ``..``, hard links and device nodes."""

from __future__ import annotations

import os
import stat


def file_key(path: str) -> str:
    """Equal for two paths of one file of this host. A member of an archive is told by its archive's real path and its name."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        try:
            return os.path.realpath(path)
        except (OSError, ValueError):
            return path
    if stat.S_ISBLK(found.st_mode):
        return f"device {found.st_rdev}"
    return f"file {found.st_dev} {found.st_ino}"
