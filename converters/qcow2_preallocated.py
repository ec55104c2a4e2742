"""qcow2 targets whose clusters have their places beforehand: side by side, as in the disk.

Layout: cluster 0 the header, then the whole disk, then the tables (see ``qcow2_file.py``). Without reserved space, what
is not written is a hole of the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

from converters.c_qcow2 import OFLAG_COPIED
from converters.fixed_places import FixedPlaces
from converters.qcow2_clusters import HostClusters
from converters.qcow2_file import Qcow2File
from converters.reflink import Share, SharedRange
from converters.target_formats import TargetOptions


class PreallocatedQcow2Writer:
    """A ``PlacedWriter``; places are always 0."""

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, options: TargetOptions, *, resume: bool = False) -> None:
        self._file = Qcow2File(path, virtual_size, options, resume=resume)
        self.path = path
        self.virtual_size = virtual_size
        self._cluster_bytes = options.cluster_bytes
        self._disk_clusters = -(-virtual_size // options.cluster_bytes)
        self._clusters = HostClusters(options.cluster_bytes, 1 + self._disk_clusters)
        end = (1 + self._disk_clusters) * options.cluster_bytes
        self._pieces = FixedPlaces(
            path, lambda: self._file.handle, self._file.write, options.cluster_bytes, end, options, resume=resume
        )
        if not resume:
            try:
                self._pieces.make_room()
            except BaseException:
                self._file.close()
                raise

    def is_done(self, index: int) -> bool:
        """Never: what was restored is the caller's to know."""
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
        self._file.sync()

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
        """See ``PlacedWriter.tidy``. What is to be erased was forgotten."""
        self._file.clear_header()
        self._file.clear_free(self._clusters)
        self._pieces.erase_unknown()
        self._pieces.make_room()

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        entries = self._file.l2_entries
        l1 = array("Q")
        for first in range(0, self._disk_clusters, entries):
            count = min(entries, self._disk_clusters - first)
            host = (1 + first) * self._cluster_bytes | OFLAG_COPIED
            table = array("Q", range(host, host + count * self._cluster_bytes, self._cluster_bytes))
            at = self._clusters.take(1) * self._cluster_bytes
            self._file.write_entries(table + array("Q", bytes(8 * (entries - count))), at)
            l1.append(at | OFLAG_COPIED)
        self._file.complete(l1 or array("Q", [0]), self._clusters)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
