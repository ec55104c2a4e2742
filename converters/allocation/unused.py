"""The disks of a machine, and which of their bytes need not travel.

From partition tables to volumes (mirrors, volume groups) to file systems and swap areas. Whatever stands outside of all of them
travels, and so does every volume of which anything is in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from converters.allocation import lvm, md, partitions
from converters.allocation.findings import Unused, VolumeFinding
from converters.allocation.known_files import KnownFile, Understood, left_out_of
from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.allocation.runs import RUNS_AT_MOST, Runs
from converters.allocation.signatures import LVM, RAID, Kind, recognise, starts_volume
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.disk import DiskReader, told_sector_size
from p2v.core.units import SECTOR_BYTES

_VOLUMES_AT_MOST = 2048
_LEAST_BUDGET = 1024


@dataclass
class _Found:
    """What has been gathered so far. ``understood``: volumes whose file system was read."""

    ranges: list[tuple[Volume, Runs, str]] = field(default_factory=list)
    volumes: list[VolumeFinding] = field(default_factory=list)
    understood: list[Volume] = field(default_factory=list)
    members: list[md.Member] = field(default_factory=list)
    physical: list[lvm.PhysicalVolume] = field(default_factory=list)
    budget: int = RUNS_AT_MOST

    def whole(self, name: str, kind: str, size: int, why: str) -> None:
        self.volumes.append(VolumeFinding(name, kind, size, why_whole=why))

    def free(self, name: str, kind: str, volume: Volume, runs: Runs, what: str) -> None:
        self.ranges.append((volume, runs, what))
        self.budget = max(_LEAST_BUDGET, self.budget - len(runs))
        self.volumes.append(VolumeFinding(name, kind, volume.size, runs.total))


def find_unused(readers: Sequence[DiskReader], known: Sequence[KnownFile] = ()) -> Unused:
    """What of a machine's disks need not travel, all disks together: volumes may go over several.

    ``known`` files count where they lie in a file system that was read as it should be; the others travel.
    Raises what the readers raise. Memory: some tens of megabytes, whatever the size of the disks.
    """
    found = _Found()
    for disk in range(len(readers)):
        _look_at_disk(found, f"disk {disk + 1}", Volume.of_disk(readers, disk), told_sector_size(readers[disk]))
    _look_at_arrays(found)
    _look_at_groups(found)
    disks = tuple(LeftOut(_of_disk(found, disk)) for disk in range(len(readers)))
    if not known:
        return Unused(disks, tuple(found.volumes))
    ranges, files = left_out_of(readers, known, Understood(found.understood, disks))
    disks = tuple(LeftOut(chain(free, more)) if more else free for free, more in zip(disks, ranges, strict=True))
    return Unused(disks, tuple(found.volumes), files)


def _of_disk(found: _Found, disk: int) -> Iterator[LeftOutRange]:
    for volume, runs, what in found.ranges:
        for offset, length in runs if disk in volume.disks else ():
            for copies in volume.stretches(offset, length):
                yield from (LeftOutRange(at.offset, at.length, what) for at in copies if at.disk == disk)


def _look_at_disk(found: _Found, name: str, disk: Volume, sector_bytes: int) -> None:
    try:
        signatures = recognise(disk)
        parts = partitions.read_parts(disk, has_boot_sector=starts_volume(signatures), sector_bytes=sector_bytes)
        if parts is None:
            _look_at_volume(found, name, disk, signatures)
            return
        # one in the gap before the first partition, or at the end of all, tells of the disk as a whole
        if signatures:
            raise NotUnderstood(f"it has a partition table and the signature of {_names(signatures)}")
        for offset in partitions.reads_otherwise_with_large_sectors(disk) if sector_bytes == SECTOR_BYTES else ():
            if offset < disk.size and recognise(disk.part(offset, disk.size - offset)):
                raise NotUnderstood("its partition table may count in sectors of 4096 bytes")
    except NotUnderstood as why:
        found.whole(name, "disk", disk.size, str(why))
        return
    for part in parts:
        _look_into(found, f"{name}, partition {part.number}", disk.part(part.offset, part.length), ())


def _names(signatures: Sequence[Kind | str]) -> str:
    return " and ".join(each if isinstance(each, str) else each.name for each in signatures)


def _look_at_volume(found: _Found, name: str, volume: Volume, signatures: Sequence[Kind | str]) -> None:
    """Read what a volume holds, or put it aside until all members of what it belongs to are known."""
    if RAID in signatures and md.has_data_from_begin(volume):
        # what else is there stands in the array
        signatures = [RAID]
    if len(signatures) != 1:
        why = f"it has the signatures of {_names(signatures)}" if signatures else "nothing that is known stands in it"
        found.whole(name, "unknown", volume.size, why)
        return
    kind = signatures[0]
    try:
        if isinstance(kind, Kind):
            _read(found, name, volume, kind)
        elif kind == RAID:
            found.members.append(md.read_member(name, volume))
        elif kind == LVM:
            found.physical.append(lvm.read_label(name, volume))
        else:
            raise NotUnderstood("p2v cannot tell which of its blocks are free")
    except NotUnderstood as why:
        found.whole(name, kind if isinstance(kind, str) else kind.name, volume.size, str(why))


def _read(found: _Found, name: str, volume: Volume, kind: Kind) -> None:
    if len(found.volumes) >= _VOLUMES_AT_MOST:
        raise NotUnderstood(f"the machine has more than {_VOLUMES_AT_MOST} volumes")
    runs = kind.free_runs(volume)
    runs.shrink(found.budget)
    found.free(name, kind.name, volume, runs, kind.what)
    found.understood.append(volume)


def _look_at_arrays(found: _Found) -> None:
    for name, volume, members in md.assemble(found.members):
        if isinstance(volume, NotUnderstood):
            for member in members:
                found.whole(member.name, RAID, member.volume.size, str(volume))
        else:
            _look_into(found, name, volume, (RAID,))


def _look_at_groups(found: _Found) -> None:
    for group in lvm.read_groups(found.physical):
        for name, size, why in group.whole:
            found.whole(name, LVM, size, why)
        for member, runs in group.free:
            runs.shrink(found.budget)
            found.free(member.name, LVM, member.volume, runs, "free extents of LVM")
        for logical in group.volumes:
            _look_into(found, logical.name, logical.volume, (RAID, LVM))


def _look_into(found: _Found, name: str, volume: Volume, too_deep: tuple[str, ...]) -> None:
    """Look at a partition, or at a volume made of others, in which those of the kinds ``too_deep`` are not looked for."""
    try:
        signatures = recognise(volume)
    except NotUnderstood as why:
        found.whole(name, "unknown", volume.size, str(why))
        return
    if any(kind in signatures for kind in too_deep):
        found.whole(name, _names(signatures), volume.size, "it is a volume in a volume")
    else:
        _look_at_volume(found, name, volume, signatures)
