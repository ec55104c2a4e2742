"""qcow2 targets, written directly: clusters in the order in which pieces come, plain or compressed.

A cluster that reads as zero is not allocated. Layout: cluster 0 the header; then, as they come, data clusters, the packed
streams of compressed ones, and L2 tables, each at the first piece it has entries for; what completes the image stands
behind (see ``qcow2_file.py``). A piece's entries are written right after its data, so that all the memory it takes is
the number of its L2 table, and an interrupted run finds in the tables what it had written.

Compressed clusters are made by the threads that copy; one that would save less than a sixteenth stays plain.

Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from converters.c_qcow2 import (
    ENTRY_BYTES,
    L2E_OFFSET_MASK,
    OFLAG_COMPRESSED,
    OFLAG_COPIED,
    compressed_entry,
    compressed_range,
)
from converters.compression import Compress, compressor
from converters.host_file import file_size, make_zero, read_into
from converters.pieces import FULL_MAP, PIECE_BYTES, SUBPIECE_BYTES, map_runs, piece_count, untouched_words
from converters.qcow2_clusters import HostClusters
from converters.qcow2_file import Qcow2File
from converters.reflink import Share, SharedRange, touched
from converters.target_formats import PLAIN, TargetOptions

_WORTH_SAVING = 16


class Qcow2Writer:
    """A ``PlacedWriter``; a piece's place is the host cluster of the L2 table with its entries (0: no data).

    Memory: 4 bytes for each 2 MiB piece of an earlier run, what ``HostClusters`` takes, and for each thread that writes
    compressed clusters what they come to for one piece.
    """

    starts_empty = True

    def __init__(self, path: Path, virtual_size: int, *, resume: bool = False, options: TargetOptions = PLAIN) -> None:
        self._file = Qcow2File(path, virtual_size, options, resume=resume)
        self.path = path
        self.virtual_size = virtual_size
        self._cluster_bytes = options.cluster_bytes
        self._piece_entries = PIECE_BYTES // options.cluster_bytes
        self._table_pieces = self._file.l2_entries // self._piece_entries
        self._tables = untouched_words(self._file.tables)
        self._restored = untouched_words(piece_count(virtual_size))
        self._clusters = HostClusters(options.cluster_bytes)
        self._adding_table = threading.Lock()
        self._threads = threading.local()

    def is_done(self, index: int) -> bool:
        """Never: what was restored is the caller's to know."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        if not data_map:
            return 0
        entries = array("Q", bytes(self._piece_entries * ENTRY_BYTES))
        plain = self._wide_map(data_map)
        if self._file.options.compression is not None:
            plain = self._write_streams(data, plain, entries)
        if plain:
            self._write_plain(data, plain, entries)
        return self._enter(index, entries)

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``; what nothing of is shared of a cluster is a hole of the file."""
        if self._file.options.compression is not None:
            return None
        plain, size = self._wide_map(touched(ranges)), self._cluster_bytes
        first = self._clusters.take(plain.bit_count())
        for each in ranges:
            cluster, within = divmod(each.at, size)
            before = (plain & (1 << cluster) - 1).bit_count()
            if not share(each, self._file.handle, (first + before) * size + within):
                make_zero(self._file.handle, self.path, first * size, plain.bit_count() * size)
                self._clusters.give_back(first, plain.bit_count())
                return None
        entries = array("Q", bytes(self._piece_entries * ENTRY_BYTES))
        self._enter_plain(first, plain, entries)
        return self._enter(index, entries)

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``: there is nothing to do."""

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        self._file.sync()

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``; what the table says of the piece is looked at by ``tidy``."""
        if not data_map:
            return
        number = index // self._table_pieces
        if place == 0 or data_map > FULL_MAP or self._restored[index] or self._tables[number] not in (0, place):
            raise ValueError(f"piece {index} cannot be in the table at cluster {place} with map {data_map:#x}")
        self._tables[number], self._restored[index] = place, data_map

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``; its clusters are left to ``tidy``."""
        if self._restored[index]:
            self._restored[index] = 0
            number = index // self._table_pieces
            if not any(self._restored[number * self._table_pieces : (number + 1) * self._table_pieces]):
                # copied again, its pieces get a table of their own
                self._tables[number] = 0

    def read_piece(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``; a stream that cannot be inflated is not what was written."""
        into[:] = bytes(len(into))
        for at, entry in enumerate(self._entries_of(index)):
            part = into[at * self._cluster_bytes : (at + 1) * self._cluster_bytes]
            if entry & OFLAG_COMPRESSED:
                inflated = self._file.read_stream(entry)
                if inflated is None:
                    return False
                part[:] = inflated[: len(part)]
            elif entry and not read_into(self._file.handle, self.path, part, entry & L2E_OFFSET_MASK):
                return False
        return True

    def drop(self, index: int) -> None:
        """See ``PlacedWriter.drop``; what its entries name is free in the finished image."""
        entries = self._entries_of(index)
        self._restored[index] = 0
        if not any(entries):
            return
        number, slot = divmod(index, self._table_pieces)
        at = self._tables[number] * self._cluster_bytes + slot * self._piece_entries * ENTRY_BYTES
        self._file.write_entries(array("Q", bytes(len(entries) * ENTRY_BYTES)), at)
        for entry in filter(None, entries):
            if entry & OFLAG_COMPRESSED:
                self._clusters.give_back_stream(*compressed_range(entry, self._cluster_bytes.bit_length() - 1))
            else:
                offset = entry & L2E_OFFSET_MASK
                make_zero(self._file.handle, self.path, offset, self._cluster_bytes)
                self._clusters.give_back(offset // self._cluster_bytes, 1)

    def _entries_of(self, index: int) -> array[int]:
        """The entries of a piece that was restored; none for one without data."""
        if not self._restored[index]:
            return array("Q")
        number, slot = divmod(index, self._table_pieces)
        return self._file.read_table(self._tables[number])[slot * self._piece_entries : (slot + 1) * self._piece_entries]

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``: everything but the clusters of restored pieces becomes a hole.

        What is forgotten has no entries afterwards, so there is nothing more to erase.
        """
        self._file.clear_header()
        size = file_size(self._file.handle, self.path)
        for number, table in enumerate(self._tables):
            if table:
                self._claim_table(number, table, size)
        self._file.clear_free(self._clusters)

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        offsets = (table * self._cluster_bytes for table in self._tables)
        self._file.complete(array("Q", (at and at | OFLAG_COPIED for at in offsets)), self._clusters)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _wide_map(self, data_map: int) -> int:
        """A map of sub-pieces as one of clusters, where they are larger."""
        ratio = self._cluster_bytes // SUBPIECE_BYTES
        if ratio == 1:
            return data_map
        one = (1 << ratio) - 1
        return sum(1 << at for at in range(self._piece_entries) if data_map >> at * ratio & one)

    def _write_plain(self, data: memoryview, plain: int, entries: array[int]) -> None:
        first = self._clusters.take(plain.bit_count())
        size = self._cluster_bytes
        self._file.write([data[a * size : (a + count) * size] for a, count in map_runs(plain)], first * size)
        self._enter_plain(first, plain, entries)

    def _enter_plain(self, first: int, plain: int, entries: array[int]) -> None:
        """Note the clusters of ``plain``, which stand from host cluster ``first`` on."""
        host = first * self._cluster_bytes | OFLAG_COPIED
        for at, count in map_runs(plain):
            entries[at : at + count] = array("Q", _steps(host, count, self._cluster_bytes))
            host += count * self._cluster_bytes

    def _write_streams(self, data: memoryview, wanted: int, entries: array[int]) -> int:
        """Write compressed what gets smaller; the map of the clusters that do not."""
        compress, most = self._compress(), self._cluster_bytes - self._cluster_bytes // _WORTH_SAVING
        streams: list[bytes] = []
        found: list[int] = []
        for at in _bits(wanted):
            stream = compress(self._whole_cluster(data, at))
            if len(stream) <= most:
                found.append(at)
                streams.append(stream)
        offsets = self._clusters.take_streams([len(stream) for stream in streams])
        self._put_streams(streams, offsets)
        for at, offset, stream in zip(found, offsets, streams, strict=True):
            entries[at] = compressed_entry(offset, len(stream), self._cluster_bytes.bit_length() - 1)
        return wanted & ~sum(1 << at for at in found)

    def _put_streams(self, streams: Sequence[bytes], offsets: Sequence[int]) -> None:
        """Write streams, those that stand side by side at once."""
        start = 0
        for stop in range(1, len(streams) + 1):
            if stop == len(streams) or offsets[stop] != offsets[stop - 1] + len(streams[stop - 1]):
                self._file.write([memoryview(stream) for stream in streams[start:stop]], offsets[start])
                start = stop

    def _whole_cluster(self, data: memoryview, at: int) -> memoryview:
        part = data[at * self._cluster_bytes : (at + 1) * self._cluster_bytes]
        # a stream inflates to a whole cluster, also where the disk ends within it
        short = self._cluster_bytes - len(part)
        return memoryview(bytes(part) + bytes(short)) if short else part

    def _compress(self) -> Compress:
        """This thread's own: a zstd compressor must not be used by two."""
        if not hasattr(self._threads, "compress"):
            assert self._file.options.compression is not None
            self._threads.compress = compressor(self._file.options.compression)
        own: Compress = self._threads.compress
        return own

    def _enter(self, index: int, entries: array[int]) -> int:
        number, slot = divmod(index, self._table_pieces)
        with self._adding_table:
            table = self._tables[number]
            if not table:
                # the rest of it is a hole of the file, which reads as zero: nothing allocated
                self._tables[number] = table = self._clusters.take(1)
        self._file.write_entries(entries, table * self._cluster_bytes + slot * self._piece_entries * ENTRY_BYTES)
        return table

    def _claim_table(self, number: int, table: int, size: int) -> None:
        """Keep of a table what it says of restored pieces, and take the places that it names."""
        found = self._file.read_table(table)
        kept = array("Q", bytes(self._cluster_bytes))
        restored = self._restored[number * self._table_pieces : (number + 1) * self._table_pieces]
        for slot, data_map in enumerate(restored):
            if data_map:
                a, b = slot * self._piece_entries, (slot + 1) * self._piece_entries
                kept[a:b] = found[a:b]
                if sum(1 << at for at, entry in enumerate(kept[a:b]) if entry) != self._wide_map(data_map):
                    raise ValueError(f"the L2 table at cluster {table} lacks entries that were recorded")
        self._clusters.claim(table, 1)
        self._claim_entries(kept, size)
        if kept != found:
            self._file.write_entries(kept, table * self._cluster_bytes)

    def _claim_entries(self, entries: Iterable[int], size: int) -> None:
        """Take what entries name. Raises ValueError for what we never write, and for what is taken already."""
        run, count = 0, 0
        for entry in (*entries, 0):
            if count and entry == (run + count * self._cluster_bytes | OFLAG_COPIED):
                count += 1
                continue
            if count:
                self._claim_run(run, count, size)
                count = 0
            if entry & OFLAG_COMPRESSED:
                offset, length = compressed_range(entry, self._cluster_bytes.bit_length() - 1)
                if entry & OFLAG_COPIED or offset < self._cluster_bytes or offset >= size:
                    raise ValueError(f"an L2 table names a stream at byte {offset}, where none can be")
                self._clusters.claim_stream(offset, length)
            elif entry:
                run, count = entry & L2E_OFFSET_MASK, 1
                if entry != run | OFLAG_COPIED:
                    raise ValueError(f"an L2 table has the entry {entry:#x}, which was never written")

    def _claim_run(self, offset: int, count: int, size: int) -> None:
        first, within = divmod(offset, self._cluster_bytes)
        if within or not first or offset + (count - 1) * self._cluster_bytes >= size:
            raise ValueError(f"an L2 table names {count} clusters at byte {offset}, where they cannot be")
        self._clusters.claim(first, count)


def _bits(wanted: int) -> Iterator[int]:
    for first, count in map_runs(wanted):
        yield from range(first, first + count)


def _steps(host: int, count: int, step: int) -> Iterable[int]:
    return range(host, host + count * step, step)
