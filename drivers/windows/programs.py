"""Which processor a program of Windows' is made for, by its header (Microsoft, "PE Format")."""

from __future__ import annotations

import struct

_MACHINES = {0x014C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64", 0x01C0: "arm", 0x01C4: "arm", 0x0200: "ia64",
             0x0184: "alpha", 0x01F0: "ppc", 0x0166: "mips"}  # fmt: skip


def machine_of(head: bytes) -> str:
    """The architecture (as ``OperatingSystem.arch``) by a file's first bytes; empty when they are no program's."""
    (at,) = struct.unpack_from("<I", head.ljust(64, b"\0"), 60)
    if head[:2] == b"MZ" and head[at : at + 4] == b"PE\0\0" and at + 6 <= len(head):
        return _MACHINES.get(int.from_bytes(head[at + 4 : at + 6], "little"), "")
    return ""
