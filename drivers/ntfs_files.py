"""Where a file in the root of an NTFS stands: Windows keeps its page files and its hibernation there.

Source: the Linux-NTFS project's documentation of NTFS ("$INDEX_ROOT", "$INDEX_ALLOCATION", "$FILE_NAME",
"$STANDARD_INFORMATION").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from drivers.unneeded import Contents, UnneededFile
from drivers.volumes import MappedVolume
from p2v.core.doubt import NotUnderstood
from p2v.core.ntfs_records import FILE_NAME, Attribute, FileRecord, NtfsVolume, undo_fixups
from p2v.core.units import KIB, MIB

Run = tuple[int, int]
_ROOT = 5
_STANDARD_INFORMATION, _INDEX_ROOT, _INDEX_ALLOCATION, _REPARSE_POINT = 0x10, 0x90, 0xA0, 0xC0
_OF_NAMES = "$I30".encode("utf-16-le")
_LAST_ENTRY = 0x2
_LARGEST_INDEX = 16 * MIB
_INDEX_BLOCKS = (512, 1 * KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB)
_NUMBER_BITS = (1 << 48) - 1
# as Windows has its own files: hidden, and the system's
_WINDOWS_OWN = 0x2 | 0x4
# a folder, sparse, a reparse point, compressed, kept elsewhere, encrypted
_ODD = 0x10 | 0x200 | 0x400 | 0x800 | 0x1000 | 0x4000
_DOS_NAME = 2
_DUMPS = (b"PAGEDUMP", b"PAGEDU64")
"""What a page file begins with in which Windows keeps a crash dump until its next start."""


class _Place:
    """A volume as ``NtfsVolume`` reads it."""

    def __init__(self, volume: MappedVolume) -> None:
        self._volume = volume
        self.size = volume.virtual_size

    def read(self, length: int, offset: int) -> bytes:
        data = self._volume.pread(length, offset) if offset + length <= self.size else b""
        if len(data) != length:
            raise NotUnderstood("a structure of its file system lies behind its end")
        return data


def runs_in_ntfs(volume: MappedVolume, kind: str, file: UnneededFile) -> Sequence[Run]:
    """Where a file stands. Raises FileNotFoundError, and NotUnderstood for one of which anything is odd."""
    place = _Place(volume)
    ntfs = NtfsVolume(place)
    number = _number_of(ntfs, file.path.lstrip("/"))
    _check_plain(ntfs.record(number))
    data = ntfs.data_of(number)
    if data.resident is not None or data.flags:
        raise NotUnderstood("it is compressed, sparse, encrypted or a few bytes in its record")
    runs, left = [], data.size
    for first, count in data.runs:
        if first < 0:
            raise NotUnderstood("it has holes")
        length = min(count * ntfs.cluster_bytes, left)
        if length > 0:
            runs.append((first * ntfs.cluster_bytes, length))
        left -= length
    if left or not runs:
        raise NotUnderstood("its size is another than what is stored of it")
    if file.contents is Contents.PAGE_FILE and place.read(8, runs[0][0]) in _DUMPS:
        raise NotUnderstood("it has a crash dump in it that Windows has not saved yet")
    return runs


def _number_of(ntfs: NtfsVolume, name: str) -> int:
    """The number of the record that a name in the root stands for."""
    wanted, found = name.encode("utf-16-le"), set[int]()
    for reference, key in _entries(ntfs):
        if key[66:].lower() == wanted and len(key) == 66 + 2 * key[64]:
            number = reference & _NUMBER_BITS
            # index blocks that are free by now keep their old entries
            record = ntfs.record(number)
            if record.is_used and record.sequence == reference >> 48 and any(_names_it(a, wanted) for a in record.attributes()):
                found.add(number)
    if not found:
        raise FileNotFoundError(name)
    if len(found) > 1:
        raise NotUnderstood("there are two of its name")
    return found.pop()


def _names_it(attribute: Attribute, wanted: bytes) -> bool:
    value = attribute.value if attribute.kind == FILE_NAME else None
    if value is None or len(value) < 66:
        return False
    return struct.unpack_from("<Q", value)[0] & _NUMBER_BITS == _ROOT and value[66:].lower() == wanted


def _entries(ntfs: NtfsVolume) -> Iterator[tuple[int, bytes]]:
    """(reference, key) of every entry of the root's index, in no order."""
    root = ntfs.data_of(_ROOT, _INDEX_ROOT, _OF_NAMES).resident
    if root is None or len(root) < 32:
        raise NotUnderstood("the root of its file system is damaged")
    yield from _entries_of(root, 16)
    try:
        more = ntfs.data_of(_ROOT, _INDEX_ALLOCATION, _OF_NAMES)
    except NotUnderstood:
        return  # a small root has none
    size = struct.unpack_from("<I", root, 8)[0]
    if size not in _INDEX_BLOCKS or more.size > _LARGEST_INDEX:
        raise NotUnderstood("the root of its file system is damaged, or too large")
    for at in range(0, more.size - size + 1, size):
        block = undo_fixups(ntfs.read_runs(more.runs, size, at), b"INDX")
        if block is not None:
            yield from _entries_of(block.raw, 24)


def _entries_of(raw: bytes, header: int) -> Iterator[tuple[int, bytes]]:
    first, used = struct.unpack_from("<II", raw, header)
    at, end = header + first, min(header + used, len(raw))
    while at + 16 <= end:
        reference, length, key_length, flags = struct.unpack_from("<QHHH", raw, at)
        if flags & _LAST_ENTRY:
            return
        if length < 16 + key_length or at + length > end:
            raise NotUnderstood("the root of its file system is damaged")
        key = raw[at + 16 : at + 16 + key_length]
        if len(key) > 66:
            yield reference, key
        at += length


def _check_plain(record: FileRecord) -> None:
    attributes = list(record.attributes())
    names = [a.value[65] for a in attributes if a.kind == FILE_NAME and a.value is not None and len(a.value) > 66]
    links = struct.unpack_from("<H", record.raw, 18)[0]
    # Windows may give it a second name, for DOS
    if record.base or links != len(names) or len([name for name in names if name != _DOS_NAME]) != 1:
        raise NotUnderstood(f"it has {links} names")
    about = next((a.value for a in attributes if a.kind == _STANDARD_INFORMATION), None)
    flags = struct.unpack_from("<I", about, 32)[0] if about is not None and len(about) >= 36 else _ODD
    if flags & _ODD or any(a.kind == _REPARSE_POINT for a in attributes):
        raise NotUnderstood("it is compressed, sparse, encrypted or a reparse point")
    if flags & _WINDOWS_OWN != _WINDOWS_OWN:
        raise NotUnderstood("Windows did not make it: it is not hidden, or not the system's")
