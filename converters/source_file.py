"""Opening and reading the files of a source: read-only, positioned, checked against the file's size.

The one place of this package that opens a source. Only regular files and block devices are accepted:
opening a FIFO waits, opening some character devices acts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from p2v.core.disk import StoredAt
from p2v.core.errors import BadImage, NoSource, NotPermitted, ReadFailed
from p2v.core.io_errors import read_problem
from p2v.core.units import SECTOR_BYTES

NO_MORE_DATA = (1 << 63, 1 << 63)
# os.pread hands back at most 2 GiB less a page at a time; smaller steps also keep a failed read cheap.
_MAX_READ_BYTES = 64 * 1024 * 1024
_BLKSSZGET = 0x1268
_PAGE_BYTES = _LARGEST_SECTOR = 4096

# Opens what lies beside a member of an archive, by a path from there; None where there is nothing of that name.
Siblings = Callable[[str], "SourceFile | None"]


class SourceFile:
    """A file or block device of a source, open for reading; safe to read from several threads.

    ``siblings`` is set for members of archives, whose neighbours are in the archive.
    """

    def __init__(self, path: Path, fd: int, size: int, mtime_ns: int, *, is_block_device: bool) -> None:
        self.path = path
        self.size = size
        self.mtime_ns = mtime_ns
        self.is_block_device = is_block_device
        self.siblings: Siblings | None = None
        self._fd = fd

    @property
    def host_path(self) -> Path:
        """The file of the host that holds the bytes (``path`` but for members of archives)."""
        return self.path

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """The files of the host that hold the bytes."""
        return (self,)

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Where a range stands in files of the host, as pieces (bytes, place); no place: it does not stand there plainly."""
        yield length, StoredAt(self.path, offset)

    def next_data(self, offset: int) -> tuple[int, int] | None:
        """Begin and end of the next bytes that are stored, at ``offset`` or behind it, as the host's file system tells holes.

        ``NO_MORE_DATA`` behind the last; None where nothing is told: block devices, some file systems. Raises ReadFailed.
        """
        if self.is_block_device:
            return None
        if self._fd < 0:
            raise ReadFailed(str(self.path), "was read after it was closed")
        try:
            start = os.lseek(self._fd, offset, os.SEEK_DATA)
            return start, max(start + 1, os.lseek(self._fd, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return NO_MORE_DATA
            # where what tells of holes is itself what cannot be read, the bytes may still be
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EIO):
                return None
            raise read_problem(error, self.path, offset) from error

    @property
    def kept_fds(self) -> tuple[int, ...]:
        """Descriptors on something that is no file, which reading in a forked child needs; it may use them alone."""
        return ()

    @property
    def fd(self) -> int:
        """The open descriptor, for positioned calls only (its file offset belongs to nobody)."""
        return self._fd

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the file.

        Raises ReadFailed when the host cannot read, or the file was closed; its kinds Unreadable and SourceGone say why.
        """
        if self._fd < 0:
            raise ReadFailed(str(self.path), "was read after it was closed")
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self._fd, min(length, _MAX_READ_BYTES), offset)
            except OSError as error:
                raise read_problem(error, self.path, offset, length) from error
            if not part:
                break
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_exactly(self, length: int, offset: int, what: str) -> bytes:
        """Read ``length`` bytes of the structure ``what`` at ``offset``.

        Raises BadImage when they do not lie in the file, ReadFailed when the file changed meanwhile.
        """
        self.require(length, offset, what)
        data = self.pread(length, offset)
        if len(data) != length:
            problem = f"was cut while it was open: byte {offset + len(data)} of {self.size} is gone"
            raise ReadFailed(str(self.path), problem)
        return data

    def require(self, length: int, offset: int, what: str) -> None:
        """Raise BadImage unless ``length`` bytes at ``offset`` lie in the file."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise past_the_end(self, what, length, offset)

    @property
    def unit_bytes(self) -> int:
        """The smallest range that can fail to be read by itself: a device's logical sector; of a file, a page."""
        if not self.is_block_device:
            return _PAGE_BYTES
        raw = bytearray(4)
        try:
            fcntl.ioctl(self._fd, _BLKSSZGET, raw)
        except OSError:
            return _PAGE_BYTES
        size = int.from_bytes(raw, sys.byteorder)
        return size if SECTOR_BYTES <= size <= _LARGEST_SECTOR and size & (size - 1) == 0 else _PAGE_BYTES

    def open_direct(self) -> int | None:
        """A second descriptor that reads around the page cache, in whole units; None where that cannot be had.

        The caller closes it.
        """
        try:
            # by the descriptor: the name may mean another file by now
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT)
        except OSError:
            return None

    def close(self) -> None:
        """Give back the descriptor; closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close_source(fd)


def close_source(fd: int) -> None:
    """Close a descriptor on a source, whatever the host has to say: nothing was written, and its server may be gone."""
    with contextlib.suppress(OSError):
        os.close(fd)


def past_the_end(file: SourceFile, what: str, length: int, offset: int) -> BadImage:
    """The error for a structure or data block that does not lie in its file."""
    return BadImage(
        file.path, f"{what} lies at byte {offset} ({length} bytes), past the end of the file ({file.size} bytes)"
    )


def open_source(path: Path) -> SourceFile:
    """Open a source file or block device for reading.

    Raises NoSource (missing, a folder, a FIFO, socket or character device), NotPermitted, ReadFailed.
    """
    try:
        _require_disk_file(path, os.stat(path))
        fd = _open_quietly(path)
    except PermissionError as error:
        raise NotPermitted(str(path), "read") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoSource(str(path), "does not exist") from error
    except (OSError, ValueError) as error:
        raise ReadFailed(str(path), f"cannot be opened: {error}") from error
    try:
        # Again, on what was really opened: the name may mean another file by now.
        status = os.fstat(fd)
        _require_disk_file(path, status)
        is_block_device = stat.S_ISBLK(status.st_mode)
        size = os.lseek(fd, 0, os.SEEK_END) if is_block_device else status.st_size
    except OSError as error:
        os.close(fd)
        raise ReadFailed(str(path), f"cannot be measured: {error.strerror}") from error
    except NoSource:
        os.close(fd)
        raise
    return SourceFile(path, fd, size, status.st_mtime_ns, is_block_device=is_block_device)


def shown(name: str) -> str:
    """A name from an image, quoted and cut for a message: it may hold anything."""
    return ascii(name if len(name) <= 200 else name[:200] + "...")


def shown_names(names: Sequence[str], most: int = 8) -> str:
    """Several such names; of many the first, and dots."""
    return ", ".join(map(shown, names[:most])) + (" ..." if len(names) > most else "")


def _require_disk_file(path: Path, status: os.stat_result) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return
    kinds = (
        (stat.S_ISDIR, "is a folder"),
        (stat.S_ISFIFO, "is a FIFO"),
        (stat.S_ISSOCK, "is a socket"),
        (stat.S_ISCHR, "is a character device"),
    )
    what = next((words for test, words in kinds if test(mode)), "is a special file")
    raise NoSource(str(path), f"{what}, not a disk image or block device")


def _open_quietly(path: Path) -> int:
    # O_NONBLOCK: should the name turn into a FIFO after the check, opening it must not wait.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        # Only the file's owner may leave its access time alone.
        return os.open(path, flags)
