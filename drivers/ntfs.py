"""NTFS: serial number, label, and whether Windows left it in order."""

from __future__ import annotations

import struct

from drivers.facts import FileSystem
from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.ntfs_records import DATA, OEM_NAME, VOLUME_INFORMATION, Attribute, decode_runs, undo_fixups

_MFT_RECORD_OF_LOG = 2
_MFT_RECORD_OF_VOLUME = 3
_VOLUME_NAME = 0x60
_DIRTY = 0x0001
_NO_CLIENT = 0xFFFF
_RESTART_IS_CLEAN = 0x0002


def recognise(reader: DiskReader, offset: int, length: int) -> FileSystem | None:
    """The NTFS at a place; None when there is none."""
    boot = reader.pread(512, offset)
    if len(boot) < 512 or boot[3:11] != OEM_NAME:
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
        volume = _attributes(records, _MFT_RECORD_OF_VOLUME, record_bytes)
        log = _attributes(records, _MFT_RECORD_OF_LOG, record_bytes)
        label = _value(volume.get(_VOLUME_NAME)).decode("utf-16-le", "replace") or None
        log_at = _first_cluster(log.get(DATA))
        why = _why_not_host(_value(volume.get(VOLUME_INFORMATION)))
        if not why and (log_at is None or not _log_is_clean(reader, offset, length, log_at * cluster_bytes)):
            why = "its $LogFile has to be replayed"
    return FileSystem("ntfs", f"{serial:016X}", label, sectors * sector_bytes, why_not_host=why)


def _why_not_host(information: bytes) -> str:
    if len(information) < 12:
        return "its $Volume cannot be read"
    flags = struct.unpack_from("<H", information, 10)[0]
    return "it is marked dirty" if flags & _DIRTY else ""


def _attributes(records: bytes, number: int, record_bytes: int) -> dict[int, Attribute]:
    """The attributes of a record of the table by their kinds; none of one that is damaged."""
    raw = records[number * record_bytes : (number + 1) * record_bytes]
    try:
        record = undo_fixups(raw) if len(raw) == record_bytes else None
        return {attribute.kind: attribute for attribute in record.attributes()} if record is not None else {}
    except NotUnderstood:
        return {}


def _value(attribute: Attribute | None) -> bytes:
    return attribute.value or b"" if attribute is not None else b""


def _first_cluster(attribute: Attribute | None) -> int | None:
    """Where what stands outside of its record begins."""
    try:
        first, _ = next(decode_runs(attribute.runs), (0, 0)) if attribute is not None else (0, 0)
    except NotUnderstood:
        return None
    return first if first > 0 else None


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
