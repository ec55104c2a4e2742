"""Where a file of ext2/3/4 or XFS stands: libyal's extents, held against what the inode itself says.

libyal tells of no flags. They are read from the inode's own bytes, so that a file which is encrypted, shared or inline is seen.

Sources: the kernel's documentation, filesystems/ext4 ("Index Nodes"); "XFS Algorithms & Data Structures", "On-disk Inode".
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from drivers import xfs
from drivers.ext4_layout import Ext4Layout
from drivers.ext4_layout import NotUnderstood as NotMapped
from drivers.offline import UnreadableVolume, open_volume
from drivers.tree import FileType
from drivers.unneeded import UnneededFile
from drivers.volumes import MappedVolume
from p2v.core.doubt import NotUnderstood
from p2v.core.units import KIB

Run = tuple[int, int]
_EXTENTS_AT_MOST = 4096
_NOT_WRITTEN = 0x1
"""libyal's flag for what reads as zero: a hole, which has no place, or an extent that was never written to."""
_SAMPLE_BYTES = 4 * KIB

# compressed, encrypted, its tail elsewhere, verified, an attribute's value, inline
_EXT_ODD = 0x4 | 0x800 | 0x8000 | 0x100000 | 0x200000 | 0x10000000
_XFS_MAGIC = b"IN"
_XFS_IN_BLOCKS = (2, 3)
"""Formats of an inode's contents: a list of extents, or a tree of them."""
_XFS_REALTIME = 0x1
# DAX, a hint for copies on write, times and counts of 64 bits; what else there may be (shared blocks: 2) is odd
_XFS_PLAIN2 = 0x1 | 0x4 | 0x8 | 0x10


def runs_in_ext(volume: MappedVolume, kind: str, file: UnneededFile) -> Sequence[Run]:
    """Where a file of ext2/3/4 stands. Raises FileNotFoundError, and NotUnderstood for one of which anything is odd."""
    handle = _handle(volume, kind, file.path)
    try:
        layout = Ext4Layout(volume.pread, volume.virtual_size)
        inode = layout.inode(handle.inode_number)
        mapped = layout.blocks_of(handle.inode_number)
    except NotMapped as why:
        raise NotUnderstood(f"in its file system, {why}") from why
    mode, links = struct.unpack_from("<H24xH", inode)
    _check_plain(mode, links, is_odd=bool(struct.unpack_from("<I", inode, 0x20)[0] & _EXT_ODD))
    runs = list(_runs(volume, handle, lambda offset: offset))
    size = layout.block_bytes
    _check_within(runs, [(first * size, count * size) for first, count in mapped])
    return runs


def runs_in_xfs(volume: MappedVolume, kind: str, file: UnneededFile) -> Sequence[Run]:
    """Where a file of XFS stands. Raises FileNotFoundError, and NotUnderstood for one of which anything is odd."""
    handle = _handle(volume, kind, file.path)
    inode = xfs.read_inode(volume.pread, handle.inode_number)
    magic, mode, version, form, _, links = struct.unpack_from(">2sHBB10sI", inode)
    flags, flags2 = struct.unpack_from(">H", inode, 90)[0], 0
    if version == 3:
        flags2, number = struct.unpack_from(">Q24xQ", inode, 120)
        if number != handle.inode_number:
            raise NotUnderstood("its inode is damaged")
    if magic != _XFS_MAGIC or version not in (2, 3):
        raise NotUnderstood("its inode is not understood")
    if flags2 & ~_XFS_PLAIN2:
        raise NotUnderstood("it shares blocks with other files, or may")
    _check_plain(mode, links, is_odd=form not in _XFS_IN_BLOCKS or bool(flags & _XFS_REALTIME))
    return list(_runs(volume, handle, xfs.read_groups(volume.pread).place))


def _handle(volume: MappedVolume, kind: str, path: str) -> Any:
    """libyal's object for a file, no component of whose path is a link."""
    try:
        opened = open_volume(kind, volume, 0, volume.virtual_size)
        parts, entry = tuple(part for part in path.split("/") if part), opened.find(())
        for length in range(1, len(parts) + 1):
            above, entry = entry, opened.find(parts[:length])
            if above is None or entry is None:
                raise FileNotFoundError(path)
            if above.stat.type is not FileType.DIRECTORY:
                raise NotUnderstood("there is a link in its path")
    except UnreadableVolume as error:
        raise NotUnderstood(f"its file system cannot be read: {error}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | NotUnderstood):
            raise
        raise NotUnderstood("it cannot be read") from error
    if entry is None or entry.stat.type is not FileType.FILE:
        raise NotUnderstood("it is a link, or no file")
    return entry.handle


def _check_plain(mode: int, links: int, *, is_odd: bool) -> None:
    if not stat.S_ISREG(mode):
        raise NotUnderstood("it is no file")
    if links != 1:
        raise NotUnderstood(f"it has {links} names")
    if is_odd:
        raise NotUnderstood("it is encrypted, compressed or stored in a way that is not known")


def _runs(volume: MappedVolume, handle: Any, place_of: Callable[[int], int | None]) -> Iterator[Run]:
    """The extents of a file, up to its size; its bytes are looked at, whether they are what stands there.

    ``place_of``: from the offset that libyal tells of a byte to the one in the volume.
    """
    try:
        count, size, position = handle.number_of_extents, handle.size, 0
        if count > _EXTENTS_AT_MOST:
            raise NotUnderstood(f"it is in {count} pieces")
        for index in range(count):
            offset, length, flags = handle.get_extent(index)
            if offset <= 0 or length <= 0 or flags & ~_NOT_WRITTEN:
                raise NotUnderstood("it has holes, or is stored in a way that is not known")
            length = min(length, size - position)
            if length <= 0:
                return
            place, end = place_of(offset), place_of(offset + length - 1)
            if place is None or end != place + length - 1:
                raise NotUnderstood("it lies outside of its file system")
            if not flags:
                _check_sample(volume, handle, position, place, length)
            yield place, length
            position += length
    except OSError as error:
        raise NotUnderstood("it cannot be read") from error
    if position != size or not size:
        raise NotUnderstood("its size is another than what is stored of it")


def _check_sample(volume: MappedVolume, handle: Any, position: int, offset: int, length: int) -> None:
    """Whether the first and the last bytes of an extent read through the file system are those at its place."""
    sample = min(length, _SAMPLE_BYTES)
    for at in (0, length - sample):
        if handle.read_buffer_at_offset(sample, position + at) != volume.pread(sample, offset + at):
            raise NotUnderstood("what it reads as stands elsewhere")


def _check_within(runs: Sequence[Run], mapped: Sequence[Run]) -> None:
    """Whether all of it is among what another reader says that the inode has."""
    joined: list[list[int]] = []
    for offset, length in sorted(mapped):
        if joined and sum(joined[-1]) == offset:
            joined[-1][1] += length
        else:
            joined.append([offset, length])
    starts = [offset for offset, _ in joined]
    for offset, length in runs:
        index = bisect_right(starts, offset) - 1
        if index < 0 or offset + length > sum(joined[index]):
            raise NotUnderstood("two readers find it in different places")
