"""The file of a qcow2 target: tables in it, and what completes it behind the data: L1 table, refcounts, at last the header.

Version 3, 16-bit refcounts, no backing file. qcow2 counts in sectors: a virtual size that is no multiple of 512 is
rounded up, and the guest sees zeroes there. Until ``complete`` has synced all else the header is zeroes, so that nothing
takes the file for an image.

Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

from converters import c_qcow2
from converters.c_qcow2 import ENTRY_BYTES, Qcow2Header, pack_header
from converters.decompress import decompress
from converters.direct_file import DirectFile
from converters.host_file import file_size, make_zero, open_target_file, read_part, resize, sync_data
from converters.qcow2_clusters import HostClusters
from converters.target_formats import TargetOptions
from p2v.core.disk import Codec, CompressedAt
from p2v.core.errors import BadImage, Usage
from p2v.core.io_errors import close_written
from p2v.core.units import SECTOR_BYTES, TIB, format_bytes, round_up

_REFCOUNT_ORDER = 4
_REFCOUNT_BYTES = 2
# Numbers of host clusters have 32 bits: 256 TiB of file, and room for metadata is left.
LARGEST_DISK_BYTES = 128 * TIB


class Qcow2File:
    """An open qcow2 target for a disk of ``virtual_size`` bytes; its pieces' places are a writer's business."""

    def __init__(self, path: Path, virtual_size: int, options: TargetOptions, *, resume: bool) -> None:
        if virtual_size > LARGEST_DISK_BYTES:
            raise Usage(
                f"{path}: a qcow2 target holds at most {format_bytes(LARGEST_DISK_BYTES)}", "Use raw for this disk."
            )
        self.path = path
        self.virtual_size = virtual_size
        self.options = options
        self.cluster_bytes = options.cluster_bytes
        self.l2_entries = options.cluster_bytes // ENTRY_BYTES
        self.tables = max(1, -(-virtual_size // (self.l2_entries * self.cluster_bytes)))
        """L2 tables that the whole disk has."""
        self._handle: int | None = open_target_file(path, resume=resume)
        self._direct = DirectFile(self._handle, path)

    @property
    def handle(self) -> int:
        """The open file. Raises ValueError when it is closed."""
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        """Write all ``parts`` one behind the other. Raises NoSpace, NotPermitted, ReadFailed."""
        self._direct.write(self.handle, parts, offset)

    def write_entries(self, entries: array[int], offset: int) -> None:
        """Write table entries, big-endian, at a byte of the file."""
        if sys.byteorder == "little":
            entries = entries[:]
            entries.byteswap()
        self.write([memoryview(entries).cast("B")], offset)

    def read_table(self, cluster: int) -> array[int]:
        """A whole L2 table; zeroes for what lies behind the end of the file. Raises ReadFailed."""
        raw = read_part(self.handle, self.path, self.cluster_bytes, cluster * self.cluster_bytes)
        entries = array("Q", raw.ljust(self.cluster_bytes, b"\0"))
        if sys.byteorder == "little":
            entries.byteswap()
        return entries

    def read_stream(self, entry: int) -> bytes | bytearray | None:
        """The cluster that a compressed one's entry names; None where it cannot be inflated. Raises ReadFailed."""
        offset, length = c_qcow2.compressed_range(entry, self.cluster_bytes.bit_length() - 1)
        stored = read_part(self.handle, self.path, length, offset)
        codec = Codec.ZSTD if self.options.compression is Codec.ZSTD else Codec.DEFLATE
        try:
            found = decompress(CompressedAt(self.path, offset, length, codec, self.cluster_bytes), stored)
        except BadImage:
            return None
        return found if len(found) == self.cluster_bytes else None

    def clear_header(self) -> None:
        """Make it no image any more."""
        make_zero(self.handle, self.path, 0, self.cluster_bytes)

    def clear_free(self, clusters: HostClusters) -> None:
        """Let the file end where the last cluster does, and make holes where none is. Raises ValueError when it is too short."""
        # The last cluster may be the disk's last one and short, hence any byte of it will do.
        if clusters.end > 1 and file_size(self.handle, self.path) <= (clusters.end - 1) * self.cluster_bytes:
            raise ValueError("the partial file is shorter than what was recorded of it")
        resize(self.handle, self.path, clusters.end * self.cluster_bytes)
        for first, count in clusters.free():
            make_zero(self.handle, self.path, first * self.cluster_bytes, count * self.cluster_bytes)

    def complete(self, l1: array[int], clusters: HostClusters) -> None:
        """Write L1 table and refcounts behind the last cluster, sync, then the header, and sync again."""
        l1_at = clusters.take(self._clusters(len(l1) * ENTRY_BYTES))
        self.write_entries(l1, l1_at * self.cluster_bytes)
        blocks, table_clusters = self._refcount_layout(clusters.end)
        blocks_at = clusters.take(blocks)
        table_at = clusters.take(table_clusters)
        self._put_refcount_blocks(blocks_at, blocks, clusters)
        offsets = range(blocks_at * self.cluster_bytes, table_at * self.cluster_bytes, self.cluster_bytes)
        self.write_entries(array("Q", offsets), table_at * self.cluster_bytes)
        resize(self.handle, self.path, clusters.end * self.cluster_bytes)
        self.sync()
        self._put_header(len(l1), l1_at, table_at, table_clusters)
        self.sync()

    def sync(self) -> None:
        """Wait until everything written so far is on stable storage."""
        sync_data(self.handle, self.path)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._direct.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            close_written(handle)

    def _clusters(self, length: int) -> int:
        return -(-length // self.cluster_bytes)

    def _refcount_layout(self, at: int) -> tuple[int, int]:
        """Number of refcount blocks, clusters of their table, when ``at`` clusters come before.

        Blocks and table count themselves, so their number is found by trying; it settles within a few rounds.
        """
        blocks = 1
        while True:
            table_clusters = self._clusters(blocks * ENTRY_BYTES)
            needed = -(-(at + blocks + table_clusters) * _REFCOUNT_BYTES // self.cluster_bytes)
            if needed <= blocks:
                return blocks, table_clusters
            blocks = needed

    def _put_refcount_blocks(self, blocks_at: int, count: int, clusters: HostClusters) -> None:
        entries = self.cluster_bytes // _REFCOUNT_BYTES
        for number in range(count):
            block = clusters.refcounts(number * entries, entries)
            if sys.byteorder == "little":
                block.byteswap()
            self.write([memoryview(block).cast("B")], (blocks_at + number) * self.cluster_bytes)

    def _put_header(self, l1_entries: int, l1_at: int, table_at: int, table_clusters: int) -> None:
        zstd = self.options.compression is Codec.ZSTD
        header = Qcow2Header(
            version=3,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=self.cluster_bytes.bit_length() - 1,
            size=round_up(self.virtual_size, SECTOR_BYTES),
            crypt_method=0,
            l1_size=l1_entries,
            l1_table_offset=l1_at * self.cluster_bytes,
            refcount_table_offset=table_at * self.cluster_bytes,
            refcount_table_clusters=table_clusters,
            refcount_order=_REFCOUNT_ORDER,
            # QEMU before 5.1 knows no compression type: for deflate, the field is left away and it reads the image
            incompatible_features=c_qcow2.INCOMPAT_COMPRESSION if zstd else 0,
            header_length=c_qcow2.HEADER_V3_WITH_COMPRESSION_BYTES if zstd else c_qcow2.HEADER_V3_BYTES,
            compression_type=c_qcow2.COMPRESSION_ZSTD if zstd else c_qcow2.COMPRESSION_DEFLATE,
        )
        # The rest of cluster 0 is zeroes, which also ends the (empty) list of header extensions.
        self.write([memoryview(pack_header(header))], 0)
