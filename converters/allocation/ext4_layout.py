"""The fixed structures of an ext2, ext3 or ext4: superblock, group descriptors, and the blocks that they themselves take.

Made for large file systems: descriptors stay as the bytes they are, 32 MiB for 64 TiB.

Sources: the kernel's documentation, filesystems/ext4 ("Super Block", "Block Group Descriptors", "Meta Block Groups", "Bigalloc").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from converters.allocation.checksums import crc16, crc32c_raw
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB, MIB

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES = KIB, KIB
_MAGIC = 0xEF53
_LARGEST_BLOCK_BYTES = 64 * KIB
_LARGEST_TABLE_BYTES = 64 * MIB
_ALL = 0xFFFFFFFF

# features by the kernel's names; what is not listed here is not understood
_COMPAT = {
    "dir_prealloc": 0x1, "has_journal": 0x4, "ext_attr": 0x8, "resize_inode": 0x10, "dir_index": 0x20, "sparse_super2": 0x200,
    "fast_commit": 0x400, "stable_inodes": 0x800, "orphan_file": 0x1000,
}  # fmt: skip
_INCOMPAT = {
    "filetype": 0x2, "meta_bg": 0x10, "extent": 0x40, "64bit": 0x80, "mmp": 0x100, "flex_bg": 0x200, "ea_inode": 0x400,
    "metadata_csum_seed": 0x2000, "large_dir": 0x4000, "inline_data": 0x8000, "encrypt": 0x10000, "casefold": 0x20000,
}  # fmt: skip
_RO_COMPAT = {
    "sparse_super": 0x1, "large_file": 0x2, "huge_file": 0x8, "uninit_bg": 0x10, "dir_nlink": 0x20, "extra_isize": 0x40,
    "quota": 0x100, "bigalloc": 0x200, "metadata_csum": 0x400, "read-only": 0x1000, "project": 0x2000, "verity": 0x8000,
}  # fmt: skip
_NEEDS_RECOVERY, _IS_JOURNAL, _ORPHAN_PRESENT = 0x4, 0x8, 0x10000
_STATE_CLEAN = 0x1
_CRC32C = 1
_MMP_MAGIC, _MMP_CLEAN = 0x004D4D50, 0xFF4D4D50
GROUP_INODES_UNINIT, GROUP_BLOCKS_UNINIT = 0x1, 0x2

# a group's descriptor: low halves, flags, checksums; the high halves stand 32 bytes further on
_LOW = struct.Struct("<3IHHHHIHHHH")
_HIGH = struct.Struct("<3IHHHHIHH")


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's descriptor says; places are blocks, ``free`` counts clusters.

    ``used_inodes``: those at the begin of its table that may be in use; none of the others ever was.
    """

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free: int
    flags: int
    bitmap_checksum: int
    used_inodes: int


class Ext4Layout:
    """The layout of one file system that is clean and has no feature but known ones. Raises NotUnderstood."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._raw = volume.read(SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET)
        if self._number("<H", 0x38) != _MAGIC:
            raise NotUnderstood("it has no superblock")
        compat, incompat, ro_compat = struct.unpack_from("<3I", self._raw, 0x5C) if self._number("<I", 0x4C) else (0, 0, 0)
        self._check_features(compat, incompat, ro_compat)
        self.features = {
            name
            for known, bits in ((_COMPAT, compat), (_INCOMPAT, incompat), (_RO_COMPAT, ro_compat))
            for name, bit in known.items()
            if bits & bit
        }
        self._read_sizes()
        self._check_sizes()
        self._seed = self._checksum_seed()
        self._check_superblock()
        self._check_state()
        self._check_mmp()
        self._table = b"".join(self._descriptor_blocks())

    def _number(self, form: str, offset: int) -> int:
        (value,) = struct.unpack_from(form, self._raw, offset)
        return int(value)

    def _check_features(self, compat: int, incompat: int, ro_compat: int) -> None:
        if self._number("<I", 0x4C) > 1:
            raise NotUnderstood(f"its revision is {self._number('<I', 0x4C)}")
        if incompat & _IS_JOURNAL:
            raise NotUnderstood("it is the journal of another file system")
        if incompat & _NEEDS_RECOVERY:
            raise NotUnderstood("its journal has to be replayed")
        if ro_compat & _ORPHAN_PRESENT:
            raise NotUnderstood("files that were deleted while they were open are still to be freed")
        for kind, bits, known in (
            ("compat", compat, _COMPAT), ("incompat", incompat, _INCOMPAT), ("ro_compat", ro_compat, _RO_COMPAT),
        ):  # fmt: skip
            unknown = bits & ~sum(known.values())
            if unknown:
                raise NotUnderstood(f"it has a feature that is not known ({kind} {unknown:#x})")

    def _read_sizes(self) -> None:
        self.block_bytes = KIB << min(self._number("<I", 0x18), 32)
        is_64bit = "64bit" in self.features
        self.blocks = self._number("<I", 0x4) | (self._number("<I", 0x150) << 32 if is_64bit else 0)
        self.free_blocks = self._number("<I", 0xC) | (self._number("<I", 0x158) << 32 if is_64bit else 0)
        self.first_block = self._number("<I", 0x14)
        self.group_blocks = self._number("<I", 0x20)
        self.cluster_blocks = 1
        if "bigalloc" in self.features:
            self.cluster_blocks = 1 << max(0, min(32, self._number("<I", 0x1C) - self._number("<I", 0x18)))
        self._inodes = self._number("<I", 0x28)
        self.inode_bytes = self._number("<H", 0x58) if self._number("<I", 0x4C) else 128
        self._descriptor_bytes = self._number("<H", 0xFE) if is_64bit else 32

    def _check_sizes(self) -> None:
        if self.block_bytes > _LARGEST_BLOCK_BYTES or not self.first_block < self.blocks:
            raise NotUnderstood("its blocks have an impossible size or number")
        if self.blocks * self.block_bytes > self._volume.size:
            raise NotUnderstood(f"it is {self.blocks * self.block_bytes} bytes long, in a place of {self._volume.size}")
        if self.first_block != (1 if self.block_bytes == KIB and self.cluster_blocks == 1 else 0):
            raise NotUnderstood(f"its first block is number {self.first_block}")
        clusters = self.group_blocks // self.cluster_blocks
        if not 0 < clusters <= 8 * self.block_bytes or clusters * self.cluster_blocks != self.group_blocks or clusters % 8:
            raise NotUnderstood(f"its groups have {self.group_blocks} blocks")
        if "bigalloc" in self.features and self._number("<I", 0x24) != clusters:
            raise NotUnderstood("its groups have another number of clusters than of blocks")
        size = self.inode_bytes
        if not 128 <= size <= self.block_bytes or size & (size - 1) or not 0 < self._inodes <= 8 * self.block_bytes:
            raise NotUnderstood(f"it has {self._inodes} inodes of {size} bytes a group")
        size = self._descriptor_bytes
        if not 32 <= size <= KIB or size & (size - 1) or ("64bit" in self.features and size < 64):
            raise NotUnderstood(f"its group descriptors have {size} bytes")
        self.groups = -(-(self.blocks - self.first_block) // self.group_blocks)
        if self.groups * size > _LARGEST_TABLE_BYTES or self._number("<I", 0) != self.groups * self._inodes:
            raise NotUnderstood(f"it has {self.groups} groups and {self._number('<I', 0)} inodes")
        self.inode_table_blocks = -(-self._inodes * self.inode_bytes // self.block_bytes)
        self._per_block = self.block_bytes // size
        self._table_blocks = -(-self.groups // self._per_block)
        self._first_meta = self._number("<I", 0x104) if "meta_bg" in self.features else self._table_blocks
        if self._first_meta > self._table_blocks or self._number("<H", 0xCE) > self.block_bytes // 4:
            raise NotUnderstood("its group descriptors are more than it has groups")

    def _checksum_seed(self) -> int:
        if "metadata_csum_seed" in self.features:
            return self._number("<I", 0x270)
        return crc32c_raw(_ALL, self._raw[0x68:0x78])

    def _check_superblock(self) -> None:
        if "metadata_csum" not in self.features:
            return
        if self._raw[0x175] != _CRC32C or crc32c_raw(_ALL, self._raw[:0x3FC]) != self._number("<I", 0x3FC):
            raise NotUnderstood("its superblock fails its checksum")

    def _check_state(self) -> None:
        state = self._number("<H", 0x3A)
        if state != _STATE_CLEAN or self._number("<I", 0x194):
            raise NotUnderstood("it was not unmounted cleanly" if not state & _STATE_CLEAN else "errors were found in it")
        if self._number("<I", 0xE8):
            raise NotUnderstood("files that were deleted while they were open are still to be freed")

    def _check_mmp(self) -> None:
        self.mmp_block = self._number("<Q", 0x168) if "mmp" in self.features else 0
        if not self.mmp_block:
            return
        self.require_blocks(self.mmp_block, 1)
        magic, sequence = struct.unpack("<II", self._volume.read(8, self.mmp_block * self.block_bytes))
        if (magic, sequence) != (_MMP_MAGIC, _MMP_CLEAN):
            raise NotUnderstood("another machine has it mounted")

    def require_blocks(self, first: int, count: int) -> None:
        """Raise NotUnderstood unless blocks lie within the file system."""
        if first < 1 or first + count > self.blocks:
            raise NotUnderstood("a structure lies behind its end")

    # --- groups -------------------------------------------------------------------------------------------------------

    def _descriptor_blocks(self) -> Iterator[bytes]:
        """The blocks of group descriptors: in one piece behind the superblock, with meta_bg in their own groups."""
        old = min(self._first_meta, self._table_blocks)
        begin = self._superblock_of(0) + 1
        self.require_blocks(begin, max(1, old))
        for number in range(old):
            yield self._volume.read(self.block_bytes, (begin + number) * self.block_bytes)
        for number in range(old, self._table_blocks):
            group = number * self._per_block
            block = self._superblock_of(group) + 1 if self._has_superblock(group) else self.first_block_of(group)
            self.require_blocks(block, 1)
            yield self._volume.read(self.block_bytes, block * self.block_bytes)

    def first_block_of(self, group: int) -> int:
        """Where a group begins."""
        return self.first_block + group * self.group_blocks

    def _superblock_of(self, group: int) -> int:
        # with blocks of 1 KiB the boot sectors take a whole one, also where clusters make the count begin with 0
        return self.first_block_of(group) or (1 if self.block_bytes == KIB else 0)

    def _has_superblock(self, group: int) -> bool:
        if "sparse_super2" in self.features:
            return group == 0 or group in struct.unpack_from("<2I", self._raw, 0x24C)
        if group < 2 or "sparse_super" not in self.features:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def group(self, number: int) -> Group:
        """A group's descriptor. Raises NotUnderstood for one that fails its checksum or points outside."""
        at = self._place_in_table(number)
        raw = self._table[at : at + self._descriptor_bytes]
        block_bitmap, inode_bitmap, table, free, _, _, flags, _, checksum, _, unused, stored = _LOW.unpack_from(raw)
        if "64bit" in self.features:
            high = _HIGH.unpack_from(raw, 32)
            block_bitmap, inode_bitmap, table = block_bitmap | high[0] << 32, inode_bitmap | high[1] << 32, table | high[2] << 32
            free, unused, checksum = free | high[3] << 16, unused | high[6] << 16, checksum | high[8] << 16
        if self._has_checksums and stored != self._descriptor_checksum(number, raw):
            raise NotUnderstood(f"the descriptor of group {number} fails its checksum")
        for first, count in ((block_bitmap, 1), (inode_bitmap, 1), (table, self.inode_table_blocks)):
            self.require_blocks(first, count)
        if not self._has_checksums:
            flags = unused = 0
        used = 0 if flags & GROUP_INODES_UNINIT else max(0, self._inodes - unused)
        return Group(block_bitmap, inode_bitmap, table, free, flags, checksum, used)

    def _place_in_table(self, number: int) -> int:
        block, within = divmod(number, self._per_block)
        return block * self.block_bytes + within * self._descriptor_bytes

    @property
    def _has_checksums(self) -> bool:
        return "metadata_csum" in self.features or "uninit_bg" in self.features

    def _descriptor_checksum(self, number: int, raw: bytes) -> int:
        head, numbered = raw[:0x1E], struct.pack("<I", number)
        if "metadata_csum" in self.features:
            return crc32c_raw(crc32c_raw(self._seed, numbered), head + b"\0\0" + raw[0x20:]) & 0xFFFF
        return crc16(0xFFFF, self._raw[0x68:0x78] + numbered + head + raw[0x20:])

    def bitmap(self, number: int, group: Group) -> int:
        """The block bitmap of a group that has one, a bit for each cluster. Raises NotUnderstood when it fails its checksum."""
        raw = self._volume.read(self.group_blocks // self.cluster_blocks // 8, group.block_bitmap * self.block_bytes)
        if "metadata_csum" in self.features:
            found = crc32c_raw(self._seed, raw)
            if found & (_ALL if "64bit" in self.features else 0xFFFF) != group.bitmap_checksum:
                raise NotUnderstood(f"the block bitmap of group {number} fails its checksum")
        return int.from_bytes(raw, "little")

    def own_blocks(self) -> Iterator[tuple[str, int, int]]:
        """What, first block and count of every structure whose place is fixed; each kind by itself from group to group."""
        if self.mmp_block:
            yield "mmp", self.mmp_block, 1
        for number in range(self.groups):
            yield from self._heads(number)
            group = self.group(number)
            yield "block bitmap", group.block_bitmap, 1
            yield "inode bitmap", group.inode_bitmap, 1
            yield "inode table", group.inode_table, self.inode_table_blocks

    def _heads(self, group: int) -> Iterator[tuple[str, int, int]]:
        """Superblock, group descriptors and room for more of them, at a group's beginning."""
        has_superblock, block = self._has_superblock(group), self._superblock_of(group)
        if group == 0 and block > self.first_block:
            yield "boot sectors", self.first_block, block - self.first_block
        if has_superblock:
            yield "superblock", block, 1 + min(self._first_meta, self._table_blocks) + self._number("<H", 0xCE)
        if group // self._per_block >= self._first_meta and group % self._per_block in (0, 1, self._per_block - 1):
            yield "descriptors", (block + 1 if has_superblock else self.first_block_of(group)), 1
