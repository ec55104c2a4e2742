"""How much is free in an NTFS, by the map of its clusters. That of a large volume is left alone: it would be megabytes to read."""

from __future__ import annotations

import struct

from drivers.sights.edges import Edges
from p2v.core.doubt import NotUnderstood
from p2v.core.ntfs_records import DATA, NtfsVolume, decode_runs
from p2v.core.units import MIB

_BITMAP_RECORD = 6
# 128 GiB of clusters of 4 KiB
_LARGEST_BITMAP = 4 * MIB


class _Stretch:
    """Implements ``p2v.core.ntfs_records.Stretch``."""

    def __init__(self, disk: Edges, offset: int, length: int) -> None:
        self._disk, self._offset, self._length = disk, offset, length

    @property
    def size(self) -> int:
        """In bytes."""
        return self._length

    def read(self, length: int, offset: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``. Raises NotUnderstood when they do not lie in it."""
        if offset < 0 or offset + length > self._length:
            raise NotUnderstood("a structure lies outside of it")
        raw = self._disk.pread(length, self._offset + offset)
        if len(raw) != length:
            raise NotUnderstood("a structure lies behind the end of its disk")
        return raw


def ntfs_free_bytes(disk: Edges, offset: int, length: int) -> int | None:
    """Free bytes of the NTFS in a partition; None where that cannot be told with little reading."""
    try:
        volume = NtfsVolume(_Stretch(disk, offset, length))
        # one in so many pieces that they have a list is left alone
        bitmap = next((each for each in volume.record(_BITMAP_RECORD).attributes() if each.kind == DATA), None)
        needed = -(-volume.clusters // 8)
        if bitmap is None or bitmap.value is not None or needed > min(bitmap.size, _LARGEST_BITMAP):
            return None
        raw = volume.read_runs(tuple(decode_runs(bitmap.runs)), needed, 0)
        used = int.from_bytes(raw, "little") & ((1 << volume.clusters) - 1)
    except (NotUnderstood, struct.error):
        return None
    return int((volume.clusters - used.bit_count()) * volume.cluster_bytes)
