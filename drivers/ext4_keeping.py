"""What an ext file system keeps of itself, held against what was planned: which blocks and inodes are given out, and to whom.

A name can be as planned while what is below it is not: blocks that two files have, blocks that a bitmap says are free, an inode
that nothing leads to. Such damage shows only when the guest writes again. Pure: reads through the layouts.

Source: the kernel's documentation, filesystems/ext4 ("Block Group Descriptors", "Block and Inode Bitmaps", "Journal (jbd2)").
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from drivers.ext4_fields import is_free, superblock_problems
from drivers.ext4_layout import GROUP_BLOCKS_UNINIT, GROUP_INODES_UNINIT, Ext4Layout, NotUnderstood

_TOLD_AT_MOST = 20
# 2 GiB of the smallest ones; what is planned are texts, folders and initramfs images
_BLOCKS_AT_MOST = 1 << 21
# Fields of a group's descriptor that no writing changes, by offset and length; the flags and counts are looked at by value.
_FIXED = ((0x0, 12), (0x14, 4), (0x20, 12), (0x34, 4), (0x3C, 4))
_FLAGS_OFFSET, _KNOWN_FLAGS = 0x12, 0x7
_JOURNAL_MAGIC = 0xC03B3998
_JOURNAL_BYTES = 1024
# of the journal's superblock: sequence, start, errors; features; kind of checksum, fast commits, head; checksum
_JOURNAL_KEPT = ((0x18, 12), (0x24, 12), (0x50, 12), (0xFC, 4))
_JOURNAL_START, _JOURNAL_ERROR = 0x1C, 0x20
_MMP_SEQUENCE, _MMP_IS_CLEAN = 0x4, 0xFF4D4D50

Blocks = tuple[int, int]
"""First block and count."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What planned names have on one side. ``blocks`` in order, those of attributes (which inodes may share) not among them."""

    inodes: frozenset[int]
    blocks: tuple[Blocks, ...]
    shared: frozenset[int]
    clashes: tuple[int, ...]
    """Blocks that two of them have."""

    def has(self, block: int) -> bool:
        """Whether a block is one of theirs."""
        index = bisect_right(self.blocks, block, key=lambda blocks: blocks[0]) - 1
        return (index >= 0 and sum(self.blocks[index]) > block) or block in self.shared


def owned_by(layout: Ext4Layout, inodes: Iterable[int]) -> Owned:
    """What some inodes have. Raises ext4_layout.NotUnderstood."""
    numbers = frozenset(inodes)
    parts = [part for number in numbers for part in layout.blocks_of(number) if part[1]]
    if sum(count for _, count in parts) > _BLOCKS_AT_MOST:
        raise NotUnderstood(f"what was planned has more than {_BLOCKS_AT_MOST} blocks")
    blocks = sorted(parts)
    clashes = tuple(other[0] for one, other in pairwise(blocks) if sum(one) > other[0])
    shared = frozenset(layout.attributes_block_of(number) for number in numbers) - {0}
    return Owned(numbers, tuple(blocks), shared, clashes)


def waiting(before: Ext4Layout, after: Ext4Layout) -> Iterator[str]:
    """What would happen at the next mount, though it has not yet."""
    yield from superblock_problems(before.superblock, after.superblock)
    for region in after.regions:
        if region.meaning == "who has it mounted":
            (sequence,) = struct.unpack_from("<I", after.block(region.first), _MMP_SEQUENCE)
            if sequence != _MMP_IS_CLEAN:
                yield "it says that another machine has it mounted"
    number = next((number for number, meaning in after.own_inodes.items() if meaning == "journal"), 0)
    if number:
        yield from _journal(*(layout.block(layout.blocks_of(number)[0][0])[:_JOURNAL_BYTES] for layout in (before, after)))


def _journal(before: bytes, after: bytes) -> Iterator[str]:
    if before == after:
        return
    magic, start, error = (struct.unpack_from(">I", after, at)[0] for at in (0, _JOURNAL_START, _JOURNAL_ERROR))
    if magic != _JOURNAL_MAGIC or start or error:
        yield "its journal is none, has errors, or holds something to replay"
    kept = {at for offset, length in _JOURNAL_KEPT for at in range(offset, offset + length)}
    for at, (one, other) in enumerate(zip(before, after, strict=True)):
        if one != other and at not in kept:
            yield f"its journal's superblock differs at byte {at}"


@dataclass(frozen=True, slots=True)
class Keeping:
    """Groups of both sides, and what planned names have of them. ``folders``: inodes of folders that were made."""

    before: Ext4Layout
    after: Ext4Layout
    owned: tuple[Owned, Owned]
    folders: frozenset[int]
    touched: frozenset[int]
    """Groups in whose bitmaps something differs."""

    def problems(self) -> Iterator[str]:
        """Everything that is given out to nobody, free though somebody has it, or counted wrong."""
        yield from islice(self._clashes(), _TOLD_AT_MOST)
        yield from islice(self._not_given_out(), _TOLD_AT_MOST)
        for group in range(self.after.groups):
            if self._differs(group):
                yield from islice(self._group(group), _TOLD_AT_MOST)

    def _differs(self, group: int) -> bool:
        return group in self.touched or self.before.descriptor(group) != self.after.descriptor(group)

    def _clashes(self) -> Iterator[str]:
        for block in self.owned[1].clashes:
            yield f"block {block} belongs to two planned names"
        for first, count in self.owned[1].blocks:
            if any(self.after.region_at(block) is not None for block in (first, first + count - 1)):
                yield f"block {first} of a planned name is one of the file system's own"

    def _not_given_out(self) -> Iterator[str]:
        """What planned names have now is given out, and what they no longer have is free."""
        before, after = self.owned
        for block in _each(after.blocks, after.shared):
            if not self.after.is_used(block):
                yield f"block {block} of a planned name is free"
        for block in _each(before.blocks, ()):
            if not after.has(block) and self.after.is_used(block):
                yield f"block {block} of a name that is gone is not free"
        for inode in after.inodes:
            if not _bit(self.after.inode_bitmap((inode - 1) // self.after.group_inodes), (inode - 1) % self.after.group_inodes):
                yield f"inode {inode} of a planned name is free"
        for inode in before.inodes - after.inodes:
            if not is_free(self.after.inode(inode)):
                yield f"inode {inode} of a name that is gone is not free"

    def _group(self, group: int) -> Iterator[str]:
        first, first_inode = self.after.first_block_of(group), group * self.after.group_inodes + 1
        blocks = min(self.after.group_blocks, self.after.blocks - first)
        before, after = self.owned
        maps = [layout.block_bitmap(group) for layout in (self.before, self.after)]
        inode_maps = [layout.inode_bitmap(group) for layout in (self.before, self.after)]
        yield from self._descriptor(group, blocks, maps[1], inode_maps[1])
        for block in (first + bit for bit in _different(maps[0], maps[1], blocks)):
            if not (after if _bit(maps[1], block - first) else before).has(block):
                yield f"block {block} is {'given out' if _bit(maps[1], block - first) else 'free'} now, and nobody planned that"
        for inode in (first_inode + bit for bit in _different(inode_maps[0], inode_maps[1], self.after.group_inodes)):
            is_used = _bit(inode_maps[1], inode - first_inode)
            if inode not in (after if is_used else before).inodes:
                yield f"inode {inode} is {'given out' if is_used else 'free'} now, and nobody planned that"

    def _descriptor(self, group: int, blocks: int, block_map: bytes, inode_map: bytes) -> Iterator[str]:
        old, new = (layout.descriptor(group) for layout in (self.before, self.after))
        where = f"the descriptor of group {group}"
        if any(old[at : at + length] != new[at : at + length] for at, length in _FIXED):
            yield f"{where} differs in what never changes"
        flags = [struct.unpack_from("<H", each, _FLAGS_OFFSET)[0] for each in (old, new)]
        if flags[1] & ~flags[0] & (GROUP_BLOCKS_UNINIT | GROUP_INODES_UNINIT) or (flags[0] ^ flags[1]) & ~_KNOWN_FLAGS:
            yield f"{where} has the flags {flags[1]:#x} instead of {flags[0]:#x}"
        counts = [_count(new, low, high) for low, high in ((0xC, 0x2C), (0xE, 0x2E), (0x10, 0x30), (0x1C, 0x32))]
        inodes = self.after.group_inodes
        if counts[:2] != [blocks - _ones(block_map, blocks), inodes - _ones(inode_map, inodes)]:
            yield f"{where} counts {counts[0]} free blocks and {counts[1]} free inodes, and there are others"
        made = sum((number - 1) // inodes == group for number in self.folders)
        if counts[2] != _count(old, 0x10, 0x30) + made:
            yield f"{where} counts {counts[2]} folders, and had {_count(old, 0x10, 0x30)} before {made} were made"
        if counts[3] > inodes or _ones(inode_map, inodes) != _ones(inode_map, inodes - counts[3]):
            yield f"{where} says that the last {counts[3]} inodes were never used, and some are"


def _count(descriptor: bytes, low: int, high: int) -> int:
    value = int(struct.unpack_from("<H", descriptor, low)[0])
    return value | (struct.unpack_from("<H", descriptor, high)[0] << 16 if len(descriptor) >= 64 else 0)


def _each(blocks: Sequence[Blocks], others: Iterable[int]) -> Iterator[int]:
    for first, count in blocks:
        yield from range(first, first + count)
    yield from others


def _bit(bits: bytes, number: int) -> bool:
    return bool(bits[number // 8] >> (number % 8) & 1)


def _ones(bits: bytes, count: int) -> int:
    return (int.from_bytes(bits, "little") & ((1 << count) - 1)).bit_count()


def _different(one: bytes, other: bytes, count: int) -> Iterator[int]:
    """Numbers of the bits, of the first ``count``, that differ."""
    for at, (left, right) in enumerate(zip(one, other, strict=True)):
        if left != right:
            yield from (bit for bit in range(at * 8, min(at * 8 + 8, count)) if (left ^ right) >> (bit % 8) & 1)
