"""Tiny PE images: EFI programs and unified kernel images as far as their readers look."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping, Sequence

from drivers.linux.cpio import NewEntry, write_archive


def pe(sections: Mapping[str, bytes]) -> bytes:
    """A PE image with these sections, each padded to 512 bytes in the file."""
    head_bytes = 1024
    table, body = b"", b""
    for name, data in sections.items():
        padded = data + bytes(-len(data) % 512)
        table += struct.pack("<8sIIII16x", name.encode(), len(data), 0x1000, len(padded), head_bytes + len(body))
        body += padded
    dos = b"MZ" + bytes(58) + struct.pack("<I", 0x80)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0, 0, 0, 240, 0x22)
    head = dos + bytes(0x80 - len(dos)) + coff + bytes(240) + table
    return head + bytes(head_bytes - len(head)) + body


def initramfs(version: str, modules: Sequence[str], marker: str = "usr/lib/dracut/build") -> bytes:
    """An archive that holds these modules; ``marker`` is a file that tells what made it."""
    folder = f"usr/lib/modules/{version}/kernel"
    names = ["usr", "usr/lib", "usr/lib/modules", f"usr/lib/modules/{version}", folder]
    entries = [NewEntry("lib", stat.S_IFLNK | 0o777, b"usr/lib")]
    entries += [NewEntry(name, stat.S_IFDIR | 0o755) for name in names]
    entries += [NewEntry(f"{folder}/{module}.ko", stat.S_IFREG | 0o644, b"ELF") for module in modules]
    entries.append(NewEntry(marker, stat.S_IFREG | 0o644, b"x"))
    return write_archive(entries)


def unified(version: str, command_line: str, modules: Sequence[str] = (), release: str = "ID=debian\n") -> bytes:
    """A unified kernel image."""
    return pe({
        ".osrel": release.encode(),
        ".cmdline": command_line.encode() + b"\0",
        ".uname": version.encode(),
        ".linux": b"MZ kernel",
        ".initrd": initramfs(version, modules),
    })  # fmt: skip
