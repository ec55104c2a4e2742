"""A machine's disks as firmware and Windows find them: partitions, file systems, files; and the same with something changed."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pyfsfat
import pyfsntfs

SECTOR = 512
_HEAD_BYTES = 8192
_ENTRIES_AT, _SIGNATURE_AT, _EXTENDED = 446, 440, (0x05, 0x0F)
_GPT_PROTECTIVE = 0xEE
_MOST_LOGICAL, _MOST_ENTRIES = 64, 256
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


class Reader(Protocol):
    """What the bytes of a disk come from: the product's ``DiskReader`` is one."""

    @property
    def virtual_size(self) -> int: ...

    def pread(self, length: int, offset: int) -> bytes: ...


@dataclass(frozen=True)
class RawFile:
    """A raw image that is open for reading."""

    descriptor: int

    @property
    def virtual_size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self.descriptor, length, offset)


@dataclass(frozen=True)
class Patched:
    """A reader, with other bytes at some offsets."""

    reader: Reader
    patches: Mapping[int, bytes]

    @property
    def virtual_size(self) -> int:
        return self.reader.virtual_size

    def pread(self, length: int, offset: int) -> bytes:
        data = bytearray(self.reader.pread(length, offset))
        for at, patch in self.patches.items():
            for number, byte in enumerate(patch):
                if 0 <= at + number - offset < len(data):
                    data[at + number - offset] = byte
        return bytes(data)


@dataclass(frozen=True)
class Partition:
    """A partition: its disk (by number), its number as Windows counts, its place in bytes.

    ``kind`` is the type, a number in an MBR, a GUID in a GPT; ``guid`` is the GPT's own name for it.
    """

    disk: int
    number: int
    offset: int
    length: int
    kind: int | uuid.UUID
    active: bool = False
    guid: uuid.UUID | None = None

    def __str__(self) -> str:
        return f"disk {self.disk} partition {self.number}"


@dataclass(frozen=True)
class Disk:
    """A disk: its MBR (512 bytes), its signature, its GPT's GUID, its partitions in the table's order."""

    number: int
    reader: Reader
    boot_record: bytes
    signature: int
    guid: uuid.UUID | None
    partitions: tuple[Partition, ...]


class Files:
    """The file system of a partition as it stands on the disk; ``read`` and ``names`` remember what they found.

    Paths are in lower case, with ``/`` between names and none around them.
    """

    def __init__(self, reader: Reader, partition: Partition) -> None:
        self.head = reader.pread(_HEAD_BYTES, partition.offset)
        self.kind = _kind(self.head)
        self._volume = _opened(self.kind, _Window(reader, partition.offset, partition.length))
        self._known: dict[str, bytes | None] = {}
        self._folders: dict[str, tuple[str, ...]] = {}

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None when there is none."""
        if path not in self._known:
            entry = self._entry(path)
            self._known[path] = None if entry is None else bytes(entry.read_buffer(entry.size) or b"") if entry.size else b""
        return self._known[path]

    def names(self, folder: str) -> tuple[str, ...]:
        """Names in a folder; none when it is not there."""
        if folder not in self._folders:
            entry = self._entry(folder)
            self._folders[folder] = tuple(child.name for child in entry.sub_file_entries if child.name) if entry else ()
        return self._folders[folder]

    @property
    def dirty(self) -> bool:
        """NTFS: the dirty flag of $Volume (Microsoft, "fsutil dirty")."""
        if self._volume is None or self.kind != "ntfs":
            return False
        entry = self._volume.get_file_entry(3)
        for number in range(entry.number_of_attributes):
            attribute = entry.get_attribute(number)
            if attribute.attribute_type == 0x70:
                return bool(attribute.flags & 1)
        return False

    def _entry(self, path: str) -> pyfsntfs.file_entry | pyfsfat.file_entry | None:
        if self._volume is None:
            return None
        found = self._volume.get_root_directory()
        for part in path.split("/") if path else ():
            found = next((child for child in found.sub_file_entries if (child.name or "").lower() == part), None)
            if found is None:
                return None
        return found


class Volume:
    """The file system of a partition; ``read`` finds files whatever their case, ``/`` between names.

    ``kind``: "ntfs", "fat", "bitlocker" or "" for anything else. ``changes``: files (in lower case) that are to be taken as these
    bytes, or as gone.
    """

    def __init__(self, partition: Partition, files: Files, changes: Mapping[str, bytes | None]) -> None:
        self.partition, self.head, self.kind = partition, files.head, files.kind
        self._files, self._changes = files, changes

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None when there is none."""
        path = _tidy(path)
        return self._changes[path] if path in self._changes else self._files.read(path)

    def names(self, folder: str) -> tuple[str, ...]:
        """Names in a folder, those of changed files in lower case; none when it is not there."""
        folder = _tidy(folder)
        changed = {path.rpartition("/")[2]: data for path, data in self._changes.items() if path.rpartition("/")[0] == folder}
        stay = (name for name in self._files.names(folder) if changed.get(name.lower(), b"") is not None)
        return tuple(dict.fromkeys((*stay, *(name for name, data in changed.items() if data is not None))))

    @property
    def dirty(self) -> bool:
        """Whether it is marked to be checked."""
        return self._files.dirty


def _tidy(path: str) -> str:
    return path.replace("\\", "/").strip("/").lower()


class _Window(io.RawIOBase):
    """A partition as a file, for the libraries."""

    def __init__(self, reader: Reader, offset: int, length: int) -> None:
        self._reader, self._offset, self._length, self._at = reader, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        wanted = max(0, min(len(buffer), self._length - self._at))
        data = self._reader.pread(wanted, self._offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True)
class Machine:
    """Disks in the firmware's order. ``changes``: files by disk and partition number; ``opened``: volumes that were looked into."""

    disks: tuple[Disk, ...]
    changes: Mapping[tuple[int, int], Mapping[str, bytes | None]] = field(default_factory=dict)
    opened: dict[tuple[int, int], Files] = field(default_factory=dict, compare=False, repr=False)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return tuple(partition for disk in self.disks for partition in disk.partitions)

    def volume(self, partition: Partition) -> Volume:
        """The file system of a partition, with the changes to it."""
        place = (partition.disk, partition.number)
        if place not in self.opened:
            self.opened[place] = Files(self.disks[partition.disk].reader, partition)
        return Volume(partition, self.opened[place], self.changes.get(place, {}))

    def with_files(self, partition: Partition, files: Mapping[str, bytes | None]) -> Machine:
        """The same with files replaced, or taken away (None)."""
        place = (partition.disk, partition.number)
        changed = {_tidy(path): content for path, content in files.items()}
        return replace(self, changes={**self.changes, place: {**self.changes.get(place, {}), **changed}})

    def with_bytes(self, disk: int, patches: Mapping[int, bytes]) -> Machine:
        """The same with other bytes at offsets of a disk."""
        disks = list(self.disks)
        disks[disk] = disk_of(disk, Patched(disks[disk].reader, patches))
        return replace(self, disks=tuple(disks), opened={})


@contextlib.contextmanager
def machine(*images: Path | Reader) -> Iterator[Machine]:
    """A machine with these disks: raw images by path, or anything that can be read like one."""
    with contextlib.ExitStack() as stack:
        readers: list[Reader] = []
        for image in images:
            if isinstance(image, Path):
                descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                readers.append(RawFile(descriptor))
            else:
                readers.append(image)
        yield Machine(tuple(disk_of(number, reader) for number, reader in enumerate(readers)))


def disk_of(number: int, reader: Reader) -> Disk:
    """The tables of a disk. Layout: Microsoft, "Disks and Partitions"; UEFI specification, "GPT disk layout"."""
    record = reader.pread(SECTOR, 0).ljust(SECTOR, b"\0")
    signature = struct.unpack_from("<I", record, _SIGNATURE_AT)[0]
    primary = list(_entries(record))
    if any(kind == _GPT_PROTECTIVE for _, kind, _, _ in primary):
        header = reader.pread(SECTOR, SECTOR)
        if header[:8] == b"EFI PART":
            guid = uuid.UUID(bytes_le=header[56:72])
            return Disk(number, reader, record, signature, guid, tuple(_gpt(number, reader, header)))
    return Disk(number, reader, record, signature, None, tuple(_mbr(number, reader, primary)))


def _entries(record: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Flag, type, first sector and sectors of the four entries; nothing where the record is not signed."""
    if record[510:512] == b"\x55\xaa":
        for slot in range(4):
            flag, kind, start, count = struct.unpack_from("<B3xB3xII", record, _ENTRIES_AT + 16 * slot)
            if kind:
                yield flag, kind, start, count


def _mbr(disk: int, reader: Reader, primary: Sequence[tuple[int, int, int, int]]) -> Iterator[Partition]:
    """Primary partitions first, then logical ones: the order that ARC names and Windows' own numbers follow (Q102873)."""
    number = 0
    extended = 0
    for flag, kind, start, count in primary:
        if kind in _EXTENDED:
            extended = start
            continue
        number += 1
        yield Partition(disk, number, start * SECTOR, count * SECTOR, kind, active=flag == 0x80)
    here = extended
    for _ in range(_MOST_LOGICAL if extended else 0):
        following = 0
        for _, kind, start, count in _entries(reader.pread(SECTOR, here * SECTOR).ljust(SECTOR, b"\0")):
            if kind in _EXTENDED:
                following = extended + start
            else:
                number += 1
                yield Partition(disk, number, (here + start) * SECTOR, count * SECTOR, kind)
        if not following:
            return
        here = following


def _gpt(disk: int, reader: Reader, header: bytes) -> Iterator[Partition]:
    at, count, size = struct.unpack_from("<QII", header, 72)
    for number in range(min(count, _MOST_ENTRIES)):
        entry = reader.pread(128, at * SECTOR + number * size)
        if len(entry) < 128 or not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        kind, guid = uuid.UUID(bytes_le=entry[:16]), uuid.UUID(bytes_le=entry[16:32])
        yield Partition(disk, number + 1, first * SECTOR, (last + 1 - first) * SECTOR, kind, guid=guid)


def _kind(head: bytes) -> str:
    if head[3:11] == b"NTFS    ":
        return "ntfs"
    if head[3:11] == b"-FVE-FS-":
        return "bitlocker"
    if head[54:59] in (b"FAT12", b"FAT16") or head[82:87] == b"FAT32":
        return "fat"
    return ""


def _opened(kind: str, window: _Window) -> pyfsntfs.volume | pyfsfat.volume | None:
    file = io.BufferedReader(window)
    try:
        if kind == "ntfs":
            volume = pyfsntfs.volume()
            volume.open_file_object(file)
            return volume
        if kind == "fat":
            volume = pyfsfat.volume()
            volume.open_file_object(file)
            return volume
    except OSError:
        pass  # a volume that cannot be read has no files: the caller says which one it missed
    return None
