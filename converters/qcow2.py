"""qcow2, versions 2 and 3, by the structures of ``c_qcow2``; the active state only, not its snapshots.

Refcounts are not read, so an image marked dirty (lazy refcounts) reads well; one marked corrupt is
refused. Images with a backing file, an external data file, encryption or extended L2 entries are refused.
A cluster that begins in the file and ends past it reads as zeroes from the file's end on, as in QEMU,
which does not always write a last cluster whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters import c_qcow2
from converters.c_qcow2 import Qcow2Header
from converters.extents import beneath, data, hole
from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import MappedDisk, MetadataRange
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end, shown
from converters.tables import EntryPages
from p2v.core.disk import Codec, CompressedAt, Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_MAX_EXTENSIONS = 64
_REFUSED_FEATURES = (
    (c_qcow2.INCOMPAT_EXTENDED_L2, "has extended L2 entries (subclusters)"),
    (~c_qcow2.INCOMPAT_KNOWN, "needs features this version does not know"),
)


class Qcow2Layout:
    """An L1 table of L2 tables of clusters."""

    def __init__(self, file: SourceFile, header: Qcow2Header, *, has_backing: bool = False) -> None:
        self._file = file
        self._unallocated = beneath if has_backing else hole
        self._header = header
        self._cluster = header.cluster_bytes
        self._table_bytes = self._cluster * header.l2_entries
        self._tables = -(-header.size // self._table_bytes)
        self._codec = Codec.ZSTD if header.compression_type == c_qcow2.COMPRESSION_ZSTD else Codec.DEFLATE
        self._l1 = EntryPages(file, 8, "big", "the L1 table")
        self._l2 = EntryPages(file, 8, "big", "an L2 table")

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._header.size

    @property
    def block_bytes(self) -> int:
        """Bytes in a cluster."""
        return self._cluster

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Clusters that cover a range; adjacent ones of one kind and side by side as one piece."""
        first, last = start // self._table_bytes, min(-(-end // self._table_bytes), self._tables)
        for index, count, entry in self._l1.runs(self._header.l1_table_offset, self._tables, first, last, _equal):
            offset = entry & c_qcow2.L1E_OFFSET_MASK
            if offset == 0:
                yield self._unallocated(index * self._table_bytes, count * self._table_bytes)
                continue
            if offset % self._cluster:
                raise BadImage(self._file.path, f"L1 entry {index} names byte {offset}, within a cluster")
            if count > 1:
                raise BadImage(self._file.path, f"L1 entries {index} and {index + 1} name the same L2 table")
            yield from self._clusters(index, offset, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        return self.lookup(0, self.virtual_size)

    def metadata(self) -> Iterator[MetadataRange]:
        """The header's cluster and the L1 table."""
        yield MetadataRange(self._file, 0, min(self._cluster, self._file.size))
        yield MetadataRange(self._file, self._header.l1_table_offset, self._tables * c_qcow2.ENTRY_BYTES)

    def _clusters(self, table: int, offset: int, start: int, end: int) -> Iterator[Extent]:
        entries = self._header.l2_entries
        base = table * entries
        first = max(0, start // self._cluster - base)
        last = min(entries, -(-end // self._cluster) - base)
        for index, count, entry in self._l2.runs(offset, entries, first, last, self._step):
            cluster = base + index
            if entry & c_qcow2.OFLAG_COMPRESSED:
                for each in range(cluster, cluster + count):
                    yield self._compressed_cluster(each, entry)
            elif self._is_unallocated(entry):
                yield self._unallocated(cluster * self._cluster, count * self._cluster)
            elif self._reads_as_zero(entry):
                allocated = bool(entry & c_qcow2.L2E_OFFSET_MASK)
                yield Extent(cluster * self._cluster, count * self._cluster, zero=True, allocated=allocated)
            else:
                yield from self._plain_clusters(cluster, count, entry)

    def _step(self, entry: int) -> int:
        plain = not entry & c_qcow2.OFLAG_COMPRESSED and entry & c_qcow2.L2E_OFFSET_MASK
        return self._cluster if plain else 0

    def _is_unallocated(self, entry: int) -> bool:
        return not self._reads_as_zero(entry) and not entry & c_qcow2.L2E_OFFSET_MASK

    def _reads_as_zero(self, entry: int) -> bool:
        # Bit 0 means something since version 3 only.
        return self._header.version >= 3 and bool(entry & c_qcow2.L2E_ZERO)

    def _plain_clusters(self, cluster: int, count: int, entry: int) -> Iterator[Extent]:
        at = entry & c_qcow2.L2E_OFFSET_MASK
        if at % self._cluster:
            raise BadImage(self._file.path, f"cluster {cluster} is stored at byte {at}, within a cluster")
        size = self._file.size
        last_begin = at + (count - 1) * self._cluster
        if last_begin >= size:
            inside = max(0, -(-(size - at) // self._cluster))
            what = f"cluster {cluster + inside}"
            raise past_the_end(self._file, what, self._cluster, at + inside * self._cluster)
        offset, length = cluster * self._cluster, count * self._cluster
        stored = min(length, size - at)
        yield data(offset, stored, self._file.path, at)
        if stored < length:
            yield Extent(offset + stored, length - stored, zero=True, allocated=True)

    def _compressed_cluster(self, cluster: int, entry: int) -> Extent:
        at, length = c_qcow2.compressed_range(entry, self._header.cluster_bits)
        # The length counts whole sectors; the file may end with the stream, within the last of them.
        length = min(length, self._file.size - at)
        if length <= 0 or at < c_qcow2.HEADER_V2_BYTES:
            raise past_the_end(self._file, f"compressed cluster {cluster}", max(0, length), at)
        where = CompressedAt(self._file.path, at, length, self._codec, self._cluster)
        return Extent(cluster * self._cluster, self._cluster, zero=False, allocated=True, compressed=where)


def open_qcow2(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a qcow2 image, with its backing chain.

    Raises BadImage, UnsupportedImage, ForbiddenReference (backing or data files elsewhere), ParentMissing.
    """
    header = _checked_header(file)
    data_file = _extension(file, header, c_qcow2.EXT_EXTERNAL_DATA_FILE)
    if header.incompatible_features & c_qcow2.INCOMPAT_DATA_FILE:
        name = "?" if data_file is None else data_file
        opening.beside(file, name).close()
        raise UnsupportedImage(
            file.path,
            f"has an external data file, {shown(name)}",
            "Flatten it first: qemu-img convert -f qcow2 -O qcow2 IMAGE FLAT.",
        )
    backing = _backing_file_name(file, header)
    dirty = ("dirty refcounts",) if header.incompatible_features & c_qcow2.INCOMPAT_DIRTY else ()
    notes: tuple[str, ...] = ()
    if header.nb_snapshots:
        notes += (f"its {header.nb_snapshots} internal snapshots are left behind; the current state is read",)
    if file.size % header.cluster_bytes:
        notes += (f"the file ends within a cluster; what that cluster misses after byte {file.size} reads as zeroes",)
    variant = f"version {header.version}, clusters of {header.cluster_bytes} bytes"
    facts = ImageFacts("qcow2", variant, dirty=dirty, notes=notes)
    layout = Qcow2Layout(file, header, has_backing=backing is not None)
    if backing is None:
        return MappedDisk(layout, (file,), facts)
    backing_format = _extension(file, header, c_qcow2.EXT_BACKING_FORMAT)
    # QEMU calls some formats otherwise than we do.
    known = None if backing_format is None else {"vpc": "vhd"}.get(backing_format, backing_format)
    return chained(layout, (file,), facts, opening.parent(file, [backing], known))


def _checked_header(file: SourceFile) -> Qcow2Header:
    try:
        header = c_qcow2.unpack_header(file.pread(c_qcow2.HEADER_V3_WITH_COMPRESSION_BYTES, 0))
    except ValueError as error:
        raise BadImage(file.path, f"its qcow2 header is past the end of the file ({file.size} bytes)") from error
    if header.version not in (2, 3):
        raise UnsupportedImage(file.path, f"is a qcow image of version {header.version}")
    _refuse_features(file, header)
    if not c_qcow2.MIN_CLUSTER_BITS <= header.cluster_bits <= c_qcow2.MAX_CLUSTER_BITS:
        raise BadImage(file.path, f"its clusters have 2^{header.cluster_bits} bytes; 2^9 to 2^21 are possible")
    if header.version >= 3 and not c_qcow2.HEADER_V3_BYTES <= header.header_length <= header.cluster_bytes:
        raise BadImage(file.path, f"its header says it has {header.header_length} bytes")
    if header.size == 0 or header.size % SECTOR_BYTES or header.size >= 1 << 62:
        raise BadImage(file.path, f"it says a disk of {header.size} bytes")
    _check_l1(file, header)
    return header


def _refuse_features(file: SourceFile, header: Qcow2Header) -> None:
    features = header.incompatible_features
    if features & c_qcow2.INCOMPAT_CORRUPT:
        raise BadImage(file.path, "is marked corrupt by QEMU", "Repair a copy of it with qemu-img check -r all.")
    for mask, words in _REFUSED_FEATURES:
        if features & mask:
            raise UnsupportedImage(file.path, f"{words} ({features & mask:#x})")
    if header.crypt_method != c_qcow2.CRYPT_NONE:
        raise UnsupportedImage(file.path, f"is encrypted (method {header.crypt_method})")
    if header.compression_type not in (c_qcow2.COMPRESSION_DEFLATE, c_qcow2.COMPRESSION_ZSTD):
        raise UnsupportedImage(file.path, f"its clusters are compressed in an unknown way ({header.compression_type})")


def _check_l1(file: SourceFile, header: Qcow2Header) -> None:
    needed = -(-header.size // (header.cluster_bytes * header.l2_entries))
    if header.l1_size < needed or header.l1_size * c_qcow2.ENTRY_BYTES > c_qcow2.MAX_L1_BYTES:
        raise BadImage(file.path, f"its L1 table has {header.l1_size} entries for a disk that takes {needed}")
    if header.l1_table_offset == 0 or header.l1_table_offset % header.cluster_bytes:
        raise BadImage(file.path, f"its L1 table lies at byte {header.l1_table_offset}, where none can be")
    file.require(needed * c_qcow2.ENTRY_BYTES, header.l1_table_offset, "the L1 table")


def _backing_file_name(file: SourceFile, header: Qcow2Header) -> str | None:
    if header.backing_file_offset == 0:
        return None
    if header.backing_file_size > c_qcow2.MAX_BACKING_FILE_NAME:
        raise BadImage(file.path, f"its backing file's name has {header.backing_file_size} bytes")
    raw = file.read_exactly(header.backing_file_size, header.backing_file_offset, "the backing file's name")
    return raw.decode("utf-8", "surrogateescape")


def _extension(file: SourceFile, header: Qcow2Header, wanted: int) -> str | None:
    """The text of a header extension, None where the header has none of that kind."""
    raw = file.pread(min(header.cluster_bytes, file.size), 0)
    at = header.header_length
    for _ in range(_MAX_EXTENSIONS):
        if at + 8 > len(raw):
            break
        kind, length = c_qcow2.unpack_extension(raw, at)
        if kind == wanted:
            return raw[at + 8 : at + 8 + length].decode("utf-8", "surrogateescape")
        if kind == c_qcow2.EXT_END:
            break
        at += 8 + -(-length // 8) * 8
    return None


def _equal(_entry: int) -> int:
    return 0
