"""VHD, fixed and dynamic, by the structures of ``c_vhd``.

Three rules where the specification leaves room:

* **Size.** Virtual PC, Virtual Server and QEMU's ``qemu`` creator presented a disk by the footer's
  geometry; every other creator (Hyper-V ``win ``, QEMU with force_size ``qem2``, disk2vhd ``d2v ``,
  VirtualBox ``vbox``, XenServer ``tap``/``CTXS``, Azure ``wa``) by ``current size``. So geometry counts
  for the three, unless it is the largest possible one (which means "too large") or exceeds the current size.
* **Sector bitmaps** of dynamic disks are not looked at: an allocated block's data counts whatever its
  bitmap says, as in Virtual PC, Hyper-V and QEMU. They matter in differencing disks only.
* **The footer** at the end counts; when it is damaged or missing, its copy at the start does, and
  then the whole allocation table is checked against the file's size at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters import c_vhd
from converters.c_vhd import DynamicHeader, VhdFooter
from converters.extents import data, hole
from converters.info import ImageFacts
from converters.mapped import MappedDisk, MetadataRange
from converters.raw import FlatLayout
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end, shown
from converters.tables import EntryPages
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_MAX_BLOCK_BYTES = 256 * 1024 * 1024
_BY_GEOMETRY = (c_vhd.CREATOR_VIRTUAL_PC, c_vhd.CREATOR_VIRTUAL_SERVER, c_vhd.CREATOR_QEMU_BY_GEOMETRY)


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


def open_vhd(file: SourceFile, _opening: Opening) -> MappedDisk:
    """Open a fixed or dynamic VHD.

    Raises BadImage (damaged or cut short), UnsupportedImage (differencing disks, other versions).
    """
    footer, footer_offset, notes, dirty = _choose_footer(file)
    if footer.file_format_version >> 16 != c_vhd.FILE_FORMAT_VERSION_MAJOR:
        raise UnsupportedImage(file.path, f"is a VHD of format version {footer.file_format_version:#x}")
    size = _virtual_size(file, footer)
    if size != footer.current_size:
        notes += (
            f"the size is the footer's geometry ({size} bytes), as its creator presents it, not its "
            f"current size ({footer.current_size})",
        )
    if footer.saved_state:
        dirty += ("saved state",)
    if footer.disk_type == c_vhd.DISK_TYPE_FIXED:
        if size > footer_offset:
            raise BadImage(file.path, f"its footer says {size} bytes of disk, but {footer_offset} stand before it")
        return MappedDisk(_FlatVhd(file, size, footer_offset), (file,), _facts(footer, "fixed", notes, dirty))
    if footer.disk_type == c_vhd.DISK_TYPE_DYNAMIC:
        layout = _dynamic_layout(file, footer, size, footer_offset)
        if footer_offset == file.size:
            for _ in layout.walk():
                pass
        return MappedDisk(layout, (file,), _facts(footer, "dynamic", notes, dirty))
    if footer.disk_type == c_vhd.DISK_TYPE_DIFFERENCING:
        parent = shown(_header_at(file, footer.data_offset).parent_unicode_name)
        raise UnsupportedImage(
            file.path,
            f"is a differencing VHD; its parent is called {parent}",
            "Merge it into its parent with the tool that made it.",
        )
    raise BadImage(file.path, f"its VHD footer names the unknown disk type {footer.disk_type}")


def find_footer_offset(size: int, tail: bytes) -> int | None:
    """Where the footer at a file's end begins, given its last bytes (512 or more); None without a cookie."""
    lengths = (c_vhd.FOOTER_BYTES, c_vhd.OLD_FOOTER_BYTES)
    found = (n for n in lengths if n <= len(tail) and tail.startswith(c_vhd.FOOTER_COOKIE, len(tail) - n))
    return next((size - n for n in found), None)


def _choose_footer(file: SourceFile) -> tuple[VhdFooter, int, tuple[str, ...], tuple[str, ...]]:
    """The footer that counts, where the data before it ends, notes and signs of damage."""
    tail = file.pread(c_vhd.FOOTER_BYTES, max(0, file.size - c_vhd.FOOTER_BYTES))
    offset = find_footer_offset(file.size, tail)
    problem = "the footer at its end is missing"
    if offset is not None:
        raw = file.pread(file.size - offset, offset)
        footer = c_vhd.unpack_footer(raw)
        expected = c_vhd.checksum(raw, c_vhd.FOOTER_CHECKSUM_OFFSET)
        if footer.checksum == expected:
            return footer, offset, (), ()
        problem = f"the footer at byte {offset} has the checksum {footer.checksum:#x} instead of {expected:#x}"
    copy = file.pread(c_vhd.FOOTER_BYTES, 0)
    if len(copy) == c_vhd.FOOTER_BYTES and copy.startswith(c_vhd.FOOTER_COOKIE):
        footer = c_vhd.unpack_footer(copy)
        sound = footer.checksum == c_vhd.checksum(copy, c_vhd.FOOTER_CHECKSUM_OFFSET)
        if sound and footer.disk_type != c_vhd.DISK_TYPE_FIXED:
            note = f"{problem}; its copy at the start was used"
            return footer, file.size if offset is None else offset, (note,), ("footer damaged",)
        problem += ", and its copy at the start is damaged too"
    raise BadImage(file.path, problem)


def _virtual_size(file: SourceFile, footer: VhdFooter) -> int:
    size = footer.current_size
    if size <= 0 or size > c_vhd.MAX_VIRTUAL_BYTES or size % SECTOR_BYTES:
        raise BadImage(file.path, f"its VHD footer says a disk of {size} bytes")
    sectors = footer.geometry_sectors
    by_geometry = footer.creator_application in _BY_GEOMETRY and 0 < sectors < c_vhd.MAX_GEOMETRY_SECTORS
    return min(size, sectors * SECTOR_BYTES) if by_geometry else size


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


def _dynamic_layout(file: SourceFile, footer: VhdFooter, size: int, data_end: int) -> DynamicLayout:
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
    return DynamicLayout(file, header, footer.data_offset, size, data_end)


def _facts(footer: VhdFooter, variant: str, notes: tuple[str, ...], dirty: tuple[str, ...]) -> ImageFacts:
    version = f"{footer.creator_version >> 16}.{footer.creator_version & 0xFFFF}"
    creator = footer.creator_application.rstrip(" \0")
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
