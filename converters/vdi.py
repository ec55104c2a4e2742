"""VDI, version 1.1: dynamic, fixed and differencing, by the structures of ``c_vdi``.

A differencing image knows its parent by UUID alone, never by name. So the parent is the one the user names, or a .vdi
file in one of the disk's folders whose creation UUID is the child's linkage UUID. VirtualBox gives a disk a new
modification UUID whenever it writes to it; the child remembers the parent's, and another one means that the parent
was written after the child was made, so that the two together are no disk any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters import c_vdi
from converters.c_vdi import VdiHeader
from converters.extents import Occupancy, beneath, data, hole
from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import MappedDisk, MetadataRange
from converters.raw import host_extents
from converters.references import Fit, Opening
from converters.source_file import SourceFile, past_the_end
from converters.tables import EntryPages
from p2v.core.disk import Extent
from p2v.core.errors import BadImage, UnsupportedImage, WrongParent
from p2v.core.units import SECTOR_BYTES, round_up

_TYPES = {
    c_vdi.TYPE_DYNAMIC: "dynamic",
    c_vdi.TYPE_FIXED: "fixed",
    c_vdi.TYPE_DIFFERENCING: "differencing",
}
_CREATED, _MODIFIED = "uuid", "modification uuid"


class VdiLayout:
    """A map of blocks, each with ``block_extra`` bytes of somebody's own before its data."""

    # Blocks are checked against each other in ``walk``, where holes within them are not known yet.
    block_bytes = 0

    def __init__(self, file: SourceFile, header: VdiHeader) -> None:
        self._file = file
        self._header = header
        self._virtual_size = round_up(header.disk_size, SECTOR_BYTES)
        self._block = header.block_size
        self._stride = header.block_extra + header.block_size
        self._blocks = -(-self._virtual_size // header.block_size)
        self._free = beneath if header.image_type == c_vdi.TYPE_DIFFERENCING else hole
        self._map = EntryPages(file, 4, "little", "the block map")

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """Blocks that cover a range; adjacent ones of one kind and side by side as one piece."""
        first, last = start // self._block, min(-(-end // self._block), self._blocks)
        for index, count, entry in self._map.runs(
            self._header.blocks_offset, self._header.blocks, first, last, self._step
        ):
            if entry == c_vdi.BLOCK_FREE:
                yield self._free(index * self._block, count * self._block)
            elif entry == c_vdi.BLOCK_ZERO:
                yield hole(index * self._block, count * self._block)
            else:
                yield self._stored(index, count, entry)

    def walk(self) -> Iterator[Extent]:
        """The whole disk; what a fixed image's file has as a hole is one."""
        occupancy = Occupancy(self._stride)
        for piece in self.lookup(0, self._virtual_size):
            if piece.stored is not None:
                # The bytes before a block's data and the last block's missing ones are its own as well.
                blocks = -(-piece.length // self._block)
                occupancy.add(data(piece.offset, blocks * self._stride, piece.stored.file, piece.stored.offset))
                if self._header.image_type == c_vdi.TYPE_FIXED:
                    yield from host_extents(self._file, piece.stored.offset, piece.length, at=piece.offset)
                    continue
            yield piece

    def metadata(self) -> Iterator[MetadataRange]:
        """Header and block map."""
        yield MetadataRange(self._file, 0, c_vdi.PRE_HEADER_BYTES + self._header.header_size)
        yield MetadataRange(self._file, self._header.blocks_offset, self._header.blocks * c_vdi.MAP_ENTRY_BYTES)

    def _step(self, entry: int) -> int:
        # Entries that do not stand side by side in the file: a step no table follows by chance.
        if entry >= c_vdi.BLOCK_ZERO:
            return 0
        return 1 if self._header.block_extra == 0 else c_vdi.BLOCK_FREE + 1

    def _stored(self, index: int, count: int, entry: int) -> Extent:
        offset = index * self._block
        at = self._header.data_offset + entry * self._stride + self._header.block_extra
        # The last block may be cut where the disk ends.
        length = min(count * self._block, self._virtual_size - offset)
        if at + length > self._file.size:
            inside = max(0, self._file.size - at) // self._block
            begin = at + inside * self._block
            raise past_the_end(self._file, f"block {index + inside}", min(self._block, at + length - begin), begin)
        return data(offset, length, self._file.path, at)


def open_vdi(file: SourceFile, opening: Opening) -> MappedDisk:
    """Open a VDI; a differencing one with its parents.

    Raises BadImage, UnsupportedImage (old versions, undo images), ParentMissing, WrongParent, ForbiddenReference.
    """
    header = _checked_header(file)
    layout = VdiLayout(file, header)
    if header.image_type != c_vdi.TYPE_DIFFERENCING:
        return MappedDisk(layout, (file,), _facts(header))

    def fit(candidate: SourceFile) -> Fit:
        return _fit(candidate, header)

    parent = opening.parent_among(file, ".vdi", fit, f"the disk with the UUID {header.uuid_linkage}")
    try:
        facts = _facts(header, _check_parent(file, header, parent))
    except BaseException:
        parent.close()
        raise
    return chained(layout, (file,), facts, parent)


def _checked_header(file: SourceFile) -> VdiHeader:
    raw = file.pread(c_vdi.PRE_HEADER_BYTES + c_vdi.HEADER_BYTES, 0)
    try:
        version = c_vdi.unpack_version(raw)
        if version != c_vdi.VERSION_1_1:
            raise UnsupportedImage(
                file.path,
                f"is a VDI of version {version >> 16}.{version & 0xFFFF}; only version 1.1 is read",
                "Open it once with a VirtualBox that still knows it and clone the disk there: VBoxManage clonemedium.",
            )
        header = c_vdi.unpack_header(raw)
    except ValueError as error:
        raise BadImage(file.path, f"its VDI header is past the end of the file ({file.size} bytes)") from error
    _check_kind(file, header)
    _check_sizes(file, header)
    return header


def _check_kind(file: SourceFile, header: VdiHeader) -> None:
    if header.image_type == c_vdi.TYPE_UNDO:
        raise UnsupportedImage(file.path, "is an undo image of VirtualBox (type 3), which nothing is known to write")
    if header.image_type not in _TYPES:
        raise BadImage(file.path, f"its header at byte {c_vdi.PRE_HEADER_BYTES} names the type {header.image_type}")
    if (header.image_type == c_vdi.TYPE_DIFFERENCING) == (header.uuid_linkage == c_vdi.NO_UUID):
        names = "names no parent" if header.uuid_linkage == c_vdi.NO_UUID else f"names the parent {header.uuid_linkage}"
        problem = f"its header says it is {_TYPES[header.image_type]}, but {names}"
        raise BadImage(file.path, problem, "Compare the file with the original; its header was changed.")
    if header.sector_size not in (0, SECTOR_BYTES):
        raise UnsupportedImage(file.path, f"its sectors have {header.sector_size} bytes")


def _check_sizes(file: SourceFile, header: VdiHeader) -> None:
    header_end = c_vdi.PRE_HEADER_BYTES + header.header_size
    if header.header_size < c_vdi.HEADER_BYTES:
        raise BadImage(file.path, f"its header says it has {header.header_size} bytes, fewer than {c_vdi.HEADER_BYTES}")
    block = header.block_size
    if block < SECTOR_BYTES or block & (block - 1):
        raise BadImage(file.path, f"its blocks have {block} bytes; only powers of two from 512 on are possible")
    if not 0 < header.disk_size < 1 << 63:
        raise BadImage(file.path, f"its header says a disk of {header.disk_size} bytes")
    if header.blocks * block < header.disk_size:
        problem = f"its map has {header.blocks} blocks of {block} bytes: too few for a disk of {header.disk_size} bytes"
        raise BadImage(file.path, problem)
    map_bytes = header.blocks * c_vdi.MAP_ENTRY_BYTES
    file.require(map_bytes, header.blocks_offset, "the block map")
    if header.blocks_offset < header_end:
        problem = f"its block map lies at byte {header.blocks_offset}, within the header of {header_end} bytes"
        raise BadImage(file.path, problem)
    if header.data_offset < header.blocks_offset + map_bytes:
        problem = f"its data begin at byte {header.data_offset}, before the block map's end"
        raise BadImage(file.path, f"{problem} ({header.blocks_offset + map_bytes})")


def _facts(header: VdiHeader, notes: tuple[str, ...] = ()) -> ImageFacts:
    creator = header.text.split(b"\0", 1)[0].decode("ascii", "replace").strip().strip("<> ")
    return ImageFacts(
        "vdi",
        _TYPES[header.image_type],
        creator=ascii(creator)[1:-1],
        identifiers=((_CREATED, str(header.uuid_create)), (_MODIFIED, str(header.uuid_modify))),
        notes=notes,
    )


def _fit(candidate: SourceFile, child: VdiHeader) -> Fit:
    """How well a file suits as the child's parent, by its header alone."""
    try:
        header = c_vdi.unpack_header(candidate.pread(c_vdi.PRE_HEADER_BYTES + c_vdi.HEADER_BYTES, 0))
    except ValueError:
        return Fit.NONE
    if header.uuid_create != child.uuid_linkage:
        return Fit.NONE
    known = child.uuid_parent_modify != c_vdi.NO_UUID
    return Fit.CHANGED if known and header.uuid_modify != child.uuid_parent_modify else Fit.RIGHT


def _check_parent(file: SourceFile, child: VdiHeader, parent: MappedDisk) -> tuple[str, ...]:
    """Notes on the parent; raises WrongParent."""
    name, said = parent.files[0].name, dict(parent.facts.identifiers)
    if parent.facts.format != "vdi":
        return (f"its parent {name} is no VDI, so that it is the right one is not known but from you",)
    if said[_CREATED] != str(child.uuid_linkage):
        raise WrongParent(file.path, f"was made over the disk {child.uuid_linkage}, but {name} is {said[_CREATED]}")
    if child.uuid_parent_modify == c_vdi.NO_UUID:
        return (f"it does not say which state of {name} it was made over",)
    if said[_MODIFIED] != str(child.uuid_parent_modify):
        problem = f"was made over {name} in its state {child.uuid_parent_modify}, but that was written since"
        raise WrongParent(file.path, f"{problem} (state {said[_MODIFIED]})")
    return ()
