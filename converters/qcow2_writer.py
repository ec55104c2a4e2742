"""qcow2 targets, written directly: data clusters first, all metadata behind them, the header last.

Version 3, 64 KiB clusters, 16-bit refcounts, no backing file, no compression. A cluster that reads as zero
is not allocated. qcow2 counts in sectors: a virtual size that is no multiple of 512 is rounded up, and the
guest sees zeroes there.

Layout: cluster 0 the header; from cluster 1 on the data, each piece's non-zero clusters in one contiguous
run in the order pieces came; then L2 tables, L1 table, refcount blocks, refcount table. Until ``finish``
has synced all this the header is zeroes, so that nothing takes the file for an image.

Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from converters.c_qcow2 import ENTRY_BYTES, HEADER_V3_BYTES, OFLAG_COPIED, Qcow2Header, pack_header
from converters.free_ranges import FreeRanges
from converters.host_file import file_size, make_zero, open_target_file, resize, sync_data, write_all
from converters.pieces import FULL_MAP, PIECE_BYTES, SUBPIECES, map_runs, piece_count
from p2v.core.errors import Usage
from p2v.core.units import SECTOR_BYTES, TIB, format_bytes, round_up

CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << CLUSTER_BITS
_L2_ENTRIES = CLUSTER_BYTES // ENTRY_BYTES
_L2_BYTES = _L2_ENTRIES * CLUSTER_BYTES
_L2_PIECES = _L2_BYTES // PIECE_BYTES
_REFCOUNT_ORDER = 4
_REFCOUNT_BYTES = 2
_BLOCK_ENTRIES = CLUSTER_BYTES // _REFCOUNT_BYTES
# Places are 32-bit cluster numbers: 256 TiB of file, and room for metadata is left.
LARGEST_DISK_BYTES = 128 * TIB
_NO_PIECES = bytes(_L2_PIECES * 4)


class Qcow2Writer:
    """A ``PlacedWriter``; a piece's place is the number of its first host cluster (0: no data).

    Memory: 8 bytes for each 2 MiB piece that has data; the rest of the map is never touched.
    """

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, *, resume: bool = False) -> None:
        if virtual_size > LARGEST_DISK_BYTES:
            raise Usage(
                f"{path}: a qcow2 target holds at most {format_bytes(LARGEST_DISK_BYTES)}", "Use raw for this disk."
            )
        self.path = path
        self.virtual_size = virtual_size
        self._starts = _untouched_words(piece_count(virtual_size))
        self._maps = _untouched_words(piece_count(virtual_size))
        self._clusters = FreeRanges(1)
        self._allocating = threading.Lock()
        self._handle: int | None = open_target_file(path, resume=resume)

    def is_done(self, index: int) -> bool:
        """Never: what was restored is the caller's to know."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        if not data_map:
            return 0
        with self._allocating:
            place = self._clusters.append(data_map.bit_count())
        parts = [data[a * CLUSTER_BYTES : (a + count) * CLUSTER_BYTES] for a, count in map_runs(data_map)]
        write_all(self._open(), self.path, parts, place * CLUSTER_BYTES)
        self._starts[index], self._maps[index] = place, data_map
        return place

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``: there is nothing to do."""

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        sync_data(self._open(), self.path)

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``."""
        if not data_map:
            return
        if place == 0 or data_map > FULL_MAP or self._maps[index]:
            raise ValueError(f"piece {index} cannot be at cluster {place} with map {data_map:#x}")
        self._clusters.take(place, data_map.bit_count())
        self._starts[index], self._maps[index] = place, data_map

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``; the clusters are left to ``tidy``."""
        if self._maps[index]:
            self._clusters.release(self._starts[index], self._maps[index].bit_count())
            self._starts[index] = self._maps[index] = 0

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``: everything but the restored clusters becomes a hole.

        What is forgotten has no cluster, so there is nothing more to erase.
        """
        handle = self._open()
        # The last cluster may be the disk's last one and short, hence any byte of it will do.
        if file_size(handle, self.path) <= (self._clusters.end - 1) * CLUSTER_BYTES:
            raise ValueError("the partial file is shorter than what was recorded of it")
        resize(handle, self.path, self._clusters.end * CLUSTER_BYTES)
        make_zero(handle, self.path, 0, CLUSTER_BYTES)
        for start, count in self._clusters:
            make_zero(handle, self.path, start * CLUSTER_BYTES, count * CLUSTER_BYTES)

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        at = self._clusters.end
        l1 = array("Q", bytes(ENTRY_BYTES * max(1, -(-self.virtual_size // _L2_BYTES))))
        for number in range(len(l1)):
            if (table := self._l2_table(number * _L2_PIECES)) is not None:
                self._put(at, table)
                l1[number] = (at * CLUSTER_BYTES) | OFLAG_COPIED
                at += 1
        l1_at, at = at, at + _clusters(len(l1) * ENTRY_BYTES)
        self._put(l1_at, l1)
        blocks_at, block_count, table_clusters = _refcount_layout(at)
        self._put_refcount_blocks(blocks_at, block_count, blocks_at + block_count + table_clusters)
        table_at = blocks_at + block_count
        offsets = range(blocks_at * CLUSTER_BYTES, table_at * CLUSTER_BYTES, CLUSTER_BYTES)
        self._put(table_at, array("Q", offsets))
        resize(self._open(), self.path, (table_at + table_clusters) * CLUSTER_BYTES)
        self.sync()
        self._put_header(len(l1), l1_at, table_at, table_clusters)
        self.sync()

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle

    def _put(self, cluster: int, table: array[int]) -> None:
        """Write a table, big-endian, at the front of ``cluster``."""
        if sys.byteorder == "little":
            table = table[:]
            table.byteswap()
        write_all(self._open(), self.path, [memoryview(table).cast("B")], cluster * CLUSTER_BYTES)

    def _l2_table(self, first_piece: int) -> array[int] | None:
        """The L2 table that begins with ``first_piece``; None when no cluster of it is allocated."""
        maps = self._maps[first_piece : first_piece + _L2_PIECES]
        if maps.tobytes() == _NO_PIECES[: maps.nbytes]:
            return None
        table = array("Q", bytes(CLUSTER_BYTES))
        for slot, data_map in enumerate(maps):
            host = (self._starts[first_piece + slot] * CLUSTER_BYTES) | OFLAG_COPIED
            for first, count in map_runs(data_map):
                entry = slot * SUBPIECES + first
                table[entry : entry + count] = array("Q", _steps(host, count))
                host += count * CLUSTER_BYTES
        return table

    def _put_refcount_blocks(self, blocks_at: int, block_count: int, end: int) -> None:
        """Write blocks that say 1 for every cluster below ``end`` but the free ones."""
        free = list(self._clusters)
        for number in range(block_count):
            first = number * _BLOCK_ENTRIES
            used = min(_BLOCK_ENTRIES, end - first)
            block = array("H", [1]) * used + array("H", [0]) * (_BLOCK_ENTRIES - used)
            for start, count in free:
                a, b = max(start, first) - first, min(start + count, first + _BLOCK_ENTRIES) - first
                if a < b:
                    block[a:b] = array("H", bytes((b - a) * _REFCOUNT_BYTES))
            self._put(blocks_at + number, block)

    def _put_header(self, l1_entries: int, l1_at: int, table_at: int, table_clusters: int) -> None:
        header = Qcow2Header(
            version=3,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=CLUSTER_BITS,
            size=round_up(self.virtual_size, SECTOR_BYTES),
            crypt_method=0,
            l1_size=l1_entries,
            l1_table_offset=l1_at * CLUSTER_BYTES,
            refcount_table_offset=table_at * CLUSTER_BYTES,
            refcount_table_clusters=table_clusters,
            refcount_order=_REFCOUNT_ORDER,
            header_length=HEADER_V3_BYTES,
        )
        # The rest of cluster 0 is zeroes, which also ends the (empty) list of header extensions.
        write_all(self._open(), self.path, [memoryview(pack_header(header))], 0)


def _steps(host: int, count: int) -> Iterable[int]:
    return range(host, host + count * CLUSTER_BYTES, CLUSTER_BYTES)


def _clusters(length: int) -> int:
    return -(-length // CLUSTER_BYTES)


def _refcount_layout(at: int) -> tuple[int, int, int]:
    """First block's cluster, number of blocks, clusters of the table, when ``at`` clusters come before.

    Blocks and table count themselves, so their number is found by trying; it settles within a few rounds.
    """
    blocks = 1
    while True:
        table_clusters = _clusters(blocks * ENTRY_BYTES)
        needed = -(-(at + blocks + table_clusters) // _BLOCK_ENTRIES)
        if needed <= blocks:
            return at, blocks, table_clusters
        blocks = needed


def _untouched_words(count: int) -> memoryview:
    """``count`` 32-bit zeroes that take memory only where they are written."""
    return memoryview(mmap.mmap(-1, max(1, count) * 4)).cast("I")
