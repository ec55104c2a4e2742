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
from itertools import pairwise

from drivers.ext4_fields import EXTENTS_FLAG, INLINE_FLAG
from p2v.core.units import KIB, SECTOR_BYTES

KINDS = ("ext2", "ext3", "ext4")
Read = Callable[[int, int], bytes]
"""``read(length, offset)`` of the file system's device, in bytes."""

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES = 1024, 1024
_MAGIC = 0xEF53
_BITMAPS_KEPT = 64
_LARGEST_BLOCK_BYTES = 64 * KIB
# 64 TiB of groups of 128 MiB
_GROUPS_AT_MOST = 1 << 19
_COMPAT_SPARSE_SUPER2, _COMPAT_ORPHAN_FILE = 0x200, 0x1000
_INCOMPAT_META_BG, _INCOMPAT_64BIT, _INCOMPAT_MMP, _INCOMPAT_EA_INODE = 0x10, 0x80, 0x100, 0x400
_RO_SPARSE_SUPER, _RO_QUOTA, _RO_BIGALLOC = 0x1, 0x100, 0x200
GROUP_INODES_UNINIT, GROUP_BLOCKS_UNINIT = 0x1, 0x2
_QUOTA_INODES = (0x240, 0x244, 0x26C)
_KIND_OF_FILE, _LINK, _HAVE_A_MAP = 0xF000, 0xA000, (0x8000, 0x4000, 0xA000)  # files, folders, symbolic links
_LONGEST_LINK_IN_INODE = 59
_EXTENT_MAGIC = 0xF30A
_DEEPEST_EXTENT_TREE = 5
_EXTENTS_AT_MOST = 100_000


class NotUnderstood(ValueError):
    """The file system is none, is damaged, or has something that is not understood here."""


@dataclass(frozen=True, slots=True)
class Region:
    """Blocks of one meaning. ``group``: the block group it belongs to."""

    first: int
    count: int
    meaning: str
    group: int

    @property
    def end(self) -> int:
        """The first block behind it."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class _Group:
    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    flags: int
    raw: bytes


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
        if self.groups > _GROUPS_AT_MOST:
            raise NotUnderstood(f"it has {self.groups} groups")
        self._bitmaps: dict[tuple[int, str], bytes] = {}
        self._inode_table_blocks = -(-self._group_inodes * self.inode_bytes // self.block_bytes)

    def _check(self) -> None:
        if self._ro_compat & _RO_BIGALLOC:
            raise NotUnderstood("it gives out clusters of blocks (bigalloc)")
        if self.block_bytes > _LARGEST_BLOCK_BYTES or self.blocks * self.block_bytes > self._size:
            raise NotUnderstood("it is larger than its device")
        if not 0 < self._group_blocks <= 8 * self.block_bytes or not 0 < self._group_inodes <= 8 * self.block_bytes:
            raise NotUnderstood("its groups have impossible sizes")
        if not 128 <= self.inode_bytes <= self.block_bytes or self.inode_bytes & (self.inode_bytes - 1):
            raise NotUnderstood(f"its inodes have {self.inode_bytes} bytes")
        if not 32 <= self._descriptor_bytes <= self.block_bytes or self.blocks <= self._first_block:
            raise NotUnderstood("its group descriptors have an impossible size")

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

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes and counts that every place is reckoned from."""
        return (
            self.block_bytes, self.blocks, self._first_block, self._group_blocks, self._group_inodes, self.inode_bytes,
            self._descriptor_bytes, self.groups,
        )  # fmt: skip

    def block(self, number: int) -> bytes:
        """The bytes of a block."""
        return self._exactly(self.block_bytes, number * self.block_bytes)

    def bytes_at(self, length: int, offset: int) -> bytes:
        """Some bytes of its device."""
        return self._exactly(length, offset)

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
        if max(places[0], places[1], places[2] + self._inode_table_blocks - 1) >= self.blocks:
            raise NotUnderstood("a group's structures lie behind its end")
        return _Group(places[0], places[1], places[2], struct.unpack_from("<H", data, 0x12)[0], data)

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
        for inode, meaning in self.own_inodes.items():
            found += [Region(first, count, meaning, 0) for first, count in self.blocks_of(inode)]
        if self._incompat & _INCOMPAT_MMP:
            found.append(Region(self._number("<Q", 0x168), 1, "who has it mounted", 0))
        found.sort(key=lambda region: region.first)
        if any(one.end > other.first for one, other in pairwise(found)) or (found and found[-1].end > self.blocks):
            raise NotUnderstood("its structures overlap, or lie behind its end")
        return tuple(found)

    @cached_property
    def own_inodes(self) -> Mapping[int, str]:
        """Inodes without a name that the file system itself writes to, by number."""
        found = {self._number("<I", 0xE0): "journal"}
        if self._ro_compat & _RO_QUOTA:
            found |= {self._number("<I", at): "quota" for at in _QUOTA_INODES}
        if self._compat & _COMPAT_ORPHAN_FILE:
            found[self._number("<I", 0x280)] = "list of orphans"
        return {number: meaning for number, meaning in found.items() if number}

    @cached_property
    def first_inode(self) -> int:
        """The first that is not the file system's own."""
        return self._number("<I", 0x54) if self._number("<I", 0x4C) else 11

    @property
    def group_blocks(self) -> int:
        """Blocks of a group; the last has fewer."""
        return self._group_blocks

    @property
    def group_inodes(self) -> int:
        """Inodes of a group."""
        return self._group_inodes

    def first_block_of(self, group: int) -> int:
        """Where a group begins."""
        return self._first_block + group * self._group_blocks

    def group_of(self, block: int) -> int:
        """The group that a block is in; of a block before the first group: 0."""
        return max(0, block - self._first_block) // self._group_blocks

    def descriptor(self, group: int) -> bytes:
        """The bytes of a group's descriptor."""
        return self._descriptors[group].raw

    def block_bitmap(self, group: int) -> bytes:
        """Which blocks of a group are given out, a bit each; of a group not yet written to as the kernel makes it up."""
        descriptor = self._descriptors[group]
        if not descriptor.flags & GROUP_BLOCKS_UNINIT:
            return self._bitmap(group, "blocks", descriptor.block_bitmap, self._group_blocks)
        first, bits = self.first_block_of(group), bytearray(-(-self._group_blocks // 8))
        index = max(0, bisect_right(self._firsts, first) - 1)
        while index < len(self.regions) and self.regions[index].first < first + self._group_blocks:
            region = self.regions[index]
            for block in range(max(first, region.first), min(first + self._group_blocks, region.end)):
                bits[(block - first) // 8] |= 1 << (block - first) % 8
            index += 1
        return bytes(bits)

    def inode_bitmap(self, group: int) -> bytes:
        """Which inodes of a group are given out, a bit each."""
        descriptor = self._descriptors[group]
        if descriptor.flags & GROUP_INODES_UNINIT:
            return bytes(-(-self._group_inodes // 8))
        return self._bitmap(group, "inodes", descriptor.inode_bitmap, self._group_inodes)

    def _bitmap(self, group: int, what: str, block: int, bits: int) -> bytes:
        if (group, what) not in self._bitmaps:
            if len(self._bitmaps) >= _BITMAPS_KEPT:
                self._bitmaps.clear()
            self._bitmaps[group, what] = self._exactly(-(-bits // 8), block * self.block_bytes)
        return self._bitmaps[group, what]

    def _heads(self, group: int) -> Iterator[Region]:
        """Superblock, group descriptors and room for more of them, at a group's beginning."""
        at = self._first_block + group * self._group_blocks
        blocks = -(-self.groups // self._descriptors_per_block)
        first_meta = self._number("<I", 0x104) if self._incompat & _INCOMPAT_META_BG else blocks
        has_superblock = self._has_superblock(group)
        if has_superblock:
            yield Region(at, 1, "superblock" if group == 0 else "copy of the superblock", group)
            table, room = min(first_meta, blocks), self._number("<H", 0xCE)
            if table:
                yield Region(at + 1, table, "group descriptors" if group == 0 else "copy of group descriptors", group)
            if room:
                yield Region(at + 1 + table, room, "room for group descriptors", group)
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
        return region if block < region.end else None

    def is_used(self, block: int) -> bool:
        """Whether the block bitmap says that a block is given out."""
        group, within = divmod(block - self._first_block, self._group_blocks)
        return 0 <= group < self.groups and bool(self.block_bitmap(group)[within // 8] >> (within % 8) & 1)

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
        found: set[int] = set()
        self._map(self.inode(number), [], found)
        return frozenset(found | {self.attributes_block_of(number)} - {0})

    def attributes_block_of(self, number: int) -> int:
        """The block with an inode's extended attributes, which several inodes may share; 0: none."""
        inode = self.inode(number)
        return int(struct.unpack_from("<I", inode, 0x68)[0] | struct.unpack_from("<H", inode, 0x76)[0] << 32)

    def counts_its_blocks(self, number: int) -> bool:
        """Whether an inode says how many blocks it has, those of its map and its attributes among them."""
        inode = self.inode(number)
        said = int(struct.unpack_from("<I", inode, 0x1C)[0] | struct.unpack_from("<H", inode, 0x74)[0] << 32)
        has = sum(count for _, count in self.blocks_of(number)) + bool(self.attributes_block_of(number))
        # attributes in inodes of their own are counted where they belong; a huge file counts blocks instead of sectors
        return bool(self._incompat & _INCOMPAT_EA_INODE) or said in (has * self.block_bytes // SECTOR_BYTES, has)

    def blocks_of(self, number: int) -> tuple[tuple[int, int], ...]:
        """Where an inode's contents stand: (first block, count) each, the blocks that list them among them."""
        found: list[tuple[int, int]] = []
        nodes: set[int] = set()
        self._map(self.inode(number), found, nodes)
        return (*found, *((node, 1) for node in sorted(nodes)))

    def _map(self, inode: bytes, found: list[tuple[int, int]], nodes: set[int]) -> None:
        """Blocks of contents, and of the tree that lists them. What a device file or a short link has there is no map."""
        (flags,) = struct.unpack_from("<I", inode, 0x20)
        kind = struct.unpack_from("<H", inode)[0] & _KIND_OF_FILE
        if kind not in _HAVE_A_MAP or flags & INLINE_FLAG:
            return
        if kind == _LINK and struct.unpack_from("<I", inode, 4)[0] <= _LONGEST_LINK_IN_INODE:
            return
        if flags & EXTENTS_FLAG:
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
            if place in nodes or len(nodes) > _EXTENTS_AT_MOST:
                raise NotUnderstood("a list of blocks leads to itself, or has no end")
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
                if place in nodes or len(nodes) > _EXTENTS_AT_MOST:
                    raise NotUnderstood("an extent tree leads to itself, or has no end")
                nodes.add(place)
                self._extents(self._exactly(self.block_bytes, place * self.block_bytes), depth - 1, found, nodes)
