"""What stood where a source could not be read, as the record and the errors tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from converters.allocation import ntfs_owners
from converters.allocation.signatures import recognise
from converters.allocation.volume import NotUnderstood, Volume
from converters.faults import Range
from converters.forgiving import ForgivingDisk
from converters.image import open_made
from converters.target import Target
from drivers import facts
from drivers.confinement import Limits, confined
from drivers.layout import CARRIERS, Device, Layout, lay_out, place
from drivers.owners import owners_of
from drivers.volumes import MappedVolume
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.errors import BadSectors, P2vError
from p2v.core.events import Reporter
from p2v.core.owners import Owner, OwnerKind, Wanted, joined, overlaps, without
from p2v.record.conversion import UnreadableRecord

# a walk over the names of a large guest takes less
_LIMITS = Limits(seconds=180.0, cpu_seconds=180)
_SHORT_LIMITS = Limits(seconds=30.0, cpu_seconds=30)
_OUTSIDE = "outside of all partitions"
_TOLD_AT_MOST = 5
_RECORDS_AT_MOST = 20_000


def unreadable_records(targets: Sequence[Target], report: Reporter) -> tuple[tuple[UnreadableRecord, ...], ...]:
    """What the copied disks have zeroes for, found in the copies: the source is not read again.

    Never fails for what is found: what cannot be told is UNKNOWN.
    """
    lost = [target.lost.ranges for target in targets]
    if not any(lost):
        return tuple(() for _ in targets)
    with events.phase(report, "losses", "Looking for what could not be read"), ExitStack() as stack:
        readers = [
            stack.enter_context(
                open_made(target.path, target.format.value, target.writer.virtual_size, is_device=target.is_device)
            )
            for target in targets
        ]
        return records_of(readers, lost, _LIMITS)


def explained(error: BadSectors, readers: Sequence[DiskReader]) -> BadSectors:
    """The error with what stands there, if that can be found out in some seconds."""
    lost = [((error.at, error.length),) if index == error.disk else () for index in range(len(readers))]
    found = records_of([ForgivingDisk(reader) for reader in readers], lost, _SHORT_LIMITS)[error.disk]
    return replace(error, holds=tuple(dict.fromkeys(each.said for each in found[:_TOLD_AT_MOST])))


def records_of(
    readers: Sequence[DiskReader], lost: Sequence[Sequence[Range]], limits: Limits
) -> tuple[tuple[UnreadableRecord, ...], ...]:
    """What stands in ranges of disks (one list a disk), found by a child without privileges; never fails, but says UNKNOWN."""
    try:
        data = confined(lambda disks: _found(disks, lost), readers, limits=limits)
        found = [tuple(map(_record, disk)) for disk in data]
    except (P2vError, ValueError, TypeError, KeyError) as error:
        why = error.sentence() if isinstance(error, P2vError) else "what was found is not understood"
        found = [() for _ in readers]
    else:
        why = "there are too many such ranges"
    return tuple(
        tuple(_whole(number, records, ranges, why)) for number, (records, ranges) in enumerate(zip(found, lost, strict=True), 1)
    )


def _whole(
    number: int, records: Sequence[UnreadableRecord], ranges: Sequence[Range], why: str
) -> Iterator[UnreadableRecord]:
    """The records, and UNKNOWN for what none of them tells of: together they are exactly the ranges."""
    inside = [
        replace(record, offset=offset, length=length)
        for record in records
        for offset, length in overlaps(ranges, record.offset, record.length)
    ]
    left = list(ranges)
    for record in inside:
        left = [part for each in left for part in without(each, (record.offset, record.length))]
    rest = [UnreadableRecord(*each, f"disk {number}", OwnerKind.UNKNOWN, why) for each in left]
    yield from sorted((*inside, *rest), key=lambda each: (each.offset, each.name))


def _record(data: Mapping[str, Any]) -> UnreadableRecord:
    """What the child says, which may be anything."""
    offset, length, where, name = data["offset"], data["length"], data["place"], data["name"]
    if not (isinstance(offset, int) and isinstance(length, int) and isinstance(where, str) and isinstance(name, str)):
        raise ValueError("not a record")
    return UnreadableRecord(offset, length, where, OwnerKind(data["holds"]), name)


# --- in the confined child -----------------------------------------------------------------------------------------


def _found(disks: Sequence[DiskReader], lost: Sequence[Sequence[Range]]) -> list[list[dict[str, Any]]]:
    layout = lay_out(disks)
    left = [list(ranges) for ranges in lost]
    found: list[list[dict[str, Any]]] = [[] for _ in disks]
    for device in _devices(layout):
        hits = list(_hits(device, left))
        ranges = [(within, length) for _, _, within, length in hits]
        for owner in _owners(device, disks, ranges) if ranges else ():
            for disk, offset, within, length in hits:
                for start, count in overlaps([(within, length)], owner.offset, owner.length):
                    found[disk].append(_data(offset + start - within, count, place(device), owner.kind, owner.name))
        for disk, offset, _, length in hits:
            left[disk] = [part for each in left[disk] for part in without(each, (offset, length))]
    for disk, ranges in enumerate(left):
        kind = OwnerKind.OUTSIDE
        found[disk] += [_data(offset, length, f"disk {disk + 1}", kind, _OUTSIDE) for offset, length in ranges]
    return [each[:_RECORDS_AT_MOST] for each in found]


def _data(offset: int, length: int, where: str, kind: OwnerKind, name: str) -> dict[str, Any]:
    return {"offset": offset, "length": length, "place": where, "holds": kind.value, "name": name}


def _devices(layout: Layout) -> list[Device]:
    """Volumes before what they stand on; of partitions in an extended one, the inner ones first."""
    return [*layout.volumes, *sorted(layout.partitions, key=lambda part: part.length)]


def _hits(device: Device, lost: Sequence[Sequence[Range]]) -> Iterator[tuple[int, int, int, int]]:
    """Disk, offset in it, offset in the device and length of what of the ranges a device has."""
    if isinstance(device, facts.Volume):
        for segment in device.segments:
            for offset, length in overlaps(lost[segment.disk], segment.disk_offset, segment.length):
                yield segment.disk, offset, offset - segment.disk_offset + segment.offset, length
    else:
        for offset, length in overlaps(lost[device.disk], device.offset, device.length):
            yield device.disk, offset, offset - device.offset, length


def _owners(device: Device, disks: Sequence[DiskReader], ranges: Sequence[Range]) -> Sequence[Owner]:
    kind = device.filesystem.kind if device.filesystem is not None else "unknown"
    if kind in CARRIERS:
        name = f"{kind}: its own structures, or in no volume that is known here"
        return [Owner(offset, length, OwnerKind.UNKNOWN, name) for offset, length in ranges]
    if isinstance(device, facts.Volume):
        return owners_of(kind, MappedVolume(device.segments, device.size_bytes, disks), 0, device.size_bytes, ranges)
    try:
        volume = Volume.of_disk(disks, device.disk).part(device.offset, device.length)
    except NotUnderstood as why:
        return [Owner(offset, length, OwnerKind.UNKNOWN, str(why)) for offset, length in ranges]
    if kind == "ntfs":
        return ntfs_owners.owners_of(volume, ranges)
    return _with_free(volume, owners_of(kind, disks[device.disk], device.offset, device.length, ranges))


def _with_free(volume: Volume, owners: Sequence[Owner]) -> Sequence[Owner]:
    """The same, where what nobody has is free space by the file system's own books, unless they were hit themselves."""
    unknown = [owner for owner in owners if owner.kind is OwnerKind.UNKNOWN]
    if not unknown or any(owner.kind is OwnerKind.METADATA for owner in owners):
        return owners
    try:
        kinds = recognise(volume)
        if len(kinds) != 1 or isinstance(kinds[0], str):
            return owners
        free = list(kinds[0].free_runs(volume))
    except NotUnderstood:
        return owners
    found = [owner for owner in owners if owner.kind is not OwnerKind.UNKNOWN]
    for owner in unknown:
        wanted = Wanted([(owner.offset, owner.length)])
        for offset, length in free:
            wanted.claim(offset, length, OwnerKind.FREE, "free blocks")
        found += wanted.rest(owner.kind, owner.name)
    return joined(found)
