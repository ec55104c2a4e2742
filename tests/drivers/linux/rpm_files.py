"""Parts of rpm databases, made by hand after their descriptions."""

from __future__ import annotations

import struct
import zlib

NAMES = ("open-vm-tools", "qemu-guest-agent", "bash")


def header(name: str, before: int = 3) -> bytes:
    """A package's header as a database keeps it: without the magic, the name somewhere in it."""
    store = b"x" * 40 + name.encode() + b"\0" + b"1.0\0"
    entries = [struct.pack(">IIII", 61 + n, 7, 0, 16) for n in range(before)]
    entries += [struct.pack(">IIII", 1000, 6, 40, 1), struct.pack(">IIII", 1001, 6, 41 + len(name), 1)]
    return struct.pack(">II", len(entries), len(store)) + b"".join(entries) + store


def ndb(names: tuple[str, ...] = NAMES, *, before: int = 3) -> bytes:
    """Made by hand after the description in rpm's rpmpkg.c: Debian's rpm writes no ndb."""
    slots, blobs = b"", b""
    for index, name in enumerate(names, 1):
        data = header(name, before)
        blob = struct.pack("<4sIII", b"BlbS", index, 1, len(data)) + data
        blob += bytes(-(len(blob) + 12) % 16)
        blob += struct.pack("<II4s", zlib.adler32(blob), len(data), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", index, (4096 + len(blobs)) // 16, len(blob) // 16)
        blobs += blob
    return (struct.pack("<4sIIIIIII", b"RpmP", 0, 1, 1, len(names) + 1, 0, 0, 0) + slots).ljust(4096, b"\0") + blobs
