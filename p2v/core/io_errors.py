"""The host's refusals as the suite's errors, with the file and the place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from p2v.core.errors import NoSpace, NotPermitted, P2vError, ReadFailed


def read_problem(error: OSError, file: Path, offset: int | None = None) -> P2vError:
    """What to raise when reading ``file`` (at ``offset``, in bytes of the file) failed."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(str(file), "read")
    return ReadFailed(str(file), _where("cannot read", offset, error))


def write_problem(error: OSError, file: Path, offset: int | None = None, needed: int = 0) -> P2vError:
    """What to raise when writing ``needed`` bytes to ``file`` (at ``offset``) failed."""
    # a thin volume that is full says so too, and its folder has nothing to do with it
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and not file.is_block_device():
        return NoSpace(file.parent, needed, _free_bytes(file.parent))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(str(file), "write")
    return ReadFailed(str(file), _where("cannot write", offset, error))


def _where(verb: str, offset: int | None, error: OSError) -> str:
    place = "" if offset is None else f" at byte {offset}"
    return f"{verb}{place}: {error.strerror or error}"


def _free_bytes(folder: Path) -> int:
    try:
        space = os.statvfs(folder)
    except OSError:
        return 0  # the folder is gone; the first error is the one to tell
    return space.f_bavail * space.f_frsize
