"""Whether a file of an ext2, ext3 or ext4 has blocks that its bitmaps call free: then nothing of it is left out.

Bitmaps and counts may agree with each other and be wrong, after a crash long ago that nobody looked into. So every inode in use
is held against what would be left out, as e2image does when it copies what is used; and NTFS is looked at in the same way.

Source: the kernel's documentation, filesystems/ext4 ("Index Nodes", "The Contents of inode.i_block").
"""

from __future__ import annotations

import struct
from array import array
from sys import byteorder

from converters.allocation.ext4_layout import Ext4Layout
from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import MIB

_READ_BYTES = MIB
# mode, size, links, flags, map, block of attributes: low and high
_INODE = "<H2xI18xH4xI4x60s4xI10xH"
_INODE_BYTES = struct.calcsize(_INODE)
_KIND, _FILE, _FOLDER, _LINK = 0xF000, 0x8000, 0x4000, 0xA000
_LONGEST_LINK_IN_INODE = 59
_EXTENTS, _INLINE = 0x80000, 0x10000000
_HEADER = struct.Struct("<4H4x")
_LEAF, _BRANCH = struct.Struct("<IHHI"), struct.Struct("<IIH2x")
_MAGIC, _DEEPEST, _WRITTEN_AT_MOST = 0xF30A, 5, 32768
_NODES_AT_MOST = 512 * 1024
_LISTS_AT_MOST = 8 * _NODES_AT_MOST


def check_files(volume: Volume, layout: Ext4Layout, runs: Runs) -> None:
    """Raise NotUnderstood where a file has a block that is in ``runs``, or where its blocks cannot be told."""
    _Files(volume, layout, runs).check()


class _Files:
    def __init__(self, volume: Volume, layout: Ext4Layout, runs: Runs) -> None:
        self._volume, self._layout, self._runs = volume, layout, runs
        self._block_bytes = layout.block_bytes
        self._nodes = self._lists = 0

    def check(self) -> None:
        size = self._layout.inode_bytes
        inode = struct.Struct(f"{_INODE}{size - _INODE_BYTES}x")
        for number in range(self._layout.groups):
            group = self._layout.group(number)
            begin, left = group.inode_table * self._block_bytes, group.used_inodes * size
            while left:
                raw = self._volume.read(min(left, _READ_BYTES), begin)
                if raw.count(0) != len(raw):
                    self._check_inodes(inode, raw)
                begin, left = begin + len(raw), left - len(raw)

    def _check_inodes(self, inode: struct.Struct, raw: bytes) -> None:
        for mode, size, links, flags, blocks, attributes, attributes_high in inode.iter_unpack(raw):
            if not links or not mode:
                continue  # deleted, or never made
            if attributes or attributes_high:
                self._taken(attributes | attributes_high << 32, 1)
            kind = mode & _KIND
            is_text = kind == _LINK and not flags & _EXTENTS and size <= _LONGEST_LINK_IN_INODE
            if kind not in (_FILE, _FOLDER, _LINK) or flags & _INLINE or is_text:
                continue
            if flags & _EXTENTS:
                self._check_extents(blocks, _DEEPEST + 1)
            else:
                self._check_map(blocks)

    def _taken(self, first: int, count: int) -> None:
        if self._runs.touches(first * self._block_bytes, count * self._block_bytes):
            raise NotUnderstood("its bitmaps call blocks free that a file has")

    def _check_extents(self, node: bytes, above: int) -> None:
        magic, count, _, depth = _HEADER.unpack_from(node)
        if magic != _MAGIC or depth >= above or 12 + 12 * count > len(node):
            raise NotUnderstood("a file's tree of extents is damaged")
        for at in range(12, 12 + 12 * count, 12):
            if not depth:
                _, length, high, low = _LEAF.unpack_from(node, at)
                self._taken(low | high << 32, length if length <= _WRITTEN_AT_MOST else length - _WRITTEN_AT_MOST)
                continue
            _, low, high = _BRANCH.unpack_from(node, at)
            self._nodes += 1
            if self._nodes > _NODES_AT_MOST:
                raise NotUnderstood("its files are in too many pieces to be looked at")
            self._check_extents(self._block(low | high << 32), depth)

    def _block(self, number: int) -> bytes:
        self._layout.require_blocks(number, 1)
        self._taken(number, 1)
        return self._volume.read(self._block_bytes, number * self._block_bytes)

    def _check_map(self, raw: bytes) -> None:
        """Blocks as they were listed before extents: twelve, and lists of lists of them."""
        self._check_blocks(raw[:48], 0)
        for depth in (1, 2, 3):
            self._check_blocks(raw[44 + 4 * depth : 48 + 4 * depth], depth)

    def _check_blocks(self, raw: bytes, depth: int) -> None:
        places = array("I", raw)
        if byteorder == "big":
            places.byteswap()
        there = [place for place in places if place]
        if not there:
            return
        low, high = min(there), max(there)
        if self._runs.touches(low * self._block_bytes, (high - low + 1) * self._block_bytes):
            for place in there:
                self._taken(place, 1)
        for place in there if depth else ():
            self._lists += 1
            if self._lists > _LISTS_AT_MOST:
                raise NotUnderstood("its files are in too many pieces to be looked at")
            self._check_blocks(self._block(place), depth - 1)
