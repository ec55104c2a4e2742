"""Free clusters of NTFS, from its $Bitmap.

The bitmap has neither checksum nor count. So every record of the master file table is looked at, as ntfsclone does: what
any file has must be taken. That also finds hiberfil.sys, in which a sleeping Windows keeps what is not on the disk yet.
"""

from __future__ import annotations

import struct

from converters.allocation import shadow_copies
from converters.allocation.runs import Runs, clear_bits
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.ntfs_records import (
    DATA,
    FILE_NAME,
    OEM_NAME,
    VOLUME_INFORMATION,
    FileData,
    FileRecord,
    NtfsVolume,
    decode_runs,
)
from p2v.core.units import MIB

_LOG, _VOLUME, _ROOT, _BITMAP = 2, 3, 5, 6
_VERSIONS = ((1, 2), (3, 0), (3, 1))
# mounted by NT 4; 0x80 is seen on many volumes and stands for nothing that is known
_HARMLESS_FLAGS = 0x8 | 0x80
_DIRTY = 0x1
_NO_CLIENT, _RESTART_IS_CLEAN = 0xFFFF, 0x2
_LOG_PAGES = (4096, 8192, 16384, 32768, 65536)
_HIBERFIL = "hiberfil.sys".encode("utf-16-le")
_AWAKE = (b"\0\0\0\0", b"wake", b"WAKE")
_WINDOW_BYTES = 32 * MIB
_STEP_BYTES = 4096


def is_ntfs(volume: Volume) -> bool:
    """Whether there is a boot sector."""
    return volume.peek(8, 3) == OEM_NAME


def free_runs(volume: Volume) -> Runs:
    """The ranges of free clusters. Raises NotUnderstood."""
    ntfs = NtfsVolume(volume)
    _check_state(ntfs)
    _check_log(ntfs)
    shadow_copies.check_none(volume)
    bitmap = ntfs.data_of(_BITMAP)
    needed = -(-ntfs.clusters // 8)
    if bitmap.size < needed or (bitmap.resident is None and bitmap.initialised < needed):
        raise NotUnderstood(f"its bitmap has {bitmap.size} bytes, and {needed} are needed")
    runs = Runs()
    for begin in range(0, needed, _WINDOW_BYTES):
        window = _Window(begin * 8, _piece(ntfs, bitmap, begin, min(_WINDOW_BYTES, needed - begin)))
        _check_files(ntfs, window, is_first=begin == 0)
        _add_free(ntfs, window, runs)
    return runs


def _piece(ntfs: NtfsVolume, data: FileData, offset: int, length: int) -> bytes:
    if data.resident is not None:
        return data.resident[offset : offset + length]
    return ntfs.read_runs(data.runs, length, offset)


def _check_state(ntfs: NtfsVolume) -> None:
    information = next((a.value for a in ntfs.record(_VOLUME).attributes() if a.kind == VOLUME_INFORMATION), None)
    if information is None or len(information) < 12:
        raise NotUnderstood("its $Volume is damaged")
    major, minor, flags = struct.unpack_from("<BBH", information, 8)
    if (major, minor) not in _VERSIONS:
        raise NotUnderstood(f"its version is {major}.{minor}")
    if flags & _DIRTY:
        raise NotUnderstood("it is marked dirty")
    if flags & ~_HARMLESS_FLAGS:
        raise NotUnderstood(f"Windows left work to be done on it (flags {flags:#x})")


def _check_log(ntfs: NtfsVolume) -> None:
    """Whether the newer of the two restart pages of $LogFile says that nothing is left to be done."""
    log = ntfs.data_of(_LOG)
    if log.resident is not None or log.size < 2 * _LOG_PAGES[-1]:
        raise NotUnderstood("its $LogFile is damaged")
    first = ntfs.read_runs(log.runs, _LOG_PAGES[0], 0)
    if first == b"\xff" * len(first):
        return  # as a format program leaves it
    page = struct.unpack_from("<I", first, 16)[0] if first[:4] == b"RSTR" else _LOG_PAGES[0]
    states = [_restart_state(first)]
    if page in _LOG_PAGES:
        states.append(_restart_state(ntfs.read_runs(log.runs, _LOG_PAGES[0], page)))
    known = [state for state in states if state is not None]
    if not known or not max(known)[1]:
        raise NotUnderstood("its $LogFile has to be replayed")


def _restart_state(page: bytes) -> tuple[int, bool] | None:
    """(log sequence number, clean) of a restart page."""
    if page[:4] != b"RSTR":
        return None
    area = struct.unpack_from("<H", page, 24)[0]
    if area + 16 > len(page):
        return None
    sequence, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
    return sequence, in_use == _NO_CLIENT or bool(flags & _RESTART_IS_CLEAN)


class _Window:
    """The part of the bitmap for the clusters from ``first`` on."""

    def __init__(self, first: int, bitmap: bytes) -> None:
        self.first = first
        self.bitmap = bitmap

    def is_taken(self, first: int, count: int) -> bool:
        """Whether all clusters of a range that are in the window are taken."""
        begin = max(0, first - self.first)
        end = min(len(self.bitmap) * 8, first + count - self.first)
        if begin >= end:
            return True
        low, high = begin // 8, (end - 1) // 8
        wanted_low, wanted_high = 0xFF << begin % 8 & 0xFF, 0xFF >> 7 - (end - 1) % 8
        if low == high:
            wanted_low &= wanted_high
            return self.bitmap[low] & wanted_low == wanted_low
        return (
            self.bitmap[low] & wanted_low == wanted_low
            and self.bitmap[high] & wanted_high == wanted_high
            and self.bitmap.count(0xFF, low + 1, high) == high - low - 1
        )


def _check_files(ntfs: NtfsVolume, window: _Window, *, is_first: bool) -> None:
    """Whether all that files have is taken, and Windows is not asleep. Raises NotUnderstood."""
    if is_first and not (window.is_taken(0, 1) and window.is_taken(ntfs.mirror_cluster, 1)):
        raise NotUnderstood("its bitmap calls clusters free that the file system itself is in")
    for number, record in ntfs.each_record():
        if is_first and _HIBERFIL in record.raw.lower() and _is_hiberfil(record):
            # its names may be in another record than its contents
            _check_awake(ntfs, record.base or number)
        for attribute in record.attributes():
            if attribute.value is not None:
                continue
            for first, count in decode_runs(attribute.runs):
                if first >= 0 and (first + count > ntfs.clusters or not window.is_taken(first, count)):
                    raise NotUnderstood(f"its bitmap calls clusters free that the file {number} has")


def _is_hiberfil(record: FileRecord) -> bool:
    for attribute in record.attributes():
        if attribute.kind == FILE_NAME and attribute.value is not None and len(attribute.value) > 66:
            parent = struct.unpack_from("<Q", attribute.value)[0] & (1 << 48) - 1
            if parent == _ROOT and attribute.value[66:].lower() == _HIBERFIL:
                return True
    return False


def _check_awake(ntfs: NtfsVolume, number: int) -> None:
    data = ntfs.data_of(number, DATA)
    head = data.resident[:4] if data.resident is not None else b""
    if data.resident is None and data.initialised >= 4:
        head = ntfs.read_runs(data.runs, 4, 0)
    if head and head not in _AWAKE:
        raise NotUnderstood("Windows is hibernated or was shut down by fast startup (hiberfil.sys)")


def _add_free(ntfs: NtfsVolume, window: _Window, runs: Runs) -> None:
    # the last cluster stays: a copy of the boot sector stands behind it, or in it
    clusters = min(len(window.bitmap) * 8, ntfs.clusters - 1 - window.first)
    for begin in range(0, clusters, _STEP_BYTES * 8):
        count = min(_STEP_BYTES * 8, clusters - begin)
        used = int.from_bytes(window.bitmap[begin // 8 : begin // 8 + _STEP_BYTES], "little")
        for first, length in clear_bits(used, count, runs.least_bytes // ntfs.cluster_bytes):
            runs.add((window.first + begin + first) * ntfs.cluster_bytes, length * ntfs.cluster_bytes)
