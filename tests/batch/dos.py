"""Tiny machines that are converted for real in a second, without an appliance: DOS is not rewritten."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

from p2v.core.units import MIB, SECTOR_BYTES

_START_SECTOR = 64
_FILES = {"KERNEL.SYS": b"kernel", "COMMAND.COM": b"shell", "FDCONFIG.SYS": b"FILES=40\r\n", "AUTOEXEC.BAT": b"@echo off\r\n"}


def dos_disk(path: Path, words: bytes = b"", size: int = 8 * MIB) -> Path:
    """A raw disk with a DOS that was never there; ``words``: what its only document holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sector = bytearray(SECTOR_BYTES)
    sector[:2] = b"\xeb\xfe"  # boot code: it waits
    sectors = size // SECTOR_BYTES - _START_SECTOR
    sector[446:462] = struct.pack("<B3xB3xII", 0x80, 0x06, _START_SECTOR, sectors)
    sector[510:] = b"\x55\xaa"
    path.write_bytes(sector.ljust(_START_SECTOR * SECTOR_BYTES, b"\0"))
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume"
        made = ["mkfs.fat", "-C", str(volume), str(sectors // 2)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        for name, content in {**_FILES, "README.TXT": words or path.name.encode()}.items():
            subprocess.run(["mcopy", "-i", volume, "-", f"::{name}"], input=content, check=True)
        with path.open("ab") as file:
            file.write(volume.read_bytes())
            file.truncate(size)
    return path
