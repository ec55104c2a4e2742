"""Free blocks of XFS, from the trees of free space of its allocation groups.

Each group has two of them, by place and by size, which must tell of the same ranges; their sum must be what the
group's header and the superblock count; and nothing the file system itself stands in may be in them, nor any file.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from converters.allocation.xfs_files import check_files
from converters.allocation.xfs_layout import MAGIC, FreeSpaceHeader, XfsLayout

_BY_PLACE, _BY_SIZE = (b"ABTB", b"AB3B"), (b"ABTC", b"AB3C")
_DEEPEST = 9
_RANGES_AT_MOST = 4 * 1024 * 1024
"""Of one group; 8 bytes each."""
_NONE = 0xFFFFFFFF


def is_xfs(volume: Volume) -> bool:
    """Whether there is a superblock."""
    return volume.peek(4, 0) == MAGIC


def free_runs(volume: Volume) -> Runs:
    """The ranges of free blocks. Raises NotUnderstood."""
    layout = XfsLayout(volume)
    runs, counted = Runs(), 0
    for group in range(layout.groups):
        header = layout.header(group)
        starts, counts = _ranges(layout, group, header)
        counted += header.free_blocks + len(header.reserved) + header.tree_blocks
        for start, count in zip(starts, counts, strict=True):
            runs.add(layout.place(group, start), count * layout.block_bytes)
    if counted != layout.free_blocks:
        raise NotUnderstood(f"its superblock counts {layout.free_blocks} free blocks, its groups {counted}")
    check_files(volume, layout, runs)
    return runs


def _ranges(layout: XfsLayout, group: int, header: FreeSpaceHeader) -> tuple[array[int], array[int]]:
    """First blocks and counts of a group's free ranges, in order."""
    starts, counts = array("I"), array("I")
    own = {0, *header.reserved}
    end = total = summary = 0
    for start, count in _records(layout, group, header.roots[0], header.levels[0], _BY_PLACE, own):
        # a range that begins where the last one ended would be one with it
        if (starts and start <= end) or not count or start + count > header.length:
            raise NotUnderstood(f"the free ranges of group {group} are out of order")
        if len(starts) >= _RANGES_AT_MOST:
            raise NotUnderstood(f"group {group} has more than {_RANGES_AT_MOST} free ranges")
        starts.append(start)
        counts.append(count)
        end, total, summary = start + count, total + count, summary + _digest(start, count)
    if total != header.free_blocks or (max(counts) if counts else 0) != header.longest:
        raise NotUnderstood(f"group {group} counts {header.free_blocks} free blocks, and its tree {total}")
    for start, count in _records(layout, group, header.roots[1], header.levels[1], _BY_SIZE, own):
        summary -= _digest(start, count)
    if summary:
        raise NotUnderstood(f"the two trees of free ranges of group {group} differ")
    own.update(root for root in (*header.other_roots, *layout.inode_roots(group)) if root)
    _check_own(layout, group, own, starts, counts)
    return starts, counts


def _digest(start: int, count: int) -> int:
    """Sums of these are equal for equal sets of ranges, whatever their order (and for others by accident only)."""
    return hash((start, count))


def _records(
    layout: XfsLayout, group: int, root: int, levels: int, magics: tuple[bytes, bytes], seen: set[int]
) -> Iterator[tuple[int, int]]:
    """Every record of a tree, from left to right; ``seen`` gathers the tree's blocks, none of which may come twice."""
    if not 0 < levels <= _DEEPEST:
        raise NotUnderstood(f"a tree of group {group} has {levels} levels")
    stack = [(root, levels - 1)]
    while stack:
        block, level = stack.pop()
        if block in seen:
            raise NotUnderstood(f"a tree of group {group} leads to a block that is taken")
        seen.add(block)
        node = layout.tree_block(group, block, magics)
        if node.level != level:
            raise NotUnderstood(f"a tree of group {group} has a block of level {node.level} in place of {level}")
        if level:
            stack += [(child, level - 1) for child in reversed(node.children)]
        else:
            yield from zip(node.pairs[::2], node.pairs[1::2], strict=True)


def _check_own(layout: XfsLayout, group: int, own: set[int], starts: array[int], counts: array[int]) -> None:
    """Whether none of the file system's own blocks of a group are in its free ranges. Raises NotUnderstood."""

    def is_free(first: int, count: int) -> bool:
        index = bisect_right(starts, first + count - 1) - 1
        return index >= 0 and starts[index] + counts[index] > first

    heads = -(-4 * layout.sector_bytes // layout.block_bytes)
    log_group, log_first, log_count = layout.log
    if (
        is_free(0, heads)
        or any(is_free(block, 1) for block in own)
        or (group == log_group and is_free(log_first, log_count))
    ):
        raise NotUnderstood(f"the free ranges of group {group} have blocks in them that the file system itself is in")
