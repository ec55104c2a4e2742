"""Disks as Windows' logical disk manager leaves them: table, private header, database header. No volumes are in it."""

from __future__ import annotations

import struct
from pathlib import Path

MIB = 1024 * 1024
SECTOR = 512
GROUP = "22222222-0000-0000-0000-000000000001"
DISK_BYTES = 8 * MIB


def dynamic_disk(path: Path, *, number: int = 1, disks: int = 1, region: tuple[int, int] | None = None) -> Path:
    """A disk of 8 MiB with an MBR whose one partition is dynamic; ``region``: the private one's first sector and sectors."""
    path.write_bytes(bytes(DISK_BYTES))
    table = bytearray(SECTOR)
    table[440:444] = struct.pack("<I", 0x1000 + number)
    table[446:462] = struct.pack("<B3sB3sII", 0, b"", 0x42, b"", 2048, DISK_BYTES // SECTOR - 4096)
    table[510:] = b"\x55\xaa"
    with path.open("r+b") as file:
        file.write(table)
    put_database(path, header_at=6 * SECTOR, region_at=DISK_BYTES - MIB, number=number, disks=disks, region=region)
    return path


def put_database(
    path: Path, *, header_at: int, region_at: int, number: int = 1, disks: int = 1, region: tuple[int, int] | None = None
) -> None:
    """The private header at a place, and the database in its region of 1 MiB."""
    header = bytearray(SECTOR)
    header[:8] = b"PRIVHEAD"
    for at, guid in ((0x30, f"11111111-0000-0000-0000-{number:012d}"), (0xB0, GROUP)):
        header[at : at + len(guid)] = guid.upper().encode()
    struct.pack_into(">QQ", header, 0x12B, *(region or (region_at // SECTOR, MIB // SECTOR)))
    database = bytearray(SECTOR)
    struct.pack_into(">4sIIIHHH", database, 0, b"VMDB", 5, 128, 512, 1, 4, 10)
    struct.pack_into(">IIII", database, 0x85, 1, 1, 1, disks)
    with path.open("r+b") as file:
        file.seek(region_at + 17 * SECTOR)
        file.write(database)
        file.seek(header_at)
        file.write(header)
