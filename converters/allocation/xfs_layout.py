"""XFS on disk, as far as free space is concerned: superblock, headers of allocation groups, blocks of their B+trees.

Source: "XFS Algorithms & Data Structures" (docs.kernel.org and xfs.org), chapters "Allocation Groups" and "Short Format B+trees",
whose names the fields bear. Numbers are big-endian, checksums little-endian; blocks are counted from the begin of their group.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from converters.allocation.checksums import crc32c
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import GIB, KIB
from p2v.core.xfs_log import XfsLog

MAGIC = b"XFSB"
_SUPERBLOCK_BYTES = 512
_LARGEST_LOG = 2 * GIB
_GROUPS_AT_MOST = 256 * KIB

# features; bits that are not listed here are not understood
_V4_FLAGS = 0xFFF0 & ~0x0200  # all that ever were, but for shared read-only volumes
_V4_FEATURES2 = 0x2 | 0x8 | 0x10 | 0x80 | 0x200  # lazy counters, attr2, parent, 32-bit projects, ftype
_RO_COMPAT = 0x1 | 0x2 | 0x4 | 0x8  # finobt, rmapbt, reflink, inobtcount
# ftype, sparse inodes, metadata UUID, bigtime, nrext64, exchange-range, parent pointers: how inodes look, not what is free
_INCOMPAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
_INCOMPAT_META_UUID, _INCOMPAT_NEEDS_REPAIR = 0x4, 0x10
_INCOMPAT_LOG = 0x1  # logged extended attributes: nothing of them is left in a clean log

_AGF = struct.Struct(">4s15I16s4I")


@dataclass(frozen=True, slots=True)
class FreeSpaceHeader:
    """The AGF of a group. ``reserved``: the blocks of its AGFL, kept back for the trees."""

    length: int
    roots: tuple[int, int]
    levels: tuple[int, int]
    free_blocks: int
    longest: int
    tree_blocks: int
    reserved: tuple[int, ...]
    other_roots: tuple[int, ...]


class XfsLayout:
    """A file system that is clean, with its log inside and no feature but known ones. Raises NotUnderstood."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        raw = self._raw = volume.read(_SUPERBLOCK_BYTES, 0)
        if raw[:4] != MAGIC:
            raise NotUnderstood("it has no superblock")
        self.block_bytes, self.blocks = self._long(4), self._number(">Q", 8)
        self.group_blocks, self.groups = self._long(84), self._long(88)
        version, self.sector_bytes = struct.unpack_from(">HH", raw, 100)
        self.is_v5 = version & 0xF == 5
        self.free_blocks = int(struct.unpack_from(">Q", raw, 144)[0])
        self.inode_bytes, self.inode_bits, self.group_bits = self._number(">H", 104), raw[123], raw[124]
        self._check_sizes()
        self._check_features(version)
        self.uuid = raw[248:264] if self.is_v5 and self._long(216) & _INCOMPAT_META_UUID else raw[32:48]
        if self.is_v5:
            sector = volume.read(self.sector_bytes, 0)
            if not _checksum_fits(sector, 224):
                raise NotUnderstood("its superblock fails its checksum")
        if raw[126] or self._number(">Q", 16) or self._number(">Q", 24):
            raise NotUnderstood("it is being made" if raw[126] else "a part of it is on a realtime device")
        self._check_log()

    def _number(self, form: str, offset: int) -> int:
        return int(struct.unpack_from(form, self._raw, offset)[0])

    def _long(self, offset: int) -> int:
        return self._number(">I", offset)

    def _check_sizes(self) -> None:
        size, log = self.block_bytes, self._raw[120]
        if size not in (512 << power for power in range(8)) or 1 << log != size:
            raise NotUnderstood(f"its blocks have {size} bytes")
        if self.sector_bytes not in (512 << power for power in range(7)) or self.sector_bytes > size:
            raise NotUnderstood(f"its sectors have {self.sector_bytes} bytes")
        if not 0 < self.groups <= _GROUPS_AT_MOST or not 0 < self.group_blocks < 1 << 31 or self.group_bits > 31:
            raise NotUnderstood(f"it has {self.groups} groups of {self.group_blocks} blocks")
        if -(-self.blocks // self.group_blocks) != self.groups or self.group_blocks > 1 << self.group_bits:
            raise NotUnderstood(f"it has {self.blocks} blocks in {self.groups} groups of {self.group_blocks}")
        if self.inode_bytes not in (256, 512, 1024, 2048) or self.inode_bytes << self.inode_bits != size:
            raise NotUnderstood(f"its inodes have {self.inode_bytes} bytes")
        if self.blocks * size > self._volume.size:
            raise NotUnderstood(f"it is {self.blocks * size} bytes long, in a place of {self._volume.size}")

    def _check_features(self, version: int) -> None:
        if version & 0xF not in (4, 5):
            raise NotUnderstood(f"its version is {version & 0xF}")
        features2 = self._long(200)
        unknown = version & ~0xF & ~_V4_FLAGS
        if not self.is_v5:
            # features are in the second word where the first says so
            unknown |= (features2 & ~_V4_FEATURES2 if version & 0x8000 else 0) << 16
        else:
            compat, ro_compat, incompat, log = struct.unpack_from(">4I", self._raw, 208)
            if incompat & _INCOMPAT_NEEDS_REPAIR:
                raise NotUnderstood("it is marked as needing repair")
            unknown |= compat | ro_compat & ~_RO_COMPAT | incompat & ~_INCOMPAT | log & ~_INCOMPAT_LOG
        if unknown:
            raise NotUnderstood(f"it has a feature that is not known ({unknown:#x})")

    def _check_log(self) -> None:
        start = self._number(">Q", 48)
        self.log = (-1, 0, 0)
        if not start:
            raise NotUnderstood("its log is on another device")
        group, first = self.split(start)
        count = self._long(96)
        size = count * self.block_bytes
        if not 0 < size <= _LARGEST_LOG or first + count > self.length_of(group):
            raise NotUnderstood("its log lies outside of it")
        self.log = (group, first, count)
        log = XfsLog(self._volume.read, self.place(group, first), size)
        if not log.is_clean():
            raise NotUnderstood("its log has to be replayed")

    def length_of(self, group: int) -> int:
        """Blocks of a group; 0 for one that is not there."""
        return max(0, min(self.group_blocks, self.blocks - group * self.group_blocks))

    def split(self, number: int) -> tuple[int, int]:
        """The group of a block of the file system, which is in the number's upper bits, and the group's block."""
        return number >> self.group_bits, number & ((1 << self.group_bits) - 1)

    def place(self, group: int, block: int) -> int:
        """Where a group's block stands in the file system, in bytes."""
        return (group * self.group_blocks + block) * self.block_bytes

    def header(self, group: int) -> FreeSpaceHeader:
        """The AGF of a group, checked, with its AGFL."""
        raw = self._volume.read(self.sector_bytes, self.place(group, 0) + self.sector_bytes)
        (magic, version, number, length, bno, cnt, rmap, bno_level, cnt_level, _, first, last, count, free, longest,
         tree_blocks, uuid, _, _, refcount, _) = _AGF.unpack_from(raw)  # fmt: skip
        if magic != b"XAGF" or version != 1 or number != group or length != self.length_of(group):
            raise NotUnderstood(f"the header of free space of group {group} is damaged")
        if self.is_v5 and not (_checksum_fits(raw, 216) and uuid == self.uuid):
            raise NotUnderstood(f"the header of free space of group {group} fails its checksum")
        others = (rmap, refcount) if self.is_v5 else ()
        reserved = self._reserved(group, first, last, count)
        return FreeSpaceHeader(length, (bno, cnt), (bno_level, cnt_level), free, longest, tree_blocks, reserved, others)

    def _reserved(self, group: int, first: int, last: int, count: int) -> tuple[int, ...]:
        raw = self._volume.read(self.sector_bytes, self.place(group, 0) + 3 * self.sector_bytes)
        header = 0
        if self.is_v5:
            header = 36
            good = raw[:4] == b"XAFL" and struct.unpack_from(">I", raw, 4)[0] == group and raw[8:24] == self.uuid
            if not good or not _checksum_fits(raw, 32):
                raise NotUnderstood(f"the list of reserved blocks of group {group} is damaged")
        slots = struct.unpack_from(f">{(self.sector_bytes - header) // 4}I", raw, header)
        if first >= len(slots) or last >= len(slots) or (count and count != (last - first) % len(slots) + 1):
            raise NotUnderstood(f"the list of reserved blocks of group {group} is damaged")
        found = tuple(slots[(first + index) % len(slots)] for index in range(count))
        if any(block >= self.length_of(group) for block in found):
            raise NotUnderstood(f"the list of reserved blocks of group {group} leads outside of it")
        return found

    def inode_roots(self, group: int) -> tuple[int, ...]:
        """Roots of a group's trees of inodes (AGI)."""
        raw = self._volume.read(self.sector_bytes, self.place(group, 0) + 2 * self.sector_bytes)
        if raw[:4] != b"XAGI" or struct.unpack_from(">I", raw, 8)[0] != group:
            raise NotUnderstood(f"the header of inodes of group {group} is damaged")
        if self.is_v5 and not (_checksum_fits(raw, 312) and raw[296:312] == self.uuid):
            raise NotUnderstood(f"the header of inodes of group {group} fails its checksum")
        free_root = struct.unpack_from(">I", raw, 328)[0] if self.is_v5 else 0
        return struct.unpack_from(">I", raw, 20)[0], free_root

    def inode_tree(self, group: int) -> tuple[int, int]:
        """Root and levels of a group's tree of inodes."""
        root, _ = self.inode_roots(group)
        raw = self._volume.read(self.sector_bytes, self.place(group, 0) + 2 * self.sector_bytes)
        return root, int(struct.unpack_from(">I", raw, 24)[0])

    def tree_block(self, group: int, block: int, magics: tuple[bytes, bytes]) -> TreeBlock:
        """A block of a group's tree of free space, checked. ``magics``: as version 4 and version 5 have it."""
        found = self.checked_block(group, block, magics)
        room = (self.block_bytes - found.header) // (8 if found.level == 0 else 12)
        if not found.count <= room:
            raise NotUnderstood(f"a tree of group {group} is damaged")
        pairs = struct.unpack_from(f">{2 * found.count}I", found.raw, found.header)
        children = struct.unpack_from(f">{found.count}I", found.raw, found.header + 8 * room) if found.level else ()
        return TreeBlock(found.level, pairs, children, found.right)

    def checked_block(self, group: int, block: int, magics: tuple[bytes, bytes]) -> CheckedBlock:
        """A block of any of a group's trees, whose header and checksum fit."""
        if not 0 < block < self.length_of(group):
            raise NotUnderstood(f"a tree of group {group} leads outside of it")
        place = self.place(group, block)
        raw = self._volume.read(self.block_bytes, place)
        magic, level, count, _, right = struct.unpack_from(">4sHHII", raw)
        header = 56 if self.is_v5 else 16
        if magic != magics[self.is_v5]:
            raise NotUnderstood(f"a tree of group {group} is damaged")
        if self.is_v5:
            number, _, uuid, owner = struct.unpack_from(">QQ16sI", raw, 16)
            if number * 512 != place or uuid != self.uuid or owner != group or not _checksum_fits(raw, 52):
                raise NotUnderstood(f"a tree of group {group} is damaged")
        return CheckedBlock(raw, header, level, count, right)


@dataclass(frozen=True, slots=True)
class CheckedBlock:
    """A block of a tree: its bytes, those of its header, its level (0: leaves), how many records it has, its right neighbour."""

    raw: bytes
    header: int
    level: int
    count: int
    right: int


@dataclass(frozen=True, slots=True)
class TreeBlock:
    """A block of a tree of free space: first block and count of each record (``pairs``), children where ``level`` is not 0."""

    level: int
    pairs: tuple[int, ...]
    children: tuple[int, ...]
    right: int


def _checksum_fits(raw: bytes, at: int) -> bool:
    return crc32c(raw[:at] + bytes(4) + raw[at + 4 :]) == int(struct.unpack_from("<I", raw, at)[0])
