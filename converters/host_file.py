"""Writing host files: whole writes, holes, locks held by others. OSErrors come out as the suite's errors."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.core.errors import NoSpace, TargetExists, Usage
from p2v.core.io_errors import close_written, read_problem, write_problem
from p2v.core.units import MIB

FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_ZEROES = bytes(MIB)
# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid, padding.
_FLOCK = struct.Struct("@hhqqi4x")
# QEMU locks bytes 100 to 299 of an open image, one for each permission (block/file-posix.c).
_QEMU_LOCK_START, _QEMU_LOCK_BYTES = 100, 200


def open_target_file(path: Path, *, resume: bool) -> int:
    """Open a target for writing: the existing file with ``resume``, otherwise an empty one.

    A disk holds keys and password hashes, so only the owner may read a new one. Symbolic links are not
    followed: the name is ours alone.

    Raises NotPermitted, NoSpace, ReadFailed; TargetExists when the name is taken by something that is no file.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if resume else os.O_CREAT)
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise TargetExists(path) from error
        raise write_problem(error, path) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise TargetExists(path)
        if not resume:
            resize(handle, path, 0)
    except BaseException:
        close_written(handle)
        raise
    return handle


def write_all(handle: int, path: Path, parts: Sequence[memoryview], offset: int) -> None:
    """Write ``parts`` one behind the other from ``offset`` on, all of them."""
    rest = list(parts)
    needed = sum(len(part) for part in rest)
    while rest:
        try:
            written = os.pwritev(handle, rest, offset)
        except OSError as error:
            raise write_problem(error, path, offset, needed) from error
        offset += written
        needed -= written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = rest[0][written:]


def resize(handle: int, path: Path, size: int) -> None:
    """Give the file exactly ``size`` bytes, new ones being a hole."""
    try:
        os.ftruncate(handle, size)
    except OSError as error:
        raise write_problem(error, path, size) from error


def file_size(handle: int, path: Path) -> int:
    """The file's size in bytes."""
    try:
        return os.fstat(handle).st_size
    except OSError as error:
        raise read_problem(error, path) from error


def sync_data(handle: int, path: Path) -> None:
    """Wait until the file's contents and size are on stable storage."""
    try:
        os.fdatasync(handle)
    except OSError as error:
        raise write_problem(error, path) from error


def make_zero(handle: int, path: Path, offset: int, length: int) -> None:
    """Make a range read as zero: a hole where the file system can, zeroes written over what is none elsewhere.

    What of the range lies behind the end of the file stays there.
    """
    length = min(offset + length, file_size(handle, path)) - offset
    if length <= 0 or punch_hole(handle, offset, length):
        return
    while length:
        count = min(length, len(_ZEROES))
        if read_part(handle, path, count, offset) != _ZEROES[:count]:
            write_all(handle, path, [memoryview(_ZEROES)[:count]], offset)
        offset += count
        length -= count


def read_part(handle: int, path: Path, length: int, offset: int) -> bytes:
    """What one read gives of ``length`` bytes at ``offset``; fewer where the file ends before. Raises ReadFailed."""
    try:
        return os.pread(handle, length, offset)
    except OSError as error:
        raise read_problem(error, path, offset) from error


def read_into(handle: int, path: Path, into: memoryview, offset: int) -> bool:
    """Fill ``into`` from ``offset`` on; False where the file ends before. Raises ReadFailed."""
    while into:
        try:
            count = os.preadv(handle, [into], offset)
        except OSError as error:
            raise read_problem(error, path, offset) from error
        if count == 0:
            return False
        into, offset = into[count:], offset + count
    return True


def stored_ranges(handle: int, path: Path) -> Iterator[tuple[int, int]]:
    """What of a file is no hole, as (offset, length); one range where its file system does not tell."""
    at = 0
    while True:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
            at = os.lseek(handle, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to its end
            raise read_problem(error, path, at) from error
        yield start, at - start


def fallocate(handle: int, mode: int, offset: int, length: int) -> int:
    """fallocate(2): 0, or the number of the error.

    Python has posix_fallocate only, which knows no modes, and writes where the file system cannot do it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.fallocate64 if hasattr(libc, "fallocate64") else libc.fallocate
    failed = call(handle, ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length)) != 0
    return ctypes.get_errno() if failed else 0


def punch_hole(handle: int, offset: int, length: int) -> bool:
    """Make a range of a file or block device read as zero and take no place; False where that cannot be done."""
    return fallocate(handle, _FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0


def reserve(handle: int, path: Path, length: int) -> None:
    """Have the file system set aside what the first ``length`` bytes of a file still need; what they read as stays.

    Raises NoSpace; Usage where the file system cannot do that.
    """
    free = os.fstatvfs(handle)
    missing = length - os.fstat(handle).st_blocks * 512
    # asked for too much, file systems take all they have before they say no, and everybody else is without
    if missing > free.f_bavail * free.f_frsize:
        raise NoSpace(path.parent, missing, free.f_bavail * free.f_frsize)
    while length and (code := fallocate(handle, 0, 0, length)):
        if code == errno.EINTR:
            continue
        if code in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise Usage(f"{path.parent}: its file system cannot reserve space", "Leave --preallocation falloc away.")
        raise write_problem(OSError(code, os.strerror(code)), path, 0, length)


def open_in_qemu(handle: int) -> bool:
    """Whether a QEMU program has the file open as an image (an orphaned ``qemu-img commit``, say)."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _QEMU_LOCK_START, _QEMU_LOCK_BYTES, 0)
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return False  # a file system without such locks: QEMU has none there either
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
