"""VHDX, fixed, dynamic and differencing, by the structures of ``c_vhdx`` ([MS-VHDX]).

A log that still holds entries is replayed in memory (``vhdx_log``). Blocks in the states UNDEFINED, ZERO and UNMAPPED read as
zero in any disk, NOT_PRESENT in a disk without parent: the specification allows zeroes for all of them, and nothing else
keeps data of somebody else's out of the copy.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from converters import c_vhdx
from converters.c_vhdx import MIB, Region
from converters.extents import Occupancy, beneath, data, hole
from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import MappedDisk, MetadataRange
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from converters.vhdx_log import ReplayedFile, replayed
from converters.vhdx_metadata import Parameters, ParentLinks, current_header, parameters_of, regions_of
from p2v.core.disk import Extent, StoredAt
from p2v.core.errors import BadImage, WrongParent

_READS_AS_ZERO = (c_vhdx.PAYLOAD_BLOCK_UNDEFINED, c_vhdx.PAYLOAD_BLOCK_ZERO, c_vhdx.PAYLOAD_BLOCK_UNMAPPED)
_BITMAP_PAGE_BYTES = 4096
_BITMAP_PAGES_KEPT = 64
# bit 0 of byte 0 is the first sector's: text of each byte's bits in the sectors' order
_BITS = tuple(f"{byte:08b}"[::-1] for byte in range(256))


class VhdxLayout:
    """A BAT of payload blocks, with a sector bitmap entry after each ``chunk ratio`` of them.

    ``file`` is what structures are read from, ``stored`` the path under which plain bytes are handed out: another one
    where a log was replayed.
    """

    def __init__(
        self, file: SourceFile, stored: SourceFile, parameters: Parameters, bat: Region, reserved: tuple[Region, ...]
    ) -> None:
        self._file = file
        self._stored = stored
        self._parameters = parameters
        self._bat_region = bat
        self._reserved = reserved
        self._chunk_ratio = parameters.chunk_ratio
        self._blocks = -(-parameters.virtual_size // parameters.block_size)
        chunks = -(-self._blocks // self._chunk_ratio)
        self._has_parent = parameters.parent is not None
        # A differencing disk's table reaches to the last chunk's bitmap, any other's to the last payload block.
        self._entries = chunks * (self._chunk_ratio + 1) if self._has_parent else self._blocks + chunks - 1
        self._bat = EntryPages(file, 8, "little", "the block allocation table")
        self._own_sectors = functools.lru_cache(maxsize=_BITMAP_PAGES_KEPT)(self._read_bitmap)
        if self._entries * c_vhdx.BAT_ENTRY_BYTES > bat.length:
            problem = f"its table has {bat.length} bytes, too few for {self._entries} entries"
            raise BadImage(file.path, problem)

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._parameters.virtual_size

    @property
    def block_bytes(self) -> int:
        """0: pieces may be smaller than blocks, so walk() looks for blocks that share their bytes itself."""
        return 0

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Pieces that cover a range."""
        for piece in self._blocks_of(start, end):
            yield from self._pieces_of(piece, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        occupancy = Occupancy(self._parameters.block_size)
        for piece in self._blocks_of(0, self.virtual_size):
            occupancy.add(piece)
            yield from self._pieces_of(piece, piece.offset, piece.end)

    def metadata(self) -> Iterator[MetadataRange]:
        """Headers and region tables, the metadata region's items, the BAT and the log."""
        for offset in (*c_vhdx.HEADER_OFFSETS, *c_vhdx.REGION_TABLE_OFFSETS):
            yield MetadataRange(self._stored, offset, c_vhdx.HEADER_BYTES)
        for region in self._reserved:
            if region != self._bat_region:
                yield MetadataRange(self._stored, region.file_offset, min(region.length, MIB))
        yield MetadataRange(self._stored, self._bat_region.file_offset, self._entries * c_vhdx.BAT_ENTRY_BYTES)

    def _blocks_of(self, start: int, end: int) -> Iterator[Extent]:
        """Payload blocks that cover a range, adjacent ones of one kind as one piece; partial ones are ``data`` alone."""
        size = self._parameters.block_size
        block, last = start // size, min(-(-end // size), self._blocks)
        while block < last:
            # Runs must not step over the sector bitmap entry that ends each chunk.
            chunk = block // self._chunk_ratio
            stop = min(last, (chunk + 1) * self._chunk_ratio)
            table = self._bat_region.file_offset
            runs = self._bat.runs(table, self._entries, block + chunk, stop + chunk, self._step)
            for index, count, entry in runs:
                yield from self._run(index - chunk, count, entry)
            block = stop

    def _step(self, entry: int) -> int:
        stored = entry & c_vhdx.BAT_STATE_MASK >= c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT
        return self._parameters.block_size // MIB << c_vhdx.BAT_OFFSET_SHIFT if stored else 0

    def _run(self, block: int, count: int, entry: int) -> Iterator[Extent]:
        size = self._parameters.block_size
        state = entry & c_vhdx.BAT_STATE_MASK
        if state == c_vhdx.PAYLOAD_BLOCK_NOT_PRESENT:
            yield (beneath if self._has_parent else hole)(block * size, count * size)
            return
        if state in _READS_AS_ZERO:
            yield hole(block * size, count * size)
            return
        partial = state == c_vhdx.PAYLOAD_BLOCK_PARTIALLY_PRESENT and self._has_parent
        if state != c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT and not partial:
            raise BadImage(self._file.path, f"block {block} has the state {state}, which such a disk has not")
        if entry & c_vhdx.BAT_RESERVED_MASK:
            raise BadImage(self._file.path, f"block {block} has the impossible table entry {entry:#x}")
        at = (entry >> c_vhdx.BAT_OFFSET_SHIFT) * MIB
        length = count * size
        self._check_place(f"block {block}", block, min(length, self.virtual_size - block * size), at)
        yield data(block * size, length, self._stored.path, at)

    def _check_place(self, what: str, block: int, needed: int, at: int) -> None:
        if at + needed > self._file.size:
            inside = max(0, self._file.size - at) // self._parameters.block_size
            at += inside * self._parameters.block_size
            what = f"block {block + inside}" if inside else what
            raise past_the_end(self._file, what, self._parameters.block_size, at)
        clash = any(at < r.file_offset + r.length and at + needed > r.file_offset for r in self._reserved)
        if at < c_vhdx.HEADER_SECTION_BYTES or clash:
            raise BadImage(self._file.path, f"{what} lies at byte {at}, over the image's own tables")

    def _pieces_of(self, piece: Extent, start: int, end: int) -> Iterator[Extent]:
        """A run of blocks by what its bits say, and by where its bytes stand once the log is applied."""
        if piece.stored is None:
            yield piece
        elif not self._has_parent:
            yield from self._placed(piece)
        else:
            size = self._parameters.block_size
            first, last = max(piece.offset, start) // size, -(-min(piece.end, end) // size)
            for block in range(first, last):
                at = StoredAt(piece.stored.file, piece.stored.offset + block * size - piece.offset)
                yield from self._own_block(block, at, start, end)

    def _own_block(self, block: int, stored: StoredAt, start: int, end: int) -> Iterator[Extent]:
        size = self._parameters.block_size
        offset = block * size
        entry = self._bat.entry(self._bat_region.file_offset, self._entries, block + block // self._chunk_ratio)
        if entry & c_vhdx.BAT_STATE_MASK == c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT:
            yield from self._placed(data(offset, size, stored.file, stored.offset))
            return
        sector = self._parameters.logical_sector
        at, stop = max(start, offset) // sector * sector, min(end, offset + size)
        while at < stop:
            is_own, reach = self._bit_run(block, (at - offset) // sector, -(-(stop - offset) // sector))
            length = reach * sector + offset - at
            if is_own:
                yield from self._placed(data(at, length, stored.file, stored.offset + at - offset))
            else:
                yield beneath(at, length)
            at += length

    def _bit_run(self, block: int, sector: int, limit: int) -> tuple[bool, int]:
        """Whether a block's sector is its own, and the first sector after it that is otherwise (or a page's end)."""
        per_block = self._parameters.block_size // self._parameters.logical_sector
        in_chunk = block % self._chunk_ratio * per_block + sector
        page, bit = divmod(in_chunk, _BITMAP_PAGE_BYTES * 8)
        bits = self._own_sectors(block // self._chunk_ratio, page)
        is_own = bits[bit] == "1"
        last = min(len(bits), bit + limit - sector)
        found = bits.find("0" if is_own else "1", bit, last)
        return is_own, sector + (last if found < 0 else found) - bit

    def _read_bitmap(self, chunk: int, page: int) -> str:
        """A page of a chunk's sector bitmap as text, for ``str.find`` is the quickest search for a bit Python has."""
        index = chunk * (self._chunk_ratio + 1) + self._chunk_ratio
        entry = self._bat.entry(self._bat_region.file_offset, self._entries, index)
        if entry & c_vhdx.BAT_STATE_MASK != c_vhdx.SB_BLOCK_PRESENT:
            problem = f"a block of chunk {chunk} is present in part, but its sector bitmap is not ({entry:#x})"
            raise BadImage(self._file.path, problem)
        at = (entry >> c_vhdx.BAT_OFFSET_SHIFT) * MIB
        what = f"the sector bitmap of chunk {chunk}"
        self._file.require(c_vhdx.SECTOR_BITMAP_BYTES, at, what)
        self._check_place(what, 0, c_vhdx.SECTOR_BITMAP_BYTES, at)
        raw = self._file.read_exactly(_BITMAP_PAGE_BYTES, at + page * _BITMAP_PAGE_BYTES, what)
        return "".join([_BITS[byte] for byte in raw])

    def _placed(self, piece: Extent) -> Iterator[Extent]:
        """A stored piece as the replayed log leaves it."""
        if not isinstance(self._file, ReplayedFile) or piece.stored is None:
            yield piece
            return
        base = piece.stored.offset - piece.offset
        # a block may reach past the disk's end, and there past the file's
        end = min(piece.end, self.virtual_size)
        for start, stop, kind in self._file.parts(piece.stored.offset, base + end):
            if kind == "zero":
                yield Extent(start - base, stop - start, zero=True, allocated=True)
            else:
                source = self._stored if kind == "file" else self._file
                yield data(start - base, stop - start, source.path, start)


def open_vhdx(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a VHDX of any type, with its parents.

    Raises BadImage (damaged or cut short), UnsupportedImage, ParentMissing, WrongParent, ForbiddenReference.
    """
    identifier = file.read_exactly(c_vhdx.FILE_IDENTIFIER_BYTES, 0, "the file identifier")
    header = current_header(file)
    view, dirty, notes = replayed(file, header)
    regions = regions_of(view)
    bat, metadata = regions[c_vhdx.REGION_BAT], regions[c_vhdx.REGION_METADATA]
    parameters = parameters_of(view, metadata)
    log = Region(c_vhdx.NO_GUID, header.log_offset, header.log_length, required=True)
    layout = VhdxLayout(view, file, parameters, bat, (bat, metadata, log))
    kind = "differencing" if parameters.parent else "fixed" if parameters.leave_allocated else "dynamic"
    facts = ImageFacts(
        "vhdx",
        kind,
        parameters.logical_sector,
        parameters.physical_sector,
        tells_sectors=True,
        creator=identifier[8:].decode("utf-16-le", "replace").split("\0", 1)[0],
        identifiers=(
            ("virtual disk id", str(parameters.disk_id)),
            ("data write guid", str(header.data_write_guid)),
            ("file write guid", str(header.file_write_guid)),
        ),
        dirty=dirty,
        notes=notes,
    )
    files = (file,) if view is file else (file, view)
    if parameters.parent is None:
        return MappedDisk(layout, files, facts)
    return chained(layout, files, facts, _open_parent(file, parameters, parameters.parent, opening))


def _open_parent(file: SourceFile, parameters: Parameters, links: ParentLinks, opening: Opening) -> MappedDisk:
    parent = opening.parent(file, links.names, "vhdx")
    found = dict(parent.facts.identifiers).get("data write guid", "")
    problem = ""
    if found not in {str(linkage) for linkage in links.linkages}:
        wanted = " or ".join(str(linkage) for linkage in links.linkages)
        problem = f"was made over the contents {wanted}, but {parent.files[0].name} has {found or 'no such id'}"
    elif parent.facts.logical_sector_size != parameters.logical_sector:
        problem = (
            f"has sectors of {parameters.logical_sector} bytes, but its parent {parent.files[0].name} of "
            f"{parent.facts.logical_sector_size}"
        )
    if problem:
        parent.close()
        raise WrongParent(file.path, problem)
    return parent
