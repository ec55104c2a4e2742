"""Linux software RAID: mirrors whose members are alike, as one volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from converters.allocation.volume import NotUnderstood, Volume
from p2v.core import md

# a bitmap of what may differ, and room for a list of bad blocks
_FEATURES = 0x1 | 0x8


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an array: what the caller calls it, where it stands, what its superblock says."""

    name: str
    volume: Volume
    superblock: md.Member


def is_member(volume: Volume) -> bool:
    """Whether there is a superblock of any version, whatever its contents."""
    magics = md.MAGIC.to_bytes(4, "little"), md.MAGIC.to_bytes(4, "big")
    return any(volume.peek(4, at) in magics for at in (*md.places(volume.size), md.old_place(volume.size)))


def has_data_from_begin(volume: Volume) -> bool:
    """Whether the superblock stands behind the array's bytes, so that what these are is seen without it."""
    found = md.read_member(volume)
    return found is not None and found.data_offset == 0


def read_member(name: str, volume: Volume) -> Member:
    """A member that may be dug into. Raises NotUnderstood."""
    found = md.read_member(volume)
    if found is None:
        raise NotUnderstood("it is a member of a RAID that is not understood")
    if found.level != md.MIRROR:
        raise NotUnderstood(f"it is a member of a RAID of level {found.level}")
    if not found.usable or not found.is_clean:
        raise NotUnderstood("its RAID was not stopped cleanly, or it is not in sync")
    if found.features & ~_FEATURES:
        raise NotUnderstood(f"its RAID has a feature that is not known ({found.features & ~_FEATURES:#x})")
    if found.data_offset + found.size_bytes > volume.size:
        raise NotUnderstood("its RAID is larger than it")
    return Member(name, volume, found)


def assemble(members: Iterable[Member]) -> Iterator[tuple[str, Volume | NotUnderstood, tuple[Member, ...]]]:
    """Each array: its name, its volume (or why there is none), and its members."""
    arrays: dict[str, list[Member]] = {}
    for member in members:
        arrays.setdefault(member.superblock.array_uuid, []).append(member)
    for found in arrays.values():
        name = f"RAID of {' and '.join(member.name for member in found)}"
        try:
            yield name, _volume(found), tuple(found)
        except NotUnderstood as why:
            yield name, why, tuple(found)


def _volume(members: list[Member]) -> Volume:
    first = members[0].superblock
    if any(member.superblock.events != first.events or member.superblock.size_bytes != first.size_bytes for member in members):
        raise NotUnderstood("the members of its RAID are of different times")
    return Volume.mirrored([m.volume.part(m.superblock.data_offset, m.superblock.size_bytes) for m in members])
