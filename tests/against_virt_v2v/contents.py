"""What is on a guest's disks, as a flat list: every file, every key and value of every hive, boot sectors, partition tables.

Left out is what differs between two writings of the same: times, the order of keys and values, where things lie, and NTFS' own
files (``$MFT`` and their kin).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from drivers.windows import c_regf
from drivers.windows.regf import Hive, Value
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import SECTOR, Partition, Volume

Contents = Mapping[str, str]
"""By name: ``SYSTEM\\Select: Default`` is a value, ``SYSTEM\\Select`` a key, ``C:/Windows/explorer.exe`` a file or folder."""

_TABLE_BYTES = 34 * SECTOR
_TEXTS = (c_regf.REG_SZ, c_regf.REG_EXPAND_SZ, c_regf.REG_MULTI_SZ)
_TYPES = {
    getattr(c_regf, name): name
    for name in ("REG_NONE", "REG_SZ", "REG_EXPAND_SZ", "REG_BINARY", "REG_DWORD", "REG_MULTI_SZ", "REG_QWORD")
}


def contents(found: Sample) -> Contents:
    """Of all disks of a machine."""
    told: dict[str, str] = {}
    for disk in found.machine.disks:
        told[f"disk {disk.number + 1}: partition table"] = _digest(disk.reader.pread(_TABLE_BYTES, 0))
        for partition in disk.partitions:
            told |= dict(_of_volume(found, partition))
    return told


def _of_volume(found: Sample, partition: Partition) -> Iterator[tuple[str, str]]:
    volume, title = found.machine.volume(partition), _title(found, partition)
    yield f"{title}: boot sector", _digest(volume.head[:SECTOR])
    for path in _paths(volume, ""):
        data = volume.read(path) or b""
        if volume.names(path):
            yield f"{title}:/{path}", "a folder"
        elif data.startswith(c_regf.BASE_BLOCK_SIGNATURE):
            yield from _of_hive(path.rpartition("/")[2].upper(), data)
        else:
            yield f"{title}:/{path}", f"{len(data)} bytes, {_digest(data)}" if data else "empty"


def _title(found: Sample, partition: Partition) -> str:
    if partition == found.system:
        return "C"
    return "boot" if partition == found.boot else str(partition)


def _paths(volume: Volume, folder: str) -> Iterator[str]:
    """Files and folders, each folder before what is in it."""
    for name in volume.names(folder):
        if folder or not (name.startswith("$") or name == "."):
            path = f"{folder}/{name}" if folder else name
            yield path
            yield from _paths(volume, path)


def _of_hive(title: str, data: bytes) -> Iterator[tuple[str, str]]:
    hive = Hive(data)
    yield f"{title}: state", "left in the middle of a write" if hive.base.is_dirty else "clean"
    for names, key in hive.walk():
        path = "\\".join((title, *names))
        yield path, "a key"
        for value in key.values():
            yield f"{path}: {value.name or '(default)'}", shown(value)
    assert not hive.remarks, (title, hive.remarks)


def shown(value: Value) -> str:
    """A value's type and all of its data: two that differ are shown differently."""
    kind = _TYPES.get(value.type, f"type {value.type}")
    if value.type == c_regf.REG_DWORD and len(value.data) == 4:
        return f"{kind} {int.from_bytes(value.data, 'little')}"
    if value.type in _TEXTS:
        try:
            return f"{kind} {value.data.decode('utf-16-le')!r}"
        except UnicodeDecodeError:
            pass
    return f"{kind} {value.data.hex()}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
