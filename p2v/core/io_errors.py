"""The host's refusals as the suite's errors, with the file and the place."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from p2v.core.errors import NoSpace, NotPermitted, P2vError, ReadFailed, SourceGone, Unreadable

# a medium that cannot be read: blk_errors of the kernel's block/blk-core.c, and what file systems with checksums say
_OF_THE_MEDIUM = (errno.EIO, errno.ENODATA, errno.EREMOTEIO, errno.EILSEQ, errno.EBADMSG)
_QUOTA = "A quota is used up (`quota -s` tells its user). Raise it, free some space, or name another folder with -o."
# unplugged; a FUSE file system whose program has ended; a file that an NFS server knows no more
_GONE = (errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN, errno.ENOLINK)


def read_problem(error: OSError, file: Path, offset: int | None = None, length: int = 0) -> P2vError:
    """What to raise when reading ``length`` bytes of ``file`` (at ``offset``, in bytes of the file) failed.

    ``Unreadable`` where the storage says that it cannot read just there, ``SourceGone`` where it is no more.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(str(file), "read")
    if error.errno in _GONE:
        return SourceGone(str(file), _where("does not answer any more: cannot read", offset, error))
    verb = f"cannot read {length} bytes" if length else "cannot read"
    if error.errno in _OF_THE_MEDIUM and offset is not None:
        return Unreadable(str(file), _where(verb, offset, error), offset, length, error.strerror or str(error))
    return ReadFailed(str(file), _where(verb, offset, error))


def write_problem(error: OSError, file: Path, offset: int | None = None, needed: int = 0) -> P2vError:
    """What to raise when writing ``needed`` bytes to ``file`` (at ``offset``) failed."""
    # a thin volume that is full says so too, and its folder has nothing to do with it
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and not file.is_block_device():
        folder = file if file.is_dir() else file.parent
        return NoSpace(folder, needed, _free_bytes(folder), _advice(error))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(str(file), "write")
    return ReadFailed(str(file), _where("cannot write", offset, error))


def full_somewhere(error: OSError) -> NoSpace:
    """What to raise when something is full, or a quota is used up, and nobody knows what."""
    return NoSpace(Path("a storage of this host"), 0, -1, _advice(error))


def _advice(error: OSError) -> str:
    return _QUOTA if error.errno == errno.EDQUOT else NoSpace.advice


def close_written(handle: int) -> None:
    """Close a file that was written to. All that is to count was synced before: what NFS refuses only at the close had not been,
    and the error that kept it from being synced is the one to tell.
    """
    with contextlib.suppress(OSError):
        os.close(handle)


def _where(verb: str, offset: int | None, error: OSError) -> str:
    place = "" if offset is None else f" at byte {offset}"
    return f"{verb}{place}: {error.strerror or error}"


def _free_bytes(folder: Path) -> int:
    try:
        space = os.statvfs(folder)
    except OSError:
        return 0  # the folder is gone; the first error is the one to tell
    return space.f_bavail * space.f_frsize
