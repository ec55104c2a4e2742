"""What stands at a place of a disk: a file system, swap, a volume of LVM or MD, an encrypted container.

Recognised by signatures alone, in an order in which what wraps others comes first. ``why_not_host`` is set
wherever the host-side readers would give old contents or none.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable

from drivers import ext, ntfs, ufs, xfs
from drivers.bitlocker import read_bitlocker
from drivers.facts import FileSystem
from p2v.core import lvm, md
from p2v.core.disk import DiskReader
from p2v.core.units import KIB, MIB, SECTOR_BYTES

_NO_READER = "there is no host reader for it"
_WRAPPED = "it carries other volumes"

Probe = Callable[["Place"], "FileSystem | None"]


class Place:
    """A range of a disk; ``read`` is relative to it and never leaves it."""

    def __init__(self, reader: DiskReader, offset: int, length: int) -> None:
        self.reader = reader
        self.offset = offset
        self.length = max(0, min(length, reader.virtual_size - offset))

    def read(self, length: int, offset: int) -> bytes:
        """``length`` bytes at ``offset``; empty when they are not all inside."""
        if offset < 0 or offset + length > self.length:
            return b""
        return self.reader.pread(length, self.offset + offset)


def recognise(reader: DiskReader, offset: int, length: int) -> FileSystem:
    """What stands in ``length`` bytes at ``offset``: kind ``unknown`` when there is no known signature."""
    place = Place(reader, offset, length)
    for probe in _PROBES:
        found = probe(place)
        if found is not None:
            return found
    start = place.read(min(128 * KIB, place.length), 0)
    why = "its contents were not recognised" if any(start) else "it begins with nothing but zeroes"
    return FileSystem("unknown", size_bytes=place.length, why_not_host=why)


def _text(raw: bytes) -> str | None:
    return raw.split(b"\0")[0].decode("utf-8", "replace").rstrip() or None


def _luks(place: Place) -> FileSystem | None:
    raw = place.read(512, 0)
    if raw[:6] != b"LUKS\xba\xbe":
        return None
    version = struct.unpack_from(">H", raw, 6)[0]
    label = _text(raw[24:72]) if version == 2 else None
    return FileSystem("luks", _text(raw[168:208]), label, place.length, why_not_host="it is encrypted")


def _bitlocker(place: Place) -> FileSystem | None:
    found = read_bitlocker(place.read)
    if found is None:
        return None
    return FileSystem("bitlocker", size_bytes=place.length, why_not_host=str(found), bitlocker=found)


def _md(place: Place) -> FileSystem | None:
    """Member of a Linux RAID: the superblock is at the start (1.1, 1.2) or near the end (1.0, 0.90)."""
    for at in md.places(place.length):
        raw = place.read(256, at)
        if raw[:8] == b"\xfc\x4e\x2b\xa9\x01\0\0\0":
            name = _text(raw[32:64])
            return FileSystem("md", str(uuid.UUID(bytes=raw[16:32])), name, place.length, why_not_host=_WRAPPED)
    old = place.read(256, md.old_place(place.length))
    if old[:8] in (b"\xfc\x4e\x2b\xa9\0\0\0\0", b"\xa9\x2b\x4e\xfc\0\0\0\0"):
        words = old[20:24] + old[52:64]
        return FileSystem("md", str(uuid.UUID(bytes=words)), None, place.length, why_not_host=_WRAPPED)
    return None


def _lvm2(place: Place) -> FileSystem | None:
    raw = lvm.find_label(place.read)
    if raw is None:
        return None
    at = lvm.header_at(raw)
    name = raw[at : at + 32].decode("ascii", "replace")
    parts, start = [], 0
    for size in (6, 4, 4, 4, 4, 4, 6):
        parts.append(name[start : start + size])
        start += size
    return FileSystem("lvm2", "-".join(parts), None, place.length, why_not_host=_WRAPPED)


def _ntfs(place: Place) -> FileSystem | None:
    return ntfs.recognise(place.reader, place.offset, place.length)


def _xfs(place: Place) -> FileSystem | None:
    return xfs.recognise(place.reader, place.offset, place.length)


def _ext(place: Place) -> FileSystem | None:
    return ext.recognise(place.read(ext.SUPERBLOCK_BYTES, ext.SUPERBLOCK_OFFSET), place.length)


def _btrfs(place: Place) -> FileSystem | None:
    raw = place.read(4096, 64 * KIB)
    if raw[64:72] != b"_BHRfS_M":
        return None
    total, used = struct.unpack_from("<QQ", raw, 112)
    free = total - used if used <= total else None
    name = _text(raw[299:555])
    return FileSystem("btrfs", str(uuid.UUID(bytes=raw[32:48])), name, total, free, None, _NO_READER)


_HIBERNATED = (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001")


def _swap(place: Place) -> FileSystem | None:
    for page_bytes in (4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB):
        signature = place.read(10, page_bytes - 10)
        is_hibernated = signature.startswith(_HIBERNATED)
        if signature == b"SWAPSPACE2" or is_hibernated:
            raw = place.read(KIB, KIB)
            number = raw[12:28]
            return FileSystem(
                "swap",
                str(uuid.UUID(bytes=number)) if any(number) else None,
                _text(raw[28:44]),
                place.length,
                why_not_host="it holds the memory of a hibernated system" if is_hibernated else "",
            )
    return None


def _fat(place: Place) -> FileSystem | None:
    raw = place.read(512, 0)
    if len(raw) < 512 or raw[510:512] != b"\x55\xaa":
        return None
    at = 67 if raw[82:87] == b"FAT32" else 39 if raw[54:59] in (b"FAT12", b"FAT16") else None
    sector_bytes = struct.unpack_from("<H", raw, 11)[0]
    if at is None or sector_bytes not in (512, 1024, 2048, 4096):
        return None
    serial = struct.unpack_from("<I", raw, at)[0]
    label = raw[at + 4 : at + 15].decode("cp437").rstrip(" \0")
    sectors = struct.unpack_from("<H", raw, 19)[0] or struct.unpack_from("<I", raw, 32)[0]
    return FileSystem(
        "vfat",
        f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
        label if label and label != "NO NAME" else None,
        sectors * sector_bytes,
    )


def _ufs(place: Place) -> FileSystem | None:
    return ufs.recognise(place.read, place.length)


def _signature(kind: str, offset: int, magic: bytes) -> Probe:
    def probe(place: Place) -> FileSystem | None:
        if place.read(len(magic), offset) != magic:
            return None
        return FileSystem(kind, size_bytes=place.length, why_not_host=_NO_READER)

    return probe


def _iso9660(place: Place) -> FileSystem | None:
    raw = place.read(2048, 32 * KIB)
    if raw[1:6] != b"CD001":
        return None
    return FileSystem("iso9660", None, _text(raw[40:72]), place.length, why_not_host=_NO_READER)


def _zfs(place: Place) -> FileSystem | None:
    """A member of a ZFS pool: uberblocks fill the second half of its first label."""
    ring = place.read(128 * KIB, 128 * KIB)
    magics = (b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c")
    if not any(ring[at : at + 8] in magics for at in range(0, len(ring), KIB)):
        return None
    return FileSystem("zfs", size_bytes=place.length, why_not_host=_WRAPPED)


_PROBES: tuple[Probe, ...] = (
    _luks,
    _bitlocker,
    _md,
    _lvm2,
    _ntfs,
    _signature("exfat", 3, b"EXFAT   "),
    _xfs,
    _btrfs,
    _ext,
    _swap,
    _fat,
    _signature("squashfs", 0, b"hsqs"),
    _signature("jfs", 32 * KIB, b"JFS1"),
    _signature("reiserfs", 64 * KIB + 52, b"ReIsEr2Fs"),
    _signature("reiserfs", 64 * KIB + 52, b"ReIsEr3Fs"),
    _signature("reiserfs", 64 * KIB + 52, b"ReIsErFs"),
    _signature("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    # what other systems than Linux have: told, not read
    _signature("hpfs", 16 * SECTOR_BYTES, b"\x49\xe8\x95\xf9\xc5\xe9\x53\xfa"),
    _signature("befs", 512 + 32, b"1SFB"),
    _signature("hfsplus", KIB, b"H+\0\x04"),
    _signature("hfsplus", KIB, b"HX\0\x05"),
    _signature("apfs", 32, b"NXSB"),
    _signature("refs", 3, b"ReFS\0\0\0\0"),
    _signature("vmfs", MIB, b"\x0d\xd0\x01\xc0"),
    _signature("netware", 0x4000, b"HOTFIX00"),
    _signature("nss", 4 * KIB, b"SPB5"),
    _signature("vxfs", KIB, b"\xf5\xfc\x01\xa5"),
    _ufs,
    _iso9660,
    _zfs,
)
