"""Headers, regions and metadata of a VHDX: which of the copies counts, and what the disk is."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field

from converters import c_vhdx
from converters.c_vhdx import MIB, MetadataItem, Region, VhdxHeader
from converters.source_file import SourceFile
from p2v.core.errors import BadImage, UnsupportedImage


@dataclass(frozen=True, slots=True)
class ParentLinks:
    """What a differencing disk says of its parent: the DataWriteGuids it may have, and its names in the order to try."""

    linkages: tuple[uuid.UUID, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The metadata items that say what the disk is."""

    block_size: int
    leave_allocated: bool
    virtual_size: int
    disk_id: uuid.UUID
    logical_sector: int
    physical_sector: int
    parent: ParentLinks | None = field(default=None)

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks that share a sector bitmap block."""
        return (1 << 23) * self.logical_sector // self.block_size


def current_header(file: SourceFile) -> VhdxHeader:
    """The newer of the two headers that are sound. Raises BadImage, UnsupportedImage."""
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


def regions_of(file: SourceFile) -> dict[uuid.UUID, Region]:
    """The BAT and metadata regions by their GUID, from the first sound region table. Raises BadImage, UnsupportedImage."""
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


def parameters_of(file: SourceFile, metadata: Region) -> Parameters:
    """The disk's parameters. Raises BadImage, UnsupportedImage."""
    items = _metadata_items(file, metadata)
    parameter_bytes = _item(file, metadata, items, c_vhdx.FILE_PARAMETERS, 8)
    block_size, flags = struct.unpack("<II", parameter_bytes)
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
    parent = _parent_links(file, metadata, items) if flags & c_vhdx.HAS_PARENT else None
    leave = bool(flags & c_vhdx.LEAVE_BLOCK_ALLOCATED)
    return Parameters(block_size, leave, size, disk_id, sectors[0], sectors[1], parent)


def _parent_links(file: SourceFile, metadata: Region, items: dict[uuid.UUID, MetadataItem]) -> ParentLinks:
    item = items.get(c_vhdx.PARENT_LOCATOR)
    length = item.length if item is not None else 0
    if not c_vhdx.PARENT_LOCATOR_HEADER_BYTES <= length <= c_vhdx.MAX_METADATA_ITEM_BYTES:
        raise BadImage(file.path, f"has a parent, but its parent locator has {length} bytes")
    found = c_vhdx.unpack_parent_locator(_item(file, metadata, items, c_vhdx.PARENT_LOCATOR, length))
    if found is None:
        raise BadImage(file.path, "an entry of its parent locator lies outside of it")
    kind, values = found
    if kind != c_vhdx.PARENT_LOCATOR_VHDX:
        raise UnsupportedImage(file.path, f"has a parent of the unknown kind {kind}")
    linkages = tuple(_guid(file, values[key]) for key in ("parent_linkage", "parent_linkage2") if key in values)
    if not linkages:
        raise BadImage(file.path, "its parent locator has no parent_linkage")
    # in the order [MS-VHDX] 2.6.2.6.3 demands
    names = tuple(values[key] for key in ("relative_path", "volume_path", "absolute_win32_path") if values.get(key))
    return ParentLinks(linkages, names)


def _guid(file: SourceFile, text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text.strip("\0"))
    except ValueError as error:
        raise BadImage(file.path, f"its parent locator names {text[:80]!a} as its parent's id") from error


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
