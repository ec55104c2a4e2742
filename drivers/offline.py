"""Reading a guest's files on this host: libyal's readers over a disk's partitions, as one tree.

To be used inside ``confined`` only: what is read here was written by somebody else. Damage found on the way
counts as "not there" and is noted in ``OfflineTree.problems``; file names that are not UTF-8 cannot be asked
of these readers and are left out.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyfsext
import pyfsfat
import pyfsntfs
import pyfsxfs

from drivers import facts, ntfs_entries
from drivers.confinement import DEFAULT_LIMITS, Limits, confined
from drivers.facts import Partition
from drivers.tree import FileType, Stat
from drivers.ufs import UfsVolume
from drivers.volumes import MappedVolume
from p2v.core.disk import DiskReader
from p2v.core.units import KIB, MIB

__all__ = ["DEFAULT_LIMITS", "Limits", "OfflineTree", "PartitionFile", "UnreadableVolume", "confined", "open_device", "open_volume"]

DIRECTORY_ENTRIES_AT_MOST = 100_000
LINKS_AT_MOST = 40
PATH_PARTS_AT_MOST = 4096
PROBLEMS_AT_MOST = 20

_PIECE = 4 * MIB
_UFS = frozenset({"ufs1", "ufs2"})
_FAT_DIRECTORY = 0x10
_FAT_VOLUME_LABEL = 0x08


class UnreadableVolume(Exception):
    """A host reader refuses a file system; the text says in what words."""


class PartitionFile:
    """A range of a disk as the file object that libyal wants, with a cache for its many small reads."""

    _BLOCK = 32 * KIB
    _BLOCKS_AT_MOST = 512

    def __init__(self, reader: DiskReader, offset: int, length: int) -> None:
        self._reader = reader
        self._offset = offset
        self._length = max(0, min(length, reader.virtual_size - offset))
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def get_size(self) -> int:
        """Length of the range in bytes."""
        return self._length

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set where the next read begins, as ``io`` has it."""
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read on from where the last read ended; short at the end only."""
        left = max(0, self._length - self._at)
        size = left if size < 0 else min(size, left)
        is_small = size < self._BLOCK
        data = self._read_small(size) if is_small else self._reader.pread(size, self._offset + self._at)
        self._at += len(data)
        return data

    def pread(self, length: int, offset: int) -> bytes:
        """``length`` bytes at ``offset``; short at the end only."""
        self.seek(offset)
        return self.read(length)

    def _read_small(self, size: int) -> bytes:
        number, within = divmod(self._at, self._BLOCK)
        data = self._block(number)[within : within + size]
        if len(data) < size:
            data += self._block(number + 1)[: size - len(data)]
        return data

    def _block(self, number: int) -> bytes:
        known = self._blocks.get(number)
        if known is not None:
            self._blocks.move_to_end(number)
            return known
        start = number * self._BLOCK
        data = self._reader.pread(max(0, min(self._BLOCK, self._length - start)), self._offset + start)
        self._blocks[number] = data
        if len(self._blocks) > self._BLOCKS_AT_MOST:
            self._blocks.popitem(last=False)
        return data


# --- volumes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a volume: what lstat tells, a link's target, the binding's object, and the inode's place where it has one."""

    stat: Stat
    handle: Any
    target: str | None = None
    inode: tuple[PartitionFile, int] | None = None
    """The file system it is in, and its number there."""


class Volume(Protocol):
    """An open file system. All raise OSError where it is damaged."""

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        """The entry at a path of plain names below the volume's root; no component is a link."""
        ...

    def names(self, entry: Entry) -> Iterator[str | None]:
        """Names in a directory; None for one that cannot be told."""
        ...


class _PosixVolume:
    """ext or XFS: both bindings have the same calls."""

    def __init__(self, volume: Any, file: PartitionFile) -> None:
        self._volume = volume
        self._file = file  # the binding does not keep it alive

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        found = self._volume.get_file_entry_by_path("/" + "/".join(parts)) if parts else self._volume.root_directory
        return None if found is None else _posix_entry(found, self._file)

    def names(self, entry: Entry) -> Iterator[str | None]:
        for index in range(entry.handle.number_of_sub_file_entries):
            try:
                yield entry.handle.get_sub_file_entry(index).name
            except OSError:
                yield None


def _posix_entry(handle: Any, file: PartitionFile) -> Entry:
    mode = handle.file_mode
    kind = {
        stat.S_IFREG: FileType.FILE,
        stat.S_IFDIR: FileType.DIRECTORY,
        stat.S_IFLNK: FileType.SYMLINK,
    }.get(stat.S_IFMT(mode), FileType.OTHER)
    size = handle.size if kind in (FileType.FILE, FileType.SYMLINK) else 0
    uid, gid = handle.get_owner_identifier(), handle.get_group_identifier()
    target = handle.symbolic_link_target if kind is FileType.SYMLINK else None
    return Entry(Stat(kind, size, stat.S_IMODE(mode), uid, gid), handle, target, (file, handle.inode_number))


class _FatVolume:
    """vfat: no owners, no modes, no links; names in any case."""

    def __init__(self, volume: Any, file: PartitionFile) -> None:
        self._volume = volume
        self._file = file

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        if any("\\" in part for part in parts):
            return None
        found = self._volume.get_file_entry_by_path("\\" + "\\".join(parts)) if parts else self._volume.root_directory
        if found is None:
            return None
        if not parts or found.file_attribute_flags & _FAT_DIRECTORY:
            return Entry(Stat(FileType.DIRECTORY, 0, 0o755, 0, 0), found)
        return Entry(Stat(FileType.FILE, found.size, 0o755, 0, 0), found)

    def names(self, entry: Entry) -> Iterator[str | None]:
        for index in range(entry.handle.number_of_sub_file_entries):
            try:
                child = entry.handle.get_sub_file_entry(index)
                if not child.file_attribute_flags & _FAT_VOLUME_LABEL:
                    yield child.name
            except OSError:
                yield None


class _NtfsVolume:
    """NTFS: names in any case, no owners."""

    def __init__(self, volume: Any, file: PartitionFile) -> None:
        self._volume = volume
        self._file = file

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        found = ntfs_entries.find(self._volume, parts)
        return None if found is None else Entry(ntfs_entries.stat_of(found, is_root=not parts), found)

    def names(self, entry: Entry) -> Iterator[str | None]:
        return ntfs_entries.names(entry.handle)


class _UfsVolume:
    """UFS by our own reader: no library has one."""

    def __init__(self, file: PartitionFile) -> None:
        self._volume = UfsVolume(file.pread)

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        found = self._volume.find_inode(parts)
        if found is None:
            return None
        target = self._volume.target(found) if found.stat.type is FileType.SYMLINK else None
        return Entry(found.stat, found, target)

    def names(self, entry: Entry) -> Iterator[str | None]:
        return (name for name, _ in self._volume.entries(entry.handle))


class FolderOfVolume:
    """A folder of a file system as a volume: what a bind mount shows. No component of its path may be a link.

    Raises UnreadableVolume where there is no such folder.
    """

    def __init__(self, volume: Volume, folder: str) -> None:
        self._volume = volume
        self._parts = _plain_parts(folder)
        for length in range(1, len(self._parts) + 1):
            try:
                above = volume.find(self._parts[:length])
            except (OSError, ValueError) as error:
                raise UnreadableVolume(f"its folder {folder} cannot be read") from error
            if above is None or above.stat.type is not FileType.DIRECTORY:
                raise UnreadableVolume(f"it has no folder {folder}")

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        """See ``Volume.find``."""
        return self._volume.find((*self._parts, *parts))

    def names(self, entry: Entry) -> Iterator[str | None]:
        """See ``Volume.names``."""
        return self._volume.names(entry)


def open_volume(kind: str, reader: DiskReader, offset: int, length: int) -> Volume:
    """Open the file system of a kind (``FileSystem.kind``) at a place. Raises UnreadableVolume."""
    file = PartitionFile(reader, offset, length)
    modules = {"ext2": pyfsext, "ext3": pyfsext, "ext4": pyfsext, "xfs": pyfsxfs, "vfat": pyfsfat, "ntfs": pyfsntfs}
    if kind not in (*modules, *_UFS):
        raise UnreadableVolume(f"there is no host reader for {kind}")
    try:
        opened = _UfsVolume(file) if kind in _UFS else _by_libyal(kind, modules[kind].volume(), file)
        if opened.find(()) is None:
            raise UnreadableVolume("it has no root directory")
    except OSError as error:
        raise UnreadableVolume(_in_short(error)) from error
    return opened


def _by_libyal(kind: str, volume: Any, file: PartitionFile) -> Volume:
    volume.open_file_object(file)
    opened: dict[str, Callable[[Any, PartitionFile], Volume]] = {"vfat": _FatVolume, "ntfs": _NtfsVolume}
    return opened.get(kind, _PosixVolume)(volume, file)


def open_device(device: Partition | facts.Volume, readers: Sequence[DiskReader], folder: str = "") -> Volume:
    """Open the file system of a partition or volume of these disks, or a folder of it. Raises UnreadableVolume."""
    kind = device.filesystem.kind if device.filesystem else "unknown"
    if isinstance(device, facts.Volume):
        mapped = MappedVolume(device.segments, device.size_bytes, readers)
        opened = open_volume(kind, mapped, 0, device.size_bytes)
    else:
        opened = open_volume(kind, readers[device.disk], device.offset, device.length)
    return FolderOfVolume(opened, folder) if folder else opened


def _in_short(error: OSError) -> str:
    """libyal's errors are chains of its own functions; the innermost says what is wrong."""
    reasons = [part.strip() for part in str(error).split(". ") if part.strip()]
    return reasons[1 if len(reasons) > 1 else 0][:200] if reasons else "unknown error"


# --- the tree --------------------------------------------------------------------------------------------


class OfflineTree:
    """``drivers.tree.GuestTree`` over open volumes."""

    _ENTRIES_AT_MOST = 4096

    def __init__(self, root: Volume) -> None:
        self._mounts: dict[tuple[str, ...], Volume] = {(): root}
        self._entries: OrderedDict[tuple[str, ...], Entry | None] = OrderedDict()
        self.problems: list[str] = []

    def mount(self, mountpoint: str, volume: Volume) -> None:
        """Put a volume at a path of the tree; what was there before is hidden."""
        parts = self._resolved(mountpoint)
        self._mounts[_plain_parts(mountpoint) if parts is None else parts] = volume
        self._entries.clear()

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        entry = self._file(path)
        if entry.stat.size > limit:
            raise ValueError(f"{path}: {entry.stat.size} bytes, at most {limit} are read")
        return self._bytes(path, entry, entry.stat.size, 0)

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        entry = self._file(path)
        if offset < 0 or length < 0:
            raise ValueError(f"{path}: {length} bytes at {offset}")
        return self._bytes(path, entry, max(0, min(length, entry.stat.size - offset)), offset)

    def exists(self, path: str) -> bool:
        return self._resolved(path) is not None

    def list(self, path: str) -> tuple[str, ...]:
        parts = self._resolved(path)
        entry = None if parts is None else self._entry(parts)
        if parts is None or entry is None or entry.stat.type is not FileType.DIRECTORY:
            return ()
        found: set[str] = set()
        try:
            for count, name in enumerate(self._mount_of(parts)[0].names(entry)):
                if count >= DIRECTORY_ENTRIES_AT_MOST:
                    self._note(f"{path}: has more than {DIRECTORY_ENTRIES_AT_MOST} entries; the rest is left out")
                    break
                if name is None:
                    self._note(f"{path}: has a name that is not UTF-8 or an entry that is damaged")
                elif name not in ("", ".", "..") and "/" not in name:
                    found.add(name)
        except OSError as error:
            self._note(f"{path}: cannot be listed: {_in_short(error)}")
        return tuple(sorted(found))

    def lstat(self, path: str) -> Stat:
        return self._at_itself(path).stat

    def readlink(self, path: str) -> str:
        entry = self._at_itself(path)
        if entry.target is None:
            raise FileNotFoundError(path)
        return entry.target

    def inode_of(self, path: str) -> tuple[PartitionFile, int] | None:
        """The file system that a path leads into, and the number of its inode there; None where there is no such thing."""
        parts = self._resolved(path)
        entry = None if parts is None else self._entry(parts)
        return None if entry is None else entry.inode

    def _note(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_AT_MOST and problem not in self.problems:
            self.problems.append(problem)

    def _file(self, path: str) -> Entry:
        parts = self._resolved(path)
        entry = None if parts is None else self._entry(parts)
        if entry is None or entry.stat.type is not FileType.FILE:
            raise FileNotFoundError(path)
        return entry

    def _at_itself(self, path: str) -> Entry:
        parts = self._resolved(path, follow_last=False)
        entry = None if parts is None else self._entry(parts)
        if entry is None:
            raise FileNotFoundError(path)
        return entry

    def _bytes(self, path: str, entry: Entry, length: int, offset: int) -> bytes:
        pieces, end = [], offset + length
        try:
            while offset < end:
                piece = entry.handle.read_buffer_at_offset(min(_PIECE, end - offset), offset)
                if not piece:
                    self._note(f"{path}: ends before its size")
                    break
                pieces.append(piece)
                offset += len(piece)
        except OSError as error:
            self._note(f"{path}: cannot be read: {_in_short(error)}")
            raise FileNotFoundError(path) from error
        return b"".join(pieces)

    def _mount_of(self, parts: tuple[str, ...]) -> tuple[Volume, tuple[str, ...]]:
        for length in range(len(parts), -1, -1):
            volume = self._mounts.get(parts[:length])
            if volume is not None:
                return volume, parts[length:]
        raise AssertionError("the root is always mounted")

    def _entry(self, parts: tuple[str, ...]) -> Entry | None:
        """What stands at resolved parts; damage counts as nothing."""
        if parts in self._entries:
            self._entries.move_to_end(parts)
            return self._entries[parts]
        volume, below = self._mount_of(parts)
        try:
            entry = volume.find(below)
        except ValueError:  # not UTF-8, or with a NUL inside: no name that these readers could find
            entry = None
        except OSError as error:
            self._note(f"/{'/'.join(parts)}: cannot be read: {_in_short(error)}")
            entry = None
        self._entries[parts] = entry
        if len(self._entries) > self._ENTRIES_AT_MOST:
            self._entries.popitem(last=False)
        return entry

    def _resolved(self, path: str, *, follow_last: bool = True) -> tuple[str, ...] | None:
        """The path's parts with every link followed; None when it leads nowhere."""
        todo, at, links = list(reversed(_plain_parts(path))), tuple[str, ...](), 0
        while todo:
            part = todo.pop()
            if part == "..":
                at = at[:-1]
                continue
            above = self._entry(at)
            if above is None or above.stat.type is not FileType.DIRECTORY or len(at) > PATH_PARTS_AT_MOST:
                return None
            entry = self._entry((*at, part))
            if entry is None:
                return None
            if entry.target is None or (not todo and not follow_last):
                at = (*at, part)
                continue
            links += 1
            if links > LINKS_AT_MOST:
                return None
            todo.extend(reversed(_plain_parts(entry.target)))
            at = () if entry.target.startswith("/") else at
        return at


def _plain_parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))
