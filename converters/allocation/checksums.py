"""Checksums of file systems' own structures."""

from __future__ import annotations

import google_crc32c

_ALL = 0xFFFFFFFF
_CRC16_POLYNOMIAL = 0xA001


def crc32c(data: bytes) -> int:
    """CRC-32C as XFS and iSCSI have it: begun with all ones, inverted at the end."""
    return int(google_crc32c.value(data))


def crc32c_raw(seed: int, data: bytes) -> int:
    """CRC-32C as the kernel's ``crc32c`` goes on with it: no inversion at either end (ext4, Btrfs)."""
    return int(google_crc32c.extend(seed ^ _ALL, data)) ^ _ALL


def _crc16_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CRC16_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(seed: int, data: bytes) -> int:
    """CRC-16 (ANSI, reflected), as the kernel's ``crc16``: group descriptors before ``metadata_csum``."""
    for byte in data:
        seed = seed >> 8 ^ _CRC16[(seed ^ byte) & 0xFF]
    return seed
