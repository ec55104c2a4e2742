"""Disks, partitions and what stands in them: all that is known before any guest file is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drivers import filesystems
from drivers.facts import Disk, GuestFacts, Mount, Partition, ReadBy
from drivers.linux.devices import DeviceNames
from drivers.partitions import BIOS_BOOT_GUID, ESP_GUID, ESP_MBR, read_partitions
from p2v.core.disk import DiskReader

DISKS_AT_MOST = 256

_CONTAINER_TYPES = frozenset({"05", "0f", "85"})
_PC_BOOT_LOADERS = frozenset({"grub2", "grub1", "lilo", "syslinux"})
# what a tag of fstab(5) or a folder below /dev/disk compares, by either spelling
_TAGS = {
    "UUID": "UUID", "LABEL": "LABEL", "PARTUUID": "PARTUUID", "PARTLABEL": "PARTLABEL",
    "by-uuid": "UUID", "by-label": "LABEL", "by-partuuid": "PARTUUID", "by-partlabel": "PARTLABEL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """A machine's disks and partitions, each with the file system found in it."""

    disks: tuple[Disk, ...]
    partitions: tuple[Partition, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: GuestFacts) -> Layout:
        """The layout that facts were made from."""
        return cls(facts.disks, facts.partitions)


def lay_out(readers: Sequence[DiskReader]) -> Layout:
    """Look at every disk, in the guest's order. A disk without table is one partition with the number 0."""
    disks: list[Disk] = []
    partitions: list[Partition] = []
    notes: list[str] = []
    for index, reader in enumerate(readers[:DISKS_AT_MOST]):
        found = read_partitions(reader, index)
        disks.append(found.disk)
        notes.extend(found.notes)
        whole = Partition(index, 0, 0, reader.virtual_size, "")
        for partition in (whole,) if found.disk.table == "none" else found.partitions:
            filesystem = None
            if partition.type_id not in _CONTAINER_TYPES:
                filesystem = filesystems.recognise(reader, partition.offset, partition.length)
            partitions.append(replace(partition, filesystem=filesystem))
    return Layout(tuple(disks), tuple(partitions), tuple(notes))


def place(partition: Partition) -> str:
    """How notes name a partition: ``disk 1, partition 2`` (disks count from 1 for people)."""
    disk = f"disk {partition.disk + 1}"
    return f"{disk}, partition {partition.number}" if partition.number else disk


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
    """Finds the partition that the first field of an fstab line names."""

    def __init__(self, layout: Layout, root: Partition | None, specs: Iterable[tuple[str, str]]) -> None:
        self._partitions = layout.partitions
        self._names = _device_names(layout, root, specs)

    def find(self, spec: str) -> tuple[Partition | None, str]:
        """The partition, or why there is none (empty when the name is no disk's at all)."""
        tag, value = _tag(spec)
        if tag:
            matching = [partition for partition in self._partitions if _matches(partition, tag, value)]
            if len(matching) == 1:
                return matching[0], ""
            return None, f"{len(matching)} partitions have it" if matching else "no partition has it"
        resolution = self._names.resolve(spec)
        if resolution is not None:
            return resolution.partition, resolution.problem if resolution.partition is None else ""
        return None, "it is not a partition of these disks" if spec.startswith("/dev/") else ""


def _device_names(layout: Layout, root: Partition | None, specs: Iterable[tuple[str, str]]) -> DeviceNames:
    """Names by position, with what the table itself tells about the order of the disks."""
    mount = Mount("/", root.disk, root.number) if root else None
    return DeviceNames.of(GuestFacts(ReadBy.HOST, layout.disks, layout.partitions, root=mount), specs)


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


def _matches(partition: Partition, tag: str, value: str) -> bool:
    filesystem = partition.filesystem
    match tag:
        case "UUID":
            uuid = filesystem.uuid if filesystem else None
            return uuid is not None and uuid.lower() == value.lower()
        case "LABEL":
            return filesystem is not None and filesystem.label is not None and filesystem.label == value
        case "PARTUUID":
            return partition.partuuid is not None and partition.partuuid.lower() == value.lower()
        case _:
            return partition.partlabel is not None and partition.partlabel == value
