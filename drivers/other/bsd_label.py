"""The BSDs' own partition table inside a slice (disklabel), of i386 and amd64.

Source: FreeBSD's sys/disk/bsd.h; OpenBSD and NetBSD have the same fields in the same places.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from p2v.core.units import SECTOR_BYTES

_MAGIC = 0x82564557
_LABEL_AT = SECTOR_BYTES
_LABEL_BYTES = 148 + 22 * 16
_PARTITIONS_AT_MOST = 22
_RAW = 2
"""``c`` is the slice, or on OpenBSD the disk, as a whole."""
_TYPES = {7: "ufs", 9: "msdos", 1: "swap", 27: "zfs", 17: "ext", 11: "vinum"}


@dataclass(frozen=True, slots=True)
class BsdPartition:
    """``letter`` as in ``ada0s1a``; ``offset`` and ``length`` in bytes, from the slice's begin."""

    letter: str
    offset: int
    length: int
    kind: str
    """``ufs``, ``swap``, ``zfs``, ...; ``other`` for what is not known."""


def read_label(read: Callable[[int, int], bytes], slice_offset: int) -> tuple[BsdPartition, ...]:
    """The partitions of a slice; none where it has no label.

    ``read``: ``length`` bytes at ``offset`` of the slice. ``slice_offset``: where that begins on its disk, in bytes, since some
    systems count from there.
    """
    raw = read(_LABEL_BYTES, _LABEL_AT)
    if len(raw) < _LABEL_BYTES or struct.unpack_from("<I", raw)[0] != _MAGIC or struct.unpack_from("<I", raw, 132)[0] != _MAGIC:
        return ()
    count = min(struct.unpack_from("<H", raw, 138)[0], _PARTITIONS_AT_MOST)
    entries = [struct.unpack_from("<IIIBBH", raw, 148 + 16 * index) for index in range(count)]
    # the whole slice begins at 0 where offsets are the slice's, and at the slice where they are the disk's
    starts = [offset for size, offset, _, _, _, _ in entries if size]
    base = slice_offset // SECTOR_BYTES if starts and min(starts) >= slice_offset // SECTOR_BYTES > 0 else 0
    found = []
    for index, (size, offset, _, kind, _, _) in enumerate(entries):
        if size and index != _RAW and offset >= base:
            place = (offset - base) * SECTOR_BYTES
            found.append(BsdPartition(chr(ord("a") + index), place, size * SECTOR_BYTES, _TYPES.get(kind, "other")))
    return tuple(found)
