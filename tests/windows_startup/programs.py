"""PE files as a loader looks at them: is it one, and for which processor. Layout: Microsoft, "PE Format"."""

from __future__ import annotations

import struct

from tests.windows_startup.verdict import Reason, Stopped

I386, AMD64, ARM64 = 0x14C, 0x8664, 0xAA64
EFI_MACHINES = {"ia32": I386, "x64": AMD64, "aa64": ARM64}
NAMES = {I386: "x86", AMD64: "x64", ARM64: "ARM64"}


def machine_of(program: bytes) -> int | None:
    """The machine number of a PE file; None when it is none."""
    if len(program) < 64 or program[:2] != b"MZ":
        return None
    at = struct.unpack_from("<I", program, 60)[0]
    if at + 26 > len(program) or program[at : at + 4] != b"PE\0\0":
        return None
    machine, sections = struct.unpack_from("<HH", program, at + 4)
    magic = struct.unpack_from("<H", program, at + 24)[0]
    wide = magic == 0x20B
    known = machine in NAMES and magic in (0x10B, 0x20B) and wide == (machine != I386) and sections > 0
    return machine if known else None


def check(program: bytes, path: str, wanted: int) -> None:
    """Stop unless it is a program for that processor."""
    found = machine_of(program)
    if found != wanted:
        what = NAMES[found] if found else "no program"
        raise Stopped(Reason.WRONG_MACHINE, f"{path} is {what}, not {NAMES[wanted]}")
