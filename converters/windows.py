"""A part of a file as a source file of its own: the member of an archive, read where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from converters.source_file import SourceFile
from p2v.core.disk import StoredAt
from p2v.core.errors import ReadFailed


class Window(SourceFile):
    """``length`` bytes of another source file from ``base`` on, under a path of their own; owns that file unless told not to."""

    def __init__(self, inner: SourceFile, base: int, length: int, path: Path, *, owns: bool = True) -> None:
        super().__init__(path, -1, length, inner.mtime_ns, is_block_device=False)
        self._inner = inner
        self._base = base
        self._owns = owns
        self._closed = False

    @property
    def host_path(self) -> Path:
        """The archive on the host."""
        return self._inner.host_path

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """The archive's."""
        return self._inner.host_sources

    def next_data(self, offset: int) -> tuple[int, int] | None:
        """Not told: archives are written without holes."""
        return None

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Those in the archive."""
        return self._inner.places(self._base + offset, length)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``SourceFile.pread``."""
        if self._closed:
            raise ReadFailed(str(self.path), "was read after it was closed")
        return self._inner.pread(max(0, min(length, self.size - offset)), self._base + offset)

    def close(self) -> None:
        """Close the archive, where it is this window's own."""
        self._closed = True
        if self._owns:
            self._inner.close()
