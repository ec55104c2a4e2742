"""Whose bytes these are in an NTFS: every record of the master file table, and the names that lead to it."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.ntfs_records import FILE_NAME, FileRecord, NtfsVolume, decode_runs, undo_fixups
from p2v.core.owners import Owner, OwnerKind, Range, Wanted, overlaps

_BITMAP, _ROOT = 6, 5
_OWN_FILES = 16
_FOLDER = 0x2
_NAME_OF_DOS = 2
_DEEPEST = 256
_REFERENCE = (1 << 48) - 1


def owners_of(volume: Volume, ranges: Iterable[Range]) -> list[Owner]:
    """Who has ranges (bytes of the volume). What cannot be told is UNKNOWN, with the reason."""
    wanted = Wanted(ranges)
    try:
        table = NtfsVolume(volume)
    except NotUnderstood as why:
        return wanted.rest(OwnerKind.UNKNOWN, str(why))
    _claim_free(wanted, table)
    damaged = 0
    for number in range(table.records):
        if not wanted.left:
            break
        record = _record(table, number)
        if record is None:
            damaged += 1
        elif record.is_used:
            _claim(wanted, table, number, record)
    rest = f"{damaged} records of its master file table are damaged" if damaged else "no file has it, and it is not free"
    return wanted.rest(OwnerKind.UNKNOWN, rest)


def _record(table: NtfsVolume, number: int) -> FileRecord | None:
    """None for a damaged one; one that was never used has no signature, and is in order."""
    try:
        found = table.read_runs(table.table.runs, table.record_bytes, number * table.record_bytes)
        record = undo_fixups(found)
    except NotUnderstood:
        return None
    return record if record is not None else FileRecord(bytes(table.record_bytes))


def _claim(wanted: Wanted, table: NtfsVolume, number: int, record: FileRecord) -> None:
    base = record.base or number
    try:
        for attribute in record.attributes():
            if attribute.value is not None:
                continue
            cluster_bytes = table.cluster_bytes
            at = 0
            for first, count in decode_runs(attribute.runs):
                at += count
                if first >= 0 and any(overlaps(wanted.left, first * cluster_bytes, count * cluster_bytes)):
                    kind, name = _owner(table, base)
                    wanted.claim(first * cluster_bytes, count * cluster_bytes, kind, name)
    except NotUnderstood:
        return  # what it has stays unknown


def _owner(table: NtfsVolume, number: int) -> tuple[OwnerKind, str]:
    path = _path(table, number)
    if number < _OWN_FILES and number != _ROOT:
        return OwnerKind.METADATA, path
    record = _record(table, number)
    is_folder = record is not None and bool(struct.unpack_from("<H", record.raw, 22)[0] & _FOLDER)
    return OwnerKind.FOLDER if is_folder else OwnerKind.FILE, path


def _path(table: NtfsVolume, number: int) -> str:
    """The path of a file, as far up as its folders can be read."""
    names: list[str] = []
    while number != _ROOT and len(names) < _DEEPEST:
        record = _record(table, number)
        named = None if record is None else _name(record)
        if named is None:
            names.append(f"(file record {number})")
            break
        number, name = named
        names.append(name)
    return "/" + "/".join(reversed(names))


def _name(record: FileRecord) -> tuple[int, str] | None:
    """The record of the folder, and the name; the long one where there are two."""
    found: list[tuple[bool, int, str]] = []
    try:
        for attribute in record.attributes():
            value = attribute.value
            if attribute.kind != FILE_NAME or value is None or len(value) < 66 or len(value) < 66 + 2 * value[64]:
                continue
            folder = struct.unpack_from("<Q", value)[0] & _REFERENCE
            found.append((value[65] == _NAME_OF_DOS, folder, value[66 : 66 + 2 * value[64]].decode("utf-16-le", "replace")))
    except NotUnderstood:
        return None
    return min(found)[1:] if found else None


def _claim_free(wanted: Wanted, table: NtfsVolume) -> None:
    """Clusters that the bitmap says are free."""
    try:
        bitmap = table.data_of(_BITMAP)
        for start, count in wanted.left:
            size = table.cluster_bytes
            for cluster in range(start // size, min(-(-(start + count) // size), table.clusters)):
                byte = table.read_runs(bitmap.runs, 1, cluster // 8)
                if not byte[0] >> (cluster % 8) & 1:
                    wanted.claim(cluster * size, size, OwnerKind.FREE, "free clusters")
    except (NotUnderstood, IndexError):
        return  # then nothing is called free
