"""The list of system calls that a confined child may make, as a seccomp filter without any library.

What is not on the list fails with EPERM: no open, no socket, no fork, no exec, no ioctl. On a machine whose call
numbers are not known here there is no filter; the other guards of ``drivers.confinement`` remain.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

# linux/audit.h
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# (name, number on x86_64, number on aarch64); None: the machine does not have it
_ALLOWED: tuple[tuple[str, int | None, int | None], ...] = (
    ("read", 0, 63),
    ("write", 1, 64),
    ("close", 3, 57),
    ("fstat", 5, 80),
    # the C library's fstat; it reaches names too, which tells that a file exists and no more
    ("newfstatat", 262, 79),
    ("poll", 7, None),
    ("ppoll", 271, 73),
    ("lseek", 8, 62),
    ("pread64", 17, 67),
    ("readv", 19, 65),
    ("preadv", 295, 69),
    ("fadvise64", 221, 223),
    ("mmap", 9, 222),
    ("mprotect", 10, 226),
    ("munmap", 11, 215),
    ("mremap", 25, 216),
    ("brk", 12, 214),
    ("madvise", 28, 233),
    ("membarrier", 324, 283),
    ("rt_sigaction", 13, 134),
    ("rt_sigprocmask", 14, 135),
    ("rt_sigreturn", 15, 139),
    ("sigaltstack", 131, 132),
    ("futex", 202, 98),
    ("set_robust_list", 273, 99),
    ("rseq", 334, 293),
    ("restart_syscall", 219, 128),
    ("sched_yield", 24, 124),
    ("sched_getaffinity", 204, 123),
    ("nanosleep", 35, 101),
    ("clock_nanosleep", 230, 115),
    ("clock_gettime", 228, 113),
    ("gettimeofday", 96, 169),
    ("time", 201, None),
    ("getrusage", 98, 165),
    ("getrandom", 318, 278),
    ("getpid", 39, 172),
    ("gettid", 186, 178),
    ("getppid", 110, 173),
    ("getuid", 102, 174),
    ("geteuid", 107, 175),
    ("getgid", 104, 176),
    ("getegid", 108, 177),
    ("exit", 60, 93),
    ("exit_group", 231, 94),
)
# abort() must work, so that a failed assertion is told apart; other processes of the same user are out of reach
_ONLY_ITSELF = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill

_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_OF_NUMBER, _OFFSET_OF_ARCH, _OFFSET_OF_FIRST_ARGUMENT = 0, 4, 16
_ALLOW = 0x7FFF0000
_FAIL_WITH_EPERM = 0x00050000 | errno.EPERM
_KILL_PROCESS = 0x80000000


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _program(machine: str, pid: int) -> bytes:
    column = 1 if machine == "x86_64" else 2
    kill, tgkill = _ONLY_ITSELF[machine]
    code = [
        _instruction(_LOAD_WORD, _OFFSET_OF_ARCH),
        _instruction(_JUMP_IF_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_OF_NUMBER),
    ]
    for row in _ALLOWED:
        number = row[column]
        if isinstance(number, int):
            code += [_instruction(_JUMP_IF_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    code += [
        _instruction(_JUMP_IF_EQUAL, kill, 1, 0),
        _instruction(_JUMP_IF_EQUAL, tgkill, 0, 3),
        _instruction(_LOAD_WORD, _OFFSET_OF_FIRST_ARGUMENT),
        _instruction(_JUMP_IF_EQUAL, pid, 0, 1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _FAIL_WITH_EPERM),
    ]
    return b"".join(code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def filter_system_calls(libc: ctypes.CDLL) -> bool:
    """Put the filter on this process for good; False where this machine or kernel has none.

    The process must have set PR_SET_NO_NEW_PRIVS.
    """
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH or struct.calcsize("P") != 8:
        return False
    code = _program(machine, os.getpid())
    program = _Program(len(code) // 8, code)
    done = libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), ctypes.c_ulong(0))
    return int(done) == 0
