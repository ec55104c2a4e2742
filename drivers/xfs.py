"""XFS: what the superblock says, and whether the log has to be replayed."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from drivers.facts import FileSystem
from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.xfs_log import XfsLog

MAGIC = b"XFSB"
SUPERBLOCK_BYTES = 512
Read = Callable[[int, int], bytes]
"""``read(length, offset)`` of the file system's device, in bytes."""

_LARGEST_LOG = 2 << 31
# ftype, sparse inodes, metadata UUID, bigtime; needsrepair, nrext64 and all later ones are left to the kernel
_INCOMPAT_READ = 0x1 | 0x2 | 0x4 | 0x8
_DIRTY = "its log has to be replayed"
_INCOMPAT_NEEDS_REPAIR = 0x10
_GROUP_BITS_AT_MOST = 32


@dataclass(frozen=True, slots=True)
class Groups:
    """How blocks are numbered: the allocation group, and below it, in ``bits`` bits, the block in the group.

    Source: XFS Algorithms and Data Structures, "Superblocks" (sb_agblocks, sb_agcount, sb_agblklog).
    """

    block_bytes: int
    blocks: int
    """Of a group."""
    count: int
    bits: int

    @classmethod
    def of(cls, superblock: bytes) -> Groups:
        """As a superblock has them."""
        (block_bytes,), (blocks, count) = struct.unpack_from(">I", superblock, 4), struct.unpack_from(">2I", superblock, 84)
        return cls(block_bytes, blocks, count, superblock[124])

    def block(self, number: int) -> int | None:
        """The block of the device that a number stands for; None for one that there is not."""
        group, within = number >> self.bits, number & ((1 << self.bits) - 1)
        is_there = self.bits <= _GROUP_BITS_AT_MOST and group < self.count and within < self.blocks
        return group * self.blocks + within if is_there else None

    def place(self, offset: int) -> int | None:
        """Where in the device a byte stands; ``offset``: its block's number times the size of a block, and where in the block."""
        number, within = divmod(offset, self.block_bytes)
        block = self.block(number)
        return block * self.block_bytes + within if block is not None else None


def read_groups(read: Read) -> Groups:
    """The allocation groups of an XFS. Raises NotUnderstood where there is no superblock."""
    return Groups.of(_superblock(read))


def _superblock(read: Read) -> bytes:
    raw = read(SUPERBLOCK_BYTES, 0)
    if len(raw) < SUPERBLOCK_BYTES or raw[:4] != MAGIC or not any(raw[4:8]):
        raise NotUnderstood("it has no superblock")
    return raw


def recognise(reader: DiskReader, offset: int, length: int) -> FileSystem | None:
    """The XFS at a place; None when there is none."""
    raw = reader.pread(SUPERBLOCK_BYTES, offset)
    if len(raw) < SUPERBLOCK_BYTES or raw[:4] != MAGIC:
        return None
    block_bytes, blocks = struct.unpack_from(">IQ", raw, 4)
    if block_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or not blocks:
        return None
    free_blocks = struct.unpack_from(">Q", raw, 144)[0]
    total = blocks * block_bytes
    why = _why_not_host(reader, offset, length, raw, total)
    return FileSystem(
        "xfs",
        uuid=str(uuid.UUID(bytes=raw[32:48])),
        label=raw[108:120].split(b"\0")[0].decode("utf-8", "replace") or None,
        size_bytes=total,
        free_bytes=min(free_blocks * block_bytes, total),
        # inodes are made as they are needed: those free now are no limit
        free_inodes=None,
        why_not_host=why,
        dirty=why == _DIRTY,
    )


def _why_not_host(reader: DiskReader, offset: int, length: int, raw: bytes, total: int) -> str:
    version = struct.unpack_from(">H", raw, 100)[0] & 0xF
    if version not in (4, 5):
        return f"the host reader does not know version {version} of XFS"
    if total > length:
        return f"it is {total} bytes long and the place it stands in {length}"
    if version == 5:
        incompat = struct.unpack_from(">I", raw, 216)[0]
        if incompat & _INCOMPAT_NEEDS_REPAIR:
            return "it is marked as needing repair"
        if incompat & ~_INCOMPAT_READ:
            return f"the host reader does not know its feature {incompat & ~_INCOMPAT_READ:#x}"
    log = _log(reader, offset, length, raw)
    if log is None:
        return "its log is outside of it"
    return "" if log.is_clean() else _DIRTY


def _log(reader: DiskReader, offset: int, length: int, raw: bytes) -> XfsLog | None:
    groups = Groups.of(raw)
    start_block = struct.unpack_from(">Q", raw, 48)[0]
    log_blocks = struct.unpack_from(">I", raw, 96)[0]
    block = groups.block(start_block) if start_block else None
    if block is None:
        return None
    start, log_bytes = block * groups.block_bytes, log_blocks * groups.block_bytes
    if not 0 < log_bytes <= _LARGEST_LOG or start + log_bytes > length:
        return None
    return XfsLog(reader.pread, offset + start, log_bytes)


def read_inode(read: Read, number: int) -> bytes:
    """The first 256 bytes or more of an inode. Raises NotUnderstood where there is no place for it."""
    raw = _superblock(read)
    groups, inode_bytes, inode_bits = Groups.of(raw), struct.unpack_from(">H", raw, 104)[0], raw[123]
    block = groups.block(number >> inode_bits)
    if inode_bits > 16 or block is None or not 256 <= inode_bytes <= 2048:
        raise NotUnderstood("an inode lies outside of its file system")
    data = read(inode_bytes, block * groups.block_bytes + (number & ((1 << inode_bits) - 1)) * inode_bytes)
    if len(data) != inode_bytes:
        raise NotUnderstood("an inode lies outside of its file system")
    return data
