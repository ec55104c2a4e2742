"""Raw targets: a file of exactly the disk's size, sparse unless its space is reserved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.direct_file import DirectFile
from converters.fixed_places import FixedPlaces
from converters.host_file import file_size, open_target_file, resize, sync_data
from converters.reflink import Share, SharedRange
from converters.target_formats import PLAIN, TargetOptions
from p2v.core.io_errors import close_written


class RawWriter:
    """Writes what is not zero; the rest is a hole. A ``PlacedWriter``; places are always 0."""

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, *, resume: bool = False, options: TargetOptions = PLAIN) -> None:
        self.path = path
        self.virtual_size = virtual_size
        self._handle: int | None = open_target_file(path, resume=resume)
        self._direct = DirectFile(self._handle, path)
        self._pieces = FixedPlaces(path, self._open, self._write, 0, virtual_size, options, resume=resume)
        if not resume:
            try:
                self._pieces.make_room()
            except BaseException:
                self.close()
                raise

    def is_done(self, index: int) -> bool:
        """Never: this class remembers nothing."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        return self._pieces.write(index, data, data_map)

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``."""
        return self._pieces.share(index, ranges, share)

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``: there is nothing to do."""

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        sync_data(self._open(), self.path)

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``."""
        self._pieces.restore(index, place)

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``."""
        self._pieces.forget(index)

    def read_piece(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``."""
        return self._pieces.read(index, into)

    def drop(self, index: int) -> None:
        """See ``PlacedWriter.drop``."""
        self._pieces.erase(index, 1)

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``; a commit may have made the file longer, never shorter. What is to be erased was forgotten."""
        if file_size(self._open(), self.path) < self.virtual_size:
            raise ValueError("the partial file is shorter than the disk")
        resize(self._open(), self.path, self.virtual_size)
        self._pieces.erase_unknown()
        self._pieces.make_room()

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        self.sync()

    def close(self) -> None:
        """Close the file."""
        self._direct.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            close_written(handle)

    def _write(self, parts: Sequence[memoryview], offset: int) -> None:
        self._direct.write(self._open(), parts, offset)

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle
