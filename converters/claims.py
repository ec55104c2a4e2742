"""Disks opened for writing in place: only when nobody else has them open, and so that nobody else opens them meanwhile.

* Of a block device the kernel knows the users, and it is opened with O_EXCL, which the kernel refuses while it, or a partition
  of it, is mounted, used as swap or held by a volume.
* Of a file, a read lease says whether anybody has it open for writing, in whatever program; the kernel grants it to the file's
  owner only, so for others the open files of the processes are looked at as well. A loop device counts as such a program.
* QEMU's locks (bytes 100 to 299) are looked at, and held while we write: no QEMU opens the disk then.
* VMware leaves NAME.lck beside a disk that it uses.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from converters.host_file import open_in_qemu
from converters.storage import HostFile, StoredFile
from converters.undo_journal import JournalHeader
from p2v.core.block_devices import look_at, users_of
from p2v.core.errors import DiskInUse, NoSource, UsedSince
from p2v.core.io_errors import write_problem
from p2v.core.open_files import writers

_FLOCK = struct.Struct("@hhqqi4x")
_QEMU_LOCK_START, _QEMU_LOCK_BYTES = 100, 200


@contextmanager
def claimed(paths: Sequence[Path]) -> Iterator[tuple[HostFile, ...]]:
    """Open files and block devices for reading and writing, all or none.

    Raises DiskInUse, NoSource, NotPermitted, ReadFailed.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_claim(path)) for path in paths)


@contextmanager
def claimed_as(header: JournalHeader, *, force: bool = False) -> Iterator[Sequence[StoredFile]]:
    """The files a journal names, if they still are those files: of the same size, and the same inode or device.

    So a journal that somebody made elsewhere cannot name any file of this host. ``force``: another inode may have the name (a
    copy that was put back). Raises UsedSince, and what ``claimed`` raises.
    """
    with claimed([file.path for file in header.files]) as files:
        require_same(header, files, force=force)
        yield files


def require_same(header: JournalHeader, files: Sequence[HostFile], *, force: bool = False) -> None:
    """See ``claimed_as``, for files that are open already, in the header's order. Raises UsedSince."""
    for file, known in zip(files, header.files, strict=True):
        found = file.state()
        if found.is_block_device is not known.state.is_block_device:
            raise UsedSince(file.path, "a file stands where a device was, or the other way round")
        if found.size != known.state.size:
            raise UsedSince(file.path, f"it has {found.size} bytes and had {known.state.size}")
        if not force and (found.inode != known.state.inode or device_identity(file.path) != known.identity):
            raise UsedSince(file.path, "another file or device has its name now")


def device_identity(path: Path) -> str:
    """What tells a block device from others; empty for a file."""
    return look_at(path).identity if path.is_block_device() else ""


def _claim(path: Path) -> HostFile:
    is_device = _is_block_device(path)
    if is_device:
        users = users_of(look_at(path).number)
        if users:
            raise DiskInUse(path, "; ".join(users))
    else:
        _refuse_writers(path)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_EXCL if is_device else 0)
    try:
        file = HostFile(path, os.open(path, flags))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DiskInUse(path, "it, or a partition of it, is mounted, used as swap or part of a volume") from error
        raise write_problem(error, path) from error
    try:
        if is_device is not stat.S_ISBLK(os.fstat(file.handle).st_mode):
            raise NoSource(str(path), "became another kind of file while it was opened")
        _lock_out_qemu(file)
    except BaseException:
        file.close()
        raise
    return file


def _is_block_device(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise NoSource(str(path), "does not exist") from error
    except OSError as error:
        raise write_problem(error, path) from error
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise NoSource(str(path), "is no file or block device")
    return stat.S_ISBLK(mode)


def _refuse_writers(path: Path) -> None:
    lock = path.with_name(path.name + ".lck")
    if os.path.lexists(lock) and (not lock.is_dir() or any(lock.iterdir())):
        raise DiskInUse(path, f"VMware's lock {lock.name} is beside it")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise write_problem(error, path) from error
    try:
        if open_in_qemu(handle):
            raise DiskInUse(path, "a QEMU program has it open")
        writers = _writing_processes(os.fstat(handle))
        if writers or not _lease_granted(handle):
            raise DiskInUse(path, f"open for writing in {', '.join(writers) or 'another program, or as a loop device'}")
    finally:
        os.close(handle)


def _lease_granted(handle: int) -> bool:
    """False when somebody has the file open for writing; True also where the kernel grants us no leases at all."""
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _writing_processes(wanted: os.stat_result) -> list[str]:
    """Processes that have a file open for writing."""
    found = writers(lambda handle: os.path.samestat(os.stat(handle), wanted))
    return [f"{name or 'a program'} (process {number})" for number, name in found]


def _lock_out_qemu(file: HostFile) -> None:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _QEMU_LOCK_START, _QEMU_LOCK_BYTES, 0)
    try:
        fcntl.fcntl(file.handle, fcntl.F_OFD_SETLK, asked)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise DiskInUse(file.path, "a QEMU program has it open") from error
        # a file system without such locks: QEMU has none there either
