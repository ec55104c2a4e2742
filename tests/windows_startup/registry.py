"""The SYSTEM hive of the control set that is started: services, and which of them claims a device."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from tests.windows_startup.devices import Device
from tests.windows_startup.hive import Key

DISK_CLASS = "{4d36e967-e325-11ce-bfc1-08002be10318}"
IDE_CLASS = "{4d36e96a-e325-11ce-bfc1-08002be10318}"
SCSI_CLASS = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
KEYBOARD_CLASS = "{4d36e96b-e325-11ce-bfc1-08002be10318}"
MOUSE_CLASS = "{4d36e96f-e325-11ce-bfc1-08002be10318}"
SYSTEM_CLASS = "{4d36e97d-e325-11ce-bfc1-08002be10318}"
VOLUME_CLASS = "{71a27cdd-812a-11d0-bec7-08002be2092f}"
HAL_CLASS = "{4d36e966-e325-11ce-bfc1-08002be10318}"
_DISABLED = 0x1


@dataclass(frozen=True)
class Service:
    """A driver's service as the loader reads it. ``start``: 0 boot, 1 system, 2 automatic, 3 on demand, 4 never."""

    name: str
    start: int
    kind: int
    error_control: int
    group: str
    tag: int
    image: str

    @property
    def is_kernel_driver(self) -> bool:
        return self.kind in (1, 2)


@dataclass(frozen=True)
class Claim:
    """A driver for a device: its service, the device's setup class, and where that was found."""

    service: str
    class_guid: str
    where: str


class Registry:
    """The hive with a control set chosen. Sources: Microsoft, "HKLM\\SYSTEM\\CurrentControlSet\\Services Registry Tree"."""

    def __init__(self, system: Key, control_set: Key) -> None:
        self._system, self._set = system, control_set
        services = control_set.at("Services")
        self._services = services.keys if services else {}

    def key(self, path: str) -> Key | None:
        """A key of the control set."""
        return self._set.at(path)

    def root_key(self, path: str) -> Key | None:
        """A key of the hive outside control sets."""
        return self._system.at(path)

    def service(self, name: str) -> Service | None:
        """A service; None when it has no key, or one without Start."""
        key = self._services.get(name.lower())
        start = key.number("Start") if key else None
        if key is None or start is None:
            return None
        return Service(
            key.name, _overridden(key, start), key.number("Type") or 0, key.number("ErrorControl") or 0, key.text("Group") or "",
            key.number("Tag") or 0, _image(key),
        )  # fmt: skip

    def boot_drivers(self) -> list[Service]:
        """Kernel drivers with Start 0, in the order they are loaded and started.

        Microsoft, "Specifying Driver Load Order" and "GroupOrderList": groups as ``ServiceGroupOrder\\List`` has them, then
        those of no listed group; within a group by the place of the tag in ``GroupOrderList``, untagged ones last.
        """
        key = self._set.at("Control\\ServiceGroupOrder")
        groups = [group.lower() for group in key.texts("List")] if key else []
        found = [service for name in self._services if (service := self.service(name)) and service.start == 0]

        def order(service: Service) -> tuple[int, int]:
            group = service.group.lower()
            tags = self._tags(group)
            place = tags.index(service.tag) if service.tag in tags else len(tags)
            return groups.index(group) if group in groups else len(groups), place

        return sorted((service for service in found if service.is_kernel_driver), key=order)

    def in_group(self, group: str) -> list[Service]:
        """The services of a group, whatever their Start."""
        found = (self.service(name) for name in self._services)
        return [service for service in found if service and service.group.lower() == group.lower()]

    def _tags(self, group: str) -> list[int]:
        key = self._set.at("Control\\GroupOrderList")
        data = key.values.get(group, b"") if key else b""
        numbers = [number for (number,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4])]
        return numbers[1 : 1 + numbers[0]] if numbers else []

    def claim(self, device: Device) -> Claim | None:
        """The driver that a device gets this early: nothing is installed before the system volume is there.

        A device that is known already, instance and all, keeps its driver (Microsoft,
        "HKLM\\SYSTEM\\CurrentControlSet\\Enum"). Another gets what the database of devices needed to start has for one of its
        ids, the best fit first: ``DriverDatabase`` where the hive has that key (8 and later), else ``CriticalDeviceDatabase``
        (Microsoft Q314082).
        """
        for database in (self._installed, self._driver_database if self._has_driver_database else self._critical_device):
            found = database(device)
            if found:
                return found
        return None

    @property
    def _has_driver_database(self) -> bool:
        return self._system.at("DriverDatabase") is not None

    def _installed(self, device: Device) -> Claim | None:
        key = self._set.at(f"Enum\\{device.device_id}")
        for instance in key.keys.values() if key else ():
            service, flags = instance.text("Service"), instance.number("ConfigFlags") or 0
            if service and not flags & _DISABLED:
                return Claim(service, (instance.text("ClassGUID") or "").lower(), f"Enum\\{device.device_id}\\{instance.name}")
        return None

    def _critical_device(self, device: Device) -> Claim | None:
        """``CriticalDeviceDatabase\\PCI#VEN_...``: an id with # for the backslash, Service and ClassGUID."""
        database = self._set.at("Control\\CriticalDeviceDatabase")
        for known in device.ids if database else ():
            name = known.replace("\\", "#")
            key = database.at(name) if database else None
            service = key.text("Service") if key else None
            if key and service:
                return Claim(service, (key.text("ClassGUID") or "").lower(), f"CriticalDeviceDatabase\\{name}")
        return None

    def _driver_database(self, device: Device) -> Claim | None:
        """``DeviceIds\\ID`` → INF file → its active package → the id's descriptor → configuration → service.

        The keys are in no documentation; exports posted in public, and what libguestfs is known to write, agree on them. A
        chain with a link missing claims nothing.
        """
        database = self._system.at("DriverDatabase")
        for known in device.ids if database else ():
            ids = database.at(f"DeviceIds\\{known}") if database else None
            for inf in ids.values if ids else ():
                found = self._package(database, inf, known) if database else None
                if found:
                    return found
        return None

    @staticmethod
    def _package(database: Key, inf: str, known: str) -> Claim | None:
        file = database.at(f"DriverInfFiles\\{inf}")
        label = file.text("Active") if file else None
        package = database.at(f"DriverPackages\\{label}") if label else None
        descriptor = package.at(f"Descriptors\\{known}") if package else None
        configuration = descriptor.text("Configuration") if descriptor else None
        key = package.at(f"Configurations\\{configuration}") if package and configuration else None
        service = key.text("Service") if key else None
        version = package.values.get("version", b"") if package else b""
        if not service or len(version) < 24:
            return None
        return Claim(service, f"{{{uuid.UUID(bytes_le=version[8:24])}}}", f"DriverDatabase, {known} in {inf}")

    def filters(self, class_guid: str) -> tuple[str, ...]:
        """The class' filters, lower ones first (Microsoft, "Registry Entries for Device Setup Classes")."""
        return self.filters_at(f"Control\\Class\\{class_guid}")

    def filters_at(self, path: str) -> tuple[str, ...]:
        """The filters in the lists of a key of the control set."""
        key = self._set.at(path)
        return (*key.texts("LowerFilters"), *key.texts("UpperFilters")) if key else ()


def _overridden(key: Key, start: int) -> int:
    """Start, unless ``StartOverride`` has another for this hardware configuration (8 and later).

    Known from the change of a machine from IDE to AHCI: with ``storahci`` at Start 0 it still stops with 0x7B while
    ``StartOverride\\0`` is 3.
    """
    override = key.at("StartOverride")
    found = [override.number(name) for name in override.values] if override else []
    return next((number for number in found if number is not None), start)


def _image(key: Key) -> str:
    """The driver's file below the system root; without ImagePath it is system32\\drivers\\NAME.sys."""
    image = (key.text("ImagePath") or f"system32\\drivers\\{key.name}.sys").replace("/", "\\")
    for prefix in ("\\systemroot\\", "%systemroot%\\"):
        if image.lower().startswith(prefix):
            image = image[len(prefix) :]
    return image
