"""Reads what tells of a Windows guest's state besides its registry; to be used inside ``confined``, over any ``GuestTree``.

Sources: Microsoft, "Compact OS" (files compressed by the overlay filter), "PE Format" and "VS_FIXEDFILEINFO" (the version in a
program), "Data Deduplication" (its store below System Volume Information). ntfs-3g shows a reparse point that it does not know as a
symbolic link whose target names the tag.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from drivers.tree import FileType, GuestTree, Kept
from drivers.windows.facts import HiveFile
from drivers.windows.names import Names
from drivers.windows.services import services_of
from drivers.windows.states.protection import POLICY_FILE
from drivers.windows.states.unfinished import OLD_WINDOWS
from p2v.core.units import MIB

_UNSUPPORTED = re.compile(r"unsupported reparse tag 0x([0-9a-f]{8})")
_OF_OVERLAY_FILTER = 0x80000017
_AT_START = (0, 1)
_FILES_AT_MOST = 500
_CORE = ("ntoskrnl.exe", "hal.dll", "ci.dll", "winload.exe", "winload.efi")
_CHUNK_STORE = "System Volume Information/Dedup/ChunkStore"
_VERSIONED_BYTES_AT_MOST = 4 * MIB
_FIXED_INFO = struct.pack("<II", 0xFEEF04BD, 0x00010000)
_SIGNS = ((OLD_WINDOWS, f"/{OLD_WINDOWS}"), (POLICY_FILE, "{root}/System32/CodeIntegrity/SiPolicy.p7b"))


def kept_at(tree: GuestTree, path: str) -> Kept:
    """How a file's contents are kept; ``PLAIN`` for what is not there."""
    try:
        found = tree.lstat(path)
        if found.type is not FileType.SYMLINK:
            return found.kept
        match = _UNSUPPORTED.fullmatch(tree.readlink(path))
    except FileNotFoundError:
        return Kept.PLAIN
    if match is None:
        return Kept.ELSEWHERE
    return Kept.COMPRESSED if int(match[1], 16) == _OF_OVERLAY_FILTER else Kept.ELSEWHERE


def not_plain(names: Names, root: str, system: HiveFile, number: int) -> Iterator[tuple[str, Kept]]:
    """The files without which Windows does not start and whose contents are kept in another way, by name and how.

    ``number``: of the control set in use.
    """
    started = (each for each in services_of(system, number).values() if each.start in _AT_START)
    wanted = dict.fromkeys(file for each in started if (file := each.file) is not None)
    files = {name: f"{root}/system32/{name}" for name in _CORE} | {name: f"{root}/system32/drivers/{name}" for name in wanted}
    for name, path in tuple(files.items())[:_FILES_AT_MOST]:
        spelt = names.file(path)
        kept = kept_at(names.tree, spelt) if spelt is not None else Kept.PLAIN
        if kept is not Kept.PLAIN:
            yield name, kept


def signs(names: Names, root: str) -> tuple[str, ...]:
    """Which of the files and folders are there that tell of a state by being there, by their names."""
    return tuple(name for name, path in _SIGNS if names.find(path.format(root=root)) is not None)


def is_deduplicated(tree: GuestTree) -> bool:
    """Whether a volume has a store of deduplicated pieces."""
    return Names(tree).find(_CHUNK_STORE) is not None


def file_version(names: Names, path: str) -> tuple[int, ...]:
    """The version in a program's resources, of four numbers; empty where none can be read."""
    spelt = names.file(path)
    try:
        data = names.tree.read(spelt, _VERSIONED_BYTES_AT_MOST) if spelt is not None else b""
    except (FileNotFoundError, ValueError):
        return ()
    at = data.find(_FIXED_INFO)
    if at < 0 or at + 16 > len(data):
        return ()
    high, low = struct.unpack_from("<II", data, at + 8)
    return high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF
