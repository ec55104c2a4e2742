"""VHD, fixed, dynamic and differencing (undo disks of Virtual Server too), by the structures of ``c_vhd``.

Three rules where the specification leaves room:

* **Size**: see ``vhd_size``; **the parent**: see ``vhd_parent``.
* **Sector bitmaps** of dynamic disks are not looked at: an allocated block's data counts whatever its
  bitmap says, as in Virtual PC, Hyper-V and QEMU. In differencing disks a sector whose bit is clear is the parent's.
* **The footer** at the end counts; when it is damaged or missing, its copy at the start does, and
  then the whole allocation table is checked against the file's size at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters import c_vhd
from converters.c_vhd import DynamicHeader, VhdFooter
from converters.extents import Occupancy, beneath, data, hole
from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import MappedDisk, MetadataRange
from converters.raw import FlatLayout
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from converters.vhd_parent import open_parent, parent_notes
from converters.vhd_size import creator_name, virtual_size
from p2v.core.disk import Extent, StoredAt
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_MAX_BLOCK_BYTES = 256 * 1024 * 1024
# Guests are read in small pieces; a bitmap is 512 bytes for the usual block of 2 MiB, 64 KiB at the most.
_BITMAPS_KEPT = 64


class _FlatVhd:
    """The bytes before the footer, and the footer as metadata."""

    block_bytes = 0

    def __init__(self, file: SourceFile, virtual_size: int, footer_offset: int) -> None:
        flat = FlatLayout(file, 0, virtual_size, virtual_size)
        self.virtual_size = virtual_size
        self.lookup = flat.lookup
        self.walk = flat.walk
        self._footer = MetadataRange(file, footer_offset, file.size - footer_offset)

    def metadata(self) -> Iterator[MetadataRange]:
        """The footer."""
        yield self._footer


class DynamicLayout:
    """A block allocation table; each block is a sector bitmap and its data."""

    def __init__(self, file: SourceFile, header: DynamicHeader, header_offset: int, size: int, data_end: int) -> None:
        self._file = file
        self._header = header
        self._header_offset = header_offset
        self._virtual_size = size
        self._data_end = data_end
        self._bitmap_bytes = c_vhd.sector_bitmap_bytes(header.block_size)
        self._stride_sectors = (self._bitmap_bytes + header.block_size) // SECTOR_BYTES
        self._blocks = -(-size // header.block_size)
        self._bat_end = header.table_offset + header.max_table_entries * c_vhd.BAT_ENTRY_BYTES
        self._bat = EntryPages(file, 4, "big", "the block allocation table")

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._virtual_size

    @property
    def block_bytes(self) -> int:
        """Bytes of data in a block."""
        return self._header.block_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Blocks that cover a range; adjacent unallocated ones as one piece."""
        size = self._header.block_size
        first, last = start // size, min(-(-end // size), self._blocks)
        runs = self._bat.runs(self._header.table_offset, self._header.max_table_entries, first, last, self._step)
        for index, count, sector in runs:
            if sector == c_vhd.UNALLOCATED:
                yield hole(index * size, count * size)
                continue
            for block in range(index, index + count):
                at = (sector + (block - index) * self._stride_sectors) * SECTOR_BYTES + self._bitmap_bytes
                self._check_block(block, at)
                yield data(block * size, size, self._file.path, at)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        return self.lookup(0, self._virtual_size)

    def metadata(self) -> Iterator[MetadataRange]:
        """Footer, its copy, the header and the table."""
        yield MetadataRange(self._file, 0, c_vhd.FOOTER_BYTES)
        yield MetadataRange(self._file, self._header_offset, c_vhd.HEADER_BYTES)
        yield MetadataRange(self._file, self._header.table_offset, self._bat_end - self._header.table_offset)
        yield MetadataRange(self._file, self._data_end, self._file.size - self._data_end)

    def _step(self, sector: int) -> int:
        return 0 if sector == c_vhd.UNALLOCATED else self._stride_sectors

    def _check_block(self, block: int, at: int) -> None:
        # Some writers cut the last block at the disk's end.
        needed = min(self._header.block_size, self._virtual_size - block * self._header.block_size)
        if at + needed > self._data_end:
            raise past_the_end(self._file, f"block {block}", needed, at)
        begin = at - self._bitmap_bytes
        in_table = begin < self._bat_end and at + needed > self._header.table_offset
        in_header = begin < self._header_offset + c_vhd.HEADER_BYTES and at + needed > self._header_offset
        if begin < c_vhd.FOOTER_BYTES or in_table or in_header:
            raise BadImage(self._file.path, f"block {block} lies at byte {begin}, over the image's own tables")


class DifferencingLayout:
    """A dynamic disk whose sector bitmaps say which sectors are its own; the others are its parent's."""

    # Pieces are smaller than blocks; walk() looks for blocks that share their bytes itself.
    block_bytes = 0

    def __init__(self, file: SourceFile, blocks: DynamicLayout) -> None:
        self._file = file
        self._blocks = blocks
        self._bitmap_bytes = c_vhd.sector_bitmap_bytes(blocks.block_bytes)
        self._own_sectors = functools.lru_cache(maxsize=_BITMAPS_KEPT)(self._read_bitmap)

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._blocks.virtual_size

    def metadata(self) -> Iterator[MetadataRange]:
        """As a dynamic disk's; bitmaps count as data."""
        return self._blocks.metadata()

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Runs of own and of the parent's sectors that cover a range."""
        for piece in self._blocks.lookup(start, end):
            if piece.stored is None:
                yield beneath(piece.offset, piece.length)
            else:
                yield from self._sector_runs(piece, piece.stored, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        occupancy = Occupancy(self._blocks.block_bytes)
        for block in self._blocks.walk():
            occupancy.add(block)
            if block.stored is None:
                yield beneath(block.offset, block.length)
            else:
                yield from self._sector_runs(block, block.stored, block.offset, block.end)

    def _sector_runs(self, block: Extent, stored: StoredAt, start: int, end: int) -> Iterator[Extent]:
        own = self._own_sectors(stored.offset - self._bitmap_bytes)
        sector = max(0, start - block.offset) // SECTOR_BYTES
        last = min(block.length, end - block.offset + SECTOR_BYTES - 1) // SECTOR_BYTES
        while sector < last:
            is_own = own[sector] == "1"
            stop = own.find("0" if is_own else "1", sector, last)
            stop = last if stop < 0 else stop
            within, length = sector * SECTOR_BYTES, (stop - sector) * SECTOR_BYTES
            if is_own:
                yield data(block.offset + within, length, stored.file, stored.offset + within)
            else:
                yield beneath(block.offset + within, length)
            sector = stop

    def _read_bitmap(self, offset: int) -> str:
        """A bit a sector as text, for ``str.find`` is the quickest search for a bit that Python has."""
        raw = self._file.read_exactly(self._bitmap_bytes, offset, "a sector bitmap")
        return f"{int.from_bytes(raw, 'big'):0{len(raw) * 8}b}"


def open_vhd(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a VHD of any type, with its parents.

    Raises BadImage (damaged or cut short), UnsupportedImage (other versions), ParentMissing, WrongParent,
    ForbiddenReference.
    """
    footer, footer_offset, notes, dirty = _choose_footer(file)
    if footer.file_format_version >> 16 != c_vhd.FILE_FORMAT_VERSION_MAJOR:
        raise UnsupportedImage(file.path, f"is a VHD of format version {footer.file_format_version:#x}")
    size, size_notes = virtual_size(file, footer, opening.lookup.size_by)
    notes += size_notes
    if footer.saved_state:
        dirty += ("saved state",)
    match footer.disk_type:
        case c_vhd.DISK_TYPE_FIXED:
            return _open_fixed(file, footer, size, footer_offset, _facts(footer, "fixed", notes, dirty))
        case c_vhd.DISK_TYPE_DYNAMIC:
            layout = DynamicLayout(file, *_checked_header(file, footer, size), size, footer_offset)
            _look_through(layout, file, footer_offset)
            return MappedDisk(layout, (file,), _facts(footer, "dynamic", notes, dirty))
        case c_vhd.DISK_TYPE_DIFFERENCING:
            header, header_offset = _checked_header(file, footer, size)
            blocks = DynamicLayout(file, header, header_offset, size, footer_offset)
            _look_through(blocks, file, footer_offset)
            child = DifferencingLayout(file, blocks)
            if file.path.suffix.lower() == ".vud":
                notes += ("it is the undo disk of a machine: what it holds was never merged into its parent",)
            parent = open_parent(file, header, opening)
            facts = _facts(footer, "differencing", notes + parent_notes(header, parent), dirty)
            return chained(child, (file,), facts, parent)
    raise BadImage(file.path, f"its VHD footer names the unknown disk type {footer.disk_type}")


def _open_fixed(
    file: SourceFile, footer: VhdFooter, size: int, footer_offset: int, facts: ImageFacts
) -> MappedDisk:
    if size > footer_offset:
        raise BadImage(file.path, f"its footer says {size} bytes of disk, but {footer_offset} stand before it")
    return MappedDisk(_FlatVhd(file, size, footer_offset), (file,), facts)


def _look_through(layout: DynamicLayout, file: SourceFile, footer_offset: int) -> None:
    """Without a footer at its end the file may be cut short anywhere, so its whole table is checked at once."""
    if footer_offset == file.size:
        for _ in layout.walk():
            pass


def _choose_footer(file: SourceFile) -> tuple[VhdFooter, int, tuple[str, ...], tuple[str, ...]]:
    """The footer that counts, where the data before it ends, notes and signs of damage."""
    tail = file.pread(c_vhd.FOOTER_BYTES, max(0, file.size - c_vhd.FOOTER_BYTES))
    offset = c_vhd.find_footer_offset(file.size, tail)
    problem = "the footer at its end is missing"
    if offset is not None:
        raw = file.pread(file.size - offset, offset)
        footer = c_vhd.unpack_footer(raw)
        expected = c_vhd.checksum(raw, c_vhd.FOOTER_CHECKSUM_OFFSET)
        if footer.checksum == expected:
            return footer, offset, _copy_notes(file, footer), ()
        problem = f"the footer at byte {offset} has the checksum {footer.checksum:#x} instead of {expected:#x}"
    copy = file.pread(c_vhd.FOOTER_BYTES, 0)
    if len(copy) == c_vhd.FOOTER_BYTES and copy.startswith(c_vhd.FOOTER_COOKIE):
        footer = c_vhd.unpack_footer(copy)
        if c_vhd.is_sound_footer(copy) and footer.disk_type != c_vhd.DISK_TYPE_FIXED:
            note = f"{problem}; its copy at the start was used"
            return footer, file.size if offset is None else offset, (note,), ("footer damaged",)
        problem += ", and its copy at the start is damaged too"
    raise BadImage(file.path, problem)


def _copy_notes(file: SourceFile, footer: VhdFooter) -> tuple[str, ...]:
    """What to say where the footer is sound and its copy is not: nothing is lost yet, but the next damage would be."""
    if footer.disk_type == c_vhd.DISK_TYPE_FIXED or c_vhd.is_sound_footer(file.pread(c_vhd.FOOTER_BYTES, 0)):
        return ()
    return ("the copy of its footer at byte 0 is damaged or missing; the footer at its end was used",)


def _header_at(file: SourceFile, offset: int) -> DynamicHeader:
    raw = file.read_exactly(c_vhd.HEADER_BYTES, offset, "the dynamic disk header")
    if not raw.startswith(c_vhd.HEADER_COOKIE):
        raise BadImage(file.path, f"there is no dynamic disk header at byte {offset}")
    header = c_vhd.unpack_header(raw)
    expected = c_vhd.checksum(raw, c_vhd.HEADER_CHECKSUM_OFFSET)
    if header.checksum != expected:
        problem = f"the dynamic disk header has the checksum {header.checksum:#x} instead of {expected:#x}"
        raise BadImage(file.path, problem)
    return header


def _checked_header(file: SourceFile, footer: VhdFooter, size: int) -> tuple[DynamicHeader, int]:
    """The dynamic disk header of a disk of ``size`` bytes, and where it stands."""
    header = _header_at(file, footer.data_offset)
    block = header.block_size
    if header.header_version >> 16 != c_vhd.FILE_FORMAT_VERSION_MAJOR:
        raise UnsupportedImage(file.path, f"its dynamic disk header has the version {header.header_version:#x}")
    if block < SECTOR_BYTES or block & (block - 1) or block > _MAX_BLOCK_BYTES:
        raise BadImage(file.path, f"its blocks have {block} bytes; only powers of two from 512 to 256 Mi are possible")
    if header.max_table_entries * block < size:
        problem = f"its table has {header.max_table_entries} entries for blocks of {block} bytes"
        raise BadImage(file.path, f"{problem}: too few for a disk of {size} bytes")
    bat_bytes = header.max_table_entries * c_vhd.BAT_ENTRY_BYTES
    file.require(bat_bytes, header.table_offset, "the block allocation table")
    return header, footer.data_offset


def _facts(footer: VhdFooter, variant: str, notes: tuple[str, ...], dirty: tuple[str, ...]) -> ImageFacts:
    version = f"{footer.creator_version >> 16}.{footer.creator_version & 0xFFFF}"
    creator = creator_name(footer)
    identifiers = (("uuid", str(footer.unique_id)),)
    return ImageFacts(
        "vhd", variant, creator=creator, creator_version=version, identifiers=identifiers, dirty=dirty, notes=notes
    )


def independent_reader(path: Path) -> Any:
    """The same disk through libvhdi, as a second opinion: ``media_size``, ``read_buffer_at_offset``.

    Slow, and silent about allocation; reads VHD and VHDX. Close it. Raises OSError.
    """
    import pyvhdi

    opened = pyvhdi.file()
    opened.open(str(path))
    return opened
