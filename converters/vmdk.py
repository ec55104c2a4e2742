"""VMDK: one sparse file, a stream, or a descriptor with flat and sparse extents, by ``c_vmdk``.

Files a descriptor names are opened only in or below the image's own folder. The extent line inside a
one-file image names that file by the name it once had and is not followed. A child (delta) disk is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters import c_vmdk
from converters.c_vmdk import SparseHeader
from converters.extents import data, hole
from converters.info import ImageFacts
from converters.mapped import Layout, MappedDisk, MetadataRange
from converters.raw import FlatLayout
from converters.references import Opening
from converters.source_file import SourceFile, past_the_end, shown
from converters.tables import EntryPages
from converters.vmdk_descriptor import (
    MAX_DESCRIPTOR_BYTES,
    Descriptor,
    ExtentLine,
    is_descriptor,
    parse_descriptor,
)
from p2v.core.disk import Codec, CompressedAt, Extent
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import SECTOR_BYTES

_MAX_GRAIN_SECTORS = 32 * 1024
_MAX_VERSION = 3
_MAX_VIRTUAL_BYTES = 1 << 62
_FLAT_KINDS = ("FLAT", "VMFS")


class SparseLayout:
    """A grain directory of grain tables of grains, plain or compressed."""

    def __init__(self, file: SourceFile, header: SparseHeader) -> None:
        self._file = file
        self._header = header
        self._grain_bytes = header.grain_sectors * SECTOR_BYTES
        self._table_bytes = self._grain_bytes * header.gtes_per_gt
        self._tables = -(-self.virtual_size // self._table_bytes)
        self._gd_offset = header.gd_sector * SECTOR_BYTES
        self._compressed = bool(header.flags & c_vmdk.FLAG_COMPRESSED)
        self._zeroed_grains = bool(header.flags & c_vmdk.FLAG_ZEROED_GRAIN)
        self._first_grain_sector = max(1, header.descriptor_sector + header.descriptor_sectors)
        self._directory = EntryPages(file, 4, "little", "the grain directory")
        self._grains = EntryPages(file, 4, "little", "a grain table")
        file.require(self._tables * c_vmdk.TABLE_ENTRY_BYTES, self._gd_offset, "the grain directory")

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk (or of this extent of it)."""
        return self._header.capacity_sectors * SECTOR_BYTES

    @property
    def block_bytes(self) -> int:
        """Bytes in a grain."""
        return self._grain_bytes

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Grains that cover a range; adjacent plain ones that are stored side by side as one piece."""
        first, last = start // self._table_bytes, min(-(-end // self._table_bytes), self._tables)
        for index, count, sector in self._directory.runs(self._gd_offset, self._tables, first, last, _equal):
            if sector == 0:
                yield hole(index * self._table_bytes, count * self._table_bytes)
                continue
            if count > 1:
                raise BadImage(self._file.path, f"grain directory entries {index} and {index + 1} name the same table")
            yield from self._grain_table(index, sector, start, end)

    def walk(self) -> Iterator[Extent]:
        """The whole disk."""
        return self.lookup(0, self.virtual_size)

    def metadata(self) -> Iterator[MetadataRange]:
        """Header, descriptor and grain directory; a stream's footer."""
        yield MetadataRange(self._file, 0, min(self._file.size, self._first_grain_sector * SECTOR_BYTES))
        yield MetadataRange(self._file, self._gd_offset, self._tables * c_vmdk.TABLE_ENTRY_BYTES)
        yield MetadataRange(self._file, max(0, self._file.size - 3 * SECTOR_BYTES), 3 * SECTOR_BYTES)

    def _grain_table(self, table: int, sector: int, start: int, end: int) -> Iterator[Extent]:
        base = table * self._header.gtes_per_gt
        first = max(0, start // self._grain_bytes - base)
        last = min(self._header.gtes_per_gt, -(-end // self._grain_bytes) - base)
        offset, entries = sector * SECTOR_BYTES, self._header.gtes_per_gt
        for index, count, value in self._grains.runs(offset, entries, first, last, self._step):
            grain = base + index
            if self._is_zero(value):
                allocated = value != c_vmdk.GTE_UNALLOCATED
                yield Extent(grain * self._grain_bytes, count * self._grain_bytes, zero=True, allocated=allocated)
            elif self._compressed:
                for each in range(grain, grain + count):
                    yield self._compressed_grain(each, value)
            else:
                self._check_grains(grain, count, value)
                at = value * SECTOR_BYTES
                yield data(grain * self._grain_bytes, count * self._grain_bytes, self._file.path, at)

    def _step(self, sector: int) -> int:
        return 0 if self._compressed or self._is_zero(sector) else self._header.grain_sectors

    def _is_zero(self, sector: int) -> bool:
        return sector == c_vmdk.GTE_UNALLOCATED or (self._zeroed_grains and sector == c_vmdk.GTE_ZEROED)

    def _check_grains(self, grain: int, count: int, sector: int) -> None:
        self._check_begin(grain, sector)
        at = sector * SECTOR_BYTES
        # The last grain need only reach the end of the disk.
        needed = min(count * self._grain_bytes, self.virtual_size - grain * self._grain_bytes)
        if at + needed > self._file.size:
            inside = max(0, self._file.size - at) // self._grain_bytes
            what = f"grain {grain + inside}"
            raise past_the_end(self._file, what, self._grain_bytes, at + inside * self._grain_bytes)

    def _check_begin(self, grain: int, sector: int) -> None:
        if sector < self._first_grain_sector:
            problem = f"grain {grain} lies at byte {sector * SECTOR_BYTES}, over the image's own header"
            raise BadImage(self._file.path, problem)

    def _compressed_grain(self, grain: int, sector: int) -> Extent:
        self._check_begin(grain, sector)
        at = sector * SECTOR_BYTES
        raw = self._file.read_exactly(c_vmdk.GRAIN_MARKER_BYTES, at, f"the marker of grain {grain}")
        marked_sector, length = c_vmdk.unpack_grain_marker(raw)
        if marked_sector != grain * self._header.grain_sectors:
            problem = f"the marker at byte {at} names disk sector {marked_sector}, but grain {grain} is looked for"
            raise BadImage(self._file.path, problem)
        # Deflate adds a few bytes to what it cannot compress; twice the grain is no stream of one.
        if length == 0 or length > 2 * self._grain_bytes:
            raise BadImage(self._file.path, f"grain {grain} is stored in {length} bytes, which cannot be")
        at += c_vmdk.GRAIN_MARKER_BYTES
        self._file.require(length, at, f"grain {grain}")
        where = CompressedAt(self._file.path, at, length, Codec.ZLIB, self._grain_bytes)
        return Extent(grain * self._grain_bytes, self._grain_bytes, zero=False, allocated=True, compressed=where)


class JoinedLayout:
    """The extents of a descriptor, one after the other; of one sparse extent only ``sizes`` bytes count."""

    def __init__(self, parts: tuple[Layout, ...], sizes: tuple[int, ...], descriptor: MetadataRange) -> None:
        self._parts: list[tuple[int, int, Layout]] = []
        position = 0
        for part, size in zip(parts, sizes, strict=True):
            self._parts.append((position, size, part))
            position += size
        self._virtual_size = position
        self._descriptor = descriptor

    @property
    def virtual_size(self) -> int:
        """Bytes of the whole disk."""
        return self._virtual_size

    @property
    def block_bytes(self) -> int:
        """Bytes in a grain where all sparse extents agree, else 0 (overlap is then not looked for)."""
        sizes = {part.block_bytes for _, _, part in self._parts}
        return sizes.pop() if len(sizes) == 1 else 0

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Pieces of all extents that touch a range."""
        for begin, size, part in self._parts:
            if begin < end and start < begin + size:
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


def open_vmdk(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a VMDK: a sparse file or stream with its descriptor inside, or a text descriptor.

    Raises BadImage, UnsupportedImage (child disks, other kinds of extents), ForbiddenReference.
    """
    head = file.pread(c_vmdk.HEADER_BYTES, 0)
    if head.startswith(c_vmdk.SPARSE_MAGIC):
        return _open_sparse_file(file)
    if is_descriptor(head):
        return _open_descriptor(file, opening)
    raise UnsupportedImage(file.path, "is an extent of an ESX snapshot (COWD or SESparse), which needs its parent")


def _open_sparse_file(file: SourceFile) -> MappedDisk:
    header = _sparse_header(file)
    length = header.descriptor_sectors * SECTOR_BYTES
    offset = header.descriptor_sector * SECTOR_BYTES
    file.require(length, offset, "the descriptor")
    # Writers reserve room after the text, which ends at its first NUL.
    raw = file.read_exactly(min(length, MAX_DESCRIPTOR_BYTES + 1), offset, "the descriptor")
    descriptor = parse_descriptor(raw, file.path)
    # QEMU reserves the room in every extent of a split disk and leaves it empty.
    if header.descriptor_sector == 0 or not descriptor.values:
        raise UnsupportedImage(
            file.path,
            "is one extent of a disk in several files",
            "Name the small text file (.vmdk) that lists the extents.",
        )
    _refuse_child(file.path, descriptor)
    if len(descriptor.extents) > 1:
        raise BadImage(file.path, f"its descriptor names {len(descriptor.extents)} extents, but it holds one")
    dirty = ("unclean shutdown",) if header.unclean_shutdown else ()
    stream = header.flags & c_vmdk.FLAG_COMPRESSED
    variant = descriptor.create_type or ("streamOptimized" if stream else "monolithicSparse")
    return MappedDisk(SparseLayout(file, header), (file,), _facts(descriptor, variant, dirty))


def _sparse_header(file: SourceFile) -> SparseHeader:
    """The header that counts: the footer's in a stream. Raises BadImage, UnsupportedImage."""
    raw = file.read_exactly(c_vmdk.HEADER_BYTES, 0, "the sparse extent header")
    header = c_vmdk.unpack_header(raw)
    if header.gd_sector == c_vmdk.GD_AT_END:
        offset = file.size - c_vmdk.FOOTER_FROM_END
        raw = file.pread(c_vmdk.HEADER_BYTES, offset) if offset >= c_vmdk.HEADER_BYTES else b""
        if len(raw) < c_vmdk.HEADER_BYTES or not raw.startswith(c_vmdk.SPARSE_MAGIC):
            raise BadImage(file.path, f"has {file.size} bytes, but no footer at byte {offset}, where a stream ends")
        header = replace(header, gd_sector=c_vmdk.unpack_header(raw).gd_sector)
    _judge_header(file.path, header)
    return header


def _judge_header(path: Path, header: SparseHeader) -> None:
    if not 1 <= header.version <= _MAX_VERSION:
        raise UnsupportedImage(path, f"is a VMDK of version {header.version}")
    if header.flags & c_vmdk.FLAG_VALID_NEW_LINE and header.end_of_lines != b"\n \r\n":
        raise BadImage(path, "its line ends were changed: it was transferred as text instead of as binary")
    grain = header.grain_sectors
    if grain == 0 or grain & (grain - 1) or grain > _MAX_GRAIN_SECTORS:
        raise BadImage(path, f"its grains have {grain} sectors; only powers of two up to {_MAX_GRAIN_SECTORS} are read")
    if not 1 <= header.gtes_per_gt <= c_vmdk.MAX_GTES_PER_GT:
        raise BadImage(path, f"its grain tables have {header.gtes_per_gt} entries instead of {c_vmdk.MAX_GTES_PER_GT}")
    if not 0 < header.capacity_sectors * SECTOR_BYTES <= _MAX_VIRTUAL_BYTES:
        raise BadImage(path, f"it says a disk of {header.capacity_sectors} sectors")
    if header.gd_sector in (0, c_vmdk.GD_AT_END):
        raise BadImage(path, "it has no grain directory")
    if header.flags & c_vmdk.FLAG_COMPRESSED:
        deflated = header.compress_algorithm == c_vmdk.COMPRESSION_DEFLATE
        if not deflated or not header.flags & c_vmdk.FLAG_MARKERS:
            raise UnsupportedImage(path, f"its grains are compressed in an unknown way ({header.compress_algorithm})")


def _open_descriptor(file: SourceFile, opening: Opening) -> MappedDisk:
    if file.size > MAX_DESCRIPTOR_BYTES:
        raise BadImage(file.path, f"its descriptor is longer than {MAX_DESCRIPTOR_BYTES} bytes")
    descriptor = parse_descriptor(file.pread(file.size, 0), file.path)
    _refuse_child(file.path, descriptor)
    if not descriptor.extents:
        raise BadImage(file.path, "its descriptor names no extents; it may be cut short")
    opened: dict[Path, SourceFile] = {}
    with ExitStack() as on_failure:
        parts: list[Layout] = []
        for number, line in enumerate(descriptor.extents):
            part, source = _open_extent(file, number, line, opened, opening)
            if source is not None and source.path not in opened:
                opened[source.path] = source
                on_failure.callback(source.close)
            parts.append(part)
        sizes = tuple(line.sectors * SECTOR_BYTES for line in descriptor.extents)
        if sum(sizes) > _MAX_VIRTUAL_BYTES or sum(sizes) == 0:
            raise BadImage(file.path, f"its extents make a disk of {sum(sizes)} bytes")
        layout = JoinedLayout(tuple(parts), sizes, MetadataRange(file, 0, file.size))
        on_failure.pop_all()
    facts = _facts(descriptor, descriptor.create_type or "descriptor", ())
    return MappedDisk(layout, (file, *opened.values()), facts)


def _open_extent(
    image: SourceFile, number: int, line: ExtentLine, opened: dict[Path, SourceFile], opening: Opening
) -> tuple[Layout, SourceFile | None]:
    """An extent's layout and, but for ZERO extents, its file (one of ``opened`` where that has it)."""
    length = line.sectors * SECTOR_BYTES
    if line.kind == "ZERO":
        return FlatLayout(image, 0, 0, length), None
    if line.access == "NOACCESS" or line.kind not in (*_FLAT_KINDS, "SPARSE"):
        raise UnsupportedImage(image.path, f"its extent {number} is of the kind {line.access} {shown(line.kind)}")
    source = opening.beside(image, line.file_name)
    if source.path in opened:
        source.close()
        source = opened[source.path]
    try:
        return _extent_layout(image, number, line, source), source
    except BaseException:
        source.close()
        raise


def _extent_layout(image: SourceFile, number: int, line: ExtentLine, source: SourceFile) -> Layout:
    length = line.sectors * SECTOR_BYTES
    if line.kind in _FLAT_KINDS:
        offset = line.offset_sectors * SECTOR_BYTES
        source.require(length, offset, f"extent {number} of {image.path.name}")
        return FlatLayout(source, offset, length, length)
    if not source.pread(len(c_vmdk.SPARSE_MAGIC), 0).startswith(c_vmdk.SPARSE_MAGIC):
        raise BadImage(source.path, f"is a sparse extent of {image.path.name}, but has no sparse extent header")
    layout = SparseLayout(source, _sparse_header(source))
    if layout.virtual_size < length:
        raise BadImage(source.path, f"holds {layout.virtual_size} bytes of disk; {image.path.name} says {length}")
    return layout


def _refuse_child(path: Path, descriptor: Descriptor) -> None:
    if descriptor.has_parent or "parentfilenamehint" in descriptor.values:
        parent = shown(descriptor.values.get("parentfilenamehint", "an unnamed disk"))
        raise UnsupportedImage(
            path,
            f"is a child disk (a snapshot): it holds only changes to {parent}",
            "Remove the machine's snapshots or clone the disk, then convert the result.",
        )


def _moved(pieces: Iterator[Extent], by: int, size: int) -> Iterator[Extent]:
    """An extent's pieces in the disk's numbering, cut at the extent's end."""
    for piece in pieces:
        length = min(piece.length, size - piece.offset)
        if length <= 0:
            return
        if piece.compressed is not None and length < piece.length:
            raise BadImage(piece.compressed.file, "a compressed grain reaches past the end of its extent")
        yield replace(piece, offset=piece.offset + by, length=length)


def _facts(descriptor: Descriptor, variant: str, dirty: tuple[str, ...]) -> ImageFacts:
    names = (
        ("CID", "cid"),
        ("longContentID", "ddb.longcontentid"),
        ("uuid", "ddb.uuid"),
        ("uuid", "ddb.uuid.image"),
        ("adapter type", "ddb.adaptertype"),
    )
    identifiers = tuple((name, ascii(descriptor.values[key])[1:-1]) for name, key in names if key in descriptor.values)
    hardware = descriptor.values.get("ddb.virtualhwversion", "")
    return ImageFacts(
        "vmdk",
        ascii(variant)[1:-1],
        creator=ascii(descriptor.values.get("ddb.comment", ""))[1:-1],
        creator_version=f"hardware version {ascii(hardware)[1:-1]}" if hardware else "",
        identifiers=identifiers,
        dirty=dirty,
    )


def _equal(_sector: int) -> int:
    return 0


def independent_reader(path: Path) -> Any:
    """The same disk through libvmdk, as a second opinion: ``media_size``, ``read_buffer_at_offset``.

    Slow, and silent about allocation; it opens whatever files the descriptor names, so only for images
    that ``open_vmdk`` has accepted. Close it. Raises OSError.
    """
    import pyvmdk

    opened = pyvmdk.handle()
    opened.open(str(path))
    opened.open_extent_data_files()
    return opened
