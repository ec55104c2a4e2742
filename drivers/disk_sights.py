"""What raw disks show that facts about a guest do not have: copies of tables, metadata of arrays, claims that do not fit.

Small reads only, at places that are known beforehand: a few dozen for each disk, most of them from the two ends that are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drivers.confinement import DEFAULT_LIMITS, Limits, confined, disks_name
from drivers.facts import Disk, Partition
from drivers.layout import DISKS_AT_MOST
from drivers.partitions import read_partitions
from drivers.sights.edges import Edges
from drivers.sights.free_space import ntfs_free_bytes
from drivers.sights.luks import look_at_luks
from drivers.sights.raids import look_for_raids
from drivers.sights.signatures import look_at_end, look_at_place
from drivers.sights.tables import look_at_gpt
from drivers.sights.values import DiskSight, PlaceSight, Signature
from p2v.core import jsonio
from p2v.core.disk import DiskReader
from p2v.core.errors import ReaderCrashed

__all__ = ["DiskSight", "decoded", "encoded", "look_at", "sights_confined"]

LOOKED_INTO_AT_MOST = 64
_CONTAINER_TYPES = frozenset({"05", "0f", "85"})


def sights_confined(
    readers: Sequence[DiskReader], keep_fds: Sequence[int] = (), limits: Limits = DEFAULT_LIMITS
) -> tuple[DiskSight, ...]:
    """``look_at`` in a child without privileges (see ``confined``). Raises ReaderCrashed, and what the readers raise."""
    data = confined(lambda disks: encoded(look_at(disks)), readers, limits=limits, keep_fds=keep_fds)
    return decoded(data, disks_name(readers))


def encoded(sights: tuple[DiskSight, ...]) -> Any:
    """Plain JSON data."""
    return jsonio.encode(jsonio.converter(), sights, tuple[DiskSight, ...])


def decoded(data: Any, name: str) -> tuple[DiskSight, ...]:
    """What JSON data says was seen. Raises ReaderCrashed where it is none: a child may have been taken over."""
    try:
        return jsonio.decode(jsonio.converter(), data, tuple[DiskSight, ...])
    except jsonio.BadDocument as error:
        raise ReaderCrashed(name, f"told of disks what makes no sense: {str(error)[:200]}") from error


def look_at(readers: Sequence[DiskReader]) -> tuple[DiskSight, ...]:
    """Look at every disk, in the guest's order. Raises what the readers raise, nothing for what stands on the disks."""
    return tuple(_look_at_disk(reader, index) for index, reader in enumerate(readers[:DISKS_AT_MOST]))


def _look_at_disk(reader: DiskReader, index: int) -> DiskSight:
    disk = Edges(reader)
    layout = read_partitions(disk, index, as_stated=True)
    found: Disk = layout.disk
    looked_into, rest = layout.partitions[:LOOKED_INTO_AT_MOST], layout.partitions[LOOKED_INTO_AT_MOST:]
    partitions = (*(_place(disk, each) for each in looked_into), *(_stated(each) for each in rest))
    return DiskSight(
        index,
        disk.virtual_size,
        found.table,
        found.sector_bytes,
        found.boot_code,
        look_at_gpt(disk, found.sector_bytes),
        partitions,
        _whole(disk, partitions),
        look_for_raids(disk),
        len(rest),
    )


def _stated(partition: Partition) -> PlaceSight:
    return PlaceSight(partition.number, partition.offset, partition.length, partition.type_id, partition.bootable)


def _place(disk: Edges, partition: Partition) -> PlaceSight:
    place = _stated(partition)
    return place if partition.type_id in _CONTAINER_TYPES else _looked_into(disk, place)


def _looked_into(disk: Edges, place: PlaceSight) -> PlaceSight:
    signatures = tuple(_with_free(disk, place, each) for each in look_at_place(disk, place.offset, place.length))
    is_luks = any(each.kind == "luks" for each in signatures)
    return replace(place, signatures=signatures, luks=look_at_luks(disk, place.offset) if is_luks else None)


def _with_free(disk: Edges, place: PlaceSight, signature: Signature) -> Signature:
    if signature.kind != "ntfs":
        return signature
    return replace(signature, free_bytes=ntfs_free_bytes(disk, place.offset, place.length))


def _whole(disk: Edges, partitions: Sequence[PlaceSight]) -> PlaceSight:
    """The disk itself; where it has partitions, without what stands inside of one, which is that one's."""
    whole = PlaceSight(0, 0, disk.virtual_size)
    if not partitions:
        return _looked_into(disk, whole)
    signed = (*look_at_place(disk, 0, disk.virtual_size), *look_at_end(disk))
    outside = (each for each in signed if not any(p.offset <= each.offset < p.end for p in partitions))
    return replace(whole, signatures=tuple(outside))
