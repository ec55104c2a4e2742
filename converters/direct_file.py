"""Writing around the page cache, where a file stands on a disk of this host: a copy that is to be on stable storage waits for
the disk in any case.

Measured, 2 GiB of data to ext4, the source in the page cache, until all was synced, others at work on the host: around it 1.4 to
2.9 s and 0.4 to 0.8 s of processor time; through it 3 to 17 s where its pages have to be found first (a virtual machine gets them
from its host), and 1.4 to 2.1 s where they are at hand. Who copies cannot choose which it will be, so the way without the long
times is taken. Nothing is driven out of the page cache either.

Short runs go through the page cache: the kernel puts them together for the disk. So does everything on file systems without a
disk of this host's (NFS, FUSE, tmpfs, Btrfs): some wait for each such write, others make it a cached one anyway.

Source: Linux, open(2) on O_DIRECT. Both ways see each other's bytes: a direct write throws cached pages of its range away.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from converters.host_file import write_all
from p2v.core.io_errors import close_written, write_problem
from p2v.core.units import KIB

# what file systems and disks want offset, length and memory to be a multiple of, at most
_UNIT_BYTES = 4 * KIB
_SHORTEST_BYTES = 256 * KIB


class DirectFile:
    """The second way to write to an open file, which stays its caller's. Safe for threads until it is closed."""

    def __init__(self, handle: int, path: Path) -> None:
        self._path = path
        self._direct = _opened(handle)
        self._refused = self._direct is None

    def write(self, handle: int, parts: Sequence[memoryview], offset: int) -> None:
        """Write ``parts`` one behind the other from ``offset`` on, all of them: long ones directly where that can be, others by
        ``handle``, which is the file that this was made for.

        Raises NoSpace, NotPermitted, ReadFailed.
        """
        rest = list(parts)
        if not self._refused and _fits(rest, offset):
            written = self._written(rest, offset)
            offset += written
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][written:]
        if rest:
            write_all(handle, self._path, rest, offset)

    def close(self) -> None:
        """Give back what was opened; closing twice is harmless."""
        direct, self._direct, self._refused = self._direct, None, True
        if direct is not None:
            close_written(direct)

    def _written(self, parts: Sequence[memoryview], offset: int) -> int:
        """How much one direct write took: it may be cut short, and what is left then need not fit any more."""
        assert self._direct is not None
        try:
            return os.pwritev(self._direct, parts, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise write_problem(error, self._path, offset, sum(len(part) for part in parts)) from error
            # memory or place do not suit this file system; other threads may be at it, so it is closed later
            self._refused = True
            return 0


def _opened(handle: int) -> int | None:
    """A second descriptor; None where it would not be of use."""
    try:
        status = os.fstat(handle)
        # file systems without a disk have made-up device numbers
        if not stat.S_ISBLK(status.st_mode) and not os.major(status.st_dev):
            return None
        # by the descriptor: the name may mean another file by now
        return os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None


def _fits(parts: Sequence[memoryview], offset: int) -> bool:
    length = sum(len(part) for part in parts)
    return length >= _SHORTEST_BYTES and not offset % _UNIT_BYTES and not any(len(part) % _UNIT_BYTES for part in parts)
