"""Looks for the files that the default boot entry starts with: kernel, initramfs, first program. To be used inside ``confined``.

Sources: Documentation/arch/x86/boot.rst ("setup_sects", "syssize"), init/main.c (which first programs a kernel tries),
systemd's and initramfs-tools' own places of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from drivers.facts import BootEntry, BootLoader
from drivers.linux.paths import resolve
from drivers.start_files import StartFile, StartRole
from drivers.tree import FileType, GuestTree
from p2v.core.units import KIB

ENTRIES_AT_MOST = 8
FILES_AT_MOST = 64
# in the order in which kernels, systemd's initramfs and initramfs-tools try them
FIRST_PROGRAMS = ("/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init")

_INIT = re.compile(r"(?<!\S)init=(\S+)")
_SCRIPT_BYTES_AT_MOST = 64 * KIB
_EXECUTABLE = 0o111
# "exec 2>/dev/console" and the like only move files
_HANDS_OVER = re.compile(rb"\bexec[a-z]*[ \t(]+(?![0-9]*[<>&])\S|\bswitch_root\b|\bpivot_root\b|\brun-init\b")
_SETUP_SECTORS, _SYSSIZE, _MAGIC, _VERSION = 0x1F1, 0x1F4, 0x202, 0x206
_FIRST_WITH_LONG_SYSSIZE = 0x0204
# the last paragraph may be cut, and a checksum left out
_SLACK_BYTES = 4 * KIB


def read_start_files(tree: GuestTree, loader: BootLoader) -> tuple[StartFile, ...]:
    """The files of what starts when nobody chooses, each once, whether they are there or not."""
    found: dict[tuple[StartRole, str], StartFile] = {}
    for entry in loader.starting[:ENTRIES_AT_MOST]:
        for role, path in _wanted(entry):
            if path and len(found) < FILES_AT_MOST:
                found.setdefault((role, path), _looked_for(tree, role, path))
    if loader.starting:
        # an initramfs may go on with it where what an entry names is not there
        known = next((path for path in FIRST_PROGRAMS if resolve(tree, path) is not None), FIRST_PROGRAMS[0])
        found.setdefault((StartRole.INIT, known), _looked_for(tree, StartRole.INIT, known))
    return tuple(found.values())


def first_program(entry: BootEntry) -> str:
    """The first program that an entry's arguments name; the kernel takes the last. Empty where they name none."""
    named = _INIT.findall(entry.arguments)
    return str(named[-1]) if named else ""


def _wanted(entry: BootEntry) -> Iterator[tuple[StartRole, str]]:
    yield StartRole.KERNEL, entry.kernel
    yield from ((StartRole.INITRAMFS, path) for path in entry.initramfs)
    yield StartRole.INIT, first_program(entry)


def _looked_for(tree: GuestTree, role: StartRole, path: str) -> StartFile:
    resolved = resolve(tree, path)
    if resolved is None:
        return StartFile(role, path)
    stat = tree.lstat(resolved)
    if stat.type is not FileType.FILE:
        return StartFile(role, path, resolved, problem="is no regular file")
    if stat.size == 0:
        return StartFile(role, path, resolved, problem="is empty")
    if role is StartRole.KERNEL:
        return StartFile(role, path, resolved, stat.size, _kernel_problem(tree, resolved, stat.size))
    if role is StartRole.INIT:
        problem = "" if stat.mode & _EXECUTABLE else "is not executable"
        kind, hands_over = _program(tree, resolved, stat.size)
        return StartFile(role, path, resolved, stat.size, problem, kind, hands_over)
    return StartFile(role, path, resolved, stat.size)


def _kernel_problem(tree: GuestTree, path: str, size: int) -> str:
    """Whether a kernel for the PC is shorter than its own header says; other kernels say nothing of the kind."""
    head = tree.read_range(path, _VERSION + 2, 0)
    if len(head) < _VERSION + 2 or head[_MAGIC : _MAGIC + 4] != b"HdrS":
        return ""
    (version,) = struct.unpack_from("<H", head, _VERSION)
    (paragraphs,) = struct.unpack_from("<I", head, _SYSSIZE)
    # 0 stands for 4
    wanted = ((head[_SETUP_SECTORS] or 4) + 1) * 512 + paragraphs * 16
    if version < _FIRST_WITH_LONG_SYSSIZE or size + _SLACK_BYTES >= wanted:
        return ""
    return f"is cut short: its header tells of {wanted} bytes, and it has {size}"


def _program(tree: GuestTree, path: str, size: int) -> tuple[str, bool]:
    head = tree.read_range(path, min(size, _SCRIPT_BYTES_AT_MOST), 0)
    if head[:4] == b"\x7fELF":
        return "elf", False
    if head[:2] != b"#!":
        return "other", False
    # of one that is longer than any such script nothing is claimed
    return "script", size > _SCRIPT_BYTES_AT_MOST or _HANDS_OVER.search(head) is not None
