"""A raw file as a ``DiskReader``, so that these tests need no converter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from p2v.core.disk import Extent, StoredAt


class RawReader:
    """Implements ``p2v.core.disk.DiskReader`` over a raw file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size

    @property
    def virtual_size(self) -> int:
        return self._size

    @property
    def files(self) -> tuple[Path, ...]:
        return (self._path,)

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self._size, zero=False, allocated=True, stored=StoredAt(self._path, 0))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
