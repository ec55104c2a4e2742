"""XFS: what the superblock says, and whether the log has to be replayed.

A log is clean when the last record before its head is the one that unmounting writes. The head is where the
cycle numbers, which stand at the start of every log sector, step down (kernel: ``xlog_find_head``,
``xlog_check_unmount_rec``). Whatever does not look exactly so counts as dirty.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from drivers.facts import FileSystem
from p2v.core.disk import DiskReader
from p2v.core.units import KIB, MIB

MAGIC = b"XFSB"
SUPERBLOCK_BYTES = 512

_LOG_SECTOR = 512
_RECORD_MAGIC = 0xFEEDBABE
_UNMOUNT_FLAG = 0x20
_HEADER_COVERS = 32 * KIB
# eight records of at most 256 KiB can be under way at once; beyond them the log's cycles are in order
_UNDER_WAY_SECTORS = 2 * MIB // _LOG_SECTOR
_LARGEST_LOG = 2 << 31
# ftype, sparse inodes, metadata UUID, bigtime; needsrepair, nrext64 and all later ones are left to the kernel
_INCOMPAT_READ = 0x1 | 0x2 | 0x4 | 0x8
_DIRTY = "its log has to be replayed"
_INCOMPAT_NEEDS_REPAIR = 0x10


def recognise(reader: DiskReader, offset: int, length: int) -> FileSystem | None:
    """The XFS at a place; None when there is none."""
    raw = reader.pread(SUPERBLOCK_BYTES, offset)
    if len(raw) < SUPERBLOCK_BYTES or raw[:4] != MAGIC:
        return None
    block_bytes, blocks = struct.unpack_from(">IQ", raw, 4)
    if block_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or not blocks:
        return None
    free_blocks = struct.unpack_from(">Q", raw, 144)[0]
    total = blocks * block_bytes
    why = _why_not_host(reader, offset, length, raw, total)
    return FileSystem(
        "xfs",
        uuid=str(uuid.UUID(bytes=raw[32:48])),
        label=raw[108:120].split(b"\0")[0].decode("utf-8", "replace") or None,
        size_bytes=total,
        free_bytes=min(free_blocks * block_bytes, total),
        # inodes are made as they are needed: those free now are no limit
        free_inodes=None,
        why_not_host=why,
        dirty=why == _DIRTY,
    )


def _why_not_host(reader: DiskReader, offset: int, length: int, raw: bytes, total: int) -> str:
    version = struct.unpack_from(">H", raw, 100)[0] & 0xF
    if version not in (4, 5):
        return f"the host reader does not know version {version} of XFS"
    if total > length:
        return f"it is {total} bytes long and the place it stands in {length}"
    if version == 5:
        incompat = struct.unpack_from(">I", raw, 216)[0]
        if incompat & _INCOMPAT_NEEDS_REPAIR:
            return "it is marked as needing repair"
        if incompat & ~_INCOMPAT_READ:
            return f"the host reader does not know its feature {incompat & ~_INCOMPAT_READ:#x}"
    log = _log(reader, offset, length, raw)
    if log is None:
        return "its log is outside of it"
    return "" if log.is_clean() else _DIRTY


def _log(reader: DiskReader, offset: int, length: int, raw: bytes) -> _Log | None:
    block_bytes = struct.unpack_from(">I", raw, 4)[0]
    start_block = struct.unpack_from(">Q", raw, 48)[0]
    group_blocks = struct.unpack_from(">I", raw, 84)[0]
    log_blocks = struct.unpack_from(">I", raw, 96)[0]
    group_bits = raw[124]
    if not start_block or group_bits > 32:
        return None
    # file system block numbers hold the allocation group in their upper bits
    group, within = start_block >> group_bits, start_block & ((1 << group_bits) - 1)
    start = (group * group_blocks + within) * block_bytes
    log_bytes = log_blocks * block_bytes
    if not 0 < log_bytes <= _LARGEST_LOG or start + log_bytes > length:
        return None
    return _Log(reader, offset + start, log_bytes // _LOG_SECTOR)


@dataclass(frozen=True, slots=True)
class _Log:
    reader: DiskReader
    offset: int
    sectors: int

    def _sectors(self, first: int, count: int) -> bytes:
        """``count`` sectors from number ``first`` on, which wraps around the log's end."""
        first %= self.sectors
        count = min(count, self.sectors)
        to_end = min(count, self.sectors - first)
        data = self.reader.pread(to_end * _LOG_SECTOR, self.offset + first * _LOG_SECTOR)
        if count > to_end:
            data += self.reader.pread((count - to_end) * _LOG_SECTOR, self.offset)
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
    if operations != 1 or end != len(data):
        return False
    # an operation's header: transaction id, length, client, flags
    return bool(data[body + 9] & _UNMOUNT_FLAG)
