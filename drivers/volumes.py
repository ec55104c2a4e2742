"""Block devices made of partitions: arrays and logical volumes, found and mapped to the disks beneath.

An array may carry a volume group, so devices are looked at in rounds until nothing new is found. What can be mapped
piece by piece to the disks (mirrors, linear volumes) the readers of this host can read; the rest is found, named, and left
to the appliance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers import filesystems
from drivers.facts import FileSystem, Partition, Segment, Volume
from p2v.core import lvm, md
from p2v.core.disk import DiskReader, Extent

VOLUMES_AT_MOST = 1000
_ROUNDS_AT_MOST = 4
_SEGMENTS_AT_MOST = 50_000


class MappedVolume:
    """A volume's bytes as a disk: implements ``p2v.core.disk.DiskReader`` over the disks' readers."""

    def __init__(self, segments: Sequence[Segment], size_bytes: int, readers: Sequence[DiskReader]) -> None:
        self._segments = segments
        self._begins = [segment.offset for segment in segments]
        self._size = size_bytes
        self._readers = readers

    @property
    def virtual_size(self) -> int:
        """Bytes of the volume."""
        return self._size

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of all disks."""
        return tuple(path for reader in self._readers for path in reader.files)

    def pread(self, length: int, offset: int) -> bytes:
        """See ``DiskReader.pread``."""
        end = min(offset + length, self._size)
        parts: list[bytes] = []
        while offset < end:
            index = bisect_right(self._begins, offset) - 1
            segment = self._segments[index]
            within = offset - segment.offset
            wanted = min(end - offset, segment.length - within)
            part = self._readers[segment.disk].pread(wanted, segment.disk_offset + within) if wanted > 0 else b""
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def extents(self) -> Iterator[Extent]:
        """All of it, as data: nobody copies a volume by itself."""
        yield Extent(0, self._size, zero=False, allocated=True)

    def close(self) -> None:
        """Nothing: the disks are not its own."""


@dataclass(frozen=True, slots=True)
class _Device:
    """Anything that may carry a volume: a partition, or a volume that was found in an earlier round."""

    filesystem: FileSystem
    segments: tuple[Segment, ...]
    size_bytes: int
    carriers: tuple[tuple[int, int], ...]

    def reader(self, readers: Sequence[DiskReader]) -> MappedVolume:
        return MappedVolume(self.segments, self.size_bytes, readers)


@dataclass
class _Search:
    readers: Sequence[DiskReader]
    devices: list[_Device]
    volumes: dict[str, Volume] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def round(self) -> bool:
        """Look once at every device; whether anything new was found."""
        before = len(self.volumes)
        for volume in (*self._arrays(), *self._logical_volumes()):
            if volume.device not in self.volumes and len(self.volumes) < VOLUMES_AT_MOST:
                found = self._looked_into(volume)
                self.volumes[found.device] = found
                if found.segments and found.filesystem is not None:
                    self.devices.append(_Device(found.filesystem, found.segments, found.size_bytes, found.carriers))
        return len(self.volumes) > before

    def _looked_into(self, volume: Volume) -> Volume:
        if not volume.segments or volume.filesystem is not None:
            return volume
        reader = MappedVolume(volume.segments, volume.size_bytes, self.readers)
        return replace(volume, filesystem=filesystems.recognise(reader, 0, volume.size_bytes))

    def _arrays(self) -> Iterator[Volume]:
        members: dict[int, md.Member] = {}
        for number, device in enumerate(self.devices):
            member = md.read_member(device.reader(self.readers)) if device.filesystem.kind == "md" else None
            if member is not None:
                members[number] = member
        for array in md.assemble(members):
            newest = self.devices[array.newest]
            carriers = tuple(place for number in array.members for place in self.devices[number].carriers)
            data_offset = members[array.newest].data_offset
            segments = () if array.problem else part_of_segments(newest.segments, data_offset, array.size_bytes)
            yield Volume(
                array.device, "md", array.uuid, array.size_bytes, carriers=carriers, segments=segments,
                filesystem=_unread(array.problem or ("" if segments else "its members are too small for it"), array.size_bytes),
            )  # fmt: skip

    def _logical_volumes(self) -> Iterator[Volume]:
        found: dict[str, _Device] = {}
        labels: list[lvm.PhysicalVolume] = []
        for device in self.devices:
            if device.filesystem.kind != "lvm2":
                continue
            try:
                label = lvm.read_physical_volume(device.reader(self.readers))
            except lvm.BadMetadata as error:
                self._note(f"a physical volume of LVM is damaged: {error}")
                continue
            if label is not None:
                labels.append(label)
                # a mirror's half looks like the whole: the array, found later, is the one that counts
                found[label.uuid] = device
        try:
            groups = lvm.newest_groups(labels)
        except lvm.BadMetadata as error:
            self._note(f"the volume groups cannot be read: {error}")
            return
        for group in groups:
            missing = [uuid for uuid in group.pv_uuids if uuid not in found]
            if missing:
                self._note(f"the volume group {group.name} lacks {len(missing)} of {len(group.pv_uuids)} physical volumes")
            for volume in group.volumes:
                yield _logical_volume(volume, found)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def find_volumes(
    readers: Sequence[DiskReader], partitions: Sequence[Partition]
) -> tuple[tuple[Volume, ...], tuple[str, ...]]:
    """Every array and logical volume in these partitions, and notes about what is wrong with some."""
    search = _Search(readers, [_device(p) for p in partitions if p.filesystem is not None and p.filesystem.kind != "unknown"])
    for _ in range(_ROUNDS_AT_MOST):
        if not search.round():
            break
    return tuple(search.volumes.values()), tuple(search.notes)


def _device(partition: Partition) -> _Device:
    assert partition.filesystem is not None
    segment = Segment(0, partition.length, partition.disk, partition.offset)
    return _Device(partition.filesystem, (segment,), partition.length, ((partition.disk, partition.number),))


def _logical_volume(volume: lvm.LogicalVolume, found: Mapping[str, _Device]) -> Volume:
    problem = volume.problem or ("" if set(volume.pv_uuids) <= set(found) else "a physical volume that it stands on is missing")
    segments: list[Segment] = []
    for run in volume.runs if not problem else ():
        pieces = part_of_segments(found[run.pv_uuid].segments, run.pv_offset, run.length)
        if not pieces or len(segments) > _SEGMENTS_AT_MOST:
            problem, segments = "it reaches past the end of its physical volume", []
            break
        segments += [replace(piece, offset=piece.offset + run.offset) for piece in pieces]
    carriers = tuple(dict.fromkeys(place for uuid in volume.pv_uuids if uuid in found for place in found[uuid].carriers))
    mapper = f"/dev/mapper/{volume.group.replace('-', '--')}-{volume.name.replace('-', '--')}"
    alias = f"/dev/{volume.group}/{volume.name}"
    return Volume(
        mapper, "lvm", volume.uuid, volume.size_bytes, aliases=(alias,), carriers=carriers, segments=tuple(segments),
        filesystem=_unread(problem, volume.size_bytes),
    )  # fmt: skip


def _unread(problem: str, size_bytes: int) -> FileSystem | None:
    return FileSystem("unknown", size_bytes=size_bytes, why_not_host=problem) if problem else None


def part_of_segments(segments: Sequence[Segment], offset: int, length: int) -> tuple[Segment, ...]:
    """``length`` bytes of a device from ``offset`` on, counted from 0; empty when they are not all there."""
    found: list[Segment] = []
    end, at = offset + length, offset
    for segment in segments:
        start, stop = max(at, segment.offset), min(end, segment.offset + segment.length)
        if start == at and stop > start:
            found.append(Segment(start - offset, stop - start, segment.disk, segment.disk_offset + start - segment.offset))
            at = stop
    return tuple(found) if at == end and length > 0 else ()
