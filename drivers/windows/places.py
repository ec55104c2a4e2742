"""Partitions of a guest's disks as Windows tells them: by an MBR's signature and an offset, or by GPT's GUIDs. Pure."""

from __future__ import annotations

import struct
import uuid

from drivers.facts import Disk, GuestFacts, Partition
from drivers.layout import Layout
from drivers.windows import boot_ini
from drivers.windows.boot_facts import BootDevice, DeviceKind, WindowsBoot

_GPT_PREFIX = b"DMIO:ID:"


def partition_of(facts: GuestFacts, disk: int, number: int) -> Partition | None:
    """A partition by its disk and number."""
    return next((p for p in facts.partitions if (p.disk, p.number) == (disk, number)), None)


def root_partition(facts: GuestFacts) -> Partition | None:
    """The partition that Windows is on; None on a volume of several."""
    root = facts.root
    return partition_of(facts, root.disk, root.partition) if root is not None and not root.volume else None


def is_root(facts: GuestFacts, partition: Partition) -> bool:
    """Whether Windows is on a partition, or on a volume that begins there."""
    root = facts.root
    return root is not None and (partition.disk, partition.number) == (root.disk, root.partition)


def disk_of(facts: GuestFacts, partition: Partition) -> Disk | None:
    """The disk of a partition."""
    return next((disk for disk in facts.disks if disk.index == partition.disk), None)


def started_by(layout: Layout, boot: WindowsBoot) -> tuple[Partition, str] | None:
    """The partition and the folder (in lower case, with slashes) of the Windows that starts when nobody chooses."""
    if boot.store is not None:
        default = boot.store.object(boot.store.default)
        if default is None or not default.is_windows or default.os_device is None:
            return None
        here = next((p for p in layout.partitions if (p.disk, p.number) == (boot.disk, boot.partition)), None)
        is_here = default.os_device.kind is DeviceKind.BOOT
        partition, folder = here if is_here else told_by(layout, default.os_device), default.system_root
    else:
        path = boot_ini.parse(boot_ini.default_path(boot.boot_ini or ""))
        partition = boot_ini.partition_at(layout.partitions, path) if path is not None else None
        folder = path.folder if path is not None else ""
    return (partition, folder.replace("\\", "/").rstrip("/").lower()) if partition is not None else None


def told_by(facts: GuestFacts | Layout, device: BootDevice) -> Partition | None:
    """The partition that a boot entry tells by identifiers; None where no disk has them, or two have."""
    if device.kind is not DeviceKind.PARTITION:
        return None
    disks = {disk.index for disk in facts.disks if (disk.disk_id or "").lower() == device.disk}
    found = [p for p in facts.partitions if p.disk in disks and p.number and _is_told(p, device)]
    return found[0] if len(found) == 1 else None


def _is_told(partition: Partition, device: BootDevice) -> bool:
    if device.offset is not None:
        return partition.offset == device.offset
    return (partition.partuuid or "").lower() == device.partition


def mounted_as(facts: GuestFacts, partition: Partition) -> bytes | None:
    """What MountedDevices has for a partition (Microsoft Q223188); None where it cannot be told."""
    disk = disk_of(facts, partition)
    if disk is None or not disk.disk_id:
        return None
    try:
        if disk.table == "gpt" and partition.partuuid:
            return _GPT_PREFIX + uuid.UUID(partition.partuuid).bytes_le
        if disk.table == "mbr" and int(disk.disk_id, 16):
            return struct.pack("<IQ", int(disk.disk_id, 16), partition.offset)
    except (ValueError, struct.error):
        return None
    return None


def mounted_at(facts: GuestFacts, data: bytes) -> Partition | None:
    """The partition that a value of MountedDevices tells; None where these disks have none such."""
    return next((p for p in facts.partitions if p.number and mounted_as(facts, p) == data), None)


def is_mounted_partition(data: bytes) -> bool:
    """Whether a value of MountedDevices tells a partition, and no removable drive."""
    return len(data) == 12 or (len(data) == 24 and data.startswith(_GPT_PREFIX))


def named(partition: Partition) -> str:
    """How findings name a partition: disks count from 1 for people."""
    return f"disk {partition.disk + 1}, partition {partition.number}"
