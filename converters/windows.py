"""A part of a file as a source file of its own: the member of an archive, read where it stands."""

from __future__ import annotations

from pathlib import Path

from converters.source_file import SourceFile
from p2v.core.disk import StoredAt
from p2v.core.errors import ReadFailed


class Window(SourceFile):
    """``length`` bytes of another source file from ``base`` on, under a path of their own; owns that file."""

    def __init__(self, inner: SourceFile, base: int, length: int, path: Path) -> None:
        super().__init__(path, -1, length, inner.mtime_ns, is_block_device=False)
        self._inner = inner
        self._base = base
        self._closed = False

    @property
    def host_path(self) -> Path:
        """The archive on the host."""
        return self._inner.host_path

    @property
    def tells_holes(self) -> bool:
        """No: archives are written without holes."""
        return False

    def place(self, offset: int) -> StoredAt | None:
        """Where the byte stands in the archive, if it stands there plainly."""
        return self._inner.place(self._base + offset)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``SourceFile.pread``."""
        if self._closed:
            raise ReadFailed(str(self.path), "was read after it was closed")
        return self._inner.pread(max(0, min(length, self.size - offset)), self._base + offset)

    def close(self) -> None:
        """Close the archive."""
        self._closed = True
        self._inner.close()
