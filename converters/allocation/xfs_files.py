"""Whether a file of an XFS has blocks that its trees of free space have too: then nothing of it is left out.

Every inode in use is found by its group's tree of inodes, and its extents are held against what would be left out.

Source: "XFS Algorithms & Data Structures", chapters "On-disk Inode", "Data Extents", "Inode B+trees".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from converters.allocation.xfs_layout import XfsLayout

_TREE = (b"IABT", b"IAB3")
_MAP = (b"BMAP", b"BMA3")
_CHUNK = 64
"""Inodes that a record of the tree tells of."""
_DEEPEST = 9
_NODES_AT_MOST = 512 * 1024
# magic, mode, version, format; count of extents, of the attributes' extents, where their fork begins, and its format
_INODE = struct.Struct(">2sHBB18xQ44xIHBB")
_LOCAL, _IN_INODE, _IN_TREE = (0, 1), 2, 3
_WIDE_COUNTS = 0x10
_DAMAGED = "an inode is damaged"


def check_files(volume: Volume, layout: XfsLayout, runs: Runs) -> None:
    """Raise NotUnderstood where a file has a block that is in ``runs``, or where its blocks cannot be told."""
    _Files(volume, layout, runs).check()


class _Files:
    def __init__(self, volume: Volume, layout: XfsLayout, runs: Runs) -> None:
        self._volume, self._layout, self._runs = volume, layout, runs
        self._header = 176 if layout.is_v5 else 100
        self._nodes = 0

    def check(self) -> None:
        layout, size = self._layout, self._layout.inode_bytes
        for group in range(layout.groups):
            for first, free in self._chunks(group):
                block, within = first >> layout.inode_bits, first & ((1 << layout.inode_bits) - 1)
                raw = self._volume.read(_CHUNK * size, layout.place(group, block) + within * size)
                for number in range(_CHUNK):
                    if not free >> number & 1:
                        self._check_inode(raw[number * size : (number + 1) * size])

    def _chunks(self, group: int) -> Iterator[tuple[int, int]]:
        """First inode (counted from the group's begin) and free ones (a bit each) of every record of a group's tree."""
        root, levels = self._layout.inode_tree(group)
        if not 0 < levels <= _DEEPEST:
            raise NotUnderstood(f"the tree of inodes of group {group} has {levels} levels")
        stack = [(root, levels - 1)]
        while stack:
            block, level = stack.pop()
            self._count_node()
            node = self._layout.checked_block(group, block, _TREE)
            self._taken(self._layout.place(group, block), 1)
            room = (len(node.raw) - node.header) // (8 if level else 16)
            if node.level != level or node.count > room:
                raise NotUnderstood(f"the tree of inodes of group {group} is damaged")
            if level:
                children = struct.unpack_from(f">{node.count}I", node.raw, node.header + 4 * room)
                stack += [(child, level - 1) for child in reversed(children)]
                continue
            for at in range(node.header, node.header + 16 * node.count, 16):
                yield struct.unpack_from(">I4xQ", node.raw, at)

    def _count_node(self) -> None:
        self._nodes += 1
        if self._nodes > _NODES_AT_MOST:
            raise NotUnderstood("its files are in too many pieces to be looked at")

    def _taken(self, offset: int, blocks: int) -> None:
        if self._runs.touches(offset, blocks * self._layout.block_bytes):
            raise NotUnderstood("its trees of free space have blocks that a file has")

    def _check_inode(self, raw: bytes) -> None:
        magic, mode, version, form, wide, count, attributes, fork, form_of_attributes = _INODE.unpack_from(raw)
        if magic != b"IN" or version != (3 if self._layout.is_v5 else version) or version > 3:
            raise NotUnderstood(_DAMAGED)
        if not mode:
            return
        if version == 3 and struct.unpack_from(">Q", raw, 120)[0] & _WIDE_COUNTS:
            count, attributes = wide, count
        begin = self._header + 8 * fork
        if begin > len(raw):
            raise NotUnderstood(_DAMAGED)
        self._check_fork(raw[self._header : begin if fork else len(raw)], form, count)
        if fork:
            self._check_fork(raw[begin:], form_of_attributes, attributes)

    def _check_fork(self, raw: bytes, form: int, count: int) -> None:
        if form in _LOCAL:
            return
        if form == _IN_INODE and 16 * count <= len(raw):
            self._check_extents(raw, 0, count)
        elif form == _IN_TREE and len(raw) >= 4:
            level, records = struct.unpack_from(">HH", raw)
            self._check_children(raw, 4, level, records)
        else:
            raise NotUnderstood(_DAMAGED)

    def _check_extents(self, raw: bytes, begin: int, count: int) -> None:
        numbers = struct.unpack_from(f">{2 * count}Q", raw, begin)
        for high, low in zip(numbers[::2], numbers[1::2], strict=True):
            self._taken(self._layout.place(*self._layout.split((high & 0x1FF) << 43 | low >> 21)), low & 0x1FFFFF)

    def _check_children(self, raw: bytes, header: int, level: int, count: int) -> None:
        room = (len(raw) - header) // 16
        if not 0 < level < _DEEPEST or count > room:
            raise NotUnderstood(_DAMAGED)
        for number in struct.unpack_from(f">{count}Q", raw, header + 8 * room):
            self._count_node()
            place, size = self._layout.place(*self._layout.split(number)), self._layout.block_bytes
            self._taken(place, 1)
            child, header_bytes = self._volume.read(size, place), 72 if self._layout.is_v5 else 24
            magic, its_level, records = struct.unpack_from(">4sHH", child)
            if magic != _MAP[self._layout.is_v5] or its_level != level - 1 or records > (size - header_bytes) // 16:
                raise NotUnderstood("a file's tree of extents is damaged")
            if its_level:
                self._check_children(child, header_bytes, its_level, records)
            else:
                self._check_extents(child, header_bytes, records)
