"""Scratch folders, free space, and outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import NoSpace, NotPermitted, ReadFailed, TargetBusy, TargetExists
from p2v.core.io_errors import write_problem

PARTIAL = ".partial"


def cache_folder() -> Path:
    """The suite's folder below the user's cache folder (not created)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and base.startswith("/") else Path.home() / ".cache") / "p2v-suite"


def free_bytes(folder: Path) -> int:
    """Bytes this user may still write below ``folder`` (or its nearest existing parent)."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int) -> None:
    """Raise NoSpace when fewer than ``needed`` bytes are free below ``folder``."""
    free = free_bytes(folder)
    if free < needed:
        raise NoSpace(folder, needed, free)


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A private folder with a short path: a UNIX socket's whole path must fit in 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="p2v-", dir="/tmp" if os.path.isdir("/tmp") else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder that goes away with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="p2v-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reachable_parent() -> Path | None:
    """Where a temporary folder can be reached by a child that gave its user up, None for the usual place.

    A private TMPDIR (pam_tmpdir, a home) is closed to it; a child of any other user than root stays who it was.
    """
    if os.geteuid() != 0:
        return None
    usual = Path(tempfile.gettempdir()).resolve()
    places = (usual, Path("/tmp"), Path("/var/tmp"))
    found = next((place for place in places if _lets_others_through(place) and os.access(place, os.W_OK)), usual)
    return None if found == usual else found


def _lets_others_through(folder: Path) -> bool:
    return folder.is_dir() and all(above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents))


def make_output_folder(folder: Path) -> tuple[Path, ...]:
    """Create the folder results go to; returns the folders that were made, outermost first.

    Raises NotPermitted, ReadFailed.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise NotPermitted(str(folder), "create") from error
    except OSError as error:
        raise ReadFailed(str(folder), error.strerror or "cannot be created") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(str(folder), "write to")
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files one conversion makes in ``folder``; each is written as NAME.partial and renamed last."""

    folder: Path
    names: tuple[str, ...]

    def final(self, name: str) -> Path:
        """Where a file will be."""
        return self.folder / name

    def partial(self, name: str) -> Path:
        """Where it is written."""
        return self.folder / (name + PARTIAL)

    def refuse_existing(self) -> None:
        """Raise TargetExists when a final name is taken."""
        for name in self.names:
            if os.path.lexists(self.final(name)):
                raise TargetExists(self.final(name))

    def publish(self, names: Sequence[str]) -> None:
        """Rename files into place, the last name last, and make that durable; what was not made is passed over.

        A file that has come to stand under a final name meanwhile is not replaced: TargetExists.
        """
        for name in names:
            if self.partial(name).exists():
                rename_new(self.partial(name), self.final(name))
        sync_folder(self.folder)


def write_synced(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file (of a text surrogates are kept) and sync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())
    os.chmod(path, mode)


def sha256_of(path: Path) -> str:
    """Of a whole file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rename_new(source: Path, final: Path) -> None:
    """Rename without ever replacing anything, which a link does and a rename does not. Raises TargetExists."""
    try:
        try:
            os.link(source, final)
            os.unlink(source)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without hard links: the look before is the best there is.
            if os.path.lexists(final):
                raise TargetExists(final) from error
            os.rename(source, final)
    except FileExistsError as error:
        raise TargetExists(final) from error
    except OSError as error:
        raise write_problem(error, final) from error


def sync_folder(folder: Path) -> None:
    """Wait until the folder's names are on stable storage."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise write_problem(error, folder) from error


@contextmanager
def locked(path: Path, target: Path) -> Iterator[None]:
    """Hold an exclusive lock file for the time of a run. Raises TargetBusy when another run holds it."""
    descriptor = _lock(path, target)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path, target: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except PermissionError as error:
            raise NotPermitted(str(path), "create") from error
        except OSError as error:
            raise ReadFailed(str(path), error.strerror or "cannot be created") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise TargetBusy(target) from None
        # The previous holder removes the file while it still holds the lock; a lock on a removed file guards nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def remove_quietly(paths: Sequence[Path]) -> None:
    """Remove files and folders that may not be there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
