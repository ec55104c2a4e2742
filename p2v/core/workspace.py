"""Scratch folders, free space, and outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import NoSpace, NotPermitted, P2vError, ReadFailed, TargetBusy, TargetExists
from p2v.core.io_errors import close_written, write_problem

PARTIAL = ".partial"
SOCKETS_VARIABLE = "P2V_SOCKETS"
ELSEWHERE = "elsewhere"
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_FOLDER_BYTES = 4096
"""What an empty folder takes, as a rule."""
# Some network file systems answer so where nobody keeps their locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
# what an NFS client says of a removed file that is open, and of its folder
_OPEN_STILL = frozenset({errno.EBUSY, errno.ENOTEMPTY})
_CLOSING_SECONDS, _POLL_SECONDS = 5.0, 0.1


def cache_folder() -> Path:
    """The suite's folder below the user's cache folder (not created)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and base.startswith("/") else Path.home() / ".cache") / "p2v-suite"


def free_bytes(folder: Path) -> int:
    """Bytes this user may still write below ``folder`` (or its nearest existing parent)."""
    return shutil.disk_usage(existing_parent(folder)).free


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest of those above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def allocated_bytes(file: Path) -> int:
    """What a file takes on its file system, which is less than its size where it has holes; 0 where there is no file."""
    return file.stat().st_blocks * 512 if file.is_file() else 0


def require_space(folder: Path, needed: int, advice: str = NoSpace.advice) -> None:
    """Raise NoSpace when fewer than ``needed`` bytes are free below ``folder``."""
    free = free_bytes(folder)
    if free < needed:
        raise NoSpace(folder, needed, free, advice)


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A private folder with a short path: a UNIX socket's whole path must fit in 107 bytes.

    A batch says by the environment where it wants them, so that it finds what a crash leaves.
    """
    wished = os.environ.get(SOCKETS_VARIABLE)
    parent = wished if wished and os.path.isdir(wished) else "/tmp" if os.path.isdir("/tmp") else None
    folder = Path(tempfile.mkdtemp(prefix="p2v-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def note_elsewhere(folder: Path) -> None:
    """Note a temporary folder that a library makes at a place of its own choice, so that a batch finds what a crash leaves of it.

    Without a batch nothing is noted.
    """
    wished = os.environ.get(SOCKETS_VARIABLE)
    if not wished:
        return
    with contextlib.suppress(OSError):
        facts = folder.lstat()
        with (Path(wished) / ELSEWHERE).open("ab") as notes:
            notes.write(b"%d %d %s\n" % (facts.st_dev, facts.st_ino, os.fsencode(folder)))


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

    Raises NotPermitted, NoSpace, ReadFailed; TargetExists where something stands there that is no folder.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise NotPermitted(str(folder), "create") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise TargetExists(folder, "It is no folder, or below something that is none: name another one.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise write_problem(error, folder, needed=_FOLDER_BYTES) from error
        raise ReadFailed(str(folder), error.strerror or "cannot be created") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(str(folder), "write to")
    return tuple(made)


def remove_empty(made: Sequence[Path]) -> None:
    """Remove folders that were made (outermost first) and that nothing came to stand in."""
    for folder in reversed(made):
        try:
            folder.rmdir()
        except OSError:
            return  # not empty: results, or what the next run goes on from


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

        The last name stands for all: it is given when the others are on stable storage. Where one cannot be given, those that
        were are taken back, and the error is raised. A file that has come to stand under a final name meanwhile is not
        replaced: TargetExists.
        """
        given: list[str] = []
        try:
            for name in names:
                if name == names[-1]:
                    sync_folder(self.folder)
                if os.path.lexists(self.partial(name)):
                    rename_new(self.partial(name), self.final(name))
                    given.append(name)
            sync_folder(self.folder)
        except BaseException:
            for name in reversed(given):
                with contextlib.suppress(P2vError):  # what cannot be taken back now, the next start finishes
                    rename_new(self.final(name), self.partial(name))
            raise


def write_synced(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file (of a text surrogates are kept) and sync it. Raises NoSpace, NotPermitted, ReadFailed."""
    rest = memoryview(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    needed = len(rest)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fchmod(descriptor, allowed_mode(mode))
            os.fsync(descriptor)
        finally:
            close_written(descriptor)
    except OSError as error:
        raise write_problem(error, path, needed=needed) from error


def allowed_mode(mode: int) -> int:
    """What a new file's mode is by the user's umask.

    That is read from the host: to ask by setting it would be seen by other threads.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        return mode & ~int(next(line.split()[1] for line in lines if line.startswith("Umask:")), 8)
    return mode & ~0o077


def sha256_of(path: Path) -> str:
    """Of a whole file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rename_new(source: Path, final: Path) -> None:
    """Rename without ever replacing anything, which the host does in one step, or a link and its removal in two.

    Killed between those two, the next call removes what is left. Raises TargetExists, and what ``write_problem`` says.
    """
    try:
        if rename_noreplace(source, final):
            return
        try:
            os.link(source, final)
        except OSError as error:
            if error.errno == errno.EEXIST and not os.path.samestat(os.lstat(source), os.lstat(final)):
                raise
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                # A file system without hard links: the look before is the best there is.
                if os.path.lexists(final):
                    raise TargetExists(final) from error
                os.rename(source, final)
                return
            if error.errno != errno.EEXIST:
                raise
        os.unlink(source)
    except FileExistsError as error:
        raise TargetExists(final) from error
    except OSError as error:
        raise write_problem(error, final) from error


def rename_noreplace(source: Path, final: Path) -> bool:
    """Linux's renameat2 with RENAME_NOREPLACE; False where the C library or the file system does not have it. Raises OSError."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(final), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    if number == errno.EEXIST and os.path.lexists(source) and os.path.samestat(os.lstat(source), os.lstat(final)):
        return False  # two names of one file: the way of links ends it
    raise OSError(number, os.strerror(number), str(final))


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
def locked(path: Path, target: Path) -> Iterator[bool]:
    """Hold an exclusive lock file for the time of a run; False where the file system has no locks, and nothing is held.

    The lock goes with the process: a file that one left behind is no obstacle. Raises TargetBusy when another run holds it.
    """
    descriptor, held = take_lock(path, target)
    try:
        yield held
    finally:
        # another run without locks may have removed it
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


class LockState(enum.Enum):
    """What can be told of a lock without taking it for good."""

    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"
    """It is not there, cannot be opened, or its file system has no locks."""


def lock_state(path: Path) -> LockState:
    """Of the lock of a file, whoever holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return LockState.UNKNOWN
    try:
        return lock_state_of(descriptor)
    finally:
        os.close(descriptor)


def lock_state_of(descriptor: int) -> LockState:
    """The same of an open file or folder that is closed right afterwards. Taken shared: two who ask do not take each other for the
    holder.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockState.HELD
    except OSError:
        return LockState.UNKNOWN
    return LockState.FREE


def take_lock(path: Path, target: Path) -> tuple[int, bool]:
    """Open or make ``path`` and lock it: the descriptor, and whether it is locked. Raises TargetBusy, and as ``write_problem``."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise write_problem(error, path) from error
        try:
            held = _locked_now(descriptor)
            # The previous holder removes the file while it still holds the lock; a lock on a removed file guards nothing.
            if is_named(descriptor, path):
                return descriptor, held
        except BlockingIOError as error:
            os.close(descriptor)
            raise TargetBusy(target) from error
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.ESTALE:
                continue
            raise write_problem(error, path) from error
        os.close(descriptor)


def _locked_now(descriptor: int) -> bool:
    """False where the file system has no locks. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has its name now, whichever host has given it. Raises OSError."""
    look_anew(path.parent)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ESTALE:  # the server knows the file no more
            return False
        raise


def look_anew(folder: Path) -> None:
    """Have names in a folder looked at as they are now, also those that another host has given or taken a moment ago.

    An NFS client answers for names, and for their absence, from memory, for half a minute and more; but it asks its server when
    a folder is opened (nfs(5), "Close-to-open cache consistency").
    """
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def make_folder(path: Path) -> None:
    """A new folder that is nobody else's. Raises NoSpace, NotPermitted, ReadFailed."""
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise write_problem(error, path) from error


def remove_files(paths: Sequence[Path]) -> None:
    """Remove files and folders that may not be there; on return they are gone. Raises NotPermitted, ReadFailed."""
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                _remove_folder(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_problem(error, path) from error


def _remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it. Raises OSError.

    A file that somebody has open is kept by an NFS client under a name of the client's own (.nfs...) until it is closed, and the
    folder with it. Who was just ended takes a moment to go.
    """
    until = time.monotonic() + _CLOSING_SECONDS
    while True:
        try:
            shutil.rmtree(folder)
            return
        except OSError as error:
            if error.errno not in _OPEN_STILL or time.monotonic() >= until:
                raise
        time.sleep(_POLL_SECONDS)


def remove_quietly(paths: Sequence[Path]) -> None:
    """Remove files and folders that may not be there, as far as that can be done: at an end, where another error counts."""
    for path in paths:
        with contextlib.suppress(P2vError):
            remove_files([path])
