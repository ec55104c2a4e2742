"""Volumes as BitLocker leaves them, as far as their unencrypted parts go. What is encrypted is noise."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

KIB, MIB = 1024, 1024 * 1024
SIGNATURE = b"-FVE-FS-"
IDENTIFIER = uuid.UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001")
USED_SPACE_ONLY = uuid.UUID("92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8")
CLEAR, TPM, STARTUP_KEY, TPM_PIN, RECOVERY, PASSWORD = 0x0000, 0x0100, 0x0200, 0x0500, 0x0800, 0x2000
BLOCKS = (1 * MIB, 2 * MIB, 3 * MIB)
VOLUME_BYTES = 4 * MIB
_CLUSTER_SECTORS = 8


def metadata(protectors: Sequence[int], *, current: int = 4, following: int = 4, version: int = 2) -> bytes:
    """A metadata block: both headers, a description, one key for each protector, the volume's own key."""
    entries = _entry(0x0007, 0x0002, "WEB01 C: 1/1/2024\0".encode("utf-16-le"))
    for number, kind in enumerate(protectors):
        inner = _entry(0, 0x0005, bytes(60))
        entries += _entry(0x0002, 0x0008, uuid.UUID(int=number + 1).bytes_le + bytes(8) + struct.pack("<HH", 0, kind) + inner)
    entries += _entry(0x0003, 0x0005, bytes(44))
    size = 48 + len(entries)
    header = struct.pack("<IIII16sIIQ", size, 1, 48, size, uuid.UUID(int=7).bytes_le, 9, 0x8004, 0)
    last = 2 if version == 1 else 8 * KIB
    block = struct.pack(
        "<8sHHHHQII3QQ", SIGNATURE, 4, version, current, following, VOLUME_BYTES, 0, 16, *BLOCKS, last
    )
    return block + header + entries


def _entry(kind: int, value: int, data: bytes) -> bytes:
    return struct.pack("<HHHH", 8 + len(data), kind, value, 1) + data


def volume(block: bytes, *, identifier: uuid.UUID = IDENTIFIER, to_go: bool = False, vista: bool = False) -> bytearray:
    """A volume with that metadata block three times."""
    raw = bytearray(VOLUME_BYTES)
    raw[:3] = b"\xeb\x52\x90" if vista else b"\xeb\x58\x90"
    raw[3:11] = b"MSWIN4.1" if to_go else SIGNATURE
    struct.pack_into("<HB", raw, 11, 512, _CLUSTER_SECTORS)
    if vista:
        struct.pack_into("<Q", raw, 56, BLOCKS[0] // (512 * _CLUSTER_SECTORS))
    else:
        at = 424 if to_go else 160
        raw[at : at + 16] = identifier.bytes_le
        struct.pack_into("<3Q", raw, at + 16, *BLOCKS)
    raw[510:512] = b"\x55\xaa"
    for at in BLOCKS:
        raw[at : at + len(block)] = block
    return raw
