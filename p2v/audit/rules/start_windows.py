"""How a Windows guest starts: boot sector and boot manager, boot entry, loader, kernel, control set, boot-start drivers.

The chain is proven for the machine that it will be on KVM. What planning blocks is the plan's finding, and only a link here.

Sources: Microsoft, "Boot process and system files" (resource kits of NT 4.0 and 2000), "How the Windows boot process works",
Q100010 (control sets: the next start takes Default), "Services Registry Tree" (Start, ErrorControl, Type), "File system filter
load order" (the driver of the start volume's file system is brought in whatever its Start is).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.changes import EditHive
from drivers.facts import GuestFacts
from drivers.start_files import StartFile, StartRole
from drivers.windows.boot_entries import named_boot
from drivers.windows.boot_facts import WindowsBoot
from drivers.windows.edits import DeleteKey, DeleteValue, SetValue
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.services import Service, services_of
from drivers.windows.start_files import default_entry, driver_path, managers
from p2v.audit.chain import Judged, at_disk, at_file, finding, findings_of, shown, told_by_plan
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.machine import Firmware

DRIVERS_AT_MOST = 2000
_OTHER_LOADERS = frozenset({"grub1", "grub2", "lilo", "syslinux", "zipl"})
_BOOT_START, _KERNEL_DRIVER, _FILE_SYSTEM_DRIVER = 0, 1, 2
_FILE_SYSTEMS = {"ntfs": "ntfs.sys", "vfat": "fastfat.sys"}
_NO_MANAGER = (
    "windows.boot-disk", "windows.no-boot-code", "windows.several-active", "windows.no-active-partition", "windows.hidden-sectors",
    "windows.no-boot-manager", "windows.no-fallback", "windows.dirty-volume",
)  # fmt: skip
_NO_ENTRY = (
    "windows.no-boot-store", "windows.no-boot-entry", "windows.boot-entry-elsewhere", "windows.boot-device",
    "windows.boot-virtual-disk", "windows.no-disk-signature", "windows.boot-ini",
)  # fmt: skip
_NO_REGISTRY = ("windows.hive-unreadable", "windows.hive-damaged", "windows.no-control-set", "windows.hibernated")
_UNREADABLE = "its registry could not be read"


def check(examined: Examined) -> Iterator[AuditFinding]:
    """Everything that keeps a Windows guest from starting, or that nobody could see."""
    yield from findings_of(links(examined))


def links(examined: Examined) -> tuple[Judged, ...]:
    """The chain of a Windows guest; empty for other guests."""
    facts, windows = examined.document.facts, examined.document.facts.windows
    if windows is None:
        return ()
    return (
        manager_link(examined, facts, windows),
        entry_link(examined, windows),
        loader_link(examined, facts, windows),
        kernel_link(examined, facts, windows),
        registry_link(examined, windows),
        drivers_link(examined, facts, windows),
        disk_link(examined),
    )


def _files(facts: GuestFacts, role: StartRole) -> list[StartFile]:
    return [file for file in facts.start_files if file.role is role]


def _is_uefi(examined: Examined) -> bool:
    """What its disks are made for: that of the machine is held against it once."""
    return examined.document.facts.firmware == Firmware.UEFI.value


# --- from the firmware to the boot manager -----------------------------------------------------------------


def manager_link(examined: Examined, facts: GuestFacts, windows: WindowsFacts) -> Judged:
    """The firmware finds Windows' boot manager, or NTLDR."""
    boot, name = windows.boot, "firmware and boot manager"
    told = told_by_plan(examined, *_NO_MANAGER)
    if boot is None:
        told = told or told_by_plan(examined, *_NO_ENTRY)
        return Judged(name, "", told=told, unseen="nothing on its disks was found to start it")
    start = next((p for p in facts.partitions if (p.disk, p.number) == (boot.disk, boot.partition)), None)
    evidence = (at_disk(examined, boot.disk, start.offset if start is not None else None),)
    findings = tuple(_firmware_findings(examined, facts))
    if _is_uefi(examined):
        path = boot.manager.path if boot.manager is not None else ""
        return Judged(name, f"UEFI starts {shown(path)} of {named_boot(facts, boot)}", evidence, findings, told)
    wanted = " and ".join(managers(boot))
    findings += tuple(_manager_findings(examined, facts, boot, evidence[0]))
    return Judged(name, f"the BIOS starts {named_boot(facts, boot)}, which has {wanted}", evidence, findings, told)


def _firmware_findings(examined: Examined, facts: GuestFacts) -> Iterator[AuditFinding]:
    wanted = examined.document.hardware.firmware.value
    if wanted != facts.firmware:
        message = (
            f"the machine starts by {wanted.upper()}, and what is on its disks is started by {facts.firmware.upper()}"
        )
        yield finding(examined, "start.windows.other-firmware", message, at_disk(examined, 0, 0))


def _manager_findings(
    examined: Examined, facts: GuestFacts, boot: WindowsBoot, evidence: Evidence
) -> Iterator[AuditFinding]:
    code = facts.disks[0].boot_code if facts.disks else ""
    where = named_boot(facts, boot)
    if code in _OTHER_LOADERS:
        message = f"{code} starts disk 1; whether its menu leads to Windows was not looked at"
        yield finding(examined, "start.windows.other-loader", message, at_disk(examined, 0, 0))
    elif boot.sector is None or not boot.sector.loader:
        asks = "asks for neither BOOTMGR nor NTLDR" if boot.sector is not None else "was not read"
        yield finding(examined, "start.windows.boot-sector-unseen", f"the boot sector of {where} {asks}", evidence)
    elif code not in ("", "windows"):
        message = f"whose boot code stands at the beginning of disk 1 is not known; Windows' own would start {where}"
        yield finding(examined, "start.windows.boot-code-not-known", message, at_disk(examined, 0, 0))
    found = _files(facts, StartRole.MANAGER)
    if not found:
        message = f"whether {' and '.join(managers(boot))} is on {where} was not looked at"
        yield finding(examined, "start.windows.manager-unseen", message, evidence)
    for file in found:
        if not file.found:
            message = f"{shown(file.path.lstrip('/'))} is not on {where}, and it is what starts Windows there"
            yield finding(examined, "start.windows.no-manager-file", message, evidence)
        elif not file.size:
            message = f"{shown(file.found)} on {where} is empty"
            yield finding(examined, "start.windows.no-manager-file", message, at_file(file.found))


def entry_link(examined: Examined, windows: WindowsFacts) -> Judged:
    """The boot entry that starts when nobody chooses leads to Windows' partition."""
    boot, told = windows.boot, told_by_plan(examined, *_NO_ENTRY)
    entry = default_entry(boot) if boot is not None else None
    if entry is not None:
        proven = (
            f"the boot entry {shown(entry.title or entry.id)} starts {shown(entry.system_root)} of {entry.os_device}"
        )
        where = Evidence(EvidenceKind.REGISTRY, f"BCD\\Objects\\{shown(entry.id)}", text=shown(str(entry.os_device)))
        return Judged("boot entry", proven, (where,), told=told)
    path = boot.boot_ini_path if boot is not None else ""
    evidence = (at_file(path),) if path else ()
    unseen = "" if path or told or (boot is not None and boot.store is None) else "no boot entry was read"
    proven = f"{shown(path)} leads to Windows" if path else "NTLDR goes to the first partition without boot.ini"
    return Judged("boot entry", proven, evidence, told=told, unseen=unseen)


# --- from the loader to the drivers ------------------------------------------------------------------------


def loader_link(examined: Examined, facts: GuestFacts, windows: WindowsFacts) -> Judged:
    """The loader that the boot entry names is there, and is one for the machine's firmware."""
    boot = windows.boot
    entry = default_entry(boot) if boot is not None else None
    if boot is None or entry is None:
        return Judged("loader", "NTLDR loads the kernel itself", unseen=_no_entry(boot))
    files, told = _files(facts, StartRole.LOADER), told_by_plan(examined, *_NO_ENTRY)
    evidence = at_file(files[0].found or files[0].path) if files else at_file(entry.path)
    findings = () if told else tuple(_loader_findings(examined, entry.path, files, evidence))
    return Judged("loader", f"{shown(entry.path)} is there", (evidence,), findings, told)


def _no_entry(boot: WindowsBoot | None) -> str:
    return "without a boot entry it is not known which loader starts" if boot is None or boot.store is not None else ""


def _loader_findings(
    examined: Examined, path: str, files: list[StartFile], evidence: Evidence
) -> Iterator[AuditFinding]:
    other = ".exe" if _is_uefi(examined) else ".efi"
    if path.lower().endswith(other):
        firmware = "UEFI" if _is_uefi(examined) else "a BIOS"
        message = f"the boot entry starts {shown(path)}, which is not the loader for a machine with {firmware}"
        yield finding(examined, "start.windows.loader-for-other-firmware", message, evidence)
    if not files:
        message = f"whether the loader {shown(path) or 'of the boot entry'} is there could not be seen"
        yield finding(examined, "start.windows.loader-unseen", message, evidence)
    for file in files:
        if not file.found or not file.size:
            state = "is empty" if file.found else "is not there"
            yield finding(
                examined,
                "start.windows.no-loader-file",
                f"the boot entry starts {shown(path)}, which {state}",
                evidence,
            )


def kernel_link(examined: Examined, facts: GuestFacts, windows: WindowsFacts) -> Judged:
    """The kernel and the hardware abstraction layer are there."""
    files = _files(facts, StartRole.KERNEL)
    evidence = tuple(at_file(file.found or file.path) for file in files)
    judged = Judged("kernel", f"ntoskrnl.exe and hal.dll are in {shown(windows.system_root)}", evidence)
    if not files:
        message = "whether ntoskrnl.exe and hal.dll are there was not looked at"
        return judged.with_findings(
            [finding(examined, "start.windows.kernel-unseen", message, at_file(windows.system_root))]
        )
    wrong = [(file, "is empty" if file.found else "is not there") for file in files if not file.found or not file.size]
    return judged.with_findings(
        finding(examined, "start.windows.no-kernel-file", f"{shown(file.path)} {state}", at_file(file.path))
        for file, state in wrong
    )


def registry_link(examined: Examined, windows: WindowsFacts) -> Judged:
    """The control set that the next start takes is there."""
    sets, told = windows.control_sets, told_by_plan(examined, *_NO_REGISTRY)
    evidence = Evidence(EvidenceKind.REGISTRY, f"{SYSTEM}\\Select\\Default", text=str(sets.default))
    judged = Judged(
        "registry", f"the control set that starts is ControlSet{sets.default or 0:03d}", (evidence,), told=told
    )
    if told or sets.default in sets.present:
        return judged
    message = (
        f"the next start takes control set {sets.default}, and there are {', '.join(map(str, sets.present)) or 'none'}"
    )
    return judged.with_findings([finding(examined, "start.windows.no-default-set", message, evidence)])


def drivers_link(examined: Examined, facts: GuestFacts, windows: WindowsFacts) -> Judged:
    """Every driver that the loader brings in has its file."""
    name = "boot-start drivers"
    if windows.registry[SYSTEM].state == "unreadable" or not windows.control_sets.present:
        return Judged(name, "", told=told_by_plan(examined, *_NO_REGISTRY), unseen=_UNREADABLE)
    if not windows.driver_files:
        message = f"the folder of drivers in {shown(windows.system_root)} could not be read, so it is not known which are there"
        rule = finding(
            examined, "start.windows.drivers-unseen", message, at_file(f"{windows.system_root}/system32/drivers")
        )
        return Judged(name, "", findings=(rule,))
    started = _started(windows)
    findings = (*_absent_drivers(examined, facts, windows, started), *_file_system(examined, facts, windows))
    return Judged(name, f"all {len(started)} have their files", findings=findings)


def _started(windows: WindowsFacts) -> list[Service]:
    """The drivers that the loader brings in, of the control set that starts."""
    system, sets = windows.registry[SYSTEM], windows.control_sets
    number = sets.default if sets.default in sets.present else sets.current
    found = services_of(system, number or sets.present[0]).values()
    drivers = (each for each in found if each.start == _BOOT_START)
    kinds = (None, _KERNEL_DRIVER, _FILE_SYSTEM_DRIVER)
    return [each for each in drivers if system.number(each.key, "Type") in kinds][:DRIVERS_AT_MOST]


def _absent_drivers(
    examined: Examined, facts: GuestFacts, windows: WindowsFacts, started: list[Service]
) -> Iterator[AuditFinding]:
    system, files = windows.registry[SYSTEM], {file.path: file for file in _files(facts, StartRole.DRIVER)}
    for service in started:
        evidence = Evidence(
            EvidenceKind.REGISTRY, f"{SYSTEM}\\{shown(service.key)}\\ImagePath", text=shown(service.image)
        )
        path = driver_path(service.image, windows.system_root) if service.file is None else None
        if service.file is None and (path is None or path not in files):
            message = f"the boot-start driver {shown(service.name)} is in {shown(service.image)}, where nothing was looked for"
            yield finding(examined, "start.windows.driver-unseen", message, evidence)
        elif (service.file not in windows.driver_files) if service.file is not None else not files[path or ""].found:
            is_needed = system.number(service.key, "ErrorControl") != 0
            message = (
                f"the boot-start driver {shown(service.name)} has no file ({shown(service.file or service.image)})"
            )
            rule = "start.windows.no-driver-file"
            if not _still_starts(examined, windows, service):
                rule = "start.windows.driver-turned-off"
                message += "; the conversion turns it off"
            severity = Severity.WARNING if not is_needed and rule.endswith("file") else None
            yield finding(examined, rule, message, evidence, severity=severity)


def _still_starts(examined: Examined, windows: WindowsFacts, service: Service) -> bool:
    """Whether the plan leaves it a driver that the loader brings in."""
    hive = windows.registry[SYSTEM].path
    for change in examined.document.plan.changes:
        for edit in change.edits if isinstance(change, EditHive) and change.path == hive else ():
            is_start = isinstance(edit, SetValue | DeleteValue) and edit.name.lower() == "start"
            if edit.key.lower() == service.key.lower() and (is_start or isinstance(edit, DeleteKey)):
                return isinstance(edit, SetValue) and edit.data.startswith("00")
    return True


def _file_system(examined: Examined, facts: GuestFacts, windows: WindowsFacts) -> Iterator[AuditFinding]:
    system = facts.filesystem_of(facts.root) if facts.root is not None else None
    name = _FILE_SYSTEMS.get(system.kind, "") if system is not None else ""
    if name and name not in windows.driver_files:
        message = f"{name} is not there, which the file system that Windows is on needs"
        yield finding(
            examined, "start.windows.no-driver-file", message, at_file(f"{windows.system_root}/system32/drivers/{name}")
        )


def disk_link(examined: Examined) -> Judged:
    """A driver for the disk that it will have."""
    bus, told = examined.document.hardware.disk_bus, told_by_plan(examined, "windows.no-disk-driver")
    return Judged("disk driver", f"it has a driver for a disk on {bus.value}, or is given one", told=told)
