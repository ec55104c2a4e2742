"""Where the structures of an ext2, ext3 or ext4 file system stand, so that a byte that differs can be called by its name.

Only what that takes is read: superblock, group descriptors, block bitmaps, single inodes. Contents are hostile: what does not fit
the device raises ``NotUnderstood``.

Source: the kernel's documentation, filesystems/ext4 ("Super Block", "Block Group Descriptors", "Inode Table").
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from p2v.core.units import KIB, MIB

Read = Callable[[int, int], bytes]
"""``read(length, offset)`` of the file system's device, in bytes."""

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES = 1024, 1024
_MAGIC = 0xEF53
_LARGEST_BLOCK_BYTES = 64 * KIB
_LARGEST_TABLE_BYTES = 64 * MIB
_COMPAT_SPARSE_SUPER2 = 0x200
_INCOMPAT_META_BG, _INCOMPAT_64BIT = 0x10, 0x80
_RO_SPARSE_SUPER, _RO_BIGALLOC = 0x1, 0x200
_GROUP_BLOCK_BITMAP_UNINIT = 0x2
_EXTENTS_FLAG, _INLINE_FLAG = 0x80000, 0x10000000
_KIND_OF_FILE, _HAVE_A_MAP = 0xF000, (0x8000, 0x4000)  # files and folders
_EXTENT_MAGIC = 0xF30A
_DEEPEST_EXTENT_TREE = 5
_EXTENTS_AT_MOST = 100_000

# Fields of the superblock by offset and length. Those that mounting, writing and unmounting keep up to date:
_KEPT_UP_TO_DATE: Mapping[str, tuple[tuple[int, int], ...]] = {
    "free blocks": ((0x0C, 4), (0x158, 4)),
    "free inodes": ((0x10, 4),),
    "time of mounting": ((0x2C, 4), (0x275, 1)),
    "time of writing": ((0x30, 4), (0x274, 1)),
    "times mounted": ((0x34, 2),),
    "state": ((0x3A, 2),),
    "where it was mounted": ((0x88, 64),),
    "list of orphans": ((0xE8, 4),),
    "bytes written in its life": ((0x178, 8),),
    "whether the journal is to be replayed": ((0x60, 1),),
    "backup of the journal's inode": ((0x10C, 68),),
    "overhead": ((0x248, 4),),
    "checksum": ((0x3FC, 4),),
}
_INODE_FIELDS: tuple[tuple[str, int, int], ...] = (
    ("mode", 0x0, 2), ("owner", 0x2, 2), ("size", 0x4, 4), ("time of access", 0x8, 4), ("time of the inode's change", 0xC, 4),
    ("time of change", 0x10, 4), ("time of deletion", 0x14, 4), ("group", 0x18, 2), ("number of names", 0x1A, 2),
    ("blocks", 0x1C, 4), ("flags", 0x20, 4), ("version", 0x24, 4), ("map of blocks", 0x28, 60), ("generation", 0x64, 4),
    ("block of attributes", 0x68, 4), ("size", 0x6C, 4), ("fragment", 0x70, 4), ("blocks", 0x74, 2),
    ("block of attributes", 0x76, 2), ("owner", 0x78, 2), ("group", 0x7A, 2), ("checksum", 0x7C, 2), ("reserved", 0x7E, 2),
    ("extra size", 0x80, 2), ("checksum", 0x82, 2), ("time of the inode's change", 0x84, 4), ("time of change", 0x88, 4),
    ("time of access", 0x8C, 4), ("time of birth", 0x90, 8), ("version", 0x98, 4), ("project", 0x9C, 4),
)  # fmt: skip
_ATTRIBUTES_IN_INODE = "attributes in the inode"


class NotUnderstood(ValueError):
    """The file system is none, is damaged, or has something that is not understood here."""


@dataclass(frozen=True, slots=True)
class Region:
    """Blocks of one meaning. ``group``: the block group it belongs to."""

    first: int
    count: int
    meaning: str
    group: int


@dataclass(frozen=True, slots=True)
class _Group:
    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    flags: int


class Ext4Layout:
    """The layout of one file system. Raises NotUnderstood."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self._size = size_bytes
        self.superblock = self._exactly(SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET)
        if self._number("<H", 0x38) != _MAGIC:
            raise NotUnderstood("it has no superblock")
        self.block_bytes = 1024 << min(self._number("<I", 0x18), 32)
        self._compat, self._incompat, self._ro_compat = struct.unpack_from("<3I", self.superblock, 0x5C)
        is_64bit = bool(self._incompat & _INCOMPAT_64BIT)
        self.blocks = self._number("<I", 0x4) | (self._number("<I", 0x150) << 32 if is_64bit else 0)
        self._first_block = self._number("<I", 0x14)
        self._group_blocks = self._number("<I", 0x20)
        self._group_inodes = self._number("<I", 0x28)
        self.inode_bytes = self._number("<H", 0x58) if self._number("<I", 0x4C) else 128
        self._descriptor_bytes = self._number("<H", 0xFE) if is_64bit else 32
        self._check()
        self.groups = -(-(self.blocks - self._first_block) // self._group_blocks)
        self._inode_table_blocks = -(-self._group_inodes * self.inode_bytes // self.block_bytes)

    def _check(self) -> None:
        if self.block_bytes > _LARGEST_BLOCK_BYTES or self.blocks * self.block_bytes > self._size:
            raise NotUnderstood("it is larger than its device")
        if not 0 < self._group_blocks <= 8 * self.block_bytes or not 0 < self._group_inodes <= 8 * self.block_bytes:
            raise NotUnderstood("its groups have impossible sizes")
        if not 128 <= self.inode_bytes <= self.block_bytes or self.inode_bytes & (self.inode_bytes - 1):
            raise NotUnderstood(f"its inodes have {self.inode_bytes} bytes")
        if not 32 <= self._descriptor_bytes <= self.block_bytes or self.blocks <= self._first_block:
            raise NotUnderstood("its group descriptors have an impossible size")
        if self._ro_compat & _RO_BIGALLOC:
            raise NotUnderstood("it gives out clusters of blocks (bigalloc)")

    def _number(self, form: str, offset: int) -> int:
        (value,) = struct.unpack_from(form, self.superblock, offset)
        return int(value)

    def _exactly(self, length: int, offset: int) -> bytes:
        if offset + length > self._size:
            raise NotUnderstood("a structure lies behind its end")
        data = self._read(length, offset)
        if len(data) != length:
            raise NotUnderstood("it is cut off")
        return data

    # --- groups -------------------------------------------------------------------------------------------------------

    @property
    def _descriptors_per_block(self) -> int:
        return self.block_bytes // self._descriptor_bytes

    def _descriptor_block(self, number: int) -> int:
        """The block with the ``number``th block of group descriptors."""
        first_meta = self._number("<I", 0x104)
        if not self._incompat & _INCOMPAT_META_BG or number < first_meta:
            return self._first_block + 1 + number
        group = number * self._descriptors_per_block
        return self._first_block + group * self._group_blocks + (1 if self._has_superblock(group) else 0)

    @cached_property
    def _descriptors(self) -> tuple[_Group, ...]:
        blocks = -(-self.groups // self._descriptors_per_block)
        if blocks * self.block_bytes > _LARGEST_TABLE_BYTES:
            raise NotUnderstood(f"it has {self.groups} groups")
        found: list[_Group] = []
        for number in range(blocks):
            data = self._exactly(self.block_bytes, self._descriptor_block(number) * self.block_bytes)
            for at in range(0, self._descriptors_per_block * self._descriptor_bytes, self._descriptor_bytes):
                if len(found) < self.groups:
                    found.append(self._group(data[at : at + self._descriptor_bytes]))
        return tuple(found)

    def _group(self, data: bytes) -> _Group:
        places = list(struct.unpack_from("<3I", data))
        if self._descriptor_bytes >= 64:
            places = [low | high << 32 for low, high in zip(places, struct.unpack_from("<3I", data, 0x20), strict=True)]
        if any(place >= self.blocks for place in places):
            raise NotUnderstood("a group's structures lie behind its end")
        return _Group(places[0], places[1], places[2], struct.unpack_from("<H", data, 0x12)[0])

    def _has_superblock(self, group: int) -> bool:
        if self._compat & _COMPAT_SPARSE_SUPER2:
            return group == 0 or group in struct.unpack_from("<2I", self.superblock, 0x24C)
        if group < 2 or not self._ro_compat & _RO_SPARSE_SUPER:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Every structure whose place is fixed, in order of place."""
        found: list[Region] = []
        for number, group in enumerate(self._descriptors):
            found += self._heads(number)
            found.append(Region(group.block_bitmap, 1, "block bitmap", number))
            found.append(Region(group.inode_bitmap, 1, "inode bitmap", number))
            found.append(Region(group.inode_table, self._inode_table_blocks, "inode table", number))
        journal = self._number("<I", 0xE0)
        found += [Region(first, count, "journal", 0) for first, count in self.blocks_of(journal)] if journal else []
        return tuple(sorted(found, key=lambda region: region.first))

    def _heads(self, group: int) -> Iterator[Region]:
        """Superblock, group descriptors and room for more of them, at a group's beginning."""
        at = self._first_block + group * self._group_blocks
        blocks = -(-self.groups // self._descriptors_per_block)
        first_meta = self._number("<I", 0x104) if self._incompat & _INCOMPAT_META_BG else blocks
        has_superblock = self._has_superblock(group)
        if has_superblock:
            yield Region(at, 1, "superblock" if group == 0 else "copy of the superblock", group)
            table = min(first_meta, blocks) + self._number("<H", 0xCE)
            yield Region(at + 1, table, "group descriptors" if group == 0 else "copy of group descriptors", group)
        meta = group // self._descriptors_per_block
        if meta >= first_meta and group % self._descriptors_per_block in (0, 1, self._descriptors_per_block - 1):
            yield Region(at + int(has_superblock), 1, "group descriptors", group)

    @cached_property
    def _firsts(self) -> list[int]:
        return [region.first for region in self.regions]

    def region_at(self, block: int) -> Region | None:
        """The structure that a block belongs to."""
        index = bisect_right(self._firsts, block) - 1
        if index < 0:
            return None
        region = self.regions[index]
        return region if block < region.first + region.count else None

    def is_used(self, block: int) -> bool:
        """Whether the block bitmap says that a block is given out."""
        group, within = divmod(block - self._first_block, self._group_blocks)
        if not 0 <= group < self.groups:
            return False
        descriptor = self._descriptors[group]
        if descriptor.flags & _GROUP_BLOCK_BITMAP_UNINIT:
            return False
        byte = self._exactly(1, descriptor.block_bitmap * self.block_bytes + within // 8)[0]
        return bool(byte >> (within % 8) & 1)

    # --- inodes -------------------------------------------------------------------------------------------------------

    def inode(self, number: int) -> bytes:
        """The bytes of an inode."""
        group, within = divmod(number - 1, self._group_inodes)
        if number < 1 or group >= self.groups:
            raise NotUnderstood(f"it has no inode {number}")
        place = self._descriptors[group].inode_table * self.block_bytes + within * self.inode_bytes
        return self._exactly(self.inode_bytes, place)

    def inodes_at(self, region: Region, offset: int, length: int) -> range:
        """Numbers of the inodes that a range of the device (in bytes) touches, which lies in an inode table."""
        begin = offset - region.first * self.block_bytes
        first = region.group * self._group_inodes + 1
        last = first + (begin + length - 1) // self.inode_bytes
        return range(first + begin // self.inode_bytes, min(last, first + self._group_inodes - 1) + 1)

    def map_blocks_of(self, number: int) -> frozenset[int]:
        """Blocks that hold an inode's extent tree below its root, and the one with its extended attributes."""
        inode = self.inode(number)
        found: set[int] = set()
        self._map(inode, [], found)
        attributes = struct.unpack_from("<I", inode, 0x68)[0] | struct.unpack_from("<H", inode, 0x76)[0] << 32
        return frozenset(found | ({attributes} if attributes else set()))

    def blocks_of(self, number: int) -> tuple[tuple[int, int], ...]:
        """Where an inode's contents stand: (first block, count) each, the blocks that list them among them."""
        found: list[tuple[int, int]] = []
        nodes: set[int] = set()
        self._map(self.inode(number), found, nodes)
        return (*found, *((node, 1) for node in sorted(nodes)))

    def _map(self, inode: bytes, found: list[tuple[int, int]], nodes: set[int]) -> None:
        """Blocks of contents, and of the tree that lists them. What a device file or a short link has there is no map."""
        (flags,) = struct.unpack_from("<I", inode, 0x20)
        if struct.unpack_from("<H", inode)[0] & _KIND_OF_FILE not in _HAVE_A_MAP or flags & _INLINE_FLAG:
            return
        if flags & _EXTENTS_FLAG:
            self._extents(inode[0x28 : 0x28 + 60], _DEEPEST_EXTENT_TREE, found, nodes)
            return
        places = struct.unpack_from("<15I", inode, 0x28)
        self._blocks(places[:12], 0, found, nodes)
        for depth, place in enumerate(places[12:], start=1):
            self._blocks([place], depth, found, nodes)

    def _blocks(self, places: Sequence[int], depth: int, found: list[tuple[int, int]], nodes: set[int]) -> None:
        """A list of blocks as it was before extents: of contents, or (``depth``) of further lists."""
        for place in filter(None, places):
            if len(found) > _EXTENTS_AT_MOST:
                raise NotUnderstood("a list of blocks has no end")
            if depth == 0:
                if found and sum(found[-1]) == place:
                    found[-1] = (found[-1][0], found[-1][1] + 1)
                else:
                    found.append((place, 1))
                continue
            if place in nodes:
                raise NotUnderstood("a list of blocks leads to itself")
            nodes.add(place)
            data = self._exactly(self.block_bytes, place * self.block_bytes)
            self._blocks(struct.unpack(f"<{self.block_bytes // 4}I", data), depth - 1, found, nodes)

    def _extents(self, node: bytes, deepest: int, found: list[tuple[int, int]], nodes: set[int]) -> None:
        magic, count, _, depth = struct.unpack_from("<4H", node)
        if magic != _EXTENT_MAGIC or depth > deepest or 12 + 12 * count > len(node) or len(found) > _EXTENTS_AT_MOST:
            raise NotUnderstood("an extent tree is damaged")
        for at in range(12, 12 + 12 * count, 12):
            if depth == 0:
                _, length, high, low = struct.unpack_from("<IHHI", node, at)
                found.append((low | high << 32, length if length <= 32768 else length - 32768))
            else:
                _, low, high = struct.unpack_from("<IIH", node, at)
                place = low | high << 32
                if place in nodes:
                    raise NotUnderstood("an extent tree leads to itself")
                nodes.add(place)
                self._extents(self._exactly(self.block_bytes, place * self.block_bytes), depth - 1, found, nodes)


def superblock_differences(before: bytes, after: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What differs in two superblocks: names of what mounting keeps up to date, and offsets of all else."""
    kept = {at: name for name, parts in _KEPT_UP_TO_DATE.items() for start, n in parts for at in range(start, start + n)}
    offsets = [at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    names = tuple(dict.fromkeys(kept[at] for at in offsets if at in kept))
    return names, tuple(at for at in offsets if at not in kept)


def inode_differences(before: bytes, after: bytes) -> tuple[str, ...]:
    """Names of the fields in which two inodes differ."""
    found = []
    for name, offset, length in _INODE_FIELDS:
        if before[offset : offset + length] != after[offset : offset + length]:
            found.append(name)
    behind = max(offset + length for _, offset, length in _INODE_FIELDS)
    if before[behind:] != after[behind:]:
        found.append(_ATTRIBUTES_IN_INODE)
    return tuple(dict.fromkeys(found))


def is_free(inode: bytes) -> bool:
    """Whether an inode is not in use: no name leads to it."""
    return inode[0x1A:0x1C] == bytes(2)
