"""Whether the log of an XFS has to be replayed.

A log is clean when the last record before its head is the one that unmounting writes. The head is where the
cycle numbers, which stand at the start of every log sector, step down (kernel: ``xlog_find_head``,
``xlog_check_unmount_rec``). Whatever does not look exactly so counts as dirty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from p2v.core.units import KIB, MIB

Read = Callable[[int, int], bytes]

_LOG_SECTOR = 512
_RECORD_MAGIC = 0xFEEDBABE
_UNMOUNT_FLAG = 0x20
_HEADER_COVERS = 32 * KIB
# eight records of at most 256 KiB can be under way at once; beyond them the log's cycles are in order
_UNDER_WAY_SECTORS = 2 * MIB // _LOG_SECTOR


@dataclass(frozen=True, slots=True)
class XfsLog:
    """The log of ``length`` bytes at ``offset`` of whatever ``read`` (length, offset) reads from."""

    read: Read
    offset: int
    length: int

    @property
    def sectors(self) -> int:
        """Its length in sectors of 512 bytes."""
        return self.length // _LOG_SECTOR

    def _sectors(self, first: int, count: int) -> bytes:
        """``count`` sectors from number ``first`` on, which wraps around the log's end."""
        first %= self.sectors
        count = min(count, self.sectors)
        to_end = min(count, self.sectors - first)
        data = self.read(to_end * _LOG_SECTOR, self.offset + first * _LOG_SECTOR)
        if count > to_end:
            data += self.read((count - to_end) * _LOG_SECTOR, self.offset)
        return data

    def _cycle(self, sector: int) -> int:
        return _cycle_of(self._sectors(sector, 1), 0)

    def _head(self) -> int:
        """The sector that would be written next."""
        first, last = self._cycle(0), self._cycle(self.sectors - 1)
        if first == last:
            return 0
        low, high = 0, self.sectors - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._cycle(middle) == first:
                low = middle
            else:
                high = middle
        return high

    def is_clean(self) -> bool:
        """Whether nothing has to be replayed."""
        head = self._head()
        current = self._cycle(head - 1)
        window = min(_UNDER_WAY_SECTORS, self.sectors)
        before = self._sectors(head - window, window)
        if head and self._has_hole(head, current, before, window):
            return False
        at = _last_record(before)
        if at is None:
            # a log of zeroes was never written to
            return current == 0 and not any(before)
        return _is_unmount_at_end(before, at)

    def _has_hole(self, head: int, current: int, before: bytes, window: int) -> bool:
        """Whether sectors around the head are out of order, as when the machine died with several writes under way."""
        for sector in range(max(0, window - head), window):
            if _cycle_of(before, sector) != current:
                return True
        after_count = min(window, self.sectors - head)
        after = self._sectors(head, after_count)
        return any(_cycle_of(after, sector) >= current for sector in range(after_count))


def _cycle_of(data: bytes, sector: int) -> int:
    at = sector * _LOG_SECTOR
    if len(data) < at + 8:
        return 0
    word, following = struct.unpack_from(">II", data, at)
    return int(following if word == _RECORD_MAGIC else word)


def _last_record(data: bytes) -> int | None:
    """Offset of the last record header in whole sectors of log."""
    for at in range(len(data) // _LOG_SECTOR * _LOG_SECTOR - _LOG_SECTOR, -1, -_LOG_SECTOR):
        if data[at : at + 4] == _RECORD_MAGIC.to_bytes(4, "big"):
            return at
    return None


def _is_unmount_at_end(data: bytes, at: int) -> bool:
    """Whether the record at ``at`` is an unmount record that ends where ``data`` does."""
    version, record_bytes = struct.unpack_from(">II", data, at + 8)
    operations = struct.unpack_from(">I", data, at + 40)[0]
    covered = struct.unpack_from(">I", data, at + 320)[0]
    header_sectors = -(-covered // _HEADER_COVERS) if version == 2 and covered > _HEADER_COVERS else 1
    body = at + header_sectors * _LOG_SECTOR
    end = body + -(-record_bytes // _LOG_SECTOR) * _LOG_SECTOR
    if operations != 1 or end != len(data) or body + 10 > len(data):
        return False
    # an operation's header: transaction id, length, client, flags
    return bool(data[body + 9] & _UNMOUNT_FLAG)
