"""Sharing blocks of the source with the target (reflink), where both stand on one file system that can: nothing is copied.

The source is open for reading only, and whoever writes to a shared block later gets one of his own: neither file can change
the other. What cannot be shared (another file system, bytes that do not begin and end with blocks) is read and written.

Source: Linux, ioctl_ficlonerange(2); fs/remap_range.c for what has to be aligned.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from converters.kept_open import KeptOpen
from converters.pieces import SUBPIECE_BYTES, DataPiece, stored_bytes
from converters.source_file import SourceFile, open_source
from p2v.core.disk import DiskReader, Extent, StoredAt
from p2v.core.errors import P2vError

_FICLONERANGE = 0x4020940D
# struct file_clone_range: source descriptor, its offset, length, offset in the target; all 64 bits.
_CLONE_RANGE = struct.Struct("=qQQQ")
# Blocks that are refused one by one (a file system may be stricter than this knows) end the trying.
_REFUSALS = 8


@dataclass(frozen=True, slots=True)
class SharedRange:
    """``length`` bytes at ``at`` of a piece, whose blocks are the source's."""

    at: int
    length: int
    source: StoredAt


Share = Callable[[SharedRange, int, int], bool]
"""``share(shared, handle, offset)``: give a range to the open target at a byte of it; False where that cannot be."""


def touched(ranges: tuple[SharedRange, ...]) -> int:
    """The sub-pieces that ranges of a piece are in, as a data map."""
    data_map = 0
    for each in ranges:
        first, last = each.at // SUBPIECE_BYTES, (each.at + each.length - 1) // SUBPIECE_BYTES
        data_map |= ((1 << last - first + 1) - 1) << first
    return data_map


@dataclass
class Sharing:
    """Shares blocks with files in ``folder``; safe for threads; close it, or use it as a context manager."""

    folder: Path
    _sources: KeptOpen[SourceFile] = field(default_factory=lambda: KeptOpen(open_source))
    _possible: dict[Path, bool] = field(default_factory=dict)
    _refused: deque[Path] = field(default_factory=lambda: deque(maxlen=_REFUSALS))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _block_bytes: int = 0

    def __enter__(self) -> Sharing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of the source."""
        self._sources.close()

    def ranges_of(self, piece: DataPiece, virtual_size: int) -> tuple[SharedRange, ...] | None:
        """All of a piece's data as ranges that can be shared; None where any of it cannot."""
        found = []
        for segment in piece.segments:
            if segment.stored is None or not self.fits(segment.stored, segment.offset, segment.length, virtual_size):
                return None
            found.append(SharedRange(segment.offset - piece.offset, segment.length, segment.stored))
        return tuple(found)

    def fits(self, stored: StoredAt, offset: int, length: int, virtual_size: int) -> bool:
        """Whether a range of the disk is made of whole blocks of a file that blocks can be shared with."""
        if not self._can_share(stored.file):
            return False
        # The kernel takes a last block that the source's file ends within; others it refuses, and they are written.
        whole = length % self._block_bytes == 0 or offset + length == virtual_size
        return whole and offset % self._block_bytes == 0 and stored.offset % self._block_bytes == 0

    def share(self, shared: SharedRange, handle: int, offset: int) -> bool:
        """See ``Share``."""
        with self._lock:
            if not self._possible.get(shared.source.file, False):
                return False
            try:
                _clone(self._sources.get(shared.source.file).fd, shared.source.offset, shared.length, handle, offset)
                return True
            except (OSError, P2vError) as error:
                # whatever it is, reading and writing will do, or will say it better
                self._refused.append(shared.source.file)
                strict = isinstance(error, OSError) and error.errno == errno.EINVAL
                if not strict or self._refused.count(shared.source.file) == _REFUSALS:
                    self._possible[shared.source.file] = False
                return False

    def _can_share(self, file: Path) -> bool:
        with self._lock:
            if file not in self._possible:
                self._possible[file] = self._tried(file)
            return self._possible[file]

    def _tried(self, file: Path) -> bool:
        """Share the file's first block with a file that has no name and goes away at once."""
        try:
            self._block_bytes = self._block_bytes or os.statvfs(self.folder).f_bsize
            source = self._sources.get(file).fd
            probe = os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                _clone(source, 0, self._block_bytes, probe, 0)
            finally:
                os.close(probe)
        except (OSError, P2vError):
            return False
        return True


def unshared_bytes(reader: DiskReader, folder: Path) -> int:
    """Bytes of a disk that have to be written into a file in ``folder``: ``stored_bytes`` of what is not shared.

    Raises what the reader raises.
    """
    with Sharing(folder) as sharing:

        def is_shared(extent: Extent) -> bool:
            stored = extent.stored
            return stored is not None and sharing.fits(stored, extent.offset, extent.length, reader.virtual_size)

        return stored_bytes(reader, is_shared)


def _clone(source: int, source_offset: int, length: int, target: int, offset: int) -> None:
    fcntl.ioctl(target, _FICLONERANGE, _CLONE_RANGE.pack(source, source_offset, length, offset))
