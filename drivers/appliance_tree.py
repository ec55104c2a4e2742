"""A guest's mounted file systems in the appliance as one tree, to read and to write.

libguestfs resolves paths in a chroot of the guest's root, so links never lead out of it. It takes and gives names as
UTF-8 only: other names are listed (with surrogateescape), but what stands behind them is "not there".
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from drivers.appliance import Appliance
from drivers.appliance_values import ApplianceFailed
from drivers.tree import FileType, Stat
from drivers.writable import GuestFull, Space
from p2v.core.units import MIB

# libguestfs' messages have at most 4 MiB, everything around the data included.
_CHUNK_BYTES = 2 * MIB
_SELINUX = "security.selinux"
# libguestfs' Python module does not hand out errno; the appliance speaks English whatever the host does.
_NOT_THERE = ("No such file or directory", "Not a directory", "Too many levels of symbolic links")
_NO_LINK = (*_NOT_THERE, "Invalid argument")
_NO_ATTRIBUTE = ("No data available", "Operation not supported")
_FULL = ("No space left on device", "Disk quota exceeded")
_NO_INODE_COUNT = 0
_ALL_CACHES = 3


@dataclass(frozen=True, slots=True)
class ApplianceTree:
    """Implements ``drivers.tree.GuestTree`` over what is mounted in an appliance."""

    appliance: Appliance

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        """See ``GuestTree.read``."""
        size = self._file_size(path)
        if size > limit:
            raise ValueError(f"{path}: {size} bytes, at most {limit} are read")
        return self._read(path, size, 0)

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        """See ``GuestTree.read_range``."""
        return self._read(path, min(length, max(0, self._file_size(path) - offset)), offset)

    def exists(self, path: str) -> bool:
        """See ``GuestTree.exists``."""
        # libguestfs' own `exists` says yes to a link that leads nowhere
        try:
            self._call_at(path, "statns")
        except FileNotFoundError:
            return False
        return True

    def list(self, path: str) -> tuple[str, ...]:
        """See ``GuestTree.list``."""
        # into a file, because as a list libguestfs' Python module refuses names that are no UTF-8
        with os.fdopen(os.memfd_create("names"), "rb") as names:
            try:
                self._call_at(path, "ls0", f"/proc/self/fd/{names.fileno()}")
            except FileNotFoundError:
                return ()
            names.seek(0)
            return tuple(sorted(os.fsdecode(name) for name in names.read().split(b"\0") if name))

    def lstat(self, path: str) -> Stat:
        """See ``GuestTree.lstat``."""
        found = self._call_at(path, "lstatns")
        mode = int(found["st_mode"])
        return Stat(_type_of(mode), found["st_size"], stat.S_IMODE(mode), found["st_uid"], found["st_gid"])

    def readlink(self, path: str) -> str:
        """See ``GuestTree.readlink``."""
        return str(self._call_at(path, "readlink", absent=_NO_LINK))

    def _file_size(self, path: str) -> int:
        found = self._call_at(path, "statns")
        if not stat.S_ISREG(found["st_mode"]):
            raise FileNotFoundError(path)  # reading a FIFO would wait for ever
        return int(found["st_size"])

    def _read(self, path: str, length: int, offset: int) -> bytes:
        parts = []
        while length > 0:
            part: bytes = self.appliance.call("pread", path, min(length, _CHUNK_BYTES), offset)
            if not part:
                break
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return b"".join(parts)

    def _call_at(self, path: str, operation: str, *arguments: Any, absent: tuple[str, ...] = _NOT_THERE) -> Any:
        try:
            return self.appliance.call(operation, path, *arguments)
        except ApplianceFailed as error:
            if error.message.endswith(absent) or isinstance(error.__cause__, UnicodeError):
                raise FileNotFoundError(path) from error
            raise


@dataclass(frozen=True, slots=True)
class ApplianceGuest(ApplianceTree):
    """Implements ``drivers.writable.WritableGuest`` over what is mounted read-write in an appliance."""

    def write(self, path: str, data: bytes) -> None:
        """See ``WritableGuest.write``."""
        self._put(path, "write", data[:_CHUNK_BYTES])
        self.append(path, data[_CHUNK_BYTES:])

    def append(self, path: str, data: bytes) -> None:
        """See ``WritableGuest.append``."""
        for start in range(0, len(data), _CHUNK_BYTES):
            self._put(path, "write_append", data[start : start + _CHUNK_BYTES])

    def patch(self, path: str, data: bytes, offset: int) -> None:
        """See ``WritableGuest.patch``."""
        while data:
            try:
                # it may write less than it was given
                written = int(self.appliance.call("pwrite", path, data[:_CHUNK_BYTES], offset))
            except ApplianceFailed as error:
                self._raise_if_full(path, error, len(data))
                raise
            data, offset = data[written:], offset + written

    def patch_volume(self, path: str, data: bytes, offset: int) -> None:
        """See ``WritableGuest.patch_volume``."""
        holder = self._holder_of(path)
        device = next(device for device, point in self.appliance.call("mountpoints").items() if point == holder)
        while data:
            written = int(self.appliance.call("pwrite_device", device, data[:_CHUNK_BYTES], offset))
            data, offset = data[written:], offset + written
        # what a file of the file system's own showed of it before is kept by the kernel
        self.appliance.call("sync")
        self.appliance.call("drop_caches", _ALL_CACHES)

    def create(self, path: str, data: bytes, mode: int) -> None:
        """See ``WritableGuest.create``."""
        self.write(path, data)
        self.appliance.call("chown", 0, 0, path)
        self.appliance.call("chmod", mode, path)

    def make_folder(self, path: str, mode: int) -> None:
        """See ``WritableGuest.make_folder``."""
        self._put(path, "mkdir")
        self.appliance.call("chown", 0, 0, path)  # a parent with the set-group-id bit hands its group down
        self.appliance.call("chmod", mode, path)

    def make_symlink(self, path: str, target: str) -> None:
        """See ``WritableGuest.make_symlink``."""
        try:
            self.appliance.call("ln_s", target, path)
        except ApplianceFailed as error:
            self._raise_if_full(path, error, 0)
            raise

    def remove(self, path: str) -> None:
        """See ``WritableGuest.remove``."""
        self.appliance.call("rm", path)

    def label(self, path: str) -> bytes | None:
        """See ``WritableGuest.label``."""
        with suppress(FileNotFoundError):
            label: bytes = self._call_at(path, "lgetxattr", _SELINUX, absent=_NO_ATTRIBUTE)
            return label
        return None

    def set_label(self, path: str, label: bytes) -> None:
        """See ``WritableGuest.set_label``."""
        # The call takes text and a length; a label stored with its final NUL gets it from the text's own end.
        text = label.removesuffix(b"\0").decode("ascii")
        self.appliance.call("lsetxattr", _SELINUX, text, len(label), path)

    def space(self, path: str) -> Space:
        """See ``WritableGuest.space``."""
        mountpoint = self._holder_of(path)
        found = self.appliance.call("statvfs", mountpoint)
        inodes = None if found["files"] == _NO_INODE_COUNT else int(found["ffree"])
        return Space(mountpoint, found["bfree"] * found["frsize"], inodes)

    def _holder_of(self, path: str) -> str:
        """The mount point that a path is below."""
        holders = (m for m in self.appliance.mountpoints if m == "/" or path == m or path.startswith(m + "/"))
        return max(holders, key=len)

    def sync(self) -> None:
        """See ``WritableGuest.sync``."""
        self.appliance.call("sync")

    def _put(self, path: str, operation: str, *data: bytes) -> None:
        try:
            self.appliance.call(operation, path, *data)
        except ApplianceFailed as error:
            self._raise_if_full(path, error, sum(map(len, data)))
            raise

    def _raise_if_full(self, path: str, error: ApplianceFailed, needed: int) -> None:
        if error.message.endswith(_FULL):
            space = self.space(path)
            raise GuestFull(space.mountpoint, needed, space.free_bytes) from error


def _type_of(mode: int) -> FileType:
    if stat.S_ISREG(mode):
        return FileType.FILE
    if stat.S_ISDIR(mode):
        return FileType.DIRECTORY
    return FileType.SYMLINK if stat.S_ISLNK(mode) else FileType.OTHER
