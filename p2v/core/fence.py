"""Fences: whoever lost the right to make a machine cannot give its results their names.

A store can tell a worker that its lease is lost only when the worker asks. One that was stopped, swapped out or cut off asks
too late, or between its question and its renames. So the number of the lease stands in the folder of the results, too, in
``.NAME.p2v-fence``: the highest that ever came. A worker writes its number there before it begins (``raise_fence``) and holds the
file's lock while it gives names (``fenced``), which it can only while no higher number stands there: renames happen before the
next worker's number is written, or not at all.

Where the file system has no locks, the number is looked at all the same; then a stop between the look and the rename is not seen.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2v.core.errors import LeaseLost, NoSource, ReadFailed, TargetBusy
from p2v.core.io_errors import close_written, write_problem
from p2v.core.workspace import NO_LOCKS, is_named, sync_folder

LOCK_SECONDS = 60.0
"""How long to wait for another to give its names: renames and a sync, unless it was stopped in the middle."""
_POLL_SECONDS = 0.02
_DIGITS = 20
SUFFIX = ".p2v-fence"


def fence_path(folder: Path, name: str) -> Path:
    """The file with the number, of the machine ``name`` whose results go to ``folder``."""
    return folder / f".{name}{SUFFIX}"


def raise_fence(folder: Path, name: str, number: int) -> None:
    """Let nobody with a lower number than this one give names any more. On return that outlives a power cut.

    Raises LeaseLost (a higher number stands there), TargetBusy (another has been giving names for a minute), NoSpace,
    NotPermitted, ReadFailed.
    """
    if not 1 <= number < 10**_DIGITS:
        raise ValueError(f"{number} is no number of a lease")
    path = fence_path(folder, name)
    with _locked(path, folder / name, make=True) as descriptor:
        standing = _number(path, descriptor)
        _refuse_lower(name, number, standing)
        if number > standing:
            try:
                # one write of one width: a number is there whole, or the one before it is
                os.pwrite(descriptor, f"{number:0{_DIGITS}d}\n".encode(), 0)
                os.fsync(descriptor)
            except OSError as error:
                raise write_problem(error, path) from error
            sync_folder(folder)


@contextmanager
def fenced(folder: Path, name: str, number: int) -> Iterator[None]:
    """Give names in this context: none with a higher number comes in between. Keep it short, for others wait.

    Raises LeaseLost (a higher number stands there, or the fence is gone: somebody else ended the job), TargetBusy, NotPermitted,
    ReadFailed.
    """
    path = fence_path(folder, name)
    try:
        with _locked(path, folder / name, make=False) as descriptor:
            _refuse_lower(name, number, _number(path, descriptor))
            yield
    except NoSource as error:
        raise LeaseLost(name, number, f"its fence is gone ({path})") from error


def remove_fence(folder: Path, name: str, number: int) -> bool:
    """Take a fence away at the job's end; False when a higher number stands there, whose worker needs it.

    Only when the worker that had ``number`` has ended. Raises TargetBusy, NotPermitted, ReadFailed.
    """
    path = fence_path(folder, name)
    with suppress(NoSource):
        with _locked(path, folder / name, make=False) as descriptor:
            if _number(path, descriptor) > number:
                return False
            try:
                path.unlink()  # while it is locked: who waits for the lock sees that the file is another
            except OSError as error:
                raise write_problem(error, path) from error
    return True


def standing_fence(folder: Path, name: str) -> int | None:
    """The number in the folder, None where there is no fence. Raises ReadFailed, NotPermitted."""
    path = fence_path(folder, name)
    try:
        descriptor = _opened(path, make=False)
    except NoSource:
        return None
    try:
        return _number(path, descriptor)
    finally:
        os.close(descriptor)


def _refuse_lower(name: str, number: int, standing: int) -> None:
    if number < standing:
        raise LeaseLost(name, number, f"lease {standing} has come since")


def _number(path: Path, descriptor: int) -> int:
    """0 where nothing was written yet."""
    try:
        text = os.pread(descriptor, 64, 0).strip()
    except OSError as error:
        raise ReadFailed(str(path), f"cannot be read: {error.strerror}") from error
    if not text:
        return 0
    if not (text.isdigit() and len(text) <= _DIGITS):
        raise ReadFailed(str(path), "holds no number of a lease; remove it when no p2v runs on this machine's results")
    return int(text)


def _opened(path: Path, *, make: bool) -> int:
    """Raises NoSource where there is none and none is to be made."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError as error:
        if not make:
            raise NoSource(str(path), "there is no fence") from error
        raise write_problem(error, path) from error
    except OSError as error:
        raise write_problem(error, path) from error


@contextmanager
def _locked(path: Path, target: Path, *, make: bool) -> Iterator[int]:
    """The open file while it is locked, and is the one of that name."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        descriptor = _opened(path, make=make)
        try:
            _lock(descriptor, path, target, until)
            if is_named(descriptor, path):
                yield descriptor
                return
        finally:
            close_written(descriptor)


def _lock(descriptor: int, path: Path, target: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise TargetBusy(target) from error
        except OSError as error:
            if error.errno in NO_LOCKS or error.errno == errno.ESTALE:
                return  # of a file that has gone from its server, the name tells
            raise write_problem(error, path) from error
        time.sleep(_POLL_SECONDS)
