"""UFS1 and UFS2 (FFS), as the BSDs have them: enough to find and read files by their paths. Nothing is written, nothing cached.

Source: FreeBSD's sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h and dir.h (the layout, by field offsets). Either byte order.
Damage is an OSError, as ``drivers.offline`` wants it from a volume.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drivers.facts import FileSystem
from drivers.tree import FileType, Stat
from p2v.core.units import KIB, MIB

_MAGICS = {0x00011954: False, 0x19540119: True}
"""To whether it is UFS2."""
# where the kernels look for the superblock, in their order (SBLOCKSEARCH)
_PLACES = (64 * KIB, 8 * KIB, 0, 256 * KIB)
_MAGIC_AT = 1372
_SUPERBLOCK_BYTES = 1376
_ROOT_INODE = 2
_DIRECT_BLOCKS = 12
_LARGEST_DIRECTORY_BYTES = 8 * MIB
_LARGEST_LINK_BYTES = 4 * KIB

Read = Callable[[int, int], bytes]
"""``length`` bytes at ``offset`` of the file system; fewer when they are not all there."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What of it is needed; sizes in bytes, places in fragments of ``fragment_bytes``."""

    is_big: bool
    is_second: bool
    block_bytes: int
    fragment_bytes: int
    groups: int
    inodes_in_group: int
    fragments_in_group: int
    inodes_at: int
    group_offset: int
    group_mask: int
    longest_short_link: int
    size_fragments: int
    is_clean: bool
    label: str
    identifier: str

    @property
    def kind(self) -> str:
        """As in ``FileSystem.kind``."""
        return "ufs2" if self.is_second else "ufs1"

    @property
    def order(self) -> str:
        """Byte order, as ``struct`` spells it."""
        return ">" if self.is_big else "<"


def read_superblock(read: Read) -> Superblock | None:
    """The first plausible superblock; None when there is none."""
    for place in _PLACES:
        raw = read(_SUPERBLOCK_BYTES, place)
        for order in "<>" if len(raw) == _SUPERBLOCK_BYTES else "":
            is_second = _MAGICS.get(struct.unpack_from(f"{order}I", raw, _MAGIC_AT)[0])
            found = None if is_second is None else _superblock(raw, order, is_second=is_second)
            if found is not None:
                return found
    return None


def recognise(read: Read, length: int) -> FileSystem | None:
    """UFS as a fact about ``length`` bytes of a disk."""
    found = read_superblock(read)
    if found is None:
        return None
    return FileSystem(
        found.kind,
        found.identifier or None,
        found.label or None,
        min(found.size_fragments * found.fragment_bytes, length),
        dirty=not found.is_clean,
    )


def _superblock(raw: bytes, order: str, *, is_second: bool) -> Superblock | None:
    def word(at: int) -> int:
        return int(struct.unpack_from(f"{order}i", raw, at)[0])

    block, fragment = word(48), word(52)
    groups, per_group, group_fragments = word(44), word(184), word(188)
    if not (512 <= fragment <= block <= 64 * KIB and block % fragment == 0 and block & (block - 1) == 0):
        return None
    if min(groups, per_group, group_fragments) <= 0 or not 0 <= word(16) < group_fragments:
        return None
    size = struct.unpack_from(f"{order}q", raw, 1080)[0] if is_second else word(36)
    first, second = struct.unpack_from(f"{order}II", raw, 144)
    return Superblock(
        is_big=order == ">",
        is_second=is_second,
        block_bytes=block,
        fragment_bytes=fragment,
        groups=groups,
        inodes_in_group=per_group,
        fragments_in_group=group_fragments,
        inodes_at=word(16),
        group_offset=0 if is_second else word(24),
        group_mask=0 if is_second else word(28),
        longest_short_link=120 if is_second else 60,
        size_fragments=max(0, size),
        is_clean=raw[209] != 0,
        label=raw[680:712].split(b"\0")[0].decode("ascii", "replace"),
        # as FreeBSD's /dev/ufsid and NetBSD's dumpfs print it
        identifier=f"{first:08x}{second:08x}" if first or second else "",
    )


@dataclass(frozen=True, slots=True)
class Inode:
    """A file: what lstat tells, and where its blocks stand."""

    volume: UfsVolume
    stat: Stat
    size: int
    direct: tuple[int, ...]
    indirect: tuple[int, ...]
    short: bytes

    def read_buffer_at_offset(self, size: int, offset: int) -> bytes:
        """``size`` bytes at ``offset``, fewer at the end. Raises OSError for blocks that lie outside."""
        block_bytes = self.volume.superblock.block_bytes
        size = max(0, min(size, self.size - offset))
        pieces = []
        while size > 0:
            number, within = divmod(offset, block_bytes)
            length = min(size, block_bytes - within)
            at = self.volume.block_of(self, number)
            pieces.append(self.volume.fragments(at, length, within) if at else bytes(length))
            offset, size = offset + length, size - length
        return b"".join(pieces)


class UfsVolume:
    """An open file system (``drivers.offline.Volume``). Raises OSError when there is none."""

    def __init__(self, read: Read) -> None:
        found = read_superblock(read)
        if found is None:
            raise OSError("no UFS superblock")
        self.superblock = found
        self._read = read

    def find_inode(self, parts: tuple[str, ...]) -> Inode | None:
        """The file at a path of plain names; None when there is none."""
        at = self._inode(_ROOT_INODE)
        for part in parts:
            if at.stat.type is not FileType.DIRECTORY:
                return None
            number = next((number for name, number in self.entries(at) if name == part), None)
            if number is None:
                return None
            at = self._inode(number)
        return at

    def entries(self, folder: Inode) -> Iterator[tuple[str, int]]:
        """Names in a folder and their inodes' numbers. Names that are no UTF-8 come with surrogates."""
        if folder.size > _LARGEST_DIRECTORY_BYTES:
            raise OSError(f"a directory of {folder.size} bytes")
        data = folder.read_buffer_at_offset(folder.size, 0)
        at, entry = 0, struct.Struct(f"{self.superblock.order}IHBB")
        while at + entry.size <= len(data):
            number, record_bytes, _, name_bytes = entry.unpack_from(data, at)
            if record_bytes < entry.size or record_bytes % 4 or at + record_bytes > len(data):
                raise OSError(f"a directory entry of {record_bytes} bytes")
            name = data[at + entry.size : at + entry.size + min(name_bytes, record_bytes - entry.size)]
            if number:
                yield name.decode("utf-8", "surrogateescape"), number
            at += record_bytes

    def target(self, link: Inode) -> str:
        """Where a symbolic link leads."""
        if link.size < self.superblock.longest_short_link:
            raw = link.short[: link.size]
        else:
            raw = link.read_buffer_at_offset(min(link.size, _LARGEST_LINK_BYTES), 0)
        return raw.split(b"\0")[0].decode("utf-8", "surrogateescape")

    def block_of(self, inode: Inode, number: int) -> int:
        """The fragment at which a file's block begins; 0 for a hole."""
        if number < _DIRECT_BLOCKS:
            return inode.direct[number]
        number -= _DIRECT_BLOCKS
        width = 8 if self.superblock.is_second else 4
        in_block = self.superblock.block_bytes // width
        span = in_block
        for level, start in enumerate(inode.indirect):
            if number < span:
                return self._through(start, number, level, in_block, width)
            number -= span
            span *= in_block
        raise OSError(f"block {number} of a file is beyond what an inode can name")

    def fragments(self, at: int, length: int, within: int) -> bytes:
        """``length`` bytes, ``within`` bytes behind the fragment ``at``."""
        place = at * self.superblock.fragment_bytes + within
        data = self._read(length, place) if at > 0 else b""
        if len(data) != length:
            raise OSError(f"{length} bytes at {place}, outside the file system")
        return data

    def _through(self, at: int, number: int, level: int, in_block: int, width: int) -> int:
        for depth in range(level, -1, -1):
            if not at:
                return 0
            index = number // in_block**depth
            number %= in_block**depth
            raw = self.fragments(at, width, index * width)
            at = int(struct.unpack(f"{self.superblock.order}{'q' if width == 8 else 'i'}", raw)[0])
        return at

    def _inode(self, number: int) -> Inode:
        block = self.superblock
        group, index = divmod(number, block.inodes_in_group)
        if number < 1 or group >= block.groups:
            raise OSError(f"inode {number} does not exist")
        start = block.fragments_in_group * group + block.group_offset * (group & ~block.group_mask) + block.inodes_at
        width = 256 if block.is_second else 128
        raw = self.fragments(start, width, index * width)
        return _second_inode(self, raw) if block.is_second else _first_inode(self, raw)


def _first_inode(volume: UfsVolume, raw: bytes) -> Inode:
    order = volume.superblock.order
    mode, size = struct.unpack_from(f"{order}H6xQ", raw)
    places = struct.unpack_from(f"{order}15i", raw, 40)
    owner, group = struct.unpack_from(f"{order}II", raw, 112)
    return _made(volume, mode, size, owner, group, places, raw[40:100])


def _second_inode(volume: UfsVolume, raw: bytes) -> Inode:
    order = volume.superblock.order
    mode, _, owner, group, _, size = struct.unpack_from(f"{order}HHIIIQ", raw)
    places = struct.unpack_from(f"{order}15q", raw, 112)
    return _made(volume, mode, size, owner, group, places, raw[112:232])


def _made(
    volume: UfsVolume, mode: int, size: int, owner: int, group: int, places: tuple[int, ...], short: bytes
) -> Inode:
    kinds = {stat.S_IFREG: FileType.FILE, stat.S_IFDIR: FileType.DIRECTORY, stat.S_IFLNK: FileType.SYMLINK}
    kind = kinds.get(stat.S_IFMT(mode), FileType.OTHER)
    told = Stat(kind, size if kind in (FileType.FILE, FileType.SYMLINK) else 0, stat.S_IMODE(mode), owner, group)
    return Inode(volume, told, size, places[:_DIRECT_BLOCKS], places[_DIRECT_BLOCKS:], short)
