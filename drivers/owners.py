"""Whose bytes these are: the files, folders and structures that stand in ranges of a file system, by the readers of this host.

A walk over all names, with each one's extents: some microseconds a name. To be used inside ``confined`` only. Journals are not
replayed: of a dirty file system this is what it was.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyfsext
import pyfsfat
import pyfsxfs

from drivers import ext4_layout, xfs
from drivers.ext4_layout import Ext4Layout
from drivers.offline import PartitionFile
from p2v.core.disk import DiskReader
from p2v.core.doubt import NotUnderstood
from p2v.core.owners import Owner, OwnerKind, Range, Wanted
from p2v.core.units import SECTOR_BYTES

Moved = Callable[[int], int | None]

_MODULES = {"ext2": pyfsext, "ext3": pyfsext, "ext4": pyfsext, "xfs": pyfsxfs, "vfat": pyfsfat}
_NAMES_AT_MOST = 5_000_000
_DEEPEST = 1000
_IS_SPARSE = 0x1
_IS_FOLDER_OF_FAT = 0x10
_TYPE, _FOLDER = 0xF000, 0x4000
_LONGEST_NAME = 1000


def owners_of(kind: str, reader: DiskReader, offset: int, length: int, ranges: Iterable[Range]) -> list[Owner]:
    """Who has ranges (bytes of the device) of the file system of a kind (``FileSystem.kind``) at a place of a disk."""
    wanted = Wanted(ranges)
    file = PartitionFile(reader, offset, length)
    if kind == "swap":
        return wanted.rest(OwnerKind.FREE, "swap space")
    if kind not in _MODULES:
        return wanted.rest(OwnerKind.UNKNOWN, f"there is no reader for {kind}" if kind != "unknown" else "nothing known is there")
    if kind in ext4_layout.KINDS:
        _by_structure(wanted, file, length)
    elif kind == "vfat":
        _by_fat_structure(wanted, file)
    problem = _by_names(wanted, kind, file) if wanted.left else ""
    rest = "no name leads to it; a structure of the file system, or free"
    return wanted.rest(OwnerKind.UNKNOWN, f"{rest} ({problem})" if problem else rest)


def _by_structure(wanted: Wanted, file: PartitionFile, length: int) -> None:
    """Structures of ext whose place is fixed, and free blocks, by the bitmaps."""
    try:
        layout = Ext4Layout(file.pread, length)
        regions = layout.regions
    except (ext4_layout.NotUnderstood, OSError, struct.error):
        return
    size = layout.block_bytes
    for region in regions:
        inodes = ""
        if region.meaning == "inode table":
            hit = [part for part in wanted.left if part[0] < region.end * size and sum(part) > region.first * size]
            inodes = ", ".join(_inodes(layout, region, part) for part in hit[:20])
        wanted.claim(region.first * size, region.count * size, OwnerKind.METADATA, f"{region.meaning}{inodes and f' ({inodes})'}")
    for start, count in wanted.left:
        for block in range(start // size, -(-(start + count) // size)):
            try:
                is_used = layout.is_used(block)
            except (ext4_layout.NotUnderstood, OSError):
                return
            if not is_used and block < layout.blocks:
                wanted.claim(block * size, size, OwnerKind.FREE, "free blocks")


def _inodes(layout: Ext4Layout, region: ext4_layout.Region, part: Range) -> str:
    size = layout.block_bytes
    start, end = max(part[0], region.first * size), min(sum(part), region.end * size)
    numbers = layout.inodes_at(region, start, end - start)
    return f"inodes {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"inode {numbers[0]}"


def _by_fat_structure(wanted: Wanted, file: PartitionFile) -> None:
    raw = file.pread(SECTOR_BYTES, 0)
    if len(raw) < SECTOR_BYTES:
        return
    sector, _, reserved, tables, roots = struct.unpack_from("<HBHBH", raw, 11)
    table_sectors = struct.unpack_from("<H", raw, 22)[0] or struct.unpack_from("<I", raw, 36)[0]
    wanted.claim(0, reserved * sector, OwnerKind.METADATA, "boot sector")
    wanted.claim(reserved * sector, tables * table_sectors * sector, OwnerKind.METADATA, "file allocation table")
    root = (reserved + tables * table_sectors) * sector
    wanted.claim(root, roots * 32, OwnerKind.FOLDER, "/")


def _by_names(wanted: Wanted, kind: str, file: PartitionFile) -> str:
    """Claim what files and folders have; a clause when not all of them could be looked at."""
    volume = _MODULES[kind].volume()
    try:
        volume.open_file_object(file)
        waiting: list[tuple[str, Any, int]] = [("/", volume.root_directory, 0)]
    except OSError:
        return "it cannot be opened by the readers of this host"
    try:
        moved = _places(kind, file)
    except NotUnderstood as why:
        return str(why)
    names, damaged, seen = 0, False, set[int]()
    while waiting and wanted.left:
        path, folder, depth = waiting.pop()
        for child_path, child in _children(path, folder):
            names += 1
            if child is None:
                damaged = True
                continue
            if names > _NAMES_AT_MOST or depth > _DEEPEST:
                return "there are too many names"
            is_folder = _claim(wanted, kind, child_path, child, moved)
            number = child.identifier if kind == "vfat" else child.inode_number
            if is_folder and number not in seen:
                seen.add(number)
                waiting.append((child_path, child, depth + 1))
    return "some folders are damaged" if damaged else ""


def _children(path: str, folder: Any) -> Iterator[tuple[str, Any]]:
    """A folder itself where it is the root, and what is in it; None for what cannot be told."""
    if path == "/":
        yield path, folder
    try:
        count = folder.number_of_sub_file_entries
    except OSError:
        yield path, None
        return
    for index in range(count):
        try:
            child = folder.get_sub_file_entry(index)
            name = child.name
        except OSError:
            yield path, None
            continue
        if name and name not in (".", "..") and "/" not in name:
            yield f"{path.rstrip('/')}/{name[:_LONGEST_NAME]}", child


def _claim(wanted: Wanted, kind: str, path: str, entry: Any, moved: Moved) -> bool:
    """Claim an entry's extents; whether it is a folder."""
    try:
        is_folder = bool(
            path == "/" or entry.file_attribute_flags & _IS_FOLDER_OF_FAT
            if kind == "vfat"
            else entry.file_mode & _TYPE == _FOLDER
        )
    except OSError:
        return False
    with contextlib.suppress(OSError):  # what stands in its inode has none
        for index in range(entry.number_of_extents):
            offset, length, flags = entry.get_extent(index)
            place = moved(offset)
            if place is not None and not flags & _IS_SPARSE:
                wanted.claim(place, length, OwnerKind.FOLDER if is_folder else OwnerKind.FILE, path)
    return is_folder


def _places(kind: str, file: PartitionFile) -> Moved:
    """From the offsets that the readers tell of extents to those in the device: libfsxfs multiplies a block's number as it is."""
    return xfs.read_groups(file.pread).place if kind == "xfs" else lambda offset: offset
