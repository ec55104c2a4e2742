"""What an earlier conversion put into a guest: the same is not put there once more, another takes its place.

Reading is for ``confined``, over any ``GuestTree``; planning is pure.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator

from drivers.changes import CARRIED_BYTES_AT_MOST, CarryFile, Change, DeleteFile, WriteFile
from drivers.windows.facts import PlacedFile, WindowsFacts
from drivers.windows.names import Names
from p2v.core.units import MIB

_FOLDERS = ("p2v", "Drivers/VirtIO")
_BOOT_DRIVERS = ("viostor.sys", "vioscsi.sys")
_DRIVERS = "system32/drivers"
_FILES_AT_MOST = 500
_BYTES_AT_MOST = 128 * MIB
_CHUNK_BYTES = 2 * MIB
_WHY = "another one stands there: of an earlier conversion, or the guest's own"


def read_placed(names: Names, root: str) -> tuple[PlacedFile, ...]:
    """Files in the folders that conversions fill, and virtio's drivers that the loader starts; of more than that the first."""
    found = list[PlacedFile]()
    left = _BYTES_AT_MOST
    for path in list(_paths(names, root))[:_FILES_AT_MOST]:
        file = _read(names, path, min(left, CARRIED_BYTES_AT_MOST))
        if file is not None:
            found.append(file)
            left -= file.size
    return tuple(found)


def _paths(names: Names, root: str) -> Iterator[str]:
    for driver in _BOOT_DRIVERS:
        path = names.file(f"{root}/{_DRIVERS}/{driver}")
        if path is not None:
            yield path
    for name in _FOLDERS:
        top = names.find(f"{root}/{name}")
        for folder in sorted(names.tree.list(top)) if top is not None else ():
            for file in sorted(names.tree.list(f"{top}/{folder}")):
                yield f"{top}/{folder}/{file}"


def _read(names: Names, path: str, at_most: int) -> PlacedFile | None:
    try:
        size = names.tree.lstat(path).size
        if size > at_most:
            return None
        digest = hashlib.sha256()
        for start in range(0, size, _CHUNK_BYTES):
            digest.update(names.tree.read_range(path, min(_CHUNK_BYTES, size - start), start))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return PlacedFile(path, size, digest.hexdigest())


def own_driver(windows: WindowsFacts, file: CarryFile) -> str:
    """The name of a driver that the loader starts and that stands where another one is to go; empty where there is none."""
    found = _there(windows).get(file.path.lower())
    if found is None or _is_same(found, file):
        return ""
    folder, name = posixpath.split(found.path)
    return name if folder.lower().endswith(f"/{_DRIVERS}") else ""


def still_to_do(changes: Iterable[Change], windows: WindowsFacts) -> Iterator[Change]:
    """The changes without new files that are there already; what stands in the way of another is removed first."""
    there = _there(windows)
    for change in changes:
        found = there.get(change.path.lower()) if isinstance(change, CarryFile | WriteFile) else None
        if found is None:
            yield change
        elif not _is_same(found, change):
            yield DeleteFile(found.path, found.sha256, _WHY)
            yield change


def _there(windows: WindowsFacts) -> dict[str, PlacedFile]:
    return {file.path.lower(): file for file in windows.placed}


def _is_same(found: PlacedFile, change: Change) -> bool:
    match change:
        case CarryFile():
            return (found.size, found.sha256) == (change.size, change.sha256)
        case WriteFile():
            data = change.content.encode("utf-8", "surrogateescape")
            return (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return False
