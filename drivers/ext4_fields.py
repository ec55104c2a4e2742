"""Fields of ext2, ext3 and ext4 structures by name, and in which of them two differ. Pure.

Source: the kernel's documentation, filesystems/ext4 ("Super Block", "Inode Table").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

INDEX_FLAG, EXTENTS_FLAG, INLINE_FLAG = 0x1000, 0x80000, 0x10000000
_PROJECT_FLAG = 0x20000000
# what a file system sets and clears by itself when it writes contents or names
_OWN_FLAGS = INDEX_FLAG | EXTENTS_FLAG | INLINE_FLAG
# what new names get of their folder (the kernel's EXT4_FL_INHERITED, and encryption)
_HANDED_ON = 0x6201C4CF | 0x800
_STATE_OFFSET, _ORPHANS_OFFSET = 0x3A, 0xE8
_IS_CLEAN, _HAS_ERRORS = 0x1, 0x2
_INODE_END, _PROJECT_OFFSET = 0x80, 0x9C

_FEATURES_OFFSET, _NEEDS_RECOVERY = 0x60, 0x4

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
ATTRIBUTES_IN_INODE = "attributes in the inode"


def superblock_differences(before: bytes, after: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What differs in two superblocks: names of what mounting keeps up to date, and offsets of all else."""
    kept = {at: name for name, parts in _KEPT_UP_TO_DATE.items() for start, n in parts for at in range(start, start + n)}
    if (before[_FEATURES_OFFSET] ^ after[_FEATURES_OFFSET]) & ~_NEEDS_RECOVERY:
        del kept[_FEATURES_OFFSET]
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
        found.append(ATTRIBUTES_IN_INODE)
    return tuple(dict.fromkeys(found))


def needs_recovery(superblock: bytes) -> bool:
    """Whether the journal is to be replayed."""
    return bool(superblock[_FEATURES_OFFSET] & _NEEDS_RECOVERY)


def is_free(inode: bytes) -> bool:
    """Whether an inode is not in use: no name leads to it."""
    return inode[0x1A:0x1C] == bytes(2)


def flags_of(inode: bytes) -> int:
    """An inode's flags."""
    return int(struct.unpack_from("<I", inode, 0x20)[0])


def odd_flags(before: bytes, after: bytes) -> int:
    """Flags that differ and that no file system changes by itself when contents or names are written."""
    return (flags_of(before) ^ flags_of(after)) & ~_OWN_FLAGS


def superblock_problems(before: bytes, after: bytes) -> Iterator[str]:
    """What a superblock announces that would change the file system, or have it checked, when it is mounted next."""
    if needs_recovery(after):
        yield "its journal is to be replayed: what it holds is not what the next mount shows"
    (old, new) = (int(struct.unpack_from("<H", each, _STATE_OFFSET)[0]) for each in (before, after))
    if new & _HAS_ERRORS & ~old:
        yield "it is marked as having errors"
    if old & _IS_CLEAN & ~new:
        yield "it is marked as not cleanly unmounted"
    (orphans,) = struct.unpack_from("<I", after, _ORPHANS_OFFSET)
    if orphans:
        yield f"its list of orphans begins with inode {orphans}, which the next mount would delete or cut short"


def new_inode_problems(inode: bytes, folder: bytes, *, has_attributes: bool) -> Iterator[str]:
    """What is in the inode of a name that was just made in a folder, and is not put there by making it."""
    flags, of_folder = flags_of(inode), flags_of(folder)
    odd = flags & ~(_OWN_FLAGS | (of_folder & _HANDED_ON))
    if odd:
        yield f"has the inode flags {odd:#x}, and nobody planned that"
    if any(inode[0x14:0x18]) or any(inode[0x70:0x74]):
        yield "has an inode that says it is deleted, or has a fragment"
    extra = struct.unpack_from("<H", inode, _INODE_END)[0] if len(inode) > _INODE_END else 0
    attributes = _INODE_END + extra
    if extra >= _PROJECT_OFFSET + 4 - _INODE_END:
        project = bytes(4) if not of_folder & _PROJECT_FLAG else folder[_PROJECT_OFFSET : _PROJECT_OFFSET + 4]
        if inode[_PROJECT_OFFSET : _PROJECT_OFFSET + 4] != project:
            yield "is of a project, and nobody planned that"
    if not has_attributes and not flags & INLINE_FLAG and any((*inode[0x68:0x6C], *inode[0x76:0x78], *inode[attributes:])):
        yield "has attributes that no list shows"
