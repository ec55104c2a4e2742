"""qcow2 targets whose clusters have their places beforehand: side by side, as in the disk.

Layout: cluster 0 the header, then the whole disk, then the tables (see ``qcow2_file.py``). Without reserved space, what
is not written is a hole of the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

from converters.c_qcow2 import OFLAG_COPIED
from converters.host_file import make_zero, read_into, reserve, resize
from converters.pieces import PIECE_BYTES, SUBPIECE_BYTES, PieceSet, map_runs, piece_count
from converters.qcow2_clusters import HostClusters
from converters.qcow2_file import Qcow2File
from converters.reflink import Share, SharedRange
from converters.target_formats import Preallocation, TargetOptions
from converters.unknown import unknown_runs


class PreallocatedQcow2Writer:
    """A ``PlacedWriter``; places are always 0."""

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, options: TargetOptions, *, resume: bool = False) -> None:
        self._file = Qcow2File(path, virtual_size, options, resume=resume)
        self.path = path
        self.virtual_size = virtual_size
        self._base = options.cluster_bytes
        self._disk_clusters = -(-virtual_size // options.cluster_bytes)
        self._restored = PieceSet(piece_count(virtual_size) if resume else 0)
        self._clusters = HostClusters(options.cluster_bytes, 1 + self._disk_clusters)
        if not resume:
            try:
                self._make_room()
            except BaseException:
                self._file.close()
                raise

    def is_done(self, index: int) -> bool:
        """Never: what was restored is the caller's to know."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        for first, count in map_runs(data_map):
            start = first * SUBPIECE_BYTES
            self._file.write([data[start : start + count * SUBPIECE_BYTES]], self._base + index * PIECE_BYTES + start)
        return 0

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``. Not where space is reserved: shared blocks would take up none of it."""
        if self._file.options.preallocation is Preallocation.FALLOC:
            return None
        start = self._base + index * PIECE_BYTES
        return 0 if all(share(each, self._file.handle, start + each.at) for each in ranges) else None

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``: there is nothing to do."""

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        self._file.sync()

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``; the piece is where it always is."""
        if place != 0:
            raise ValueError(f"piece {index} of a preallocated target cannot be at {place}")
        self._restored.add(index)

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``."""
        self._restored.remove(index)

    def read_piece(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``."""
        return read_into(self._file.handle, self.path, into, self._base + index * PIECE_BYTES)

    def drop(self, index: int) -> None:
        """See ``PlacedWriter.drop``."""
        self._erase(index, 1)

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``; what was not restored, and so what is to be erased, becomes a hole."""
        self._file.clear_header()
        self._file.clear_free(self._clusters)
        for first, count in unknown_runs(self._file.handle, self.path, self._restored, self._base):
            self._erase(first, count)
        self._make_room()

    def _erase(self, first: int, count: int) -> None:
        end = min((first + count) * PIECE_BYTES, self._disk_clusters * self._base)
        make_zero(self._file.handle, self.path, self._base + first * PIECE_BYTES, end - first * PIECE_BYTES)

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        entries = self._file.l2_entries
        l1 = array("Q")
        for first in range(0, self._disk_clusters, entries):
            count = min(entries, self._disk_clusters - first)
            host = (1 + first) * self._base | OFLAG_COPIED
            table = array("Q", range(host, host + count * self._base, self._base))
            at = self._clusters.take(1) * self._base
            self._file.write_entries(table + array("Q", bytes(8 * (entries - count))), at)
            l1.append(at | OFLAG_COPIED)
        self._file.complete(l1 or array("Q", [0]), self._clusters)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _make_room(self) -> None:
        length = (1 + self._disk_clusters) * self._base
        resize(self._file.handle, self.path, length)
        if self._file.options.preallocation is Preallocation.FALLOC:
            reserve(self._file.handle, self.path, length)
