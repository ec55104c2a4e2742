"""Disks, partitions, the volumes made of them, and what stands in each: all that is known before any guest file is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drivers import filesystems
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy, Volume
from drivers.keys import Key, fitting
from drivers.ldm import read_dynamic
from drivers.linux.devices import DeviceNames, Use
from drivers.partitions import BIOS_BOOT_GUID, ESP_GUID, ESP_MBR, read_partitions, recognise_boot_code
from drivers.volumes import find_volumes
from p2v.core.disk import DiskReader
from p2v.core.drive_letters import drive_letters
from p2v.core.units import SECTOR_BYTES

DISKS_AT_MOST = 256

Device = Partition | Volume
"""What a file system can stand on."""

CARRIERS = frozenset({"lvm2", "md", "luks"})
_CONTAINER_TYPES = frozenset({"05", "0f", "85"})
_PC_BOOT_LOADERS = frozenset({"grub2", "grub1", "lilo", "syslinux"})
_ARRAY = re.compile(r"/dev/md(?:/[A-Za-z0-9_.-]+|[0-9]{1,3})")
# what a tag of fstab(5) or a folder below /dev/disk compares, by either spelling
_TAGS = {
    "UUID": "UUID", "LABEL": "LABEL", "PARTUUID": "PARTUUID", "PARTLABEL": "PARTLABEL",
    "by-uuid": "UUID", "by-label": "LABEL", "by-partuuid": "PARTUUID", "by-partlabel": "PARTLABEL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """A machine's disks, partitions and volumes, each with the file system found in it."""

    disks: tuple[Disk, ...]
    partitions: tuple[Partition, ...]
    notes: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()

    @classmethod
    def of(cls, facts: GuestFacts) -> Layout:
        """The layout that facts were made from."""
        return cls(facts.disks, facts.partitions, volumes=facts.volumes)

    @property
    def devices(self) -> tuple[Device, ...]:
        """Everything a file system can stand on, partitions first."""
        return (*self.partitions, *self.volumes)

    def is_opened(self, device: Device) -> bool:
        """Whether volumes that stand on a device are known, so that they tell of it."""
        if isinstance(device, Partition):
            return any((device.disk, device.number) in volume.carriers for volume in self.volumes)
        carries = device.filesystem is not None and device.filesystem.kind in CARRIERS
        others = (volume for volume in self.volumes if volume is not device and volume.kind != device.kind)
        return carries and any(set(device.carriers) & set(volume.carriers) for volume in others)

    def with_filesystem(self, device: Device, filesystem: FileSystem) -> Layout:
        """The layout with something else known of what stands on a device."""

        if isinstance(device, Volume):
            volumes = (replace(v, filesystem=filesystem) if v == device else v for v in self.volumes)
            return replace(self, volumes=tuple(volumes))
        partitions = (replace(p, filesystem=filesystem) if p == device else p for p in self.partitions)
        return replace(self, partitions=tuple(partitions))


def lay_out(readers: Sequence[DiskReader]) -> Layout:
    """Look at every disk, in the guest's order. A disk without table is one partition with the number 0."""
    disks: list[Disk] = []
    partitions: list[Partition] = []
    notes: list[str] = []
    for index, reader in enumerate(readers[:DISKS_AT_MOST]):
        found = read_partitions(reader, index)
        dynamic = read_dynamic(reader, found.partitions, found.disk.sector_bytes)
        disks.append(replace(found.disk, dynamic=dynamic))
        notes.extend(found.notes)
        whole = Partition(index, 0, 0, reader.virtual_size, "")
        for partition in (whole,) if found.disk.table == "none" else found.partitions:
            filesystem = None
            if partition.type_id not in _CONTAINER_TYPES:
                filesystem = filesystems.recognise(reader, partition.offset, partition.length)
            code = recognise_boot_code(reader.pread(SECTOR_BYTES, partition.offset)) if partition.bootable else ""
            partitions.append(replace(partition, filesystem=filesystem, boot_code=code))
    volumes, more = find_volumes(readers, partitions)
    return Layout(tuple(disks), tuple(partitions), (*notes, *more), volumes)


def place(device: Device) -> str:
    """How notes name a device: ``disk 1, partition 2`` (disks count from 1 for people), or a volume's own name."""
    if isinstance(device, Volume):
        return device.device
    return partition_place(device.disk, device.number)


def partition_place(disk: int, number: int) -> str:
    """How notes name a partition; a whole disk has the number 0."""
    return f"disk {disk + 1}, partition {number}" if number else f"disk {disk + 1}"


def device_name(disk: int, partition: int) -> str:
    """The name of a partition where disks are sd and in their order, as in the appliance; partition 0 is the whole disk."""
    return f"/dev/sd{drive_letters(disk)}{partition or ''}"


def locked(layout: Layout, keys: Sequence[Key]) -> tuple[Device, ...]:
    """Encrypted containers that are closed and that none of the keys is for, so that nobody can look into them."""
    closed = (d for d in layout.devices if d.filesystem is not None and d.filesystem.kind == "luks")
    return tuple(device for device in closed if not layout.is_opened(device) and not _may_open(keys, device))


def _may_open(keys: Sequence[Key], device: Device) -> bool:
    uuid = (device.filesystem.uuid if device.filesystem else None) or ""
    if isinstance(device, Volume):
        # arrays and volumes have further names in an appliance
        return any(key.selector.startswith("/dev/") for key in keys) or any(fitting(keys, (uuid,)))
    return any(fitting(keys, (uuid, device_name(device.disk, device.number))))


def mount_of(device: Device, mountpoint: str, options: str = "") -> Mount:
    """A mount of what stands on a device."""
    if isinstance(device, Volume):
        disk, number = device.carriers[0] if device.carriers else (0, 0)
        return Mount(mountpoint, disk, number, options, device.device)
    return Mount(mountpoint, device.disk, device.number, options)


def firmware(layout: Layout) -> str:
    """``uefi`` or ``bios``, by what the disks could be booted with.

    An EFI system partition alone means UEFI. Where a boot loader for the PC's BIOS is installed as well (both
    is usual in cloud images), its code in the first sector decides, provided that it has a place for its core:
    on GPT, GRUB needs a BIOS boot partition.
    """
    if not any(is_esp(partition) for partition in layout.partitions):
        return "bios"
    for disk in layout.disks:
        has_core = disk.table == "mbr" or disk.boot_code in ("lilo", "syslinux") or _has_bios_boot(layout, disk)
        if disk.boot_code in _PC_BOOT_LOADERS and has_core:
            return "bios"
    return "uefi"


def is_esp(partition: Partition) -> bool:
    """Whether its type says that it is an EFI system partition."""
    return partition.type_id in (ESP_GUID, ESP_MBR)


def _has_bios_boot(layout: Layout, disk: Disk) -> bool:
    return any(p.disk == disk.index and p.type_id == BIOS_BOOT_GUID for p in layout.partitions)


class Sources:
    """Finds the partition or volume that the first field of an fstab line names."""

    def __init__(self, layout: Layout, root: Device | None, uses: Iterable[Use]) -> None:
        self._layout = layout
        self._names = _device_names(layout, root if isinstance(root, Partition) else None, uses)

    def find(self, spec: str) -> tuple[Device | None, str]:
        """The device, or why there is none (empty when the name is no disk's at all)."""
        tag, value = _tag(spec)
        if tag:
            matching = [device for device in self._layout.devices if _matches(device, tag, value)]
            # both halves of a mirror carry what the array carries
            matching = [device for device in matching if isinstance(device, Volume)] or matching
            if len(matching) == 1 or _are_one(matching):
                return matching[0], ""
            return None, f"{len(matching)} partitions have it" if matching else "no partition has it"
        volume = self._volume(spec)
        if volume is not None:
            return volume, ""
        resolution = self._names.resolve(spec)
        if resolution is not None:
            return resolution.partition, resolution.problem if resolution.partition is None else ""
        return None, "it is not a partition of these disks" if spec.startswith("/dev/") else ""

    def _volume(self, spec: str) -> Volume | None:
        known = [volume for volume in self._layout.volumes if spec in (volume.device, *volume.aliases)]
        if known:
            return known[0]
        arrays = [volume for volume in self._layout.volumes if volume.kind == "md"]
        # numbers are given out at each start; with one array there is no doubt
        return arrays[0] if len(arrays) == 1 and _ARRAY.fullmatch(spec) else None


def _are_one(devices: Sequence[Device]) -> bool:
    """Whether these are the members of one Btrfs, of which any stands for all."""
    systems = [device.filesystem for device in devices]
    return bool(devices) and all(system is not None and system.kind == "btrfs" for system in systems)


def _device_names(layout: Layout, root: Partition | None, uses: Iterable[Use]) -> DeviceNames:
    """Names by position, with what the table itself tells about the order of the disks."""
    mount = Mount("/", root.disk, root.number) if root else None
    return DeviceNames.of(GuestFacts(ReadBy.HOST, layout.disks, layout.partitions, root=mount), uses)


def _tag(spec: str) -> tuple[str, str]:
    name, equals, value = spec.partition("=")
    if equals and name in _TAGS:
        return _TAGS[name], value.strip("\"'")
    parts = spec.split("/")
    if spec.startswith("/dev/disk/") and len(parts) == 5 and parts[3] in _TAGS:
        return _TAGS[parts[3]], _unescaped(parts[4])
    return "", ""


def _unescaped(name: str) -> str:
    """udev writes what may not stand in a file name as ``\\x20``."""
    head, *rest = name.split("\\x")
    for piece in rest:
        try:
            head += bytes.fromhex(piece[:2]).decode("latin-1") + piece[2:]
        except ValueError:
            head += "\\x" + piece
    return head


def _matches(device: Device, tag: str, value: str) -> bool:
    filesystem = device.filesystem
    partition = device if isinstance(device, Partition) else None
    match tag:
        case "UUID":
            uuid = filesystem.uuid if filesystem else None
            return uuid is not None and uuid.lower() == value.lower()
        case "LABEL":
            return filesystem is not None and filesystem.label is not None and filesystem.label == value
        case "PARTUUID":
            return partition is not None and partition.partuuid is not None and partition.partuuid.lower() == value.lower()
        case _:
            return partition is not None and partition.partlabel is not None and partition.partlabel == value
