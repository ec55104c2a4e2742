"""NTFS: serial number, label, and whether Windows left it in order."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from drivers.facts import FileSystem
from p2v.core.disk import DiskReader

_MFT_RECORD_OF_LOG = 2
_MFT_RECORD_OF_VOLUME = 3
_ATTRIBUTE_NAME = 0x60
_ATTRIBUTE_INFORMATION = 0x70
_ATTRIBUTE_DATA = 0x80
_DIRTY = 0x0001
_NO_CLIENT = 0xFFFF
_RESTART_IS_CLEAN = 0x0002


def recognise(reader: DiskReader, offset: int, length: int) -> FileSystem | None:
    """The NTFS at a place; None when there is none."""
    boot = reader.pread(512, offset)
    if len(boot) < 512 or boot[3:11] != b"NTFS    ":
        return None
    sector_bytes, per_cluster = struct.unpack_from("<HB", boot, 11)
    sectors, mft_cluster = struct.unpack_from("<QQ", boot, 40)
    serial = struct.unpack_from("<Q", boot, 72)[0]
    cluster_bytes = sector_bytes * (per_cluster if per_cluster <= 0x80 else 1 << (256 - per_cluster))
    per_record = struct.unpack_from("<b", boot, 64)[0]
    record_bytes = per_record * cluster_bytes if per_record > 0 else 1 << -per_record if per_record > -32 else 0
    label, why = None, "its master file table cannot be read"
    mft = mft_cluster * cluster_bytes
    if sector_bytes >= 256 and 512 <= record_bytes <= 65536 and mft + 4 * record_bytes <= length:
        records = reader.pread(4 * record_bytes, offset + mft)
        volume = _attributes(_fixed_up(records, _MFT_RECORD_OF_VOLUME, record_bytes))
        log = _attributes(_fixed_up(records, _MFT_RECORD_OF_LOG, record_bytes))
        name = _resident(volume.get(_ATTRIBUTE_NAME, b""))
        label = name.decode("utf-16-le", "replace") or None
        log_at = _first_cluster(log.get(_ATTRIBUTE_DATA, b""))
        why = _why_not_host(_resident(volume.get(_ATTRIBUTE_INFORMATION, b"")))
        if not why and (log_at is None or not _log_is_clean(reader, offset, length, log_at * cluster_bytes)):
            why = "its $LogFile has to be replayed"
    return FileSystem("ntfs", f"{serial:016X}", label, sectors * sector_bytes, why_not_host=why)


def _why_not_host(information: bytes) -> str:
    if len(information) < 12:
        return "its $Volume cannot be read"
    flags = struct.unpack_from("<H", information, 10)[0]
    return "it is marked dirty" if flags & _DIRTY else ""


def _fixed_up(records: bytes, number: int, record_bytes: int) -> bytes:
    """A record of the table with the last words of its sectors put back; empty when it is torn."""
    record = bytearray(records[number * record_bytes : (number + 1) * record_bytes])
    if len(record) < record_bytes or record[:4] != b"FILE":
        return b""
    array, count = struct.unpack_from("<HH", record, 4)
    if count < 1 or array + 2 * count > record_bytes or (count - 1) * 512 > record_bytes:
        return b""
    for index in range(1, count):
        at = index * 512 - 2
        if record[at : at + 2] != record[array : array + 2]:
            return b""
        record[at : at + 2] = record[array + 2 * index : array + 2 * index + 2]
    return bytes(record)


def _each_attribute(record: bytes) -> Iterator[tuple[int, bytes]]:
    if len(record) < 24:
        return
    at = struct.unpack_from("<H", record, 20)[0]
    while at + 16 <= len(record):
        kind, size = struct.unpack_from("<II", record, at)
        if kind == 0xFFFFFFFF or size < 16 or at + size > len(record):
            return
        yield kind, record[at : at + size]
        at += size


def _attributes(record: bytes) -> dict[int, bytes]:
    return dict(_each_attribute(record))


def _resident(attribute: bytes) -> bytes:
    if len(attribute) < 24 or attribute[8] != 0:
        return b""
    length, start = struct.unpack_from("<IH", attribute, 16)
    return attribute[start : start + length]


def _first_cluster(attribute: bytes) -> int | None:
    """Where a non-resident attribute begins (the first pair of its run list)."""
    if len(attribute) < 64 or attribute[8] != 1:
        return None
    at = struct.unpack_from("<H", attribute, 32)[0]
    if at >= len(attribute):
        return None
    length_bytes, offset_bytes = attribute[at] & 0xF, attribute[at] >> 4
    start = attribute[at + 1 + length_bytes : at + 1 + length_bytes + offset_bytes]
    if not 1 <= offset_bytes <= 8 or len(start) < offset_bytes:
        return None
    cluster = int.from_bytes(start, "little", signed=True)
    return cluster if cluster > 0 else None


def _log_is_clean(reader: DiskReader, offset: int, length: int, at: int) -> bool:
    """Whether the newer of the two restart pages says that nothing is left to be done."""
    if at + 8192 > length:
        return False
    first = reader.pread(4096, offset + at)
    if first == b"\xff" * 4096:
        return True  # as a format program leaves it
    page_bytes = struct.unpack_from("<I", first, 16)[0] if first[:4] == b"RSTR" else 4096
    second = reader.pread(4096, offset + at + (page_bytes if page_bytes in (4096, 8192, 16384, 65536) else 4096))
    states = [state for state in (_restart_state(first), _restart_state(second)) if state is not None]
    return bool(states) and max(states)[1]


def _restart_state(page: bytes) -> tuple[int, bool] | None:
    """(log sequence number, clean) of a restart page."""
    if page[:4] != b"RSTR":
        return None
    area = struct.unpack_from("<H", page, 24)[0]
    if area + 16 > len(page):
        return None
    sequence, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
    return sequence, in_use == _NO_CLIENT or bool(flags & _RESTART_IS_CLEAN)
