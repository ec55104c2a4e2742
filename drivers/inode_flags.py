"""The flags of files that keep even root from changing them, as chattr(1) sets them: read from the inodes themselves.

Neither of the libraries that read file systems here tells them. Sources: the kernel's documentation, filesystems/ext4 ("Inode
Table": i_flags); XFS Algorithms and Data Structures, "Inode Core" (di_flags).
"""

from __future__ import annotations

import struct

from drivers import ext, ext4_fields, xfs
from drivers.ext4_layout import Ext4Layout, NotUnderstood
from drivers.offline import OfflineTree, PartitionFile
from p2v.core import doubt

_EXT = {"i": 0x10, "a": 0x20}
_XFS = {"i": 0x8, "a": 0x10}
_XFS_FLAGS_AT, _XFS_INODE = 90, b"IN"


class InodeFlags:
    """Tells the flags of names in a tree; what each volume has to tell its inodes' places is read once."""

    def __init__(self, tree: OfflineTree) -> None:
        self._tree = tree
        self._layouts: dict[int, Ext4Layout | None] = {}

    def letters(self, path: str) -> str | None:
        """``i`` (immutable), ``a`` (append only), both or neither; None where that cannot be told."""
        place = self._tree.inode_of(path)
        if place is None:
            return None
        file, number = place
        try:
            if file.pread(4, 0) == xfs.MAGIC:
                inode = xfs.read_inode(file.pread, number)
                if inode[:2] != _XFS_INODE:
                    return None
                return _letters(_XFS, struct.unpack_from(">H", inode, _XFS_FLAGS_AT)[0])
            layout = self._layout(file)
            return _letters(_EXT, ext4_fields.flags_of(layout.inode(number))) if layout is not None else None
        except (NotUnderstood, doubt.NotUnderstood, struct.error, OSError):
            return None

    def _layout(self, file: PartitionFile) -> Ext4Layout | None:
        known = id(file)  # the tree keeps it alive
        if known not in self._layouts:
            superblock = file.pread(ext.SUPERBLOCK_BYTES, ext.SUPERBLOCK_OFFSET)
            is_ext = superblock[56:58] == ext.MAGIC
            self._layouts[known] = Ext4Layout(file.pread, file.get_size()) if is_ext else None
        return self._layouts[known]


def _letters(bits: dict[str, int], flags: int) -> str:
    return "".join(letter for letter, bit in bits.items() if flags & bit)
