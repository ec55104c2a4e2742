"""Free blocks of ext2, ext3 and ext4, from their block bitmaps.

Nothing is told unless all of it adds up: checksums where there are any, the counts of every group and of the whole,
that no bitmap calls a block free that the file system's own structures stand in, and that no file has one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from converters.allocation.ext4_files import check_files
from converters.allocation.ext4_layout import GROUP_BLOCKS_UNINIT, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Ext4Layout
from converters.allocation.runs import Runs, clear_bits
from converters.allocation.volume import NotUnderstood, Volume

_MAGIC = b"\x53\xef"
_COUNT_BITS = 40


def is_ext(volume: Volume) -> bool:
    """Whether there is a superblock."""
    return volume.peek(SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET)[56:58] == _MAGIC


def free_runs(volume: Volume) -> Runs:
    """The ranges of free blocks. Raises NotUnderstood."""
    layout = Ext4Layout(volume)
    runs, free = Runs(), 0
    own = _OwnClusters(layout)
    for number in range(layout.groups):
        free += _read_group(layout, number, own.of_group(number), runs)
    if free * layout.cluster_blocks != layout.free_blocks:
        raise NotUnderstood(f"its superblock counts {layout.free_blocks} free blocks, its groups {free * layout.cluster_blocks}")
    check_files(volume, layout, runs)
    return runs


def _read_group(layout: Ext4Layout, number: int, own: int, runs: Runs) -> int:
    """Add a group's free clusters; how many there are."""
    group = layout.group(number)
    first = layout.first_block_of(number)
    # the last cluster may reach behind the end, with the blocks of it that are there
    count = -(-min(layout.group_blocks, layout.blocks - first) // layout.cluster_blocks)
    used = own
    if not group.flags & GROUP_BLOCKS_UNINIT:
        used = layout.bitmap(number, group)
        if own & ~used:
            raise NotUnderstood(f"the bitmap of group {number} calls blocks free that the file system itself is in")
    free = count - (used & ((1 << count) - 1)).bit_count()
    if free != group.free:
        raise NotUnderstood(f"group {number} counts {group.free} free clusters, and its bitmap {free}")
    cluster_bytes, begin = layout.cluster_blocks * layout.block_bytes, first * layout.block_bytes
    end = layout.blocks * layout.block_bytes
    for cluster, clusters in clear_bits(used, count, runs.least_bytes // cluster_bytes):
        offset = begin + cluster * cluster_bytes
        runs.add(offset, min(clusters * cluster_bytes, end - offset))
    return free


class _OwnClusters:
    """Which clusters of each group the file system's own structures take; asked for group by group, in order."""

    def __init__(self, layout: Ext4Layout) -> None:
        self._layout = layout
        self._firsts, self._ends = _joined(layout)
        self._at = 0

    def of_group(self, number: int) -> int:
        """A bit for each cluster."""
        layout, bits = self._layout, 0
        begin = layout.first_block_of(number)
        end = min(begin + layout.group_blocks, layout.blocks)
        while self._at < len(self._ends) and self._ends[self._at] <= begin:
            self._at += 1
        at = self._at
        while at < len(self._firsts) and self._firsts[at] < end:
            low = (max(self._firsts[at], begin) - begin) // layout.cluster_blocks
            high = -(-(min(self._ends[at], end) - begin) // layout.cluster_blocks)
            bits |= ((1 << (high - low)) - 1) << low
            at += 1
        return bits


def _joined(layout: Ext4Layout) -> tuple[array[int], array[int]]:
    """The structures in order: first blocks, and the blocks behind each. Raises NotUnderstood where two overlap."""
    firsts, ends = array("Q"), array("Q")
    # as one number each: half a million groups have three structures each
    for packed in sorted(first << _COUNT_BITS | count for first, count in _stretches(layout)):
        first, count = packed >> _COUNT_BITS, packed & (1 << _COUNT_BITS) - 1
        if ends and first < ends[-1]:
            raise NotUnderstood("two of its structures have the same blocks")
        if first + count > layout.blocks:
            raise NotUnderstood("a structure lies behind its end")
        firsts.append(first)
        ends.append(first + count)
    return firsts, ends


def _stretches(layout: Ext4Layout) -> Iterator[tuple[int, int]]:
    """The same, neighbours joined: with flex_bg the bitmaps and tables of several groups stand in a row."""
    pending: dict[str, tuple[int, int]] = {}
    for what, first, count in layout.own_blocks():
        begin, so_far = pending.get(what, (first, 0))
        if begin + so_far == first:
            pending[what] = begin, so_far + count
            continue
        yield begin, so_far
        pending[what] = first, count
    yield from pending.values()
