"""The section table of a PE image, read within bounds (Microsoft, "PE Format"): EFI programs, unified kernel images."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.linux import paths
from drivers.tree import FileType, GuestTree

SECTIONS_AT_MOST = 96

_DOS_HEADER = struct.Struct("<2s58xI")
_COFF_HEADER = struct.Struct("<4sHHIIIHH")
_SECTION = struct.Struct("<8sIIII16x")


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section's bytes stand in the file."""

    offset: int
    size: int


def read_sections(tree: GuestTree, path: str) -> dict[str, Section]:
    """The sections by name, the first of each; empty when the file is no PE image. None of them passes its end."""
    resolved = paths.resolve(tree, path)
    try:
        stat = tree.lstat(resolved) if resolved is not None else None
        if resolved is None or stat is None or stat.type is not FileType.FILE:
            return {}
        return _sections(tree, resolved, stat.size)
    except FileNotFoundError:
        return {}


def _sections(tree: GuestTree, path: str, file_bytes: int) -> dict[str, Section]:
    head = tree.read_range(path, _DOS_HEADER.size, 0)
    if len(head) < _DOS_HEADER.size:
        return {}
    magic, at = _DOS_HEADER.unpack(head)
    coff = tree.read_range(path, _COFF_HEADER.size, at) if magic == b"MZ" and at < file_bytes else b""
    if len(coff) < _COFF_HEADER.size:
        return {}
    signature, _, count, _, _, _, optional_bytes, _ = _COFF_HEADER.unpack(coff)
    if signature != b"PE\0\0" or count > SECTIONS_AT_MOST:
        return {}
    table = tree.read_range(path, count * _SECTION.size, at + _COFF_HEADER.size + optional_bytes)
    found: dict[str, Section] = {}
    for start in range(0, len(table) - _SECTION.size + 1, _SECTION.size):
        name, virtual_bytes, _, raw_bytes, offset = _SECTION.unpack_from(table, start)
        # what stands on disk is padded to the file's alignment
        size = min(virtual_bytes, raw_bytes) if virtual_bytes else raw_bytes
        if offset + size <= file_bytes:
            found.setdefault(name.rstrip(b"\0").decode("ascii", "replace"), Section(offset, size))
    return found


def section_text(tree: GuestTree, path: str, section: Section | None, limit: int = 64 * 1024) -> str:
    """A section's text up to its first NUL or ``limit`` bytes; empty without a section."""
    if section is None:
        return ""
    data = tree.read_range(path, min(section.size, limit), section.offset)
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
