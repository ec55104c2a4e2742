"""Boot entries of Vista and later: they must lead to Windows' partition on these disks, and past what waits for a person. Pure.

Sources: ``c_bcd``; Microsoft, "BCDEdit /set" (bootstatuspolicy, graphicsmodedisabled, safeboot).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from drivers.facts import GuestFacts, Partition
from drivers.plan import Finding
from drivers.windows import bcd
from drivers.windows import c_bcd as c
from drivers.windows.boot_facts import BootDevice, BootObject, BootStore, DeviceKind, WindowsBoot
from drivers.windows.c_regf import REG_BINARY
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import BCD, HiveFile, WindowsFacts
from drivers.windows.places import disk_of, named, partition_of, root_partition, told_by
from drivers.windows.wanted import WantedValue, wanted_edits

WHY_PLACE = "its boot entry names a partition that is on none of these disks; this is the one that Windows is on"
WHY_STATUS = "a start that failed is tried again, and not handed to a repair that waits for a person or undoes what was planned"
WHY_GRAPHICS = "the boot menu may use graphics again: the text mode was chosen for another machine's display"
_REPAIR = "Start it where it is, and run `bcdboot C:\\Windows` there, which writes the entry anew."
_LETTERED = "Choose another default where it runs (`bcdedit /default`), or shut it down and leave that system out."


@dataclass(frozen=True, slots=True)
class _Stale:
    """What an entry names and these disks have not, and the partition that it is to name."""

    device: BootDevice
    partition: Partition


def contribute(facts: GuestFacts, windows: WindowsFacts) -> WindowsContribution:
    """Edits of the store that starts Windows, and what cannot be edited."""
    boot, hive = windows.boot, windows.registry.get(BCD)
    if boot is None or hive is None:
        where = named_boot(facts, boot) if boot is not None else "any partition that its firmware starts from"
        return _blocked("windows.no-boot-store", f"there is no boot configuration (BCD) on {where}, so nothing starts it", _REPAIR)
    root = root_partition(facts)
    if boot.store is None or root is None:
        # the hive's own state is told of with the others'
        return WindowsContribution()
    default = boot.store.object(boot.store.default)
    if default is None:
        return _blocked("windows.no-boot-entry", "its boot configuration has no entry that starts when nobody chooses", _REPAIR)
    if not default.is_windows:
        message = f"what starts when nobody chooses is {default.title or default.id}, which is no Windows of these disks"
        return _blocked("windows.boot-entry-elsewhere", message, _LETTERED)
    stale, problem = _stale(facts, windows, boot, default, root)
    if problem is not None:
        return WindowsContribution(blockers=(problem,))
    edits = tuple(wanted_edits(hive, (*_places(facts, hive, boot.store, stale), *_settings(hive, default))))
    unknown = [each for each in stale if _element(facts, each.partition) is None]
    if unknown:
        message = f"{named(unknown[0].partition)} cannot be named in a boot entry: its disk has no signature"
        return _blocked("windows.no-disk-signature", message, "Give the disk one where it runs (`diskpart`, `uniqueid disk`).")
    wanted = WindowsContribution({BCD: edits}, warnings=tuple(_warnings(hive, boot.store, default)))
    return _writable(facts, boot, wanted, is_needed=bool(stale))


def named_boot(facts: GuestFacts, boot: WindowsBoot) -> str:
    """How findings name the partition that starts Windows."""
    found = partition_of(facts, boot.disk, boot.partition)
    return named(found) if found is not None else f"disk {boot.disk + 1}"


def _blocked(id_: str, message: str, hint: str) -> WindowsContribution:
    return WindowsContribution(blockers=(Finding(id_, message, hint),))


def _writable(facts: GuestFacts, boot: WindowsBoot, wanted: WindowsContribution, *, is_needed: bool) -> WindowsContribution:
    """What is wanted, where the partition with the store can be written to."""
    # that Windows' own file system is dirty is told with its state
    if boot.mountpoint == "/" or (boot.mountpoint and not boot.dirty):
        return wanted
    where = named_boot(facts, boot)
    if boot.dirty:
        return _blocked(
            "windows.dirty-volume", f"the file system of {where}, which starts it, was not left in order: {boot.dirty}",
            "Start it where it is, let Windows check the disk, and shut it down.",
        )  # fmt: skip
    if is_needed:
        message = f"its boot entry names a partition that is on none of these disks, and cannot be edited on {where}"
        return _blocked("windows.boot-entry-elsewhere", message, _REPAIR)
    return WindowsContribution(warnings=wanted.warnings)


def _stale(
    facts: GuestFacts, windows: WindowsFacts, boot: WindowsBoot, default: BootObject, root: Partition
) -> tuple[tuple[_Stale, ...], Finding | None]:
    """What the default entry and the boot manager name and these disks have not, or why nothing can be put in its place."""
    place, problem = _default_place(facts, windows, boot, default, root)
    if problem is not None:
        return (), problem
    found = {each.device: each for each in place}
    manager = boot.store.object(c.BOOT_MANAGER) if boot.store is not None else None
    start = partition_of(facts, boot.disk, boot.partition)
    for object_, partition in ((default, root), (manager, start)):
        device = object_.device if object_ is not None else None
        if device is not None and partition is not None and device.kind is DeviceKind.PARTITION and told_by(facts, device) is None:
            found.setdefault(device, _Stale(device, partition))
    return tuple(found.values()), None


def _default_place(
    facts: GuestFacts, windows: WindowsFacts, boot: WindowsBoot, default: BootObject, root: Partition
) -> tuple[tuple[_Stale, ...], Finding | None]:
    """The same for the place of Windows that the default entry names."""
    title, folder = default.title or default.id, default.system_root.replace("\\", "/").rstrip("/")
    device = default.os_device
    if device is None or device.kind in (DeviceKind.FILE, DeviceKind.OTHER):
        told = device if device is not None else "no device at all"
        return (), Finding("windows.boot-device", f"the boot entry {title} starts from {told}, which is not understood", _REPAIR)
    if device.kind is DeviceKind.VIRTUAL_DISK:
        message = f"the boot entry {title} starts from {device}: the system is inside of a file of these disks"
        hint = "Convert that VHD itself: it is a disk with all of the system on it but the boot manager."
        return (), Finding("windows.boot-virtual-disk", message, hint)
    if folder.lower() != windows.system_root.lower():
        message = f"the boot entry {title} starts {default.system_root or 'no folder'}, and Windows is in {windows.system_root}"
        return (), Finding("windows.boot-entry-elsewhere", message, _LETTERED)
    if device.kind is DeviceKind.LOCATE:
        return (), None
    is_boot = device.kind is DeviceKind.BOOT
    told_partition = partition_of(facts, boot.disk, boot.partition) if is_boot else told_by(facts, device)
    if told_partition == root:
        return (), None
    if told_partition is not None:
        message = f"the boot entry {title} starts {named(told_partition)}, and Windows is on {named(root)}"
        return (), Finding("windows.boot-entry-elsewhere", message, _LETTERED)
    return (_Stale(device, root),), None


def _places(
    facts: GuestFacts, hive: HiveFile, store: BootStore, stale: tuple[_Stale, ...]
) -> Iterator[WantedValue]:
    """Every element that names a stale place, in whichever object: the resume loader's and the memory test's too."""
    wanted: Mapping[BootDevice, Partition] = {each.device: each.partition for each in stale}
    for object_ in store.objects:
        for element, value in bcd.device_elements(hive, object_.id):
            device = bcd.read_device(value.data)
            # where the boot manager itself is, "started from" is always right
            applies = device.kind is not DeviceKind.BOOT or object_.type in (c.OS_LOADER, c.RESUME_LOADER)
            partition = wanted.get(device) if applies else None
            data = _element(facts, partition, value.data) if partition is not None else None
            if data is not None:
                yield _element_value(object_.id, element, data, WHY_PLACE)


def _element(facts: GuestFacts, partition: Partition, before: bytes = b"") -> bytes | None:
    disk = disk_of(facts, partition)
    return bcd.device_of(disk, partition, before) if disk is not None else None


def _settings(hive: HiveFile, default: BootObject) -> Iterator[WantedValue]:
    if bcd.number_of(hive, default.id, c.BOOT_STATUS_POLICY) != c.IGNORE_ALL_FAILURES:
        yield _element_value(default.id, c.BOOT_STATUS_POLICY, c.IGNORE_ALL_FAILURES.to_bytes(8, "little"), WHY_STATUS)
    if bcd.is_on(hive, default.id, c.GRAPHICS_MODE_DISABLED):
        yield _element_value(default.id, c.GRAPHICS_MODE_DISABLED, b"\0", WHY_GRAPHICS)


def _element_value(object_id: str, element: int, data: bytes, why: str) -> WantedValue:
    return WantedValue(bcd.element_key(object_id, element), c.ELEMENT, REG_BINARY, data.hex(), why)


def _warnings(hive: HiveFile, store: BootStore, default: BootObject) -> Iterator[Finding]:
    if bcd.element_value(hive, default.id, c.SAFE_BOOT) is not None:
        message = f"the boot entry {default.title or default.id} starts in safe mode, without most drivers"
        yield Finding("windows.safe-boot", message, "Take that back where it runs: `bcdedit /deletevalue safeboot`.")
    for id_ in store.once:
        object_ = store.object(id_)
        if object_ is not None and object_.id != default.id:
            message = f"its next start is to take {object_.title or object_.id} once, and not its default entry"
            yield Finding("windows.boot-once", message, "Let it do so where it is, before it is copied.")
