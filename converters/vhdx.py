"""VHDX, fixed and dynamic, by the structures of ``c_vhdx``.

A log that still holds entries would have to be replayed first; such images are refused, since the tables
in them are not the current ones. Differencing disks are refused. Of blocks that are not fully present
only zeroes can be said: NOT_PRESENT, UNDEFINED, ZERO and UNMAPPED all read as zero in a disk without parent.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from converters import c_vhdx
from converters.c_vhdx import MIB, MetadataItem, Region, VhdxHeader
from converters.extents import data, hole
from converters.info import ImageFacts
from converters.mapped import MappedDisk, MetadataRange
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, UnsupportedImage

# A log is 1 MiB by default; one so large that it cannot be looked through is taken to hold entries.
_MAX_LOG_SCANNED = 64 * MIB
_READS_AS_ZERO = (
    c_vhdx.PAYLOAD_BLOCK_NOT_PRESENT,
    c_vhdx.PAYLOAD_BLOCK_UNDEFINED,
    c_vhdx.PAYLOAD_BLOCK_ZERO,
    c_vhdx.PAYLOAD_BLOCK_UNMAPPED,
)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The metadata items that say what the disk is."""

    block_size: int
    leave_allocated: bool
    virtual_size: int
    disk_id: uuid.UUID
    logical_sector: int
    physical_sector: int


class VhdxLayout:
    """A BAT of payload blocks, with a sector bitmap entry after each ``chunk ratio`` of them."""

    def __init__(self, file: SourceFile, parameters: _Parameters, bat: Region, metadata: Region, log: Region) -> None:
        self._file = file
        self._parameters = parameters
        self._bat_region = bat
        self._metadata_region = metadata
        self._reserved = (bat, metadata, log)
        self._chunk_ratio = (1 << 23) * parameters.logical_sector // parameters.block_size
        self._blocks = -(-parameters.virtual_size // parameters.block_size)
        self._entries = self._blocks + (self._blocks - 1) // self._chunk_ratio
        self._bat = EntryPages(file, 8, "little", "the block allocation table")
        if self._entries * c_vhdx.BAT_ENTRY_BYTES > bat.length:
            problem = f"its table has {bat.length} bytes, too few for {self._entries} entries"
            raise BadImage(file.path, problem)

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._parameters.virtual_size

    @property
    def block_bytes(self) -> int:
        """Bytes in a payload block."""
        return self._parameters.block_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Payload blocks that cover a range; adjacent ones of one kind as one piece."""
        block = start // self.block_bytes
        last = min(-(-end // self.block_bytes), self._blocks)
        while block < last:
            # Runs must not step over the sector bitmap entry that ends each chunk.
            chunk = block // self._chunk_ratio
            stop = min(last, (chunk + 1) * self._chunk_ratio)
            table = self._bat_region.file_offset
            runs = self._bat.runs(table, self._entries, block + chunk, stop + chunk, self._step)
            for index, count, entry in runs:
                yield self._piece(index - chunk, count, entry)
            block = stop

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        return self.lookup(0, self.virtual_size)

    def metadata(self) -> Iterator[MetadataRange]:
        """Both headers, the metadata region's items and the BAT; the log is empty."""
        for offset in (*c_vhdx.HEADER_OFFSETS, *c_vhdx.REGION_TABLE_OFFSETS):
            yield MetadataRange(self._file, offset, c_vhdx.HEADER_BYTES)
        items = self._metadata_region
        yield MetadataRange(self._file, items.file_offset, min(items.length, MIB))
        yield MetadataRange(self._file, self._bat_region.file_offset, self._entries * c_vhdx.BAT_ENTRY_BYTES)

    def _step(self, entry: int) -> int:
        present = entry & c_vhdx.BAT_STATE_MASK == c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT
        return self.block_bytes // MIB << c_vhdx.BAT_OFFSET_SHIFT if present else 0

    def _piece(self, block: int, count: int, entry: int) -> Extent:
        offset, length = block * self.block_bytes, count * self.block_bytes
        state = entry & c_vhdx.BAT_STATE_MASK
        if state in _READS_AS_ZERO:
            return hole(offset, length)
        if state != c_vhdx.PAYLOAD_BLOCK_FULLY_PRESENT:
            raise BadImage(self._file.path, f"block {block} has the state {state}, which a disk without parent has not")
        if entry & c_vhdx.BAT_RESERVED_MASK:
            raise BadImage(self._file.path, f"block {block} has the impossible table entry {entry:#x}")
        at = (entry >> c_vhdx.BAT_OFFSET_SHIFT) * MIB
        self._check_place(block, min(length, self.virtual_size - offset), at)
        return data(offset, length, self._file.path, at)

    def _check_place(self, block: int, needed: int, at: int) -> None:
        if at + needed > self._file.size:
            inside = max(0, self._file.size - at) // self.block_bytes
            at += inside * self.block_bytes
            raise past_the_end(self._file, f"block {block + inside}", self.block_bytes, at)
        clash = any(at < r.file_offset + r.length and at + needed > r.file_offset for r in self._reserved)
        if at < c_vhdx.HEADER_SECTION_BYTES or clash:
            raise BadImage(self._file.path, f"block {block} lies at byte {at}, over the image's own tables")


def open_vhdx(file: SourceFile, _opening: Opening) -> MappedDisk:
    """Open a fixed or dynamic VHDX.

    Raises BadImage (damaged or cut short), UnsupportedImage (differencing, log not replayed).
    """
    identifier = file.read_exactly(c_vhdx.FILE_IDENTIFIER_BYTES, 0, "the file identifier")
    header = _current_header(file)
    dirty, notes = _check_log(file, header)
    regions = _regions(file)
    bat, metadata = regions[c_vhdx.REGION_BAT], regions[c_vhdx.REGION_METADATA]
    parameters = _parameters(file, metadata)
    log = Region(c_vhdx.NO_GUID, header.log_offset, header.log_length, required=True)
    layout = VhdxLayout(file, parameters, bat, metadata, log)
    facts = ImageFacts(
        "vhdx",
        "fixed" if parameters.leave_allocated else "dynamic",
        parameters.logical_sector,
        parameters.physical_sector,
        creator=identifier[8:].decode("utf-16-le", "replace").split("\0", 1)[0],
        identifiers=(
            ("virtual disk id", str(parameters.disk_id)),
            ("data write guid", str(header.data_write_guid)),
            ("file write guid", str(header.file_write_guid)),
        ),
        dirty=dirty,
        notes=notes,
    )
    return MappedDisk(layout, (file,), facts)


def _current_header(file: SourceFile) -> VhdxHeader:
    found: list[VhdxHeader] = []
    problems: list[str] = []
    for offset in c_vhdx.HEADER_OFFSETS:
        raw = file.pread(c_vhdx.HEADER_BYTES, offset)
        if len(raw) < c_vhdx.HEADER_BYTES:
            problems.append(f"the header at byte {offset} is past the end of the file ({file.size} bytes)")
        elif not raw.startswith(c_vhdx.HEADER_SIGNATURE):
            problems.append(f"there is no header at byte {offset}")
        elif c_vhdx.unpack_header(raw).checksum != c_vhdx.checksum(raw):
            problems.append(f"the header at byte {offset} has a wrong checksum")
        else:
            found.append(c_vhdx.unpack_header(raw))
    if not found:
        raise BadImage(file.path, " and ".join(problems))
    header = max(found, key=lambda candidate: candidate.sequence_number)
    if header.version != c_vhdx.HEADER_VERSION:
        raise UnsupportedImage(file.path, f"is a VHDX of version {header.version}")
    return header


def _check_log(file: SourceFile, header: VhdxHeader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Signs of damage and notes about the log; raises UnsupportedImage when it would have to be replayed."""
    if header.log_guid == c_vhdx.NO_GUID:
        return (), ()
    file.require(header.log_length, header.log_offset, "the log")
    if header.log_length > _MAX_LOG_SCANNED or _log_has_entries(file, header):
        raise UnsupportedImage(
            file.path,
            "was not closed cleanly: its log holds changes that are not yet in its tables",
            "Attach it once on its Hyper-V host (Mount-VHD, Dismount-VHD) or start and shut down the machine, "
            "then copy it again; QEMU replays a copy's log too (qemu-img check -r all -f vhdx COPY).",
        )
    return ("log not empty",), ("its header names a log, but the log holds no entries; nothing is missing",)


def _log_has_entries(file: SourceFile, header: VhdxHeader) -> bool:
    # Conservative: an entry of this log counts whether or not its checksum is right.
    for base in range(0, header.log_length, MIB):
        chunk = file.pread(min(MIB, header.log_length - base), header.log_offset + base)
        for at in range(0, len(chunk), c_vhdx.LOG_SECTOR_BYTES):
            signed = chunk.startswith(c_vhdx.LOG_ENTRY_SIGNATURE, at)
            if signed and chunk[at + 32 : at + 48] == header.log_guid.bytes_le:
                return True
    return False


def _regions(file: SourceFile) -> dict[uuid.UUID, Region]:
    problems: list[str] = []
    for offset in c_vhdx.REGION_TABLE_OFFSETS:
        raw = file.read_exactly(c_vhdx.REGION_TABLE_BYTES, offset, "a region table")
        stored = int.from_bytes(raw[4:8], "little")
        if not raw.startswith(c_vhdx.REGION_SIGNATURE) or stored != c_vhdx.checksum(raw):
            problems.append(f"the region table at byte {offset} is damaged")
            continue
        entries = c_vhdx.unpack_region_table(raw)
        if entries is not None:
            return _checked_regions(file, entries)
        problems.append(f"the region table at byte {offset} has too many entries")
    raise BadImage(file.path, " and ".join(problems))


def _checked_regions(file: SourceFile, entries: tuple[Region, ...]) -> dict[uuid.UUID, Region]:
    regions: dict[uuid.UUID, Region] = {}
    for region in entries:
        if region.guid not in (c_vhdx.REGION_BAT, c_vhdx.REGION_METADATA):
            if region.required:
                raise UnsupportedImage(file.path, f"needs the unknown region {region.guid}")
            continue
        if region.guid in regions:
            raise BadImage(file.path, f"its region table names {region.guid} twice")
        if region.file_offset < c_vhdx.HEADER_SECTION_BYTES or region.file_offset % MIB or region.length % MIB:
            problem = f"a region lies at byte {region.file_offset} ({region.length} bytes), where none can be"
            raise BadImage(file.path, problem)
        file.require(region.length, region.file_offset, "a region")
        regions[region.guid] = region
    for guid, name in ((c_vhdx.REGION_BAT, "block allocation table"), (c_vhdx.REGION_METADATA, "metadata")):
        if guid not in regions:
            raise BadImage(file.path, f"its region table names no {name}")
    return regions


def _parameters(file: SourceFile, metadata: Region) -> _Parameters:
    items = _metadata_items(file, metadata)
    parameter_bytes = _item(file, metadata, items, c_vhdx.FILE_PARAMETERS, 8)
    block_size, flags = struct.unpack("<II", parameter_bytes)
    if flags & c_vhdx.HAS_PARENT:
        raise UnsupportedImage(
            file.path,
            "is a differencing VHDX, which needs its parent",
            "Merge it into its parent with the tool that made it.",
        )
    if block_size & (block_size - 1) or not c_vhdx.MIN_BLOCK_BYTES <= block_size <= c_vhdx.MAX_BLOCK_BYTES:
        raise BadImage(file.path, f"its blocks have {block_size} bytes; possible are powers of two from 1 to 256 MiB")
    sectors = []
    for item_id, name in ((c_vhdx.LOGICAL_SECTOR_SIZE, "logical"), (c_vhdx.PHYSICAL_SECTOR_SIZE, "physical")):
        sectors.append(int.from_bytes(_item(file, metadata, items, item_id, 4), "little"))
        if sectors[-1] not in (512, 4096):
            raise BadImage(file.path, f"its {name} sectors have {sectors[-1]} bytes")
    size = int.from_bytes(_item(file, metadata, items, c_vhdx.VIRTUAL_DISK_SIZE, 8), "little")
    if size == 0 or size > c_vhdx.MAX_VIRTUAL_BYTES or size % sectors[0]:
        raise BadImage(file.path, f"it says a disk of {size} bytes with sectors of {sectors[0]}")
    disk_id = uuid.UUID(bytes_le=_item(file, metadata, items, c_vhdx.VIRTUAL_DISK_ID, 16))
    leave = bool(flags & c_vhdx.LEAVE_BLOCK_ALLOCATED)
    return _Parameters(block_size, leave, size, disk_id, sectors[0], sectors[1])


def _metadata_items(file: SourceFile, metadata: Region) -> dict[uuid.UUID, MetadataItem]:
    raw = file.read_exactly(c_vhdx.METADATA_TABLE_BYTES, metadata.file_offset, "the metadata table")
    entries = c_vhdx.unpack_metadata_table(raw) if raw.startswith(c_vhdx.METADATA_SIGNATURE) else None
    if entries is None:
        raise BadImage(file.path, f"the metadata table at byte {metadata.file_offset} is damaged")
    items: dict[uuid.UUID, MetadataItem] = {}
    for item in entries:
        if item.flags & c_vhdx.METADATA_IS_USER:
            continue
        if item.item_id not in c_vhdx.KNOWN_METADATA and item.flags & c_vhdx.METADATA_IS_REQUIRED:
            raise UnsupportedImage(file.path, f"needs the unknown metadata item {item.item_id}")
        if item.item_id in items:
            raise BadImage(file.path, f"its metadata table names {item.item_id} twice")
        items[item.item_id] = item
    return items


def _item(
    file: SourceFile, metadata: Region, items: dict[uuid.UUID, MetadataItem], item_id: uuid.UUID, length: int
) -> bytes:
    item = items.get(item_id)
    if item is None:
        raise BadImage(file.path, f"its metadata has no item {item_id}")
    inside = item.offset >= c_vhdx.METADATA_TABLE_BYTES and item.offset + length <= metadata.length
    if item.length != length or not inside:
        problem = f"its metadata item {item_id} has {item.length} bytes at {item.offset}, where none can be"
        raise BadImage(file.path, problem)
    return file.read_exactly(length, metadata.file_offset + item.offset, f"the metadata item {item_id}")
