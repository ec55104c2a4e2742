"""What a choice of drivers puts into a guest: files and registry values, as values. Pure; nothing is read here.

* Every package goes into a folder of its own, ``%SystemRoot%\\Drivers\\VirtIO\\NAME``, complete with its catalogue: packages
  may have files of the same name. Plug and Play finds them there once DevicePath names the folders, or pnputil is given them.
* The drivers of disks are made ready for the first start, before Plug and Play has seen the new hardware: program in
  System32\\drivers, service key as the INF file wants it, and an entry that ties the device's ids to the service. That is
  DriverDatabase where the SYSTEM hive has one (Windows 8 and later), CriticalDeviceDatabase else; the key's presence decides.
  Services and critical devices are per control set, so every set gets them; a set that lacks them would not start.

Sources: Microsoft, "CreateServiceW" (Type, Start, ErrorControl, Group, Tag) and knowledge base article 103000 (what they mean to
the loader); "INF AddService Directive". The databases are not documented: their keys are those that virt-v2v (2.2, and its changes
up to 2025) writes, which guests are known to start with.
"""

from __future__ import annotations

import posixpath
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from drivers.changes import CarryFile, Member
from drivers.windows.devices import BLOCK, SCSI, Device, device_by_id
from drivers.windows.driver_choice import ChosenDriver, DriverChoice
from drivers.windows.inf import Install, Service
from drivers.windows.inf_registry import (
    REG_BINARY,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    RegistryOperation,
    multi_text,
    terminated,
)
from drivers.windows.inf_targets import Architecture
from drivers.windows.media import MediumMember
from drivers.windows.virtio_win import DriverCatalogue, DriverPackage
from drivers.windows.wanted import UnwantedKey, WantedValue, number_value, text_value

BOOT_DEVICES = (BLOCK, SCSI)
_FOLDER = ("Drivers", "VirtIO")
_BOOT_START = 0
_KERNEL_DRIVER = 1
_NORMAL = 1
# in the place of the digest that a label of the driver store ends with
_NO_DIGEST = "0" * 16
# revisions of QEMU's PCI devices: 0 for transitional ones, 1 for modern
_REVISIONS = {True: "REV_01", False: "REV_00"}
_RANK = bytes.fromhex("01ff0000")
_PACKAGE_VERSION = struct.Struct("<HHI16s24x")


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """Where drivers go in a guest. Paths are resolved, as the guest's file system spells them.

    ``control_sets``: numbers of all there are. ``tags``: for each set those of the services in the group of storage drivers, by
    the service's name in lower case.
    """

    system_root: str
    drivers_folder: str
    control_sets: tuple[int, ...]
    has_driver_database: bool
    tags: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriverChanges:
    """``files`` to carry, ``values`` and ``unwanted`` of the SYSTEM hive; ``folders``: for DevicePath, as Windows writes paths.

    ``inf_files``: what pnputil is to be given, in the order of the devices; ``device_ids``: those that each of them is for here.
    """

    files: tuple[CarryFile, ...]
    values: tuple[WantedValue, ...]
    unwanted: tuple[UnwantedKey, ...]
    folders: tuple[str, ...]
    inf_files: tuple[str, ...]
    device_ids: tuple[tuple[str, ...], ...] = ()


def members_of(choice: DriverChoice, catalogue: DriverCatalogue) -> tuple[str, ...]:
    """The files of the medium that a choice needs, for ``media.locate``."""
    chosen = _packages(choice, catalogue)
    return tuple(dict.fromkeys(member for each in chosen for member, _ in _members(each, choice.target.arch)))


def driver_changes(
    choice: DriverChoice, catalogue: DriverCatalogue, located: Sequence[MediumMember], place: GuestPlace
) -> DriverChanges:
    """What the choice puts into a guest. ``located``: of all that ``members_of`` names."""
    by_member = {each.member: each for each in located}
    files: dict[str, CarryFile] = {}
    values, unwanted = list[WantedValue](), list[UnwantedKey]()
    chosen = _packages(choice, catalogue)
    tags = {number: dict(place.tags.get(number, {})) for number in place.control_sets}
    for each in chosen:
        folder = posixpath.join(place.system_root, *_FOLDER, each.folder)
        why = f"Plug and Play installs {each.package.name} ({each.package.version.version or 'no version'}) from it"
        for member, name in _members(each, choice.target.arch):
            path = posixpath.join(folder, name)
            files.setdefault(path.lower(), _carried(by_member[member], path, why))
    for driver, package, service, program in _boot_drivers(chosen):
        path = posixpath.join(place.drivers_folder, service.binary.lower())
        why = f"the loader starts the driver of {_title(driver)} from it"
        files.setdefault(path.lower(), _carried(by_member[program], path, why))
        for number, taken in tags.items():
            values += _service_values(driver, service, f"ControlSet{number:03d}", _tag(service, taken))
        values += _registered(driver, package, service, place, choice.target.arch)
        unwanted += _overrides(service, place)
    folders = tuple("\\".join(("%SystemRoot%", *_FOLDER, each.folder)) for each in chosen)
    inf_files = tuple(f"{folder}\\{each.package.name}.inf" for folder, each in zip(folders, chosen, strict=True))
    ids = tuple(tuple(dict.fromkeys(id_ for driver in each.drivers for id_ in driver.ids)) for each in chosen)
    wanted, not_wanted = tuple(dict.fromkeys(values)), tuple(dict.fromkeys(unwanted))
    return DriverChanges(tuple(files.values()), wanted, not_wanted, folders, inf_files, ids)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A package with what it is chosen for; ``folder``: its name in the guest."""

    folder: str
    package: DriverPackage
    install: Install
    drivers: tuple[ChosenDriver, ...]


def _packages(choice: DriverChoice, catalogue: DriverCatalogue) -> list[_Chosen]:
    by_path = {package.inf: package for package in catalogue.packages}
    wanted: dict[str, list[ChosenDriver]] = {}
    for driver in choice.drivers:
        wanted.setdefault(driver.inf, []).append(driver)
    found = list[_Chosen]()
    for path, drivers in wanted.items():
        package = by_path[path]
        install = package.installed(drivers[0].model, choice.target.arch)
        if install is None:
            continue
        same = sum(each.package.name == package.name for each in found)
        folder = f"{package.name}-{same + 1}" if same else package.name
        found.append(_Chosen(folder, package, install, tuple(drivers)))
    return found


def _boot_drivers(chosen: Sequence[_Chosen]) -> Iterator[tuple[ChosenDriver, DriverPackage, Service, str]]:
    """The drivers of disks, each with the path of its program on the medium."""
    for each in chosen:
        service, program = each.install.service, _program(each)
        if service is not None and program is not None:
            yield from ((driver, each.package, service, program) for driver in each.drivers if driver.device in BOOT_DEVICES)


def _members(chosen: _Chosen, arch: Architecture) -> Iterator[tuple[str, str]]:
    """Paths on the medium, and names below the package's folder: the INF file, its catalogue, and what it copies."""
    package = chosen.package
    yield package.inf, f"{package.name}.inf"
    catalog = package.catalog(arch)
    if catalog is not None and catalog.file.path is not None:
        yield catalog.file.path, catalog.file.source
    for member in chosen.install.files:
        file = package.file(member.source)
        if file is not None and file.path is not None:
            yield file.path, member.source


def _program(chosen: _Chosen) -> str | None:
    """The path on the medium of what the service starts."""
    service = chosen.install.service
    for member in chosen.install.files if service is not None else ():
        file = chosen.package.file(member.source)
        if service is not None and file is not None and _names(member.source, service.binary):
            return file.path
    return None


def _names(source: str, binary: str) -> bool:
    return posixpath.basename(source).lower() == binary.lower()


def _carried(found: MediumMember, path: str, why: str) -> CarryFile:
    member = Member(found.member, found.offset) if found.offset is not None else None
    return CarryFile(found.source, found.size, found.sha256, path, 0o644, why, member)


def _title(driver: ChosenDriver) -> str:
    return device_by_id(driver.device).title


# --- the SYSTEM hive ---------------------------------------------------------------------------------------


def _registered(
    driver: ChosenDriver, package: DriverPackage, service: Service, place: GuestPlace, arch: Architecture
) -> Iterator[WantedValue]:
    """What ties the device's ids to the service."""
    device = device_by_id(driver.device)
    ids = tuple(_ids(device, driver))
    if place.has_driver_database:
        yield from _driver_database(driver, package, service, ids, arch)
        return
    for number in place.control_sets:
        for id_ in ids:
            key = f"ControlSet{number:03d}\\Control\\CriticalDeviceDatabase\\PCI#{id_}"
            why = f"{_title(driver)} have a driver before Plug and Play has installed one"
            yield text_value(key, "Service", service.name, why)
            yield text_value(key, "ClassGUID", package.version.class_guid, why)


def _service_values(driver: ChosenDriver, service: Service, control_set: str, tag: int | None) -> Iterator[WantedValue]:
    key = f"{control_set}\\Services\\{service.name}"
    why = f"the loader starts the driver of {_title(driver)}, as its INF file says"
    yield number_value(key, "Type", _KERNEL_DRIVER if service.type is None else service.type, why)
    yield number_value(key, "Start", _BOOT_START, f"the driver of {_title(driver)} has to be there before the system disk is")
    yield number_value(key, "ErrorControl", _NORMAL if service.error_control is None else service.error_control, why)
    if service.group:
        yield text_value(key, "Group", service.group, why)
    if tag is not None:
        yield number_value(key, "Tag", tag, f"its place among the drivers of {service.group}")
    # below %SystemRoot%, whatever folder of the driver store the INF file names: Plug and Play has not put it there yet
    path = f"System32\\drivers\\{service.binary.lower()}"
    yield WantedValue(key, "ImagePath", REG_EXPAND_SZ, terminated(path).hex(), why)
    if service.display_name:
        yield text_value(key, "DisplayName", service.display_name, why)
    for entry in service.registry:
        if entry.root == "HKR" and entry.operation is RegistryOperation.SET:
            below = f"{key}\\{entry.key}" if entry.key else key
            yield WantedValue(below, entry.name, entry.type, entry.data, why)


def _tag(service: Service, taken: dict[str, int]) -> int | None:
    """The tag it has already, else the next free one, which is taken then; none where no driver of the group has one."""
    if taken and service.group:
        taken.setdefault(service.name.lower(), max(taken.values()) + 1)
    return taken.get(service.name.lower())


def _overrides(service: Service, place: GuestPlace) -> Iterator[UnwantedKey]:
    for number in place.control_sets:
        why = f"Windows 8 and later take it for the start of {service.name} instead of what Start says"
        yield UnwantedKey(f"ControlSet{number:03d}\\Services\\{service.name}\\StartOverride", why)


def _ids(device: Device, driver: ChosenDriver) -> Iterator[str]:
    """The ids that the INF file is for, without ``PCI\\``: with the revision, and without for any other."""
    for modern, ids in ((False, device.legacy), (True, device.modern)):
        for id_ in ids:
            bus, _, rest = id_.partition("\\")
            if bus == "PCI" and Device(device.id, "", (id_,)).matching(driver.ids):
                yield f"{rest}&{_REVISIONS[modern]}"
                yield rest


def _driver_database(
    driver: ChosenDriver, package: DriverPackage, service: Service, ids: Sequence[str], arch: Architecture
) -> Iterator[WantedValue]:
    """An entry as if the package were installed. Its name is none of the driver store's, so that the real one can follow.

    The label has a real one's form: tools that list drivers take it apart.
    """
    inf = f"p2v-{package.name}.inf"
    label, configuration = f"{inf}_{arch.value}_{_NO_DIGEST}", f"{package.name}_conf"
    why = f"{_title(driver)} have a driver before Plug and Play has installed one"
    top = "DriverDatabase"
    infs, packages = f"{top}\\DriverInfFiles\\{inf}", f"{top}\\DriverPackages\\{label}"
    yield WantedValue(infs, "", REG_MULTI_SZ, multi_text([label]).hex(), why)
    yield text_value(infs, "Active", label, why)
    yield WantedValue(infs, "Configurations", REG_MULTI_SZ, multi_text([configuration]).hex(), why)
    for id_ in ids:
        yield WantedValue(f"{top}\\DeviceIds\\PCI\\{id_}", inf, REG_BINARY, _RANK.hex(), why)
        yield text_value(f"{packages}\\Descriptors\\PCI\\{id_}", "Configuration", configuration, why)
    version = _PACKAGE_VERSION.pack(0xFF00, 9, 0, uuid.UUID(package.version.class_guid).bytes_le)
    yield WantedValue(packages, "Version", REG_BINARY, version.hex(), f"{why}; Windows 10 and later want it")
    yield number_value(f"{packages}\\Configurations\\{configuration}", "ConfigFlags", 0, why)
    yield text_value(f"{packages}\\Configurations\\{configuration}", "Service", service.name, why)
