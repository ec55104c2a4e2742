"""Drivers for virtio's devices in the plan of a Windows guest: files carried into it, and edits of its hives. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from drivers.caps import GuestCaps
from drivers.changes import CarryFile
from drivers.plan import Finding
from drivers.windows.contribution import WindowsContribution
from drivers.windows.devices import BLOCK, NETWORK, SCSI
from drivers.windows.driver_changes import DriverChanges, GuestPlace, driver_changes
from drivers.windows.edits import SetValue, ValueData
from drivers.windows.facts import SOFTWARE, SYSTEM, HiveFile, WindowsFacts
from drivers.windows.offer import DriverOffer
from drivers.windows.placed import own_driver
from drivers.windows.wanted import unwanted_edits, wanted_edits

_GROUP = "scsi miniport"
_FIRST_WITH_DRIVERS = (5, 1)
_DEVICE_PATH = ("Microsoft\\Windows\\CurrentVersion", "DevicePath")


def contribute(windows: WindowsFacts, offer: DriverOffer | None) -> WindowsContribution:
    """What the chosen drivers change in the guest; without a medium, that there is none."""
    if offer is None and windows.version.number < _FIRST_WITH_DRIVERS:
        message = "drivers of virtio do not exist for it, so it gets hardware that it has drivers for"
        return WindowsContribution(warnings=(Finding("windows.no-drivers", message),))
    if offer is None:
        message = "no medium of virtio drivers was named or found, so it keeps to hardware that it has drivers for"
        hint = "Name virtio-win.iso, or a folder with its drivers, with --virtio-win; `p2v drivers` shows what is on it."
        return WindowsContribution(warnings=(Finding("windows.no-drivers", message, hint),))
    found = _changes(windows, offer)
    system = windows.registry[SYSTEM]
    edits = {SYSTEM: (*wanted_edits(system, found.values), *unwanted_edits(system, found.unwanted))}
    if SOFTWARE in windows.registry:
        edits[SOFTWARE] = tuple(_device_path(windows.registry[SOFTWARE], found.folders))
    return WindowsContribution(edits, found.files, (*offer.choice.findings, *_replaced(windows, found.files)))


def with_drivers(caps: GuestCaps, offer: DriverOffer | None) -> GuestCaps:
    """What the guest can use with the drivers chosen, before what it has drivers for itself."""
    if offer is None:
        return caps
    has = {driver.device for driver in offer.choice.drivers}
    buses = [bus for device, bus in ((BLOCK, "virtio-blk"), (SCSI, "virtio-scsi")) if device in has]
    cards = ["virtio"] if NETWORK in has else []
    return replace(
        caps,
        disk_buses=(*buses, *caps.disk_buses),
        nic_models=(*cards, *caps.nic_models),
        rng="random" in has,
        balloon="balloon" in has,
        agent="serial" in has,
    )


def installable(windows: WindowsFacts, offer: DriverOffer) -> dict[str, tuple[str, ...]]:
    """The INF files that are carried into the guest, as Windows writes their paths, each with the ids of devices that it is for."""
    changes = _changes(windows, offer)
    return dict(zip(changes.inf_files, changes.device_ids, strict=True))


def _changes(windows: WindowsFacts, offer: DriverOffer) -> DriverChanges:
    system = windows.registry[SYSTEM]
    place = GuestPlace(
        system_root=windows.system_root,
        # beside the folder of the hives, as that is spelt in the guest
        drivers_folder=posixpath.join(posixpath.dirname(posixpath.dirname(system.path)), "drivers"),
        control_sets=windows.control_sets.present,
        has_driver_database=system.key("DriverDatabase") is not None,
        tags={number: _tags(system, number) for number in windows.control_sets.present},
    )
    return driver_changes(offer.choice, offer.catalogue, offer.located, place)


def _replaced(windows: WindowsFacts, files: Iterable[CarryFile]) -> Iterator[Finding]:
    """Drivers of the guest's own in the place of those that it starts with: an old one may not know KVM's devices of today."""
    for file in files:
        name = own_driver(windows, file)
        if name:
            message = f"the guest has another {name} already, which gives way to the medium's"
            yield Finding("driver.replaced", message, "Where its own is newer, name a medium that is newer still.")


def _tags(system: HiveFile, number: int) -> dict[str, int]:
    found = {}
    for key in system.below(f"ControlSet{number:03d}\\Services"):
        tag = system.number(key, "Tag")
        if tag is not None and system.text(key, "Group").lower() == _GROUP:
            found[key.rpartition("\\")[2].lower()] = tag
    return found


def _device_path(hive: HiveFile, folders: Iterable[str]) -> Iterator[SetValue]:
    """Plug and Play looks into the packages' folders as well."""
    key, name = _DEVICE_PATH
    old = hive.value(key, name)
    if old is None:
        return
    known = [folder for folder in (old.text() or "").split(";") if folder]
    has = {folder.lower() for folder in known}
    new = [folder for folder in folders if folder.lower() not in has]
    if new:
        data = (";".join([*known, *new]) + "\0").encode("utf-16-le", "surrogatepass").hex()
        why = "Plug and Play finds the drivers of virtio's devices there"
        yield SetValue(key, name, old.type, data, ValueData(old.type, old.data.hex()), why)
