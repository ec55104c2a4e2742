"""Sparse extents of ESX snapshots: COWD (vmfsSparse) and seSparse, by ``c_vmdk_esx``.

Both are named by a text descriptor, which says which disk they hold changes to. An seSparse extent whose journal was not
replayed is refused: which of its tables count is then not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from converters import c_vmdk_esx
from converters.c_vmdk_esx import SeSparseHeader
from converters.extents import beneath, data, hole
from converters.mapped import MetadataRange
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from converters.vmdk_sparse import (
    MAX_VIRTUAL_BYTES,
    GrainOccupancy,
    SparseExtent,
    SparseLayout,
    SparseShape,
    is_grain_size,
    wrong_grain_size,
)
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_CONSOLIDATE = "Consolidate the snapshots or clone the disk with ESX (vmkfstools -i), then convert the result."
_GRAIN_BYTES = c_vmdk_esx.SESPARSE_GRAIN_SECTORS * SECTOR_BYTES
_TABLE_BYTES = _GRAIN_BYTES * c_vmdk_esx.SESPARSE_GTES_PER_GT


def open_cowd_extent(file: SourceFile, *, has_parent: bool) -> SparseExtent:
    """A COWD extent. Raises BadImage, UnsupportedImage."""
    raw = file.read_exactly(c_vmdk_esx.COWD_HEADER_BYTES, 0, "the COWD header")
    header = c_vmdk_esx.unpack_cowd_header(raw)
    if header.version != c_vmdk_esx.COWD_VERSION:
        problem = (
            f"is a COWD extent of version {header.version}; only version {c_vmdk_esx.COWD_VERSION}, of ESX, is read"
        )
        raise UnsupportedImage(file.path, problem)
    if not is_grain_size(header.grain_size):
        raise wrong_grain_size(file.path, header.grain_size)
    if header.num_sectors == 0:
        raise BadImage(file.path, "its COWD header says a disk of 0 sectors")
    header_sectors = c_vmdk_esx.COWD_HEADER_BYTES // SECTOR_BYTES
    shape = SparseShape(
        header.num_sectors, header.grain_size, c_vmdk_esx.COWD_GTES_PER_GT, header.gd_offset, header_sectors
    )
    if header.gd_offset < header_sectors:
        problem = f"its grain directory would lie at byte {header.gd_offset * SECTOR_BYTES}, within the COWD header"
        raise BadImage(file.path, problem)
    if header.num_gd_entries < shape.tables:
        problem = f"its grain directory has {header.num_gd_entries} entries for a disk that takes {shape.tables}"
        raise BadImage(file.path, problem)
    return SparseExtent(SparseLayout(file, shape, has_parent=has_parent), "vmfsSparse", header.unclean_shutdown)


class SeSparseLayout:
    """A grain directory of numbered grain tables of numbered grains, each in an area of its own."""

    block_bytes = 0

    def __init__(self, file: SourceFile, header: SeSparseHeader, *, has_parent: bool) -> None:
        self._file = file
        self._header = header
        self._unallocated: Callable[[int, int], Extent] = beneath if has_parent else hole
        self._tables = -(-self.virtual_size // _TABLE_BYTES)
        self._gd_offset = header.grain_dir_offset * SECTOR_BYTES
        self._directory = EntryPages(file, 8, "little", "the grain directory")
        self._grains = EntryPages(file, 8, "little", "a grain table")
        file.require(self._tables * c_vmdk_esx.SESPARSE_ENTRY_BYTES, self._gd_offset, "the grain directory")

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk (or of this extent of it)."""
        return self._header.capacity * SECTOR_BYTES

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Grains that cover a range; adjacent ones that are stored side by side as one piece."""
        first, last = start // _TABLE_BYTES, min(-(-end // _TABLE_BYTES), self._tables)
        for index, count, entry in self._directory.runs(self._gd_offset, self._tables, first, last, _equal):
            if entry == 0:
                yield self._unallocated(index * _TABLE_BYTES, count * _TABLE_BYTES)
                continue
            if entry & c_vmdk_esx.GDE_TYPE_MASK != c_vmdk_esx.GDE_ALLOCATED:
                raise BadImage(
                    self._file.path, f"grain directory entry {index} is {entry:#x}, which names no grain table"
                )
            if count > 1:
                raise BadImage(self._file.path, f"grain directory entries {index} and {index + 1} name the same table")
            yield from self._grain_table(index, entry & ~c_vmdk_esx.GDE_TYPE_MASK, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        occupancy = GrainOccupancy(_GRAIN_BYTES)
        for piece in self.lookup(0, self.virtual_size):
            occupancy.add(piece)
            yield piece

    def metadata(self) -> Iterator[MetadataRange]:
        """Both headers and the grain directory."""
        yield MetadataRange(self._file, 0, c_vmdk_esx.SESPARSE_HEADER_BYTES)
        volatile = self._header.volatile_header_offset * SECTOR_BYTES
        yield MetadataRange(self._file, volatile, c_vmdk_esx.SESPARSE_HEADER_BYTES)
        yield MetadataRange(self._file, self._gd_offset, self._tables * c_vmdk_esx.SESPARSE_ENTRY_BYTES)

    def _grain_table(self, table: int, number: int, start: int, end: int) -> Iterator[Extent]:
        entries = c_vmdk_esx.SESPARSE_GTES_PER_GT
        base = table * entries
        first = max(0, start // _GRAIN_BYTES - base)
        last = min(entries, -(-end // _GRAIN_BYTES) - base)
        sector = self._header.grain_tables_offset + number * c_vmdk_esx.SESPARSE_TABLE_SECTORS
        offset = sector * SECTOR_BYTES
        what = f"grain table {table} (number {number})"
        self._file.require(entries * c_vmdk_esx.SESPARSE_ENTRY_BYTES, offset, what)
        for index, count, entry in self._grains.runs(offset, entries, first, last, _step):
            yield self._grain_run(base + index, count, entry)

    def _grain_run(self, grain: int, count: int, entry: int) -> Extent:
        kind = entry >> c_vmdk_esx.GTE_TYPE_SHIFT
        at, length = grain * _GRAIN_BYTES, count * _GRAIN_BYTES
        if entry == 0:
            return self._unallocated(at, length)
        if kind == c_vmdk_esx.GTE_TYPE_UNMAPPED:
            return hole(at, length)
        if kind == c_vmdk_esx.GTE_TYPE_ZERO:
            return Extent(at, length, zero=True, allocated=True)
        if kind != c_vmdk_esx.GTE_TYPE_ALLOCATED:
            raise BadImage(
                self._file.path, f"the entry of grain {grain} is {entry:#x}, which is none of the known kinds"
            )
        number = c_vmdk_esx.grain_number(entry)
        stored = (self._header.grains_offset + number * c_vmdk_esx.SESPARSE_GRAIN_SECTORS) * SECTOR_BYTES
        # The last grain need only reach the end of the disk.
        needed = min(length, self.virtual_size - at)
        if stored + needed > self._file.size:
            inside = max(0, self._file.size - stored) // _GRAIN_BYTES
            raise past_the_end(self._file, f"grain {grain + inside}", _GRAIN_BYTES, stored + inside * _GRAIN_BYTES)
        return data(at, length, self._file.path, stored)


def open_sesparse_extent(file: SourceFile, *, has_parent: bool) -> SparseExtent:
    """An seSparse extent. Raises BadImage, UnsupportedImage (a journal to replay, variants nobody has described)."""
    raw = file.read_exactly(c_vmdk_esx.SESPARSE_HEADER_BYTES, 0, "the seSparse constant header")
    header = c_vmdk_esx.unpack_sesparse_header(raw)
    known = (
        ("version", header.version, c_vmdk_esx.SESPARSE_VERSION),
        ("grain size (sectors)", header.grain_size, c_vmdk_esx.SESPARSE_GRAIN_SECTORS),
        ("grain table size (sectors)", header.grain_table_size, c_vmdk_esx.SESPARSE_TABLE_SECTORS),
        ("flags", header.flags, 0),
        ("reserved fields", any(header.reserved), False),
    )
    for name, found, expected in known:
        if found != expected:
            problem = f"its seSparse header has the {name} {found:#x}; only {expected:#x} is known"
            raise UnsupportedImage(file.path, problem, _CONSOLIDATE)
    if not 0 < header.capacity * SECTOR_BYTES <= MAX_VIRTUAL_BYTES:
        raise BadImage(file.path, f"its seSparse header says a disk of {header.capacity} sectors")
    for name, sector in (
        ("volatile header", header.volatile_header_offset),
        ("grain directory", header.grain_dir_offset),
        ("grain table area", header.grain_tables_offset),
        ("grain area", header.grains_offset),
    ):
        if sector == 0:
            raise BadImage(file.path, f"its {name} would lie at byte 0, over the constant header")
    _check_volatile(file, header)
    return SparseExtent(SeSparseLayout(file, header, has_parent=has_parent), "seSparse", dirty=False)


def _check_volatile(file: SourceFile, header: SeSparseHeader) -> None:
    offset = header.volatile_header_offset * SECTOR_BYTES
    raw = file.read_exactly(c_vmdk_esx.SESPARSE_HEADER_BYTES, offset, "the seSparse volatile header")
    volatile = c_vmdk_esx.unpack_sesparse_volatile(raw)
    if volatile.magic != c_vmdk_esx.SESPARSE_VOLATILE_MAGIC:
        raise BadImage(file.path, f"has no seSparse volatile header at byte {offset}")
    if volatile.replay_journal:
        problem = "has a journal that was not replayed: it was in use when it was copied, or its host failed"
        raise UnsupportedImage(file.path, problem, f"Open and close it with ESX first. {_CONSOLIDATE}")


def _step(entry: int) -> int:
    return c_vmdk_esx.GTE_NEXT_GRAIN if entry >> c_vmdk_esx.GTE_TYPE_SHIFT == c_vmdk_esx.GTE_TYPE_ALLOCATED else 0


def _equal(_entry: int) -> int:
    return 0
