"""ext2, ext3 and ext4: what the superblock says, and whether the host-side reader may be trusted with it."""

from __future__ import annotations

import struct
import uuid

from drivers.facts import FileSystem

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_BYTES = 1024
MAGIC = b"\x53\xef"

# the kernel's Documentation/filesystems/ext4/super.rst
_STATE_CLEAN = 0x1
_COMPAT_HAS_JOURNAL = 0x4
_COMPAT_SPARSE_SUPER2 = 0x200
_COMPAT_FAST_COMMIT = 0x400
_INCOMPAT_RECOVER = 0x4
_INCOMPAT_JOURNAL_DEVICE = 0x8
_INCOMPAT_EXTENTS = 0x40
_INCOMPAT_64BIT = 0x80
_INCOMPAT_NAMES = {
    0x1: "compression",
    0x100: "mmp",
    0x1000: "dirdata",
    0x4000: "large_dir",
    0x10000: "encrypt",
}
# filetype, recover (judged by itself), meta_bg, extents, 64bit, flex_bg, ea_inode, metadata_csum_seed, inline_data,
# casefold: each was read back and compared with what was written
_INCOMPAT_READ = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x8000 | 0x20000
_RO_COMPAT_OF_EXT4 = 0x8 | 0x10 | 0x20 | 0x40 | 0x200 | 0x400


def recognise(superblock: bytes, size_bytes: int) -> FileSystem | None:
    """The file system whose superblock (1024 bytes from byte 1024 on) this is; None when it is none."""
    if len(superblock) < SUPERBLOCK_BYTES or superblock[56:58] != MAGIC:
        return None
    inodes, blocks_low = struct.unpack_from("<II", superblock, 0)
    free_low, free_inodes, first_block, log_block = struct.unpack_from("<IIII", superblock, 12)
    compat, incompat, ro_compat = struct.unpack_from("<III", superblock, 92)
    if log_block > 6 or first_block > 1 or not inodes or not blocks_low:
        return None
    high = bool(incompat & _INCOMPAT_64BIT)
    blocks_high = struct.unpack_from("<I", superblock, 0x150)[0] if high else 0
    free_high = struct.unpack_from("<I", superblock, 0x158)[0] if high else 0
    block_bytes = 1024 << log_block
    total = (blocks_high << 32 | blocks_low) * block_bytes
    label = superblock[120:136].split(b"\0")[0].decode("utf-8", "replace")
    return FileSystem(
        _kind(compat, incompat, ro_compat),
        uuid=str(uuid.UUID(bytes=superblock[104:120])),
        label=label or None,
        size_bytes=total,
        free_bytes=min((free_high << 32 | free_low) * block_bytes, total),
        free_inodes=min(free_inodes, inodes),
        why_not_host=_why_not_host(superblock, size_bytes, total),
        dirty=_is_dirty(superblock),
    )


def _kind(compat: int, incompat: int, ro_compat: int) -> str:
    if incompat & _INCOMPAT_JOURNAL_DEVICE:
        return "jbd"
    if incompat & ~(0x2 | 0x4 | 0x8 | 0x10) or ro_compat & _RO_COMPAT_OF_EXT4 or compat & _COMPAT_FAST_COMMIT:
        return "ext4"
    return "ext3" if compat & _COMPAT_HAS_JOURNAL else "ext2"


def _is_dirty(superblock: bytes) -> bool:
    compat, incompat, _ = struct.unpack_from("<III", superblock, 92)
    state = struct.unpack_from("<H", superblock, 58)[0]
    return bool(incompat & _INCOMPAT_RECOVER) or (not compat & _COMPAT_HAS_JOURNAL and not state & _STATE_CLEAN)


def _why_not_host(superblock: bytes, size_bytes: int, total: int) -> str:
    compat, incompat, _ = struct.unpack_from("<III", superblock, 92)
    if incompat & _INCOMPAT_JOURNAL_DEVICE:
        return "it is the journal of another file system"
    if incompat & _INCOMPAT_RECOVER:
        return "its journal has to be replayed (needs_recovery)"
    if _is_dirty(superblock):
        return "it was not unmounted cleanly and has no journal"
    if total > size_bytes:
        return f"it is {total} bytes long and the place it stands in {size_bytes}"
    if compat & _COMPAT_FAST_COMMIT:
        return "the host reader does not know its feature fast_commit"
    if compat & _COMPAT_SPARSE_SUPER2:
        return "the host reader does not know its feature sparse_super2"
    unknown = incompat & ~_INCOMPAT_READ
    names = [name for bit, name in _INCOMPAT_NAMES.items() if unknown & bit]
    rest = unknown & ~sum(_INCOMPAT_NAMES)
    if rest:
        names.append(f"{rest:#x}")
    return f"the host reader does not know its feature {', '.join(names)}" if names else ""
