"""Raw targets: a file of exactly the disk's size, sparse unless its space is reserved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from converters.host_file import (
    file_size,
    make_zero,
    open_target_file,
    read_into,
    reserve,
    resize,
    sync_data,
    write_all,
)
from converters.pieces import PIECE_BYTES, SUBPIECE_BYTES, PieceSet, map_runs, piece_count
from converters.reflink import Share, SharedRange
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from converters.unknown import unknown_runs


class RawWriter:
    """Writes what is not zero; the rest is a hole. A ``PlacedWriter``; places are always 0."""

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, *, resume: bool = False, options: TargetOptions = PLAIN) -> None:
        self.path = path
        self.virtual_size = virtual_size
        self._reserves = options.preallocation is Preallocation.FALLOC
        self._restored = PieceSet(piece_count(virtual_size) if resume else 0)
        self._handle: int | None = open_target_file(path, resume=resume)
        if not resume:
            try:
                self._make_room()
            except BaseException:
                self.close()
                raise

    def is_done(self, index: int) -> bool:
        """Never: this class remembers nothing."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        for first, count in map_runs(data_map):
            start = first * SUBPIECE_BYTES
            part = data[start : start + count * SUBPIECE_BYTES]
            write_all(self._open(), self.path, [part], index * PIECE_BYTES + start)
        return 0

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``. Not where space is reserved: shared blocks would take up none of it."""
        if self._reserves:
            return None
        shared = all(share(each, self._open(), index * PIECE_BYTES + each.at) for each in ranges)
        return 0 if shared else None

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``: there is nothing to do."""

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        sync_data(self._open(), self.path)

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``; the piece is where it always is."""
        if place != 0:
            raise ValueError(f"piece {index} of a raw target cannot be at {place}")
        self._restored.add(index)

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``."""
        self._restored.remove(index)

    def read_piece(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``."""
        return read_into(self._open(), self.path, into, index * PIECE_BYTES)

    def drop(self, index: int) -> None:
        """See ``PlacedWriter.drop``."""
        make_zero(self._open(), self.path, index * PIECE_BYTES, PIECE_BYTES)

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``; a commit may have made the file longer, never shorter.

        What is to be erased was forgotten, and all that was not restored becomes a hole: a copy writes only what is not zero.
        """
        if file_size(self._open(), self.path) < self.virtual_size:
            raise ValueError("the partial file is shorter than the disk")
        resize(self._open(), self.path, self.virtual_size)
        for first, count in unknown_runs(self._open(), self.path, self._restored):
            make_zero(self._open(), self.path, first * PIECE_BYTES, count * PIECE_BYTES)
        self._make_room()

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        self.sync()

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _make_room(self) -> None:
        resize(self._open(), self.path, self.virtual_size)
        if self._reserves:
            reserve(self._open(), self.path, self.virtual_size)

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle
