"""How full the guest's file systems are, and whether what the conversion writes has room. Pure.

What Linux' planner found too small is a blocker of the plan already. How much is free in NTFS and FAT the facts do not say, and
raw disks do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.facts import FileSystem, GuestFacts, Mount, nearest_mount
from drivers.linux.space import bytes_needed
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding
from p2v.audit.rules.disk_places import at
from p2v.core.text import printable
from p2v.core.units import MIB, format_bytes

_ROOM_OF_ROOT, _ROOM_OF_BOOT, _ROOM_OF_OTHERS = 100 * MIB, 50 * MIB, 10 * MIB
_NEARLY_FULL = 50  # less than a fiftieth is free
_SPACE_OF_LINUX = "linux.space.bytes"


@dataclass(frozen=True, slots=True)
class _Room:
    """A mounted file system: where it is, what is free, and what the plan writes to it, in bytes."""

    mount: Mount
    system: FileSystem
    offset: int
    free: int
    needed: int


def too_full(examined: Examined) -> Iterator[AuditFinding]:
    """Mounted file systems that the changes do not fit into, or that they leave next to nothing in."""
    told = any(each.id == _SPACE_OF_LINUX for each in examined.document.plan.blockers)
    for room in _rooms(examined):
        where = printable(room.mount.mountpoint, keep="")[:200] + (" (Windows)" if _is_windows(examined, room) else "")
        free, needed = format_bytes(room.free), format_bytes(room.needed)
        evidence = at(examined, room.mount.disk, room.offset, f"{room.free} bytes free")
        if room.free < room.needed:
            if not told:
                message = f"the file system at {where} has {free} free, and the conversion writes {needed} to it"
                yield found(examined.rules["disk.no-room"], message, evidence)
        elif room.free - room.needed < _wanted(room):
            message = f"the file system at {where} has {free} free, of which the conversion takes {needed}"
            yield found(examined.rules["disk.little-room"], message, evidence)


def nearly_full(examined: Examined) -> Iterator[AuditFinding]:
    """File systems of which next to nothing is free, whatever they are for."""
    facts = examined.document.facts
    if facts.image is not None:
        return  # so are those of its images that wait for their turn
    mounted = {(mount.disk, mount.partition, mount.volume) for mount in _mounts(facts)}
    for device, system, disk, offset in _systems(examined):
        free, size = system.free_bytes, system.size_bytes
        if device in mounted or free is None or not size or free * _NEARLY_FULL >= size:
            continue
        where = printable(device[2], keep="")[:200] or f"disk {disk + 1}, partition {device[1]}"
        message = f"the {system.kind} on {where} is nearly full: {format_bytes(free)} of {format_bytes(size)} are free"
        yield found(examined.rules["disk.nearly-full"], message, at(examined, disk, offset, f"{free} bytes free"))


def _wanted(room: _Room) -> int:
    """What should be left: a system that cannot write its log, or its next kernel, is soon in trouble."""
    size = room.system.size_bytes or 0
    at_mountpoint = {"/": _ROOM_OF_ROOT, "/boot": _ROOM_OF_BOOT}.get(room.mount.mountpoint, _ROOM_OF_OTHERS)
    # a small file system of its own is not full when a tenth is free
    return min(at_mountpoint, size // 10) if size else at_mountpoint


def _is_windows(examined: Examined, room: _Room) -> bool:
    return examined.document.facts.windows is not None and room.mount.mountpoint == "/"


def _rooms(examined: Examined) -> Iterator[_Room]:
    facts = examined.document.facts
    needed: Counter[str] = Counter()
    for change in examined.document.plan.changes:
        mount = nearest_mount(_mounts(facts), change.path)
        needed[mount.mountpoint if mount is not None else "/"] += bytes_needed(change)
    known = {device: (system, offset) for device, system, _, offset in _systems(examined)}
    for mount in _mounts(facts):
        key = (mount.disk, mount.partition, mount.volume)
        # an image fills its file system by design
        is_image = facts.image is not None and facts.image.seals(mount.mountpoint)
        if key in known and not mount.folder and not is_image and known[key][0].free_bytes is not None:
            system, offset = known[key]
            yield _Room(mount, system, offset, system.free_bytes or 0, needed[mount.mountpoint])


def _mounts(facts: GuestFacts) -> tuple[Mount, ...]:
    every = (*((facts.root,) if facts.root is not None else ()), *facts.mounts)
    return tuple({mount.mountpoint: mount for mount in every}.values())


_Device = tuple[int, int, str]
"""As mounts name one: the disk, the partition, the volume."""


def _systems(examined: Examined) -> Iterator[tuple[_Device, FileSystem, int, int]]:
    """Every file system by what it stands on, with its disk and its place there."""
    facts, free = examined.document.facts, dict(_seen_free(examined))
    for partition in facts.partitions:
        system = partition.filesystem
        if system is not None:
            left = free.get((partition.disk, partition.number))
            known = system if system.free_bytes is not None or left is None else _with_free(system, left)
            yield (partition.disk, partition.number, ""), known, partition.disk, partition.offset
    for volume in facts.volumes:
        if volume.filesystem is not None:
            disk, number = volume.carriers[0] if volume.carriers else (0, 0)
            offset = volume.segments[0].disk_offset if volume.segments else 0
            yield (disk, number, volume.device), volume.filesystem, disk, offset


def _with_free(system: FileSystem, free: int) -> FileSystem:
    return FileSystem(system.kind, system.uuid, system.label, system.size_bytes, free)


def _seen_free(examined: Examined) -> Iterator[tuple[tuple[int, int], int]]:
    for disk in examined.sights:
        for place in disk.places:
            for signature in place.signatures:
                if signature.free_bytes is not None:
                    yield (disk.index, place.number), signature.free_bytes


CHECKS: tuple[Check, ...] = (too_full, nearly_full)
