"""qcow2, versions 2 and 3, by the structures of ``c_qcow2``; the active state only, not its snapshots.

Refcounts are not read, so an image marked dirty (lazy refcounts) reads well; one marked corrupt is refused, and so are
encrypted ones. A cluster that begins in the file and ends past it reads as zeroes from the file's end on, as in QEMU,
which does not always write a last cluster whole.

With an external data file the L2 tables count all the same, also where the data file says it is a raw disk of its
own: that is how QEMU reads it. Each stored cluster then stands where the guest has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters import c_qcow2
from converters.c_qcow2 import Qcow2Header
from converters.extents import Occupancy, beneath, data, hole
from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import MappedDisk, MetadataRange
from converters.raw import host_extents
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from p2v.core.disk import Codec, CompressedAt, Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_MAX_EXTENSIONS = 64
_ENCRYPTION = {c_qcow2.CRYPT_AES: "AES, QEMU's old encryption", c_qcow2.CRYPT_LUKS: "LUKS"}
# QEMU calls some formats otherwise than we do.
_FORMAT_NAMES = {"vpc": "vhd", "host_device": "raw"}


class Qcow2Layout:
    """An L1 table of L2 tables of clusters."""

    def __init__(
        self,
        file: SourceFile,
        header: Qcow2Header,
        *,
        has_backing: bool = False,
        data_file: SourceFile | None = None,
    ) -> None:
        self._file = file
        self._data_file = data_file
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
        """Bytes in a cluster; 0 where pieces are smaller (``walk`` checks those) or in places of their own."""
        return 0 if self._header.has_subclusters or self._data_file is not None else self._cluster

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Clusters that cover a range; adjacent ones of one kind and side by side as one piece."""
        return self._pieces(start, end, None)

    def walk(self) -> Iterator[Extent]:
        """The whole disk; what an external data file has as a hole is one."""
        if self._data_file is None:
            occupancy = Occupancy(self._cluster) if self._header.has_subclusters else None
            yield from self._pieces(0, self.virtual_size, occupancy)
            return
        for piece in self._pieces(0, self.virtual_size, None):
            if piece.stored is None:
                yield piece
            else:
                yield from host_extents(self._data_file, piece.stored.offset, piece.length, at=piece.offset)

    def metadata(self) -> Iterator[MetadataRange]:
        """The header's cluster and the L1 table."""
        yield MetadataRange(self._file, 0, min(self._cluster, self._file.size))
        yield MetadataRange(self._file, self._header.l1_table_offset, self._tables * c_qcow2.ENTRY_BYTES)

    def _pieces(self, start: int, end: int, occupancy: Occupancy | None) -> Iterator[Extent]:
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
            base = index * self._header.l2_entries
            within = (
                max(0, start // self._cluster - base),
                min(self._header.l2_entries, -(-end // self._cluster) - base),
            )
            if self._header.has_subclusters:
                yield from self._subclustered(base, offset, *within, occupancy)
            else:
                yield from self._clusters(base, offset, *within)

    def _clusters(self, base: int, offset: int, first: int, last: int) -> Iterator[Extent]:
        """Clusters by the ordinary L2 table at ``offset``, whose first entry is cluster ``base``."""
        for index, count, entry in self._l2.runs(offset, self._header.l2_entries, first, last, self._step):
            cluster = base + index
            if entry & c_qcow2.OFLAG_COMPRESSED:
                for each in range(cluster, cluster + count):
                    yield self._compressed_cluster(each, entry)
            elif self._reads_as_zero(entry):
                allocated = self._has_place(entry)
                yield Extent(cluster * self._cluster, count * self._cluster, zero=True, allocated=allocated)
            elif self._has_place(entry):
                yield from self._plain_clusters(cluster, count, entry)
            else:
                yield self._unallocated(cluster * self._cluster, count * self._cluster)

    def _subclustered(
        self, base: int, offset: int, first: int, last: int, occupancy: Occupancy | None
    ) -> Iterator[Extent]:
        """Clusters by the table of extended L2 entries at ``offset``."""
        runs = self._l2.pair_runs(offset, self._header.l2_entries, first, last, self._extended_step)
        for index, count, entry, bitmap in runs:
            cluster = base + index
            begin, length = cluster * self._cluster, count * self._cluster
            if entry & c_qcow2.OFLAG_COMPRESSED:
                for each in range(cluster, cluster + count):
                    yield self._compressed_cluster(each, entry)
                continue
            allocated, zero = bitmap & c_qcow2.SUBCLUSTERS_MASK, bitmap >> c_qcow2.SUBCLUSTERS
            if allocated & zero or (allocated and not self._has_place(entry)):
                raise BadImage(self._file.path, f"cluster {cluster} has the impossible subcluster bitmap {bitmap:#018x}")
            if bitmap == 0:
                yield self._unallocated(begin, length)
            elif zero == c_qcow2.SUBCLUSTERS_MASK:
                yield Extent(begin, length, zero=True, allocated=self._has_place(entry))
            else:
                at = self._checked_place(cluster, count, entry)
                if occupancy is not None and allocated:
                    occupancy.add(data(begin, length, self._file.path, at))
                if allocated == c_qcow2.SUBCLUSTERS_MASK:
                    yield from self._stored(begin, length, at)
                    continue
                for each in range(count):
                    yield from self._parts(begin + each * self._cluster, at + each * self._cluster, entry, bitmap)

    def _parts(self, begin: int, at: int, entry: int, bitmap: int) -> Iterator[Extent]:
        """One cluster's subclusters, those that are alike together."""
        size = self._cluster // c_qcow2.SUBCLUSTERS
        for first, count, allocated, zero in c_qcow2.subclusters(bitmap):
            offset, length = begin + first * size, count * size
            if zero:
                yield Extent(offset, length, zero=True, allocated=self._has_place(entry))
            elif allocated:
                yield from self._stored(offset, length, at + first * size)
            else:
                yield self._unallocated(offset, length)

    def _step(self, entry: int) -> int:
        return self._cluster if not entry & c_qcow2.OFLAG_COMPRESSED and self._has_place(entry) else 0

    def _extended_step(self, entry: int, _bitmap: int) -> int:
        return self._step(entry)

    def _has_place(self, entry: int) -> bool:
        """Whether a standard cluster's entry names host bytes, whatever the cluster reads as."""
        if entry & c_qcow2.L2E_OFFSET_MASK:
            return True
        # Only in a data file is byte 0 a cluster's place, and then bit 63 says so.
        return self._data_file is not None and bool(entry & c_qcow2.OFLAG_COPIED)

    def _reads_as_zero(self, entry: int) -> bool:
        # Bit 0 means something since version 3 only.
        return self._header.version >= 3 and bool(entry & c_qcow2.L2E_ZERO)

    def _plain_clusters(self, cluster: int, count: int, entry: int) -> Iterator[Extent]:
        at = self._checked_place(cluster, count, entry)
        yield from self._stored(cluster * self._cluster, count * self._cluster, at)

    def _checked_place(self, cluster: int, count: int, entry: int) -> int:
        """Where ``count`` clusters stand; each begins in its file. An entry without a place has 0."""
        at = entry & c_qcow2.L2E_OFFSET_MASK
        if not self._has_place(entry):
            return at
        if at % self._cluster:
            raise BadImage(self._file.path, f"cluster {cluster} is stored at byte {at}, within a cluster")
        if self._data_file is not None and at != cluster * self._cluster:
            problem = f"cluster {cluster} is stored at byte {at} of the data file instead of {cluster * self._cluster}"
            raise BadImage(self._file.path, problem, "Its L2 table is damaged: qemu-img check a copy of it.")
        home = self._home
        if at + (count - 1) * self._cluster >= home.size:
            inside = max(0, -(-(home.size - at) // self._cluster))
            raise past_the_end(home, f"cluster {cluster + inside}", self._cluster, at + inside * self._cluster)
        return at

    @property
    def _home(self) -> SourceFile:
        """The file clusters stand in."""
        return self._file if self._data_file is None else self._data_file

    def _stored(self, offset: int, length: int, at: int) -> Iterator[Extent]:
        stored = max(0, min(length, self._home.size - at))
        if stored:
            yield data(offset, stored, self._home.path, at)
        if stored < length:
            yield Extent(offset + stored, length - stored, zero=True, allocated=True)

    def _compressed_cluster(self, cluster: int, entry: int) -> Extent:
        if self._data_file is not None:
            raise BadImage(self._file.path, f"cluster {cluster} is compressed, which none in a data file can be")
        at, length = c_qcow2.compressed_range(entry, self._header.cluster_bits)
        # The length counts whole sectors; the file may end with the stream, within the last of them.
        length = min(length, self._file.size - at)
        if length <= 0 or at < c_qcow2.HEADER_V2_BYTES:
            raise past_the_end(self._file, f"compressed cluster {cluster}", max(0, length), at)
        where = CompressedAt(self._file.path, at, length, self._codec, self._cluster)
        return Extent(cluster * self._cluster, self._cluster, zero=False, allocated=True, compressed=where)


def open_qcow2(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a qcow2 image, with its external data file and its backing chain.

    Raises BadImage, UnsupportedImage, ForbiddenReference (backing or data files elsewhere), ParentMissing.
    """
    header = read_header(file)
    extensions = read_extensions(file, header)
    backing = _backing_file_name(file, header)
    data_file = _open_data_file(file, header, extensions, opening)
    files = (file,) if data_file is None else (file, data_file)
    layout = Qcow2Layout(file, header, has_backing=backing is not None, data_file=data_file)
    facts = _facts(file, header, extensions)
    if backing is None:
        return MappedDisk(layout, files, facts)
    said = _text(extensions.get(c_qcow2.EXT_BACKING_FORMAT, b""))
    try:
        parent = opening.parent(file, [backing], _FORMAT_NAMES.get(said, said) or None)
    except BaseException:
        if data_file is not None:
            data_file.close()
        raise
    return chained(layout, files, facts, parent)


def _open_data_file(
    file: SourceFile, header: Qcow2Header, extensions: dict[int, bytes], opening: Opening
) -> SourceFile | None:
    if not header.incompatible_features & c_qcow2.INCOMPAT_DATA_FILE:
        return None
    name = extensions.get(c_qcow2.EXT_EXTERNAL_DATA_FILE)
    if name is None:
        raise BadImage(
            file.path,
            "keeps its data in an external file, but does not name it",
            "Name it in a copy of the image: qemu-img amend -f qcow2 -o data_file=FILE COPY.",
        )
    return opening.beside(file, _text(name))


def _facts(file: SourceFile, header: Qcow2Header, extensions: dict[int, bytes]) -> ImageFacts:
    dirty = ("dirty refcounts",) if header.incompatible_features & c_qcow2.INCOMPAT_DIRTY else ()
    notes: tuple[str, ...] = ()
    if header.nb_snapshots:
        notes += (f"its {header.nb_snapshots} internal snapshots are left behind; the current state is read",)
    bitmaps = int.from_bytes(extensions.get(c_qcow2.EXT_BITMAPS, b"")[:4], "big")
    if bitmaps:
        notes += (f"its {bitmaps} dirty bitmaps (marks for incremental backups) are left behind",)
    has_data_file = bool(header.incompatible_features & c_qcow2.INCOMPAT_DATA_FILE)
    if file.size % header.cluster_bytes and not has_data_file:
        notes += (f"the file ends within a cluster; what that cluster misses after byte {file.size} reads as zeroes",)
    variant = f"version {header.version}, clusters of {header.cluster_bytes} bytes"
    variant += ", subclusters" if header.has_subclusters else ""
    variant += ", external data file" if has_data_file else ""
    return ImageFacts("qcow2", variant, dirty=dirty, notes=notes)


def read_header(file: SourceFile) -> Qcow2Header:
    """The header, judged. Raises BadImage, UnsupportedImage."""
    try:
        header = c_qcow2.unpack_header(file.pread(c_qcow2.HEADER_V3_WITH_COMPRESSION_BYTES, 0))
    except ValueError as error:
        raise BadImage(file.path, f"its qcow2 header is past the end of the file ({file.size} bytes)") from error
    if header.version not in (2, 3):
        raise UnsupportedImage(file.path, f"is a qcow image of version {header.version}")
    _refuse_features(file, header)
    if not c_qcow2.MIN_CLUSTER_BITS <= header.cluster_bits <= c_qcow2.MAX_CLUSTER_BITS:
        raise BadImage(file.path, f"its clusters have 2^{header.cluster_bits} bytes; 2^9 to 2^21 are possible")
    if header.has_subclusters and header.cluster_bits < c_qcow2.MIN_SUBCLUSTERED_CLUSTER_BITS:
        raise BadImage(file.path, f"its clusters of {header.cluster_bytes} bytes are too small for subclusters")
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
    unknown = features & ~c_qcow2.INCOMPAT_KNOWN
    if unknown:
        raise UnsupportedImage(file.path, f"needs features this version does not know ({unknown:#x})")
    if header.crypt_method != c_qcow2.CRYPT_NONE:
        how = _ENCRYPTION.get(header.crypt_method, f"unknown method {header.crypt_method}")
        raise UnsupportedImage(
            file.path,
            f"is encrypted ({how})",
            "Decrypt it with its password first, into a file that only you can read: qemu-img convert --object secret,...",
        )
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


def read_extensions(file: SourceFile, header: Qcow2Header) -> dict[int, bytes]:
    """The header extensions by their type; of several of one type the first. Raises BadImage."""
    end = header.cluster_bytes
    # They end before the backing file's name, which old images have right behind the header.
    if header.header_length <= header.backing_file_offset < end:
        end = header.backing_file_offset
    raw = file.pread(end, 0)
    found: dict[int, bytes] = {}
    at = header.header_length
    for _ in range(_MAX_EXTENSIONS):
        if at + 8 > len(raw):
            break
        kind, length = c_qcow2.unpack_extension(raw, at)
        if kind == c_qcow2.EXT_END:
            break
        if length > len(raw) - at - 8:
            problem = f"its header extension {kind:#010x} at byte {at} has {length} bytes, more than the header's cluster"
            raise BadImage(file.path, problem)
        found.setdefault(kind, raw[at + 8 : at + 8 + length])
        at += 8 + -(-length // 8) * 8
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _equal(_entry: int) -> int:
    return 0
