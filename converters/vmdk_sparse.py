"""Sparse extents of VMDKs: a grain directory of grain tables of grains, plain or compressed (streams).

The header of hosted sparse extents is judged here; COWD extents (``vmdk_esx``) have the same tables under another header.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from converters import c_vmdk
from converters.c_vmdk import SparseHeader
from converters.extents import beneath, data, hole
from converters.mapped import Layout, MetadataRange
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from converters.vmdk_redundant import MAX_COMPARED_TABLES, differences, first_damage
from p2v.core.disk import Codec, CompressedAt, Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

MAX_VIRTUAL_BYTES = 1 << 62
_MAX_GRAIN_SECTORS = 32 * 1024
_MAX_VERSION = 3
# Copies of streams are sometimes padded with zeroes; a footer is looked for in this much of the end.
_FOOTER_SEARCH_BYTES = 64 * 1024
# Two bytes a grain, over one extent file; what lies beyond is not looked at (see ``GrainOccupancy``).
_MAX_OCCUPANCY = 16 * 1024 * 1024
_TRANSFER_AGAIN = "Transfer it again in binary mode."
_TABLES_DAMAGED = (
    "The copy may be incomplete; compare its size with the original's. If it is whole, its tables are damaged."
)


@dataclass(frozen=True, slots=True)
class SparseShape:
    """What counts of a judged header; all in sectors but ``gtes_per_gt``."""

    capacity_sectors: int
    grain_sectors: int
    gtes_per_gt: int
    gd_sector: int
    header_sectors: int
    descriptor_sector: int = 0
    descriptor_sectors: int = 0
    compressed: bool = False
    zeroed_grains: bool = False
    # Primary and redundant directory, where the header says that both are valid; ``gd_sector`` is the one that is read.
    both_gd_sectors: tuple[int, int] | None = None

    @property
    def table_bytes(self) -> int:
        """Bytes of the disk that one grain table covers."""
        return self.grain_sectors * SECTOR_BYTES * self.gtes_per_gt

    @property
    def tables(self) -> int:
        """Entries of the grain directory that count."""
        return -(-self.capacity_sectors * SECTOR_BYTES // self.table_bytes)


@dataclass(frozen=True, slots=True)
class SparseExtent:
    """An open sparse extent, with what a person should know about it."""

    layout: Layout
    variant: str
    dirty: bool
    notes: tuple[str, ...] = ()


class GrainOccupancy:
    """Notices grains of one extent file that share stored bytes, wherever each begins.

    For each aligned piece of a grain's size it remembers how far into it a grain begins: two grains overlap
    when they begin in one piece, or in neighbouring ones too near to each other. Nothing behind the first 16 Mi pieces is
    noticed.
    """

    def __init__(self, grain_bytes: int) -> None:
        self._grain_bytes = grain_bytes
        self._begins: memoryview | None = None

    def add(self, extent: Extent) -> None:
        """Remember the grains of a data extent; raises BadImage when one of them overlaps another."""
        if extent.stored is None:
            return
        first, within = divmod(extent.stored.offset, self._grain_bytes)
        mark = within // SECTOR_BYTES + 1
        count = -(-extent.length // self._grain_bytes)
        if first + count >= _MAX_OCCUPANCY:
            return
        if self._begins is None:
            # Pages of it take memory when something is written to them: a far grain costs no more than a near one.
            self._begins = memoryview(mmap.mmap(-1, 2 * _MAX_OCCUPANCY)).cast("H")
        begins = self._begins
        # Grains of neighbouring pieces overlap when the first begins farther into its piece than the second does.
        before = begins[first - 1] > mark if first else False
        behind = 0 < begins[first + count] < mark
        if before or behind or any(begins[first : first + count]):
            inside = (
                next((n for n in range(count) if begins[first + n]), 0 if before else count - 1) * self._grain_bytes
            )
            at, virtual = extent.stored.offset + inside, extent.offset + inside
            problem = f"the grain stored at byte {at} for disk offset {virtual} also serves another part of the disk"
            raise BadImage(extent.stored.file, problem, "The image's grain tables are damaged.")
        begins[first : first + count] = array("H", [mark]) * count


class SparseLayout:
    """A grain directory of grain tables of grains, plain or compressed; checks overlapping grains itself."""

    block_bytes = 0

    def __init__(self, file: SourceFile, shape: SparseShape, *, has_parent: bool = False) -> None:
        self._file = file
        self._shape = shape
        self._unallocated: Callable[[int, int], Extent] = beneath if has_parent else hole
        self._grain_bytes = shape.grain_sectors * SECTOR_BYTES
        self._gd_offset = shape.gd_sector * SECTOR_BYTES
        self._directory = EntryPages(file, 4, "little", "the grain directory")
        self._grains = EntryPages(file, 4, "little", "a grain table")
        file.require(shape.tables * c_vmdk.TABLE_ENTRY_BYTES, self._gd_offset, "the grain directory")

    @property
    def file(self) -> SourceFile:
        """The file that holds it."""
        return self._file

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk (or of this extent of it)."""
        return self._shape.capacity_sectors * SECTOR_BYTES

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Grains that cover a range; adjacent plain ones that are stored side by side as one piece."""
        covered = self._shape.table_bytes
        first, last = start // covered, min(-(-end // covered), self._shape.tables)
        for index, count, sector in self._directory.runs(self._gd_offset, self._shape.tables, first, last, _equal):
            if sector == 0:
                yield self._unallocated(index * covered, count * covered)
                continue
            if count > 1:
                problem = (
                    f"grain directory entries {index} and {index + 1} name the same grain table, at sector {sector}"
                )
                raise BadImage(self._file.path, problem, _TABLES_DAMAGED)
            yield from self._grain_table(index, sector, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        occupancy = GrainOccupancy(self._grain_bytes)
        for piece in self.lookup(0, self.virtual_size):
            occupancy.add(piece)
            yield piece

    def differences(self) -> Iterator[str]:
        """Where its redundant tables, if it has any that are valid, differ from the primary ones."""
        both = self._shape.both_gd_sectors
        if both is not None:
            yield from differences(self._file, both, self._shape.tables, self._shape.gtes_per_gt)

    @property
    def uncompared_tables(self) -> int:
        """How many of its redundant tables ``differences`` does not look at."""
        return 0 if self._shape.both_gd_sectors is None else max(0, self._shape.tables - MAX_COMPARED_TABLES)

    def metadata(self) -> Iterator[MetadataRange]:
        """Header, descriptor and grain directory; a stream's footer."""
        shape = self._shape
        yield MetadataRange(self._file, 0, shape.header_sectors * SECTOR_BYTES)
        length = shape.descriptor_sectors * SECTOR_BYTES
        yield MetadataRange(self._file, shape.descriptor_sector * SECTOR_BYTES, length)
        yield MetadataRange(self._file, self._gd_offset, self._shape.tables * c_vmdk.TABLE_ENTRY_BYTES)
        yield MetadataRange(self._file, max(0, self._file.size - 3 * SECTOR_BYTES), 3 * SECTOR_BYTES)

    def _grain_table(self, table: int, sector: int, start: int, end: int) -> Iterator[Extent]:
        entries = self._shape.gtes_per_gt
        base = table * entries
        first = max(0, start // self._grain_bytes - base)
        last = min(entries, -(-end // self._grain_bytes) - base)
        offset = sector * SECTOR_BYTES
        self._file.require(entries * c_vmdk.TABLE_ENTRY_BYTES, offset, f"grain table {table}")
        for index, count, value in self._grains.runs(offset, entries, first, last, self._step):
            grain = base + index
            at, length = grain * self._grain_bytes, count * self._grain_bytes
            if value == c_vmdk.GTE_UNALLOCATED:
                yield self._unallocated(at, length)
            elif self._is_zeroed(value):
                yield Extent(at, length, zero=True, allocated=True)
            elif self._shape.compressed:
                for each in range(grain, grain + count):
                    yield self._compressed_grain(each, value)
            else:
                self._check_grains(grain, count, value)
                yield data(at, length, self._file.path, value * SECTOR_BYTES)

    def _step(self, sector: int) -> int:
        plain = sector != c_vmdk.GTE_UNALLOCATED and not self._is_zeroed(sector) and not self._shape.compressed
        return self._shape.grain_sectors if plain else 0

    def _is_zeroed(self, sector: int) -> bool:
        return self._shape.zeroed_grains and sector == c_vmdk.GTE_ZEROED

    def _check_grains(self, grain: int, count: int, sector: int) -> None:
        self._check_begin(grain, sector, count * self._shape.grain_sectors)
        at = sector * SECTOR_BYTES
        # The last grain need only reach the end of the disk.
        needed = min(count * self._grain_bytes, self.virtual_size - grain * self._grain_bytes)
        if at + needed > self._file.size:
            inside = max(0, self._file.size - at) // self._grain_bytes
            what = f"grain {grain + inside}"
            raise past_the_end(self._file, what, self._grain_bytes, at + inside * self._grain_bytes)

    def _check_begin(self, grain: int, sector: int, sectors: int) -> None:
        shape = self._shape
        descriptor = range(shape.descriptor_sector, shape.descriptor_sector + shape.descriptor_sectors)
        within = descriptor and sector < descriptor.stop and sector + sectors > descriptor.start
        if sector < shape.header_sectors or within:
            problem = f"grain {grain} lies at byte {sector * SECTOR_BYTES}, over the image's own header or descriptor"
            raise BadImage(self._file.path, problem, _TABLES_DAMAGED)

    def _compressed_grain(self, grain: int, sector: int) -> Extent:
        self._check_begin(grain, sector, 1)
        at = sector * SECTOR_BYTES
        raw = self._file.read_exactly(c_vmdk.GRAIN_MARKER_BYTES, at, f"the marker of grain {grain}")
        marked_sector, length = c_vmdk.unpack_grain_marker(raw)
        if marked_sector != grain * self._shape.grain_sectors:
            problem = f"the marker at byte {at} names disk sector {marked_sector}, but grain {grain} is looked for"
            raise BadImage(self._file.path, problem, _TABLES_DAMAGED)
        # Deflate adds a few bytes to what it cannot compress; twice the grain is no stream of one.
        if length == 0 or length > 2 * self._grain_bytes:
            problem = f"the marker at byte {at} says that grain {grain} is stored in {length} bytes, which cannot be"
            raise BadImage(self._file.path, problem)
        at += c_vmdk.GRAIN_MARKER_BYTES
        self._file.require(length, at, f"grain {grain}")
        where = CompressedAt(self._file.path, at, length, Codec.ZLIB, self._grain_bytes)
        return Extent(grain * self._grain_bytes, self._grain_bytes, zero=False, allocated=True, compressed=where)


def open_sparse_extent(file: SourceFile, *, has_parent: bool) -> SparseExtent:
    """A hosted sparse extent: the file of a monolithicSparse or streamOptimized disk, or one of several.

    Raises BadImage, UnsupportedImage.
    """
    header, notes = read_sparse_header(file)
    shape = SparseShape(
        header.capacity_sectors,
        header.grain_sectors,
        header.gtes_per_gt,
        header.gd_sector,
        c_vmdk.HEADER_BYTES // SECTOR_BYTES,
        header.descriptor_sector,
        header.descriptor_sectors,
        compressed=bool(header.flags & c_vmdk.FLAG_COMPRESSED),
        zeroed_grains=bool(header.flags & c_vmdk.FLAG_ZEROED_GRAIN),
    )
    if header.flags & c_vmdk.FLAG_REDUNDANT_TABLE and header.rgd_sector not in (0, c_vmdk.GD_AT_END):
        shape = replace(shape, both_gd_sectors=(header.gd_sector, header.rgd_sector))
        shape, more = _sound_directory(file, shape, header.rgd_sector)
        notes += more
    if shape.gd_sector in (0, c_vmdk.GD_AT_END):
        raise BadImage(file.path, "it has no grain directory")
    variant = "streamOptimized" if shape.compressed else "monolithicSparse"
    layout = SparseLayout(file, shape, has_parent=has_parent)
    return SparseExtent(layout, variant, header.unclean_shutdown, notes)


def read_sparse_header(file: SourceFile) -> tuple[SparseHeader, tuple[str, ...]]:
    """The header that counts (the footer's directory in a stream), judged, and notes about it."""
    raw = file.read_exactly(c_vmdk.HEADER_BYTES, 0, "the sparse extent header")
    header = c_vmdk.unpack_header(raw)
    notes: tuple[str, ...] = ()
    if header.gd_sector == c_vmdk.GD_AT_END and header.flags & c_vmdk.FLAG_MARKERS:
        footer, notes = _footer(file)
        for what in ("capacity_sectors", "grain_sectors", "gtes_per_gt", "flags"):
            begin, end = getattr(header, what), getattr(footer, what)
            if begin != end:
                raise BadImage(file.path, f"its header and its footer differ: {what} is {begin} there and {end} here")
        header = replace(header, gd_sector=footer.gd_sector)
    _judge_header(file.path, header)
    return header, notes


def _footer(file: SourceFile) -> tuple[SparseHeader, tuple[str, ...]]:
    """A stream's footer: its last sector that is not all zeroes, as the end marker behind it is. Raises BadImage."""
    sectors = file.size // SECTOR_BYTES
    begin = max(0, sectors * SECTOR_BYTES - _FOOTER_SEARCH_BYTES)
    tail = file.pread(sectors * SECTOR_BYTES - begin, begin)
    end = -(-len(tail.rstrip(b"\0")) // SECTOR_BYTES) * SECTOR_BYTES
    at = end - c_vmdk.HEADER_BYTES
    marker = tail[at - c_vmdk.MARKER_BYTES : at] if at >= c_vmdk.MARKER_BYTES else b""
    is_footer = len(marker) == c_vmdk.MARKER_BYTES and tail.startswith(c_vmdk.SPARSE_MAGIC, at)
    if not is_footer or c_vmdk.unpack_metadata_marker(marker)[2] != c_vmdk.MARKER_FOOTER:
        problem = (
            f"is a stream that ends without its footer: no footer at byte {file.size - c_vmdk.FOOTER_FROM_END} of "
            f"{file.size}, and without it nothing says where the grains are"
        )
        raise BadImage(file.path, problem, "It was cut, or its export did not finish: copy or export it again.")
    where = begin + at
    notes: tuple[str, ...] = ()
    if where != file.size - c_vmdk.FOOTER_FROM_END:
        notes = (f"the stream's footer is at byte {where} instead of {file.size - c_vmdk.FOOTER_FROM_END}",)
    return c_vmdk.unpack_header(tail[at : at + c_vmdk.HEADER_BYTES]), notes


def judge_transfer(path: Path, header: SparseHeader) -> None:
    """What must hold before anything else of a header means something. Raises BadImage, UnsupportedImage."""
    if not 1 <= header.version <= _MAX_VERSION:
        raise UnsupportedImage(path, f"is a VMDK of version {header.version}")
    if header.flags & c_vmdk.FLAG_VALID_NEW_LINE and header.end_of_lines != b"\n \r\n":
        raise BadImage(
            path, "its line ends were changed: it was transferred as text instead of as binary", _TRANSFER_AGAIN
        )


def _judge_header(path: Path, header: SparseHeader) -> None:
    judge_transfer(path, header)
    if not is_grain_size(header.grain_sectors):
        raise wrong_grain_size(path, header.grain_sectors)
    if not 1 <= header.gtes_per_gt <= c_vmdk.MAX_GTES_PER_GT:
        raise BadImage(path, f"its grain tables have {header.gtes_per_gt} entries instead of {c_vmdk.MAX_GTES_PER_GT}")
    if not 0 < header.capacity_sectors * SECTOR_BYTES <= MAX_VIRTUAL_BYTES:
        raise BadImage(path, f"its header says a disk of {header.capacity_sectors} sectors")
    if header.flags & c_vmdk.FLAG_COMPRESSED:
        deflated = header.compress_algorithm == c_vmdk.COMPRESSION_DEFLATE
        if not deflated or not header.flags & c_vmdk.FLAG_MARKERS:
            raise UnsupportedImage(path, f"its grains are compressed in an unknown way ({header.compress_algorithm})")


def is_grain_size(sectors: int) -> bool:
    """Whether grains may have that many sectors."""
    return 0 < sectors <= _MAX_GRAIN_SECTORS and not sectors & (sectors - 1)


def wrong_grain_size(path: Path, sectors: int) -> BadImage:
    """The error for a size of grains that cannot be."""
    return BadImage(path, f"its grains have {sectors} sectors; only powers of two up to {_MAX_GRAIN_SECTORS} are read")


def _sound_directory(file: SourceFile, shape: SparseShape, rgd_sector: int) -> tuple[SparseShape, tuple[str, ...]]:
    """The primary grain directory, or the redundant one where only that leads nowhere outside the file."""
    damage = first_damage(file, shape.gd_sector, shape.tables, shape.gtes_per_gt)
    if damage is None or first_damage(file, rgd_sector, shape.tables, shape.gtes_per_gt) is not None:
        return shape, ()
    note = f"its primary grain directory is damaged ({damage}); the redundant one, which is sound, is read"
    return replace(shape, gd_sector=rgd_sector), (note,)


def _equal(_sector: int) -> int:
    return 0
