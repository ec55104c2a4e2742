"""A simulated start, step by step."""

from __future__ import annotations

import struct

from tests.windows_startup import devices, firmware, hive, loaders, programs, registry
from tests.windows_startup.devices import Device
from tests.windows_startup.hive import Key
from tests.windows_startup.loaders import System
from tests.windows_startup.machine import Machine
from tests.windows_startup.registry import Claim, Registry, Service
from tests.windows_startup.verdict import Doubt, Reason, Startup, Stopped, Target, Trace

_CONFIG = "system32/config"
_OTHER_HIVES = ("SOFTWARE", "SAM", "SECURITY", "DEFAULT")
_SESSION_FILES = ("smss.exe", "csrss.exe", "ntdll.dll", "winlogon.exe", "services.exe", "lsass.exe")
# NT 4.0 has no Plug and Play: a miniport looks for its own adapter. What these find, by vendor and device or by class.
_NT4_MINIPORTS = {"atapi": ("0101",), "buslogic": ("104b1040",), "symc810": ("10000001",), "aic78xx": ("90047078", "90048178")}
_OFFLINE_ALL, _OFFLINE_SHARED = 3, 2
_NEVER = 4
_INPUT_DEVICES = ("PNP0303", "PNP0F13")


def start(machine: Machine, target: Target, *, last_known_good: bool = False, entry: str = "", control_set: int = 0) -> Startup:
    """Start the machine on the target's hardware.

    ``last_known_good`` and ``entry`` (the identifier of a BCD object): as when that is chosen from the menu. ``control_set``: as
    when somebody has made that one the default.
    """
    trace = Trace()
    try:
        system = _loaded(machine, target, trace, entry)
        registry_ = _control_set(system, trace, last_known_good=last_known_good, wanted=control_set)
        _load_boot_drivers(system, registry_, trace)
        _reach_disk(system, registry_, target.controller, trace)
        _reach_volume(system, registry_, trace)
        _start_session(system)
        _look_further(machine, system, registry_, target, trace)
    except Stopped as stopped:
        return trace.ended(stopped.stop)
    return trace.ended(None)


def begun(machine: Machine, target: Target, *, last_known_good: bool = False, control_set: int = 0) -> tuple[System, Registry]:
    """What a start has before its first driver runs: the system, and the registry of its control set. Raises ``Stopped``."""
    trace = Trace()
    system = _loaded(machine, target, trace, "")
    return system, _control_set(system, trace, last_known_good=last_known_good, wanted=control_set)


def _loaded(machine: Machine, target: Target, trace: Trace, entry: str) -> System:
    if target.uefi:
        boot, _ = firmware.by_uefi(machine, target, trace)
        return loaders.by_bootmgr(machine, boot, "EFI/Microsoft/Boot/BCD", trace, entry)
    boot, loader = firmware.by_bios(machine, target, trace)
    if loader == "NTLDR":
        return loaders.by_ntldr(machine, boot, trace)
    return loaders.by_bootmgr(machine, boot, "Boot/BCD", trace, entry)


def _control_set(system: System, trace: Trace, *, last_known_good: bool, wanted: int) -> Registry:
    """The control set that ``Select\\Default`` names (``LastKnownGood`` when that is asked for), and the tables of
    characters.

    Microsoft Q100010 ("What are Control Sets? What is CurrentControlSet?"): Default is what the next start uses; Current is
    what the last one used. The loader reads the NLS files that ``Control\\Nls`` names (Windows 2000 resource kit, "Startup
    process").
    """
    root = hive_of(system, "SYSTEM")
    select = root.at("Select")
    name = "LastKnownGood" if last_known_good else "Default"
    number = wanted or (select.number(name) if select else None)
    control_set = root.at(f"ControlSet{number:03d}") if number else None
    if control_set is None or number is None:
        raise Stopped(Reason.NO_CONTROL_SET, f"Select\\{name} is {number}")
    trace.control_set = number
    trace.step(f"registry: control set {number} ({name})")
    registry_ = Registry(root, control_set)
    for table, value in (("CodePage", "ACP"), ("CodePage", "OEMCP"), ("Language", "Default")):
        key = registry_.key(f"Control\\Nls\\{table}")
        file = key.text(key.text(value) or "") if key else None
        if not file or system.read(f"system32/{file}") is None:
            raise Stopped(Reason.FILE_MISSING, f"the table of Control\\Nls\\{table}\\{value} ({file})")
    return registry_


def hive_of(system: System, name: str) -> Key:
    """The root of a hive; ``Stopped`` when it is missing or not as the system takes it."""
    data = system.read(f"{_CONFIG}/{name}")
    if data is None:
        raise Stopped(Reason.HIVE_MISSING, f"{system.root}\\system32\\config\\{name}")
    return hive.opened(data, name)


def _load_boot_drivers(system: System, registry_: Registry, trace: Trace) -> None:
    """The loader reads every boot-start driver before the kernel runs.

    Microsoft, "Services Registry Tree": ErrorControl 0 lets a start go on without the driver. 1 to 3 count as a stop here: a
    loader that cannot read a driver's file says so and ends, or starts a system that lacks it, and neither is what a
    conversion may leave.
    """
    drivers = registry_.boot_drivers()
    for service in drivers:
        try:
            _check_image(system, service)
        except Stopped as stopped:
            if service.error_control or stopped.stop.reason is not Reason.BOOT_DRIVER_MISSING:
                raise
            trace.doubt(Doubt.IGNORED_DRIVER, stopped.stop.evidence)
    trace.boot_drivers = tuple(service.name for service in drivers)
    trace.step(f"boot drivers: {', '.join(trace.boot_drivers)}")


def _check_image(system: System, service: Service) -> None:
    content = system.read(service.image)
    if content is None:
        raise Stopped(Reason.BOOT_DRIVER_MISSING, f"{service.name}: {service.image}")
    programs.check(content, service.image, system.machine)


def _reach_disk(system: System, registry_: Registry, controller: Device, trace: Trace) -> None:
    """The chain of devices down to the disk: bus, controller, IDE channel where there is one, disk.

    Each needs a boot-start driver (Microsoft, "Bug Check 0x7B: INACCESSIBLE_BOOT_DEVICE").
    """
    if registry_.key("Control\\Class") is None:
        service = _nt4_miniport(registry_, controller)
        trace.storage_service = service.name
        trace.step(f"controller: {controller.name} by {service.name}, which finds it itself")
        _boot_service(registry_, Claim("Disk", "", "NT 4.0's disk class driver"), devices.DISK)
        return
    # the bus that the controller is on
    _check_filters(system, registry_, registry.SYSTEM_CLASS)
    claim = _claimed(system, registry_, controller)
    trace.storage_service = claim.service
    trace.step(f"controller: {controller.name} by {claim.service} ({claim.where})")
    _check_filters(system, registry_, claim.class_guid)
    channel = _channel(claim)
    if channel:
        # atapi.sys drives the channels of intelide, pciide and msahci (Microsoft, "IDE Controller Minidrivers")
        on_channel = _claimed(system, registry_, channel)
        trace.step(f"channel: {channel.name} by {on_channel.service} ({on_channel.where})")
    disk = _claimed(system, registry_, devices.DISK)
    trace.step(f"disk: by {disk.service} ({disk.where})")
    _check_filters(system, registry_, registry.DISK_CLASS)


def _channel(claim: Claim) -> Device | None:
    service = claim.service.lower()
    if service in ("intelide", "pciide"):
        return devices.PRIMARY_CHANNEL
    return devices.INTERNAL_CHANNEL if service == "msahci" else None


def _nt4_miniport(registry_: Registry, controller: Device) -> Service:
    for service in registry_.boot_drivers():
        for found in _NT4_MINIPORTS.get(service.name.lower(), ()):
            if found in (controller.vendor + controller.device, controller.class_code[:4]):
                return service
    raise Stopped(Reason.NO_STORAGE_DRIVER, f"{controller.device_id} ({controller.name}): no boot-start miniport looks for it")


def _claimed(system: System, registry_: Registry, device: Device) -> Claim:
    claim = registry_.claim(device)
    if claim is None:
        raise Stopped(Reason.NO_STORAGE_DRIVER, f"{device.device_id} ({device.name})")
    service = _boot_service(registry_, claim, device)
    _check_image(system, service)
    return claim


def _boot_service(registry_: Registry, claim: Claim, device: Device) -> Service:
    service = registry_.service(claim.service)
    if service is None:
        raise Stopped(Reason.STORAGE_DRIVER_ABSENT, f"{claim.service} for {device.name}, says {claim.where}")
    if service.start != 0:
        raise Stopped(Reason.STORAGE_DRIVER_NOT_BOOT_START, f"{service.name} for {device.name} has Start {service.start}")
    # the loader takes what says that it is one (Microsoft, "Services Registry Tree": Type 1, or 2 for a file system)
    if not service.is_kernel_driver:
        raise Stopped(Reason.NO_KERNEL_DRIVER, f"{service.name} for {device.name} has Type {service.kind}")
    return service


def _check_filters(system: System, registry_: Registry, class_guid: str) -> None:
    """Every filter of a class is part of each of its devices: one that cannot be loaded keeps the device from starting.

    Microsoft, "Device nodes and device stacks" and the device problem code CM_PROB_DRIVER_FAILED_LOAD (39); of a disk that is
    needed to start, it is a 0x7B.
    """
    for name in registry_.filters(class_guid):
        service = registry_.service(name)
        if service is None:
            raise Stopped(Reason.FILTER_MISSING, f"{name} of class {class_guid}")
        if service.start != 0:
            raise Stopped(Reason.FILTER_NOT_BOOT_START, f"{name} of class {class_guid} has Start {service.start}")
        _check_image(system, service)


def _reach_volume(system: System, registry_: Registry, trace: Trace) -> None:
    """From disk to file system: partition manager, volume manager, mount manager, the file system's driver.

    Windows 2000 resource kit, "Disk concepts" (ftdisk); "Volume manager" (volmgr) for Vista and later. The loader brings the
    driver of the start volume's file system in whatever its Start is: "boot file system" ("File system filter load order":
    NTFS is disabled and still loaded for the start volume).
    """
    if registry_.key("Control\\Class"):
        modern = registry_.service("volmgr") is not None
        root = "volmgr" if modern else "ftdisk"
        for name in ("PartMgr", root, "MountMgr"):
            service = registry_.service(name)
            if service is None or service.start != 0:
                raise Stopped(Reason.NO_VOLUME_MANAGER, f"{name} has Start {service.start if service else 'no key'}")
        if registry_.key(f"Enum\\Root\\{root}") is None:
            raise Stopped(Reason.NO_VOLUME_MANAGER, f"Enum\\Root\\{root} is missing")
        _check_filters(system, registry_, registry.VOLUME_CLASS)
    name = "Ntfs" if system.volume.kind == "ntfs" else "Fastfat"
    service = registry_.service(name)
    if service is None or system.read(service.image) is None:
        raise Stopped(Reason.NO_FILE_SYSTEM, f"{name} for {system.volume.partition}")
    _check_image(system, service)
    trace.step(f"volume: {name} on {system.volume.partition}")


def _start_session(system: System) -> None:
    """The session manager and what it starts, and the hives it loads (Windows Internals, "Smss, Csrss, and Wininit")."""
    for name in _SESSION_FILES:
        content = system.read(f"system32/{name}")
        if content is None:
            raise Stopped(Reason.FILE_MISSING, f"{system.root}\\system32\\{name}")
        programs.check(content, name, system.machine)
    for name in _OTHER_HIVES:
        hive_of(system, name)


def _look_further(machine: Machine, system: System, registry_: Registry, target: Target, trace: Trace) -> None:
    _look_at_letter(machine, system, registry_, trace)
    if system.volume.dirty:
        trace.doubt(Doubt.CHECK_AT_START, str(system.volume.partition))
    # NT 4.0's card drivers are told where their card is
    if target.card and registry_.key("Control\\Class") and not _has_card_driver(system, registry_, target.card):
        trace.doubt(Doubt.NO_NETWORK_DRIVER, f"{target.card.device_id} ({target.card.name})")
    _look_at_other_disks(machine, registry_, target, trace)
    _look_at_processors(registry_, target, trace)
    _look_at_input(registry_, trace)


def _look_at_letter(machine: Machine, system: System, registry_: Registry, trace: Trace) -> None:
    """``MountedDevices``: the letter in SystemRoot must be the system volume's (Microsoft Q223188)."""
    mounted = registry_.root_key("MountedDevices")
    software = hive_of(system, "SOFTWARE").at("Microsoft\\Windows NT\\CurrentVersion")
    letter = ((software.text("SystemRoot") if software else None) or "C:")[:2]
    data = mounted.values.get(f"\\dosdevices\\{letter}".lower()) if mounted else None
    partition = system.volume.partition
    disk = machine.disks[partition.disk]
    if disk.guid and partition.guid:
        here = b"DMIO:ID:" + partition.guid.bytes_le
    else:
        here = struct.pack("<IQ", disk.signature, partition.offset)
    if data is not None and data != here:
        trace.doubt(Doubt.DRIVE_LETTER, f"{letter} is {data.hex()}, the system volume is {here.hex()}")


def _has_card_driver(system: System, registry_: Registry, card: Device) -> bool:
    """A card needs no driver at boot: one that is known, or an INF file where Plug and Play looks (``DevicePath``)."""
    if registry_.claim(card):
        return True
    current = hive_of(system, "SOFTWARE").at("Microsoft\\Windows\\CurrentVersion")
    folders = ((current.text("DevicePath") if current else None) or "%SystemRoot%\\inf").split(";")
    ids = [known.upper() for known in card.ids]
    for folder in folders:
        path = folder.strip().replace("\\", "/")
        if path.lower().startswith("%systemroot%"):
            path = system.root + path[len("%systemroot%") :]
        for name in system.volume.names(path):
            text = (system.volume.read(f"{path}/{name}") or b"") if name.lower().endswith(".inf") else b""
            content = _text(text).upper()
            if any(known in content for known in ids):
                return True
    return False


def _text(data: bytes) -> str:
    """An INF file's text: UTF-16 with a mark, or a code page ("General Syntax Rules for INF Files")."""
    return data.decode("utf-16", "replace") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("cp1252", "replace")


def _look_at_processors(registry_: Registry, target: Target, trace: Trace) -> None:
    """NT 5's HAL is one for a kind of machine, and its intelppm ends in 0x7E on a processor that is none of Intel's.

    Microsoft Q309283 ("HAL options after Windows XP or Windows Server 2003 Setup"); Q888372 (stop 0x7E on a non-Intel processor).
    """
    hal = registry_.key(f"Control\\Class\\{registry.HAL_CLASS}\\0000")
    name = (hal.text("MatchingDeviceId") if hal else None) or ""
    if target.processors > 1 and name.endswith("_up"):
        trace.doubt(Doubt.IDLE_PROCESSORS, f"{name} on {target.processors} processors")
    service = registry_.service("intelppm")
    if not target.intel and service and service.start <= 1 and hal:
        trace.doubt(Doubt.PROCESSOR_DRIVER, f"{service.name} has Start {service.start}")


def _look_at_input(registry_: Registry, trace: Trace) -> None:
    """A device whose filter cannot be loaded does not start (device problem codes 32 and 39); Start 3 is enough so late."""
    places = [f"Control\\Class\\{guid}" for guid in (registry.KEYBOARD_CLASS, registry.MOUSE_CLASS)]
    for id_ in _INPUT_DEVICES:
        device = registry_.key(f"Enum\\ACPI\\{id_}")
        # QEMU's have the same ids, and may be given the same instance
        places += [f"Enum\\ACPI\\{id_}\\{instance.name}" for instance in (device.keys.values() if device else ())]
    for place in places:
        for name in registry_.filters_at(place):
            service = registry_.service(name)
            if service is None or service.start == _NEVER:
                trace.doubt(Doubt.NO_INPUT, f"{name} of {place}")


def _look_at_other_disks(machine: Machine, registry_: Registry, target: Target, trace: Trace) -> None:
    """Microsoft, "SAN policy": 3 leaves every newly found disk offline but the one that was started from, 2 those on a shared
    bus.

    Disks behind a controller that the guest does not know are newly found. Parallel SCSI, SAS and what says it is one
    (viostor, vioscsi) count as shared; ATA and NVMe do not.
    """
    key = registry_.key("Services\\partmgr\\Parameters")
    policy = key.number("SanPolicy") if key else None
    own_bus = target.controller.class_code[:4] in ("0101", "0106", "0108")
    offline = policy == _OFFLINE_ALL or (policy == _OFFLINE_SHARED and not own_bus)
    known = registry_.key(f"Enum\\{target.controller.device_id}") is not None
    if len(machine.disks) > 1 and offline and not known:
        trace.doubt(Doubt.DATA_DISK_OFFLINE, f"SanPolicy {policy}, {len(machine.disks) - 1} further disks")
