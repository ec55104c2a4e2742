"""XFS: what the superblock says, and whether the log has to be replayed."""

from __future__ import annotations

import struct
import uuid

from drivers.facts import FileSystem
from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.xfs_log import XfsLog

MAGIC = b"XFSB"
SUPERBLOCK_BYTES = 512

_LARGEST_LOG = 2 << 31
# ftype, sparse inodes, metadata UUID, bigtime; needsrepair, nrext64 and all later ones are left to the kernel
_INCOMPAT_READ = 0x1 | 0x2 | 0x4 | 0x8
_DIRTY = "its log has to be replayed"
_INCOMPAT_NEEDS_REPAIR = 0x10


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
    block_bytes = struct.unpack_from(">I", raw, 4)[0]
    start_block = struct.unpack_from(">Q", raw, 48)[0]
    group_blocks = struct.unpack_from(">I", raw, 84)[0]
    log_blocks = struct.unpack_from(">I", raw, 96)[0]
    group_bits = raw[124]
    if not start_block or group_bits > 32:
        return None
    # file system block numbers hold the allocation group in their upper bits
    group, within = start_block >> group_bits, start_block & ((1 << group_bits) - 1)
    start = (group * group_blocks + within) * block_bytes
    log_bytes = log_blocks * block_bytes
    if not 0 < log_bytes <= _LARGEST_LOG or start + log_bytes > length:
        return None
    return XfsLog(reader.pread, offset + start, log_bytes)


def read_inode(volume: DiskReader, number: int) -> bytes:
    """The first 256 bytes or more of an inode. Raises NotUnderstood where there is no place for it."""
    raw = volume.pread(SUPERBLOCK_BYTES, 0)
    if len(raw) < SUPERBLOCK_BYTES or raw[:4] != MAGIC:
        raise NotUnderstood("it has no superblock")
    (block_bytes,), (group_blocks, groups) = struct.unpack_from(">I", raw, 4), struct.unpack_from(">2I", raw, 84)
    inode_bytes, inode_bits, group_bits = struct.unpack_from(">H", raw, 104)[0], raw[123], raw[124]
    within, block = number & ((1 << inode_bits) - 1), number >> inode_bits
    group, block = block >> group_bits, block & ((1 << group_bits) - 1)
    if inode_bits > 16 or group_bits > 32 or group >= groups or block >= group_blocks or not 256 <= inode_bytes <= 2048:
        raise NotUnderstood("an inode lies outside of its file system")
    data = volume.pread(inode_bytes, (group * group_blocks + block) * block_bytes + within * inode_bytes)
    if len(data) != inode_bytes:
        raise NotUnderstood("an inode lies outside of its file system")
    return data
