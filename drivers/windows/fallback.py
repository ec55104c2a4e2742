"""Windows' own drivers of IDE and SATA, ready for the first start: the guest starts without virtio as well. Pure.

QEMU's controllers: PIIX3 IDE on ``pc``, ICH9 AHCI on ``q35``. Their drivers come with Windows, but are turned off where they were
not needed, or tied to no device: by Start, by StartOverride (8 and later), by a missing entry of CriticalDeviceDatabase (up to 7).
A driver of a chip's maker that is tied to the very id of QEMU's controller would be tried before Windows' own.

Sources: Microsoft Q314082 (the services and entries that an XP needs on an IDE controller that it has not met), Q103000 (Start),
Q922976 (msahci), Q115486 (NT 4.0: no Plug and Play, the service is all there is); "IDE Controller Minidrivers"; QEMU,
docs/specs/pci-ids.rst. StartOverride: reports of systems that were moved from IDE to AHCI.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from drivers.caps import GuestCaps
from drivers.plan import Finding
from drivers.windows import c_regf as c
from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import DeleteValue, HiveEdit, ValueData, one_each
from drivers.windows.facts import SYSTEM, HiveFile, WindowsFacts
from drivers.windows.inf_registry import REG_EXPAND_SZ, terminated
from drivers.windows.services import Service, services_of
from drivers.windows.wanted import UnwantedKey, WantedValue, number_value, text_value, unwanted_edits, wanted_edits

_HDC = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
_DISK = "{4D36E967-E325-11CE-BFC1-08002BE10318}"
_PIIX3, _PIIX4, _ICH9 = "VEN_8086&DEV_7010", "VEN_8086&DEV_7111", "VEN_8086&DEV_2922"
_BUS_NAMES = ("sata", "ide")
_OWN_INF = "MSHDC.INF"
_2000, _VISTA, _EIGHT = (5, 0), (6, 0), (6, 2)


@dataclass(frozen=True, slots=True)
class _Driver:
    """A driver in the box. ``libraries``: files that it is linked with; ``ids``: what it drives, as its database has them."""

    service: str
    group: str
    tag: int
    libraries: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    generic: tuple[str, ...] = ()
    """Ids of a whole class: an entry of a service that is there stays."""
    needed: bool = True
    """Whether QEMU's controller needs it; another is for other controllers of the bus."""

    @property
    def files(self) -> tuple[str, ...]:
        return (f"{self.service}.sys", *self.libraries)


@dataclass(frozen=True, slots=True)
class _Bus:
    """A bus of disks with all the drivers that it takes; ``device``: QEMU's controller; ``classes``: ids that are as good."""

    name: str
    title: str
    device: str
    classes: tuple[str, ...]
    drivers: tuple[_Driver, ...]


_CHANNELS = ("Primary_IDE_Channel", "Secondary_IDE_Channel", "*PNP0600")
_INTEL = _Driver("intelide", "System Bus Extender", 4, ("pciidex.sys",), (f"PCI#{_PIIX3}", f"PCI#{_PIIX4}"))
_PCI = _Driver("pciide", "System Bus Extender", 3, ("pciidex.sys",), generic=("PCI#CC_0101",), needed=False)
_IDE_4 = _Bus("ide", "IDE", _PIIX3, (), (_Driver("atapi", "SCSI miniport", 25),))
_IDE_5 = _Bus("ide", "IDE", _PIIX3, ("CC_0101",), (_Driver("atapi", "SCSI miniport", 25, (), _CHANNELS), _INTEL, _PCI))
_ATAPI_6 = _Driver("atapi", "SCSI miniport", 25, ("ataport.sys",), _CHANNELS)
_IDE_6 = replace(_IDE_5, drivers=(_ATAPI_6, _INTEL, _PCI))
_SATA_6 = _Bus(
    "sata", "SATA", _ICH9, ("CC_0106", "CC_010601"),
    (
        replace(_ATAPI_6, ids=("Internal_IDE_Channel",)),
        _Driver("msahci", "System Bus Extender", 5, ("pciidex.sys", "ataport.sys"), (f"PCI#{_ICH9}",), ("PCI#CC_010601",)),
    ),
)  # fmt: skip
_SATA_8 = replace(_SATA_6, drivers=(_Driver("storahci", "SCSI miniport", 64, ("storport.sys",)),))


def contribute(windows: WindowsFacts) -> WindowsContribution:
    """What turns the drivers on, in every control set that can be started, and what cannot be had."""
    system = windows.registry[SYSTEM]
    values, unwanted = dict[tuple[str, str], WantedValue](), list[UnwantedKey]()
    buses = [bus for bus in _buses(windows) if not _lacks(windows, bus)]
    has_database = system.key("DriverDatabase") is not None
    for number in windows.control_sets.bootable:
        services = services_of(system, number)
        for bus in buses:
            drivers = tuple(driver for driver in bus.drivers if _is_to_be_had(windows, driver, services))
            for driver in drivers:
                _add(values, _started(bus, driver, services, number))
                unwanted += _overridden(system, driver, number)
            if windows.version.number >= _2000 and not has_database:
                _add(values, _tied(system, replace(bus, drivers=drivers), services, number))
    edits: list[HiveEdit] = [*wanted_edits(system, values.values()), *unwanted_edits(system, dict.fromkeys(unwanted))]
    if has_database:
        edits += [edit for bus in buses for edit in _untied(system, bus)]
    return WindowsContribution({SYSTEM: tuple(one_each(edits))}, warnings=tuple(_missing(windows)))


def _add(values: dict[tuple[str, str], WantedValue], more: Iterable[WantedValue]) -> None:
    """Buses share drivers; the first reason stays."""
    for value in more:
        values.setdefault((c.upper(value.key), c.upper(value.name)), value)


def with_fallback(caps: GuestCaps, windows: WindowsFacts) -> GuestCaps:
    """The guest's hardware without the buses whose drivers cannot be had; as it is where that would leave none."""
    return replace(caps, disk_buses=_left(caps, windows) or caps.disk_buses)


def blockers(caps: GuestCaps, windows: WindowsFacts) -> Iterator[Finding]:
    """A guest that no bus is left for."""
    if not _left(caps, windows):
        message = "it has no driver for any disk that KVM has"
        yield Finding("windows.no-disk-driver", message, "Name a medium with virtio's drivers for it with --virtio-win.")


def _left(caps: GuestCaps, windows: WindowsFacts) -> tuple[str, ...]:
    own = {bus.name for bus in _buses(windows) if not _lacks(windows, bus)}
    return tuple(bus for bus in caps.disk_buses if bus in own or bus not in _BUS_NAMES)


def _buses(windows: WindowsFacts) -> tuple[_Bus, ...]:
    version = windows.version.number
    if version < _VISTA:
        return (_IDE_5 if version >= _2000 else _IDE_4,)
    sata = _SATA_8 if version >= _EIGHT else _SATA_6
    # ARM64 came without IDE
    return (sata,) if windows.arch == "aarch64" else (sata, _IDE_6)


def _lacks(windows: WindowsFacts, bus: _Bus) -> tuple[str, ...]:
    """What keeps a bus from being used: files of its drivers (where they are known), an entry of its controller."""
    needed = (driver for driver in bus.drivers if driver.needed)
    files = dict.fromkeys(file for driver in needed for file in _absent_files(windows, driver))
    system = windows.registry[SYSTEM]
    if system.key("DriverDatabase") is None:
        return tuple(files)
    ids = [f"DriverDatabase\\DeviceIds\\PCI\\{id_}" for id_ in (bus.device, *bus.classes)]
    known = any((key := system.key(id_)) is not None and _has_own(system, key) for id_ in ids)
    return (*files, *(() if known else (f"an entry of DriverDatabase for {bus.device}",)))


def _absent_files(windows: WindowsFacts, driver: _Driver) -> tuple[str, ...]:
    known = windows.driver_files
    return tuple(file for file in driver.files if known and file not in known)


def _is_to_be_had(windows: WindowsFacts, driver: _Driver, services: dict[str, Service]) -> bool:
    """Whether its files are there; where they are not known, whether it has a service."""
    return not _absent_files(windows, driver) and (bool(windows.driver_files) or c.upper(driver.service) in services)


def _has_own(system: HiveFile, key: str) -> bool:
    return any(c.upper(value.name) == _OWN_INF for value in system.keys[key])


def _missing(windows: WindowsFacts) -> Iterator[Finding]:
    for bus in _buses(windows):
        lacks = _lacks(windows, bus)
        if lacks:
            message = f"it cannot start from a disk on {bus.title}: it lacks {', '.join(lacks)}"
            hint = "They come with Windows: repair it where it runs (sfc /scannow; on NT 5 from driver.cab), and copy it again."
            yield Finding("windows.no-fallback", message, hint)


def _started(bus: _Bus, driver: _Driver, services: dict[str, Service], number: int) -> Iterator[WantedValue]:
    why = f"it starts from a disk on {bus.title} as well: {driver.service} has to be there before the system disk is"
    known = services.get(c.upper(driver.service))
    if known is not None and known.start is not None:
        yield number_value(known.key, "Start", 0, why)
        return
    key = f"ControlSet{number:03d}\\Services\\{driver.service}"
    for name, value in (("Type", 1), ("Start", 0), ("ErrorControl", 1), ("Tag", driver.tag)):
        yield number_value(key, name, value, why)
    yield text_value(key, "Group", driver.group, why)
    yield WantedValue(key, "ImagePath", REG_EXPAND_SZ, terminated(f"System32\\drivers\\{driver.service}.sys").hex(), why)


def _overridden(system: HiveFile, driver: _Driver, number: int) -> Iterator[UnwantedKey]:
    key = system.key(f"ControlSet{number:03d}\\Services\\{driver.service}\\StartOverride")
    if key is not None and any(value.value().number() != 0 for value in system.keys[key]):
        why = f"Windows 8 and later take it for the start of {driver.service} instead of what Start says"
        yield UnwantedKey(key, why)


def _tied(system: HiveFile, bus: _Bus, services: dict[str, Service], number: int) -> Iterator[WantedValue]:
    """Entries of CriticalDeviceDatabase, by which a device that was never met finds its driver."""
    top = f"ControlSet{number:03d}\\Control\\CriticalDeviceDatabase"
    for driver in bus.drivers:
        for id_ in (*driver.ids, *_undriven(system, top, driver.generic, services)):
            why = f"{driver.service} drives it on {bus.title}, met or not"
            yield from _entry(system, f"{top}\\{id_}", driver.service, _HDC, why)
    # a maker's driver that is tied to more of the controller's id would be tried first
    before = c.upper(f"{top}\\PCI#{bus.device}&")
    own = next((driver.service for driver in bus.drivers if f"PCI#{bus.device}" in driver.ids), None)
    for key in system.below(top) if own is not None else ():
        if c.upper(key).startswith(before) and own is not None and system.text(key, "Service"):
            why = f"{own} drives QEMU's {bus.title} controller, not a driver of the chip that it is like"
            yield from _entry(system, key, own, _HDC, why)
    for id_ in _undriven(system, top, ("GenDisk",), services) if "DISK" in services else ():
        yield from _entry(system, f"{top}\\{id_}", "disk", _DISK, "disk drives a disk that was never met as well")


def _undriven(system: HiveFile, top: str, ids: tuple[str, ...], services: dict[str, Service]) -> Iterator[str]:
    """The ids that no service that is there drives."""
    for id_ in ids:
        if c.upper(system.text(f"{top}\\{id_}", "Service")) not in services:
            yield id_


def _entry(system: HiveFile, key: str, service: str, class_guid: str, why: str) -> Iterator[WantedValue]:
    for name, text in (("Service", service), ("ClassGUID", class_guid)):
        # spelt in another way it is the same
        if c.upper(system.text(key, name)) != c.upper(text):
            yield text_value(key, name, text, why)


def _untied(system: HiveFile, bus: _Bus) -> Iterator[DeleteValue]:
    """DriverDatabase names other INF files than Windows' own for QEMU's controller: they are of the chip that it is like."""
    before = c.upper(f"DriverDatabase\\DeviceIds\\PCI\\{bus.device}")
    for key in system.below("DriverDatabase\\DeviceIds\\PCI"):
        if c.upper(key) == before or c.upper(key).startswith(f"{before}&"):
            for value in system.keys[key]:
                if value.name and c.upper(value.name) != _OWN_INF and not value.cut:
                    why = f"Windows' own driver drives QEMU's {bus.title} controller, not one of the chip that it is like"
                    yield DeleteValue(key, value.name, ValueData(value.type, value.data), why)
