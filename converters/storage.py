"""The file operations of a transaction, each of them a step after which the host may die.

What writes into disks in place goes through this layer and nothing else, so that a test can stop at any operation and lose
what was not synced. ``HostStorage`` is the real one. OSErrors come out as the suite's errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from converters.host_file import FALLOC_FL_KEEP_SIZE, fallocate, file_size, resize, write_all
from p2v.core.errors import NoSource, TargetExists
from p2v.core.io_errors import close_written, read_problem, write_problem
from p2v.core.workspace import sync_folder

_MAX_READ_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells an open file from another, and whether it was written to (``mtime_ns``; 0 for block devices).

    ``device`` and ``inode``: of a block device its own numbers and 0.
    """

    size: int
    device: int
    inode: int
    mtime_ns: int
    is_block_device: bool


class StoredFile(Protocol):
    """An open file. Offsets and lengths are bytes of the file."""

    @property
    def path(self) -> Path:
        """Its name when it was opened."""
        ...

    def state(self) -> FileState:
        """What it is now."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes; short only at the file's end."""
        ...

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of ``data``."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file, or make it longer by a hole."""
        ...

    def allocate(self, offset: int, length: int) -> None:
        """See to it that writing a range that lies in the file needs no more space. Contents stay. Raises NoSpace."""
        ...

    def sync(self) -> None:
        """Wait until contents and size are on stable storage."""
        ...

    def close(self) -> None:
        """Give the handle back; twice is harmless."""
        ...


class Storage(Protocol):
    """Where the files are that a transaction makes for itself."""

    def create(self, path: Path) -> StoredFile:
        """A new, empty file. Raises TargetExists."""
        ...

    def open(self, path: Path) -> StoredFile:
        """An existing file, for reading and writing. Raises NoSource."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether the name is taken."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; what had that name is gone."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name, which may not be there."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Wait until the folder's names are on stable storage."""
        ...


class HostFile:
    """A file or block device of the host, open for reading and writing; a context manager."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @property
    def handle(self) -> int:
        """The open descriptor."""
        if self._handle < 0:
            raise ValueError(f"{self.path} is closed")
        return self._handle

    def state(self) -> FileState:
        """See ``StoredFile``."""
        try:
            found = os.fstat(self.handle)
            if stat.S_ISBLK(found.st_mode):
                size = os.lseek(self.handle, 0, os.SEEK_END)
                return FileState(size, found.st_rdev, 0, 0, is_block_device=True)
        except OSError as error:
            raise read_problem(error, self.path) from error
        return FileState(found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, is_block_device=False)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``StoredFile``."""
        parts = []
        try:
            while length > 0 and (part := os.pread(self.handle, min(length, _MAX_READ_BYTES), offset)):
                parts.append(part)
                length -= len(part)
                offset += len(part)
        except OSError as error:
            raise read_problem(error, self.path, offset) from error
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        """See ``StoredFile``."""
        write_all(self.handle, self.path, [memoryview(data)], offset)

    def truncate(self, size: int) -> None:
        """See ``StoredFile``."""
        resize(self.handle, self.path, size)

    def allocate(self, offset: int, length: int) -> None:
        """See ``StoredFile``; file systems that cannot do it are left to fail when they are written to."""
        if self._is_stored(offset, length):
            return  # and the file's time of writing stays
        code = fallocate(self.handle, FALLOC_FL_KEEP_SIZE, offset, length)
        if code in (errno.ENOSPC, errno.EDQUOT):
            raise write_problem(OSError(code, os.strerror(code)), self.path, offset, length)

    def _is_stored(self, offset: int, length: int) -> bool:
        try:
            return os.lseek(self.handle, offset, os.SEEK_HOLE) >= offset + length
        except OSError:
            return False  # a device, or a file system that tells no holes

    def sync(self) -> None:
        """See ``StoredFile``."""
        try:
            os.fsync(self.handle)
        except OSError as error:
            raise write_problem(error, self.path) from error

    def close(self) -> None:
        """See ``StoredFile``."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            close_written(handle)

    def __enter__(self) -> HostFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HostStorage:
    """The host's files. Links are not followed: the names of a transaction's own files are its own."""

    def create(self, path: Path) -> HostFile:
        """See ``Storage``; nobody but the owner may read it, for it has parts of disks in it."""
        return _opened(path, os.O_CREAT | os.O_EXCL)

    def open(self, path: Path) -> HostFile:
        """See ``Storage``."""
        return _opened(path, 0)

    def exists(self, path: Path) -> bool:
        """See ``Storage``."""
        return os.path.lexists(path)

    def rename(self, old: Path, new: Path) -> None:
        """See ``Storage``."""
        try:
            os.rename(old, new)
        except OSError as error:
            raise write_problem(error, new) from error

    def unlink(self, path: Path) -> None:
        """See ``Storage``."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise write_problem(error, path) from error

    def sync_folder(self, folder: Path) -> None:
        """See ``Storage``."""
        sync_folder(folder)


def _opened(path: Path, more: int) -> HostFile:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | more, 0o600)
    except FileExistsError as error:
        raise TargetExists(path) from error
    except FileNotFoundError as error:
        if more:
            raise write_problem(error, path) from error
        raise NoSource(
            str(path), "does not exist", "Name the journal of an in-place conversion (NAME.undo)."
        ) from error
    except OSError as error:
        raise write_problem(error, path) from error
    file = HostFile(path, handle)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise NoSource(str(path), "is no regular file", "Name the journal of an in-place conversion (NAME.undo).")
        file_size(handle, path)
    except BaseException:
        file.close()
        raise
    return file
