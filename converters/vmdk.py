"""VMDK: one sparse file, a stream, or a descriptor with flat and sparse extents, by ``c_vmdk``.

Files a descriptor names are opened only in or below the image's own folder, and never where they are devices. The extent
line inside a one-file image names that file by the name it once had and is not followed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from converters import c_vmdk
from converters.extents import part_of
from converters.info import ImageFacts
from converters.mapped import Layout, MappedDisk, MetadataRange
from converters.raw import FlatLayout
from converters.references import Opening
from converters.source_file import SourceFile, shown
from converters.vmdk_descriptor import (
    MAX_DESCRIPTOR_BYTES,
    Descriptor,
    ExtentLine,
    is_descriptor,
    parse_descriptor,
)
from converters.vmdk_esx import open_cowd_extent, open_sesparse_extent
from converters.vmdk_parent import with_parent
from converters.vmdk_sparse import MAX_VIRTUAL_BYTES, judge_transfer, open_sparse_extent
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_FLAT_KINDS = ("FLAT", "VMFS")
_SPARSE_EXTENTS = (
    (c_vmdk.SPARSE_MAGIC, open_sparse_extent),
    (c_vmdk.COWD_MAGIC, open_cowd_extent),
    (c_vmdk.SESPARSE_MAGIC, open_sesparse_extent),
)
_SPARSE_KINDS = ("SPARSE", "VMFSSPARSE", "SESPARSE")
_DEVICE_KINDS = ("VMFSRAW", "VMFSRDM", "VMFSRDMP", "DEVICE")
# Disks that are devices, or partitions of one, as createType names them; in lower case.
_DEVICE_TYPES = (
    "fulldevice",
    "partitioneddevice",
    "vmfsraw",
    "vmfsrdm",
    "vmfsrdmp",
    "vmfsrawdevicemap",
    "vmfspassthroughrawdevicemap",
)
_DEVICE_NAME = re.compile(r"^(/dev/|/vmfs/devices/|//[.?]/)", re.IGNORECASE)
_NAME_THE_DESCRIPTOR = "Name the small text file (.vmdk) that lists the extents."
_GIVE_THE_DEVICE = "Give the device itself (the LUN or physical disk) as the source, or a copy of it."
_DECRYPT = "Decrypt the machine with the program that encrypted it, then convert the result."


class JoinedLayout:
    """The extents of a descriptor, one after the other; of each, only as many bytes as ``sizes`` says count."""

    # Sparse extents look for overlapping grains themselves.
    block_bytes = 0

    def __init__(self, parts: tuple[Layout, ...], sizes: tuple[int, ...], descriptor: MetadataRange) -> None:
        self._parts: list[tuple[int, int, Layout]] = []
        position = 0
        for part, size in zip(parts, sizes, strict=True):
            self._parts.append((position, size, part))
            position += size
        self._begins = [begin for begin, _, _ in self._parts]
        self._virtual_size = position
        self._descriptor = descriptor

    @property
    def parts(self) -> tuple[Layout, ...]:
        """The layouts of the extents, in order."""
        return tuple(part for _, _, part in self._parts)

    @property
    def virtual_size(self) -> int:
        """Bytes of the whole disk."""
        return self._virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Pieces of all extents that touch a range."""
        for begin, size, part in self._parts[max(0, bisect_right(self._begins, start) - 1) :]:
            if begin >= end:
                return
            if start < begin + size:
                inner = part.lookup(max(0, start - begin), min(size, end - begin))
                yield from _moved(inner, begin, size)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        for begin, size, part in self._parts:
            yield from _moved(part.walk(), begin, size)

    def metadata(self) -> Iterator[MetadataRange]:
        """The descriptor and each extent's own."""
        yield self._descriptor
        for _, _, part in self._parts:
            yield from part.metadata()


@dataclass(slots=True)
class _Opened:
    """What opening the extents of one descriptor has gathered so far."""

    image: SourceFile
    opening: Opening
    has_parent: bool
    on_failure: ExitStack
    sources: dict[Path, SourceFile] = field(default_factory=dict)
    sparse: set[Path] = field(default_factory=set)
    dirty: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_vmdk(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a VMDK, with its parents: a sparse file or stream with its descriptor inside, or a text descriptor.

    Raises BadImage, UnsupportedImage (devices, encrypted disks, other kinds of extents), ForbiddenReference,
    ParentMissing, WrongParent.
    """
    head = file.pread(2 * c_vmdk.HEADER_BYTES, 0)
    if head.startswith(c_vmdk.SPARSE_MAGIC):
        return _open_sparse_file(file, opening)
    if is_descriptor(head):
        raw = file.pread(min(file.size, MAX_DESCRIPTOR_BYTES + 1), 0)
        return _open_described(file, parse_descriptor(raw, file.path), opening, MetadataRange(file, 0, len(raw)))
    raise UnsupportedImage(file.path, "is an extent of an ESX snapshot (COWD or seSparse)", _NAME_THE_DESCRIPTOR)


def _open_sparse_file(file: SourceFile, opening: Opening) -> MappedDisk:
    header = c_vmdk.unpack_header(file.read_exactly(c_vmdk.HEADER_BYTES, 0, "the sparse extent header"))
    judge_transfer(file.path, header)
    length = header.descriptor_sectors * SECTOR_BYTES
    offset = header.descriptor_sector * SECTOR_BYTES
    file.require(length, offset, "the descriptor")
    # Writers reserve room after the text, which ends at its first NUL.
    raw = file.read_exactly(min(length, MAX_DESCRIPTOR_BYTES + 1), offset, "the descriptor")
    descriptor = parse_descriptor(raw, file.path)
    # QEMU reserves the room in every extent of a split disk and leaves it empty.
    if header.descriptor_sector == 0 or not descriptor.values:
        open_sparse_extent(file, has_parent=False)
        raise UnsupportedImage(file.path, "is one extent of a disk in several files", _NAME_THE_DESCRIPTOR)
    if header.capacity_sectors == 0 and header.gd_sector != c_vmdk.GD_AT_END:
        # No grains of its own: a descriptor that stands in a sparse extent's frame.
        return _open_described(file, descriptor, opening, MetadataRange(file, 0, min(file.size, offset + length)))
    _refuse_encrypted(file.path, descriptor)
    if len(descriptor.extents) > 1:
        raise BadImage(file.path, f"its descriptor names {len(descriptor.extents)} extents, but it holds one")
    extent = open_sparse_extent(file, has_parent=descriptor.has_parent)
    dirty = ("unclean shutdown",) if extent.dirty else ()
    facts = _facts(descriptor, descriptor.create_type or extent.variant, dirty, extent.notes)
    return _disk(extent.layout, (file,), facts, descriptor, opening)


def _open_described(file: SourceFile, descriptor: Descriptor, opening: Opening, described: MetadataRange) -> MappedDisk:
    _refuse_encrypted(file.path, descriptor)
    _refuse_devices(file, descriptor)
    if not descriptor.extents:
        raise BadImage(file.path, "its descriptor names no extents; it may be cut short")
    sizes = tuple(line.sectors * SECTOR_BYTES for line in descriptor.extents)
    if sum(sizes) > MAX_VIRTUAL_BYTES or sum(sizes) == 0:
        raise BadImage(file.path, f"its extents make a disk of {sum(sizes)} bytes", "The descriptor is damaged.")
    with ExitStack() as on_failure:
        opened = _Opened(file, opening, descriptor.has_parent, on_failure)
        parts = tuple(_open_extent(opened, number, line) for number, line in enumerate(descriptor.extents))
        layout = JoinedLayout(parts, sizes, described)
        files = (file, *opened.sources.values())
        variant = descriptor.create_type or "descriptor"
        facts = _facts(descriptor, variant, tuple(opened.dirty), tuple(opened.notes))
        disk = _disk(layout, files, facts, descriptor, opening)
        on_failure.pop_all()
    return disk


def _disk(
    layout: Layout, files: tuple[SourceFile, ...], facts: ImageFacts, descriptor: Descriptor, opening: Opening
) -> MappedDisk:
    if descriptor.has_parent:
        return with_parent(layout, files, facts, descriptor, opening)
    return MappedDisk(layout, files, facts)


def _open_extent(opened: _Opened, number: int, line: ExtentLine) -> Layout:
    image = opened.image
    length = line.sectors * SECTOR_BYTES
    if line.access == "NOACCESS":
        problem = f"its extent {number} ({shown(line.file_name)}) is marked NOACCESS: it may not be read"
        raise UnsupportedImage(image.path, problem)
    if line.kind == "ZERO":
        return FlatLayout(image, 0, 0, length)
    if line.kind not in (*_FLAT_KINDS, *_SPARSE_KINDS):
        raise UnsupportedImage(image.path, f"its extent {number} is of the unknown kind {shown(line.kind)}")
    source = opened.opening.beside(image, line.file_name)
    if source.path in opened.sources:
        source.close()
        source = opened.sources[source.path]
    else:
        opened.on_failure.callback(source.close)
        opened.sources[source.path] = source
    if line.kind in _FLAT_KINDS:
        offset = line.offset_sectors * SECTOR_BYTES
        source.require(length, offset, f"extent {number} of {image.path.name}")
        return FlatLayout(source, offset, length, length)
    return _sparse_layout(opened, number, line, source)


def _sparse_layout(opened: _Opened, number: int, line: ExtentLine, source: SourceFile) -> Layout:
    image, length = opened.image, line.sectors * SECTOR_BYTES
    magic = source.pread(len(c_vmdk.SESPARSE_MAGIC), 0)
    open_extent = next((known for sign, known in _SPARSE_EXTENTS if magic.startswith(sign)), None)
    if open_extent is None:
        raise BadImage(source.path, f"is a sparse extent of {image.path.name}, but has no header of one at byte 0")
    if source.path in opened.sparse:
        raise BadImage(image.path, f"its extent {number} is the sparse file {source.path.name}, as is one before")
    opened.sparse.add(source.path)
    extent = open_extent(source, has_parent=opened.has_parent)
    if extent.layout.virtual_size < length:
        problem = f"holds {extent.layout.virtual_size} bytes of disk; {image.path.name} says {length}"
        raise BadImage(source.path, problem)
    if extent.dirty:
        opened.dirty.append(f"unclean shutdown ({source.path.name})")
    opened.notes.extend(f"{source.path.name}: {note}" for note in extent.notes)
    return extent.layout


def _refuse_encrypted(path: Path, descriptor: Descriptor) -> None:
    filters = descriptor.values.get("ddb.iofilters", "").lower()
    if "vmcrypt" in filters or any(key.startswith("encryptionkey") for key in descriptor.values):
        raise UnsupportedImage(path, "is encrypted by VMware", _DECRYPT)


def _refuse_devices(file: SourceFile, descriptor: Descriptor) -> None:
    """Disks that are devices are named as such; nothing of theirs is opened."""
    if descriptor.create_type.lower() in _DEVICE_TYPES:
        names = ", ".join(dict.fromkeys(shown(line.file_name) for line in descriptor.extents if line.file_name))
        raise _device(
            file.path, f"is a raw device mapping ({descriptor.create_type}) of {names[:400] or 'no named device'}"
        )
    for number, line in enumerate(descriptor.extents):
        name = line.file_name.replace("\\", "/")
        if line.kind in _DEVICE_KINDS or (line.kind != "ZERO" and _DEVICE_NAME.match(name)):
            problem = f"is a raw device mapping: its extent {number} ({shown(line.kind)}) is {shown(line.file_name)}"
            raise _device(file.path, problem)
    if file.is_block_device:
        # A guest writes its disk: what it puts there may not open other devices of the host.
        problem = "is a block device that holds a descriptor, whose extents are not opened"
        raise UnsupportedImage(file.path, problem, "If the device is a disk, say --input-format raw.")


def _device(path: Path, problem: str) -> UnsupportedImage:
    return UnsupportedImage(path, problem, _GIVE_THE_DEVICE)


def _moved(pieces: Iterator[Extent], by: int, size: int) -> Iterator[Extent]:
    """An extent's pieces in the disk's numbering, cut at the extent's end."""
    for piece in pieces:
        if piece.offset >= size:
            return
        cut = piece if piece.end <= size else part_of(piece, piece.offset, size)
        yield replace(cut, offset=cut.offset + by)


def _facts(descriptor: Descriptor, variant: str, dirty: tuple[str, ...], notes: tuple[str, ...]) -> ImageFacts:
    names = (
        ("CID", "cid"),
        ("longContentID", "ddb.longcontentid"),
        ("uuid", "ddb.uuid"),
        ("uuid", "ddb.uuid.image"),
        ("adapter type", "ddb.adaptertype"),
    )
    identifiers = tuple((name, ascii(descriptor.values[key])[1:-1]) for name, key in names if key in descriptor.values)
    hardware = descriptor.values.get("ddb.virtualhwversion", "")
    tracked = descriptor.values.get("changetrackpath")
    if tracked:
        notes = (*notes, f"its record of changed blocks ({shown(tracked)}) is left behind")
    return ImageFacts(
        "vmdk",
        ascii(variant)[1:-1],
        creator=ascii(descriptor.values.get("ddb.comment", ""))[1:-1],
        creator_version=f"hardware version {ascii(hardware)[1:-1]}" if hardware else "",
        identifiers=identifiers,
        dirty=dirty,
        notes=notes,
    )


def independent_reader(path: Path) -> Any:
    """The same disk through libvmdk, as a second opinion: ``media_size``, ``read_buffer_at_offset``.

    Slow, and silent about allocation; it opens whatever files the descriptor names, so only for images
    that ``open_vmdk`` has accepted. A child disk wants ``set_parent``. Close it. Raises OSError.
    """
    import pyvmdk

    opened = pyvmdk.handle()
    opened.open(str(path))
    opened.open_extent_data_files()
    return opened
