"""Metadata of arrays that firmware or a controller puts together, at the places where each maker keeps it.

Signatures and places are those that util-linux's libblkid documents in its probes (isw_raid, ddf_raid, lsi_raid, adaptec_raid,
highpoint_raid, promise_raid, silicon_raid, nvidia_raid, jmicron_raid, via_raid); of Intel's anchor also mdadm's super-intel. Most
stand in the last sectors, where an operating system never writes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from drivers.sights.edges import Edges
from drivers.sights.values import RaidMark
from p2v.core.text import printable
from p2v.core.units import KIB, SECTOR_BYTES

SMALLEST_MEMBER = 64 * KIB

_INTEL = b"Intel Raid ISM Cfg Sig. "
_DDF = (b"\xde\x11\xde\x11", b"\x11\xde\x11\xde")
_DDF_FROM_END = (1, 257)
_DDF_REVISION = re.compile(rb"[0-9]{2}\.[0-9]{2}\.[0-9]{2}")
_LSI = b"$XIDE$"
_ADAPTEC, _ADAPTEC_SIGNATURE = b"\x37\xfc\x4d\x1e", b"DPTM"
_ADAPTEC_SIGNATURE_AT = 256
_HIGHPOINT_37X_AT = 9 * SECTOR_BYTES + 32
_HIGHPOINT_37X = (0x5A7816F0, 0x5A7816FD)
_HIGHPOINT_45X_FROM_END = 11
_HIGHPOINT_45X = (0x5A7816F3, 0x5A7816FD)
_PROMISE = b"Promise Technology, Inc."
_PROMISE_FROM_END = (16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991, 3087)
_SILICON_AT, _SILICON, _SILICON_DISK_AT, _SILICON_SUM_AT = 0x60, 0x2F000000, 0x116, 0x13E
_SILICON_DISKS = 8
_NVIDIA = b"NVIDIA"
_JMICRON, _JMICRON_BYTES, _JMICRON_LEVEL_AT, _JMICRON_LEVELS = b"JM", 128, 0x30, 6
_VIA, _VIA_SUM_AT, _VIA_VERSIONS = b"\x55\xaa", 50, 3


def look_for_raids(disk: Edges) -> tuple[RaidMark, ...]:
    """What is there, each maker's once."""
    if disk.virtual_size < SMALLEST_MEMBER:
        return ()
    return tuple(mark for probe in _PROBES for mark in _first(probe(disk)))


def _first(marks: Iterator[RaidMark]) -> Iterator[RaidMark]:
    mark = next(marks, None)
    if mark is not None:
        yield mark


def _from_end(disk: Edges, sectors: int) -> tuple[int, bytes]:
    """The place of a sector counted from the end, 1 being the last, and its bytes."""
    at = (disk.virtual_size // SECTOR_BYTES - sectors) * SECTOR_BYTES
    return at, disk.exactly(SECTOR_BYTES, at)


def _text(raw: bytes) -> str:
    return printable(raw.split(b"\0")[0].decode("ascii", "replace").strip(), keep="")


def _intel(disk: Edges) -> Iterator[RaidMark]:
    # in the last sector but one, whatever a sector's size is
    for sector_bytes in (512, 4096):
        at = (disk.virtual_size // sector_bytes - 2) * sector_bytes
        raw = disk.exactly(SECTOR_BYTES, at)
        if raw.startswith(_INTEL):
            disks, volumes = raw[56], raw[57]
            yield RaidMark("Intel", at, f"version {_text(raw[24:32])}, {disks} disks, {volumes} volumes")


def _ddf(disk: Edges) -> Iterator[RaidMark]:
    for sectors in _DDF_FROM_END:
        at, raw = _from_end(disk, sectors)
        if raw[:4] in _DDF and _DDF_REVISION.match(raw, 32):
            yield RaidMark("DDF", at, f"revision {_text(raw[32:40])}, header of {_text(raw[8:16]) or 'no name'}")


def _lsi(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 1)
    if raw.startswith(_LSI):
        yield RaidMark("LSI MegaRAID", at)


def _adaptec(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 1)
    if raw.startswith(_ADAPTEC) and raw[_ADAPTEC_SIGNATURE_AT:].startswith(_ADAPTEC_SIGNATURE):
        yield RaidMark("Adaptec", at)


def _highpoint(disk: Edges) -> Iterator[RaidMark]:
    if struct.unpack("<I", disk.exactly(4, _HIGHPOINT_37X_AT))[0] in _HIGHPOINT_37X:
        yield RaidMark("HighPoint", _HIGHPOINT_37X_AT, "HPT37x")
    at, raw = _from_end(disk, _HIGHPOINT_45X_FROM_END)
    if struct.unpack_from("<I", raw)[0] in _HIGHPOINT_45X:
        yield RaidMark("HighPoint", at, "HPT45x")


def _promise(disk: Edges) -> Iterator[RaidMark]:
    for sectors in _PROMISE_FROM_END:
        at = (disk.virtual_size // SECTOR_BYTES - sectors) * SECTOR_BYTES
        if at >= 0 and disk.pread(len(_PROMISE), at) == _PROMISE:
            yield RaidMark("Promise FastTrak", at)


def _silicon_image(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 1)
    if struct.unpack_from("<I", raw, _SILICON_AT)[0] != _SILICON or raw[_SILICON_DISK_AT] >= _SILICON_DISKS:
        return
    words = struct.unpack_from(f"<{_SILICON_SUM_AT // 2}H", raw)
    if -sum(words) & 0xFFFF == struct.unpack_from("<H", raw, _SILICON_SUM_AT)[0]:
        yield RaidMark("Silicon Image", at)


def _nvidia(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 2)
    if raw.startswith(_NVIDIA):
        yield RaidMark("NVIDIA", at, f"version {struct.unpack_from('<H', raw, 16)[0]}")


def _jmicron(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 1)
    words = struct.unpack_from(f"<{_JMICRON_BYTES // 2}H", raw)
    if raw.startswith(_JMICRON) and sum(words) & 0xFFFF in (0, 1) and raw[_JMICRON_LEVEL_AT] < _JMICRON_LEVELS:
        yield RaidMark("JMicron", at)


def _via(disk: Edges) -> Iterator[RaidMark]:
    at, raw = _from_end(disk, 1)
    is_signed = raw.startswith(_VIA) and raw[2] < _VIA_VERSIONS and any(raw[3:_VIA_SUM_AT])
    # the signature is a boot sector's last word as well, so the sum has to hold
    if is_signed and sum(raw[:_VIA_SUM_AT]) & 0xFF == raw[_VIA_SUM_AT]:
        yield RaidMark("VIA", at)


_PROBES: tuple[Callable[[Edges], Iterator[RaidMark]], ...] = (
    _intel, _ddf, _lsi, _adaptec, _highpoint, _promise, _silicon_image, _nvidia, _jmicron, _via,
)  # fmt: skip
