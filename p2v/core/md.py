"""Linux software RAID: what a member's superblock says of its array, and where the array's bytes stand on it.

Source: the kernel's ``include/uapi/linux/raid/md_p.h``. Only mirrors are read here, from one member that is up to date; other
levels are left to the kernel in the appliance.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from p2v.core.lvm import Bytes
from p2v.core.units import KIB, SECTOR_BYTES

MAGIC = 0xA92B4EFC
SUPERBLOCK_BYTES = 4096
_OLD_RESERVED = 64 * KIB
_ROLES_AT_MOST = 1920
# roles from here on are spares, faulty or leaving members
_FIRST_SPECIAL_ROLE = 0xFF00
_RECOVERING = 0x2
_RESHAPING = 0x4
_IN_SYNC = (1 << 64) - 1
_CLEAN = 0x1
MIRROR = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its array, and what of the member is the array's data (bytes). ``usable``: in sync, as far as it knows.

    ``is_clean``: the array was stopped with all its members alike, and the superblock fits its checksum. ``features``:
    the bits of version 1 (0 for version 0.90).
    """

    array_uuid: str
    name: str
    level: int
    members: int
    size_bytes: int
    data_offset: int
    events: int
    usable: bool
    is_clean: bool = False
    features: int = 0


@dataclass(frozen=True, slots=True)
class Array:
    """An array: its name below /dev, and the newest member's index among those given."""

    uuid: str
    device: str
    level: int
    size_bytes: int
    newest: int
    members: tuple[int, ...]
    problem: str = ""


def places(length: int) -> tuple[int, ...]:
    """Where a superblock of version 1 may stand in a member of ``length`` bytes: 1.2, 1.1, 1.0; below zero for none."""
    return 4096, 0, (length // 512 - 16) // 8 * 8 * 512


def old_place(length: int) -> int:
    """Where one of version 0.90 stands; below zero for none."""
    return length // _OLD_RESERVED * _OLD_RESERVED - _OLD_RESERVED


def read_member(device: Bytes) -> Member | None:
    """The superblock of a member, by any of its versions; None when there is none."""
    size = device.virtual_size
    for at in places(size):
        raw = device.pread(SUPERBLOCK_BYTES, at) if at >= 0 else b""
        if len(raw) >= 256 and struct.unpack_from("<II", raw) == (MAGIC, 1):
            found = _version_1(raw, size)
            if found is not None and struct.unpack_from("<Q", raw, 144)[0] * SECTOR_BYTES == at:
                return found
    at = old_place(size)
    raw = device.pread(SUPERBLOCK_BYTES, at) if at >= 0 else b""
    for order in ("<", ">"):
        if len(raw) >= 256 and struct.unpack_from(order + "II", raw) == (MAGIC, 0):
            return _version_0(raw, order, size)
    return None


def _version_1(raw: bytes, size: int) -> Member | None:
    features = struct.unpack_from("<I", raw, 8)[0]
    level = struct.unpack_from("<i", raw, 72)[0]
    sectors = struct.unpack_from("<Q", raw, 80)[0]
    disks = struct.unpack_from("<I", raw, 92)[0]
    data_offset = struct.unpack_from("<Q", raw, 128)[0]
    number = struct.unpack_from("<I", raw, 160)[0]
    events = struct.unpack_from("<Q", raw, 200)[0]
    roles = struct.unpack_from("<I", raw, 220)[0]
    if roles > _ROLES_AT_MOST or (data_offset + sectors) * SECTOR_BYTES > size:
        return None
    role = struct.unpack_from("<H", raw, 256 + 2 * number)[0] if number < roles and 258 + 2 * number <= len(raw) else 0xFFFF
    usable = role < _FIRST_SPECIAL_ROLE and not features & (_RECOVERING | _RESHAPING)
    name = raw[32:64].split(b"\0")[0].decode("utf-8", "replace").rpartition(":")[2]
    is_clean = struct.unpack_from("<Q", raw, 208)[0] == _IN_SYNC and _checksum_fits(raw[: 256 + 2 * roles], 216, "<")
    size_bytes, data_offset = sectors * SECTOR_BYTES, data_offset * SECTOR_BYTES
    return Member(_uuid(raw[16:32]), name, level, disks, size_bytes, data_offset, events, usable, is_clean, features)


def _version_0(raw: bytes, order: str, size: int) -> Member | None:
    level = struct.unpack_from(order + "i", raw, 28)[0]
    size_kib, _, disks, minor = struct.unpack_from(order + "IIII", raw, 32)
    if size_kib * KIB > size:
        return None
    words = struct.unpack_from(order + "I", raw, 20) + struct.unpack_from(order + "III", raw, 52)
    # the 64-bit counter is stored as the host had it
    low_first = order == "<"
    first, second = struct.unpack_from(order + "II", raw, 156)
    events = (second << 32 | first) if low_first else (first << 32 | second)
    state = struct.unpack_from(order + "I", raw, 3968 + 16)[0]
    uuid = _uuid(b"".join(struct.pack("<I", word) for word in words))
    usable = bool(state & 0x4) and not state & 0x1
    is_clean = bool(struct.unpack_from(order + "I", raw, 132)[0] & _CLEAN) and _checksum_fits(raw, 152, order)
    return Member(uuid, str(minor), level, disks, size_kib * KIB, 0, events, usable, is_clean)


def _checksum_fits(raw: bytes, at: int, order: str) -> bool:
    """The sum of all words, the carry added; one that does not fill a word counts as such."""
    stored = struct.unpack_from(order + "I", raw, at)[0]
    words = struct.unpack_from(f"{order}{len(raw) // 4}I", raw)
    total = sum(words) - stored
    if len(raw) % 4:
        total += struct.unpack_from(order + "H", raw, len(raw) - 2)[0]
    return bool((total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF == stored)


def _uuid(raw: bytes) -> str:
    """As mdadm writes it."""
    text = raw.hex()
    return ":".join(text[at : at + 8] for at in range(0, 32, 8))


def assemble(members: Mapping[int, Member]) -> Iterator[Array]:
    """The arrays whose members were found, by the caller's numbers of the members."""
    arrays: dict[str, list[int]] = {}
    for number, member in members.items():
        arrays.setdefault(member.array_uuid, []).append(number)
    for uuid, numbers in arrays.items():
        good = [number for number in numbers if members[number].usable] or numbers
        newest = max(good, key=lambda number: members[number].events)
        yield _array(uuid, newest, numbers, members)


def _array(uuid: str, newest: int, numbers: Iterable[int], members: Mapping[int, Member]) -> Array:
    member = members[newest]
    problem = ""
    if member.level != MIRROR:
        problem = f"it is a RAID of level {member.level}"
    elif not member.usable:
        problem = "no member of it is up to date"
    name = member.name
    device = f"/dev/md{name}" if name.isdecimal() and len(name) < 6 else f"/dev/md/{_plain(name) or uuid.replace(':', '')}"
    return Array(uuid, device, member.level, member.size_bytes, newest, tuple(numbers), problem)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
