"""Headers of the formats that QEMU reads for us: qcow version 1, QED, Parallels. Only what is judged before QEMU.

Sources: QEMU, block/qcow.c (qcow 1 has no other specification), docs/interop/qed_spec.txt, docs/interop/parallels.txt;
names as there. Behaviour is in ``qemu_reader.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

QCOW1_MAGIC = b"QFI\xfb\x00\x00\x00\x01"
QED_MAGIC = b"QED\0"
PARALLELS_MAGIC = b"WithoutFreeSpace"
PARALLELS_EXT_MAGIC = b"WithouFreSpacExt"

QED_F_BACKING_FILE = 1 << 0
QED_F_NEED_CHECK = 1 << 1
PARALLELS_IN_USE = 0x746F6E59

HEADER_BYTES = 64

_QCOW1 = struct.Struct(">8sQIIQBBHIQ")
_QED = struct.Struct("<4sIIIQQQQQII")
_PARALLELS = struct.Struct("<16sIIIIIQII")


@dataclass(frozen=True, slots=True)
class Qcow1Header:
    """Big-endian, 48 bytes; ``size`` in bytes."""

    backing_file_offset: int
    size: int
    cluster_bits: int
    crypt_method: int


@dataclass(frozen=True, slots=True)
class QedHeader:
    """Little-endian, 64 bytes; ``image_size`` in bytes."""

    cluster_size: int
    features: int
    image_size: int


@dataclass(frozen=True, slots=True)
class ParallelsHeader:
    """Little-endian, 64 bytes. ``tracks`` are the sectors of a cluster."""

    magic: bytes
    version: int
    tracks: int
    bat_entries: int
    nb_sectors: int
    in_use: int


def unpack_qcow1(raw: bytes) -> Qcow1Header:
    """Raises ValueError when ``raw`` is too short."""
    if len(raw) < _QCOW1.size:
        raise ValueError("qcow header is cut short")
    _, backing, _, _, size, cluster_bits, _, _, crypt, _ = _QCOW1.unpack_from(raw)
    return Qcow1Header(backing, size, cluster_bits, crypt)


def unpack_qed(raw: bytes) -> QedHeader:
    """Raises ValueError when ``raw`` is too short."""
    if len(raw) < _QED.size:
        raise ValueError("QED header is cut short")
    _, cluster_size, _, _, features, _, _, _, image_size, _, _ = _QED.unpack_from(raw)
    return QedHeader(cluster_size, features, image_size)


def unpack_parallels(raw: bytes) -> ParallelsHeader:
    """Raises ValueError when ``raw`` is too short."""
    if len(raw) < _PARALLELS.size:
        raise ValueError("Parallels header is cut short")
    magic, version, _, _, tracks, entries, sectors, in_use, _ = _PARALLELS.unpack_from(raw)
    return ParallelsHeader(magic, version, tracks, entries, sectors, in_use)
