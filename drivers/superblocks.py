"""What the superblocks of XFS, Btrfs and FAT say: who a file system is, and not only what it holds. Pure.

Their other structures are compared by what they mean. A superblock has labels, identities and features that no list of names shows.

Sources: the kernel's fs/xfs/libxfs/xfs_format.h (xfs_dsb) and fs/btrfs (uapi/linux/btrfs_tree.h, btrfs_super_block); Microsoft's
fatgen103, "Boot Sector and BPB" and "FAT32 FSInfo Sector Structure".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from p2v.core.units import KIB, MIB

Read = Callable[[int, int], bytes]
"""``read(length, offset)`` of the file system's device, in bytes."""

_COPIES_AT_MOST = 4096
_LARGEST_RESERVED_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class _Block:
    """A structure whose bytes stay but for ``kept`` (offset, length within it)."""

    name: str
    offset: int
    length: int
    kept: tuple[tuple[int, int], ...] = ()


# counts of inodes and blocks; which quotas were checked; of logging: features, checksum, sequence
_XFS = _Block("superblock", 0, 512, ((128, 32), (176, 2), (220, 8), (240, 8)))
# checksum; generation and roots of trees; bytes used; levels and generations of roots; bytes used of the device; cache and UUID
# tree; the chunks to start with and the last roots. Features that mounting sets of itself are in the lowest byte of them.
_BTRFS_KEPT = (
    (0, 32), (72, 24), (120, 8), (164, 8), (188, 1), (198, 2), (217, 8), (555, 16), (811, 2048), (2859, 672),
)  # fmt: skip
_BTRFS_PLACES = (64 * KIB, 64 * MIB, 256 * 1024 * MIB)
_BTRFS_LOG_ROOT = 96
_BTRFS_MAGIC, _FAT_SIGNATURE = b"_BHRfS_M", b"\x55\xaa"
# what is free, and where to look for more
_FSINFO_KEPT = ((488, 8),)
_FAT16_STATE, _FAT32_STATE = 0x25, 0x41
_IS_DIRTY = 0x3


def superblock_problems(kind: str, before: Read, after: Read, size: int) -> Iterator[str]:
    """What differs in superblocks and boot sectors and is not kept up to date by writing; of kinds that are known here."""
    match kind:
        case "xfs":
            yield from _differ([_XFS, *_xfs_copies(before(512, 0), size)], before, after)
        case "btrfs":
            found = [_Block("superblock", at, 4096, _BTRFS_KEPT) for at in _BTRFS_PLACES if at + 4096 <= size]
            yield from _differ(found, before, after)
            log = after(4096, _BTRFS_PLACES[0])
            if log[64:72] == _BTRFS_MAGIC and any(log[_BTRFS_LOG_ROOT : _BTRFS_LOG_ROOT + 8]):
                yield "its log is to be replayed: what it holds is not what the next mount shows"
        case "vfat" | "msdos":
            yield from _differ(_fat(before(512, 0), size), before, after)
            boot = after(512, 0)
            if len(boot) == 512 and boot[_state_of(boot)] & _IS_DIRTY & ~before(512, 0)[_state_of(boot)]:
                yield "it is marked as not cleanly unmounted"


def _differ(blocks: list[_Block], before: Read, after: Read) -> Iterator[str]:
    for block in blocks:
        one, other = before(block.length, block.offset), after(block.length, block.offset)
        if one == other:
            continue
        kept = {at for start, length in block.kept for at in range(start, start + length)}
        odd = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b and at not in kept), None)
        if odd is not None or len(one) != len(other):
            yield f"its {block.name} differs at byte {block.offset + (odd or 0)}"


def _xfs_copies(superblock: bytes, size: int) -> Iterator[_Block]:
    """One at the beginning of each allocation group; only growing and repairing writes them."""
    if len(superblock) < 512 or superblock[:4] != b"XFSB":
        return
    block_bytes, (group_blocks, groups) = struct.unpack_from(">I", superblock, 4)[0], struct.unpack_from(">II", superblock, 84)
    step = block_bytes * group_blocks
    for number in range(1, min(groups, _COPIES_AT_MOST)):
        if not step or number * step + 512 > size:
            return
        yield _Block(f"copy of the superblock in group {number}", number * step, 512)


def _fat(boot: bytes, size: int) -> list[_Block]:
    """The reserved sectors: boot sector, free counts, and what a boot loader has there."""
    if len(boot) < 512 or boot[510:] != _FAT_SIGNATURE:
        return []
    sector, reserved = struct.unpack_from("<H", boot, 11)[0], struct.unpack_from("<H", boot, 14)[0]
    length = min(sector * reserved, size, _LARGEST_RESERVED_BYTES)
    info = struct.unpack_from("<H", boot, 48)[0] * sector if _is_fat32(boot) else 0
    kept: Mapping[int, int] = {_state_of(boot): 1} | ({info + at: n for at, n in _FSINFO_KEPT} if info else {})
    return [_Block("boot sector or what is reserved behind it", 0, length, tuple(kept.items()))]


def _is_fat32(boot: bytes) -> bool:
    return not any(boot[22:24])


def _state_of(boot: bytes) -> int:
    return _FAT32_STATE if _is_fat32(boot) else _FAT16_STATE
