"""Whether a folder's storage takes what is written there: one that is frozen, or whose disk hangs, answers everything else.

Never in a folder that a source is in: sources are never written, and a file there would change when their folder was changed last.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from p2v.core.workspace import existing_parent

TRIAL = ".p2v-trial"
"""``.NAME.p2v-trial``: what is written for a machine, where a file cannot be without a name."""
_NO_NAMELESS = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS))
_NO_ORPHANS = frozenset((errno.ENOENT, errno.ESTALE, errno.EBADF))
"""Some servers' files cannot be written to without a name."""


def trial_path(folder: Path, machine: str) -> Path:
    """The name that such a file has for a moment, on file systems that have none without."""
    return folder / f".{machine}{TRIAL}"


def try_to_write(folder: Path, machine: str, sources: Sequence[Path], kept: Container[Path] = ()) -> None:
    """Write a page there, and let it go. It comes back when the storage has answered, be it that it takes nothing.

    Where the folder is not there yet: in the one that it will be made in, and without a name only. ``sources``: of the machine;
    ``kept``: folders that nothing is written to either, those of other machines' sources.
    """
    place = existing_parent(folder)
    if place in kept or _holds_a_source(place, sources):
        return
    named = trial_path(folder, machine) if place == folder else None
    with suppress(OSError):
        try:
            with _nameless(place, named) as descriptor:
                _write_past_caches(descriptor)
        except OSError as error:
            if error.errno not in _NO_ORPHANS or named is None:
                raise
            with _made(named) as descriptor:
                try:
                    _write_past_caches(descriptor)
                finally:
                    named.unlink(missing_ok=True)


def _holds_a_source(place: Path, sources: Sequence[Path]) -> bool:
    """Also by other names, and where a source is a whole folder."""
    real = Path(os.path.realpath(place))
    for source in sources:
        found = Path(os.path.realpath(source))
        if real in (found.parent, source.parent) or _same(place, source.parent) or found in (real, *real.parents):
            return True
    return False


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


@contextmanager
def _nameless(place: Path, named: Path | None) -> Iterator[int]:
    """A file that has no name, or lost it before anything is written: who is killed while that hangs leaves none behind."""
    try:
        descriptor = os.open(place, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_NAMELESS or named is None:
            raise
        with _made(named) as descriptor:
            named.unlink(missing_ok=True)
            yield descriptor
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _made(path: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        # of a look that was killed; or of another that has the name just now, and needs it no more
        path.unlink(missing_ok=True)
        descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_past_caches(descriptor: int) -> None:
    """A page to the storage itself. Not a sync: that would wait for all that others have in the cache, which may be minutes."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        with suppress(OSError):  # a file system in memory has no way around itself
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        try:
            os.pwrite(descriptor, page, 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
            os.pwrite(descriptor, page, 0)
