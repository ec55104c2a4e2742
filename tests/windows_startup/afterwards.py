"""What becomes of a system that has started, as its registry and files tell: settings, services, packages, its first start.

None of this keeps a system from starting. Each rule is about something that a conversion sees to besides, and names its source.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.windows_startup import hive, loaders, programs, startup
from tests.windows_startup.hive import Key
from tests.windows_startup.loaders import System
from tests.windows_startup.machine import Machine
from tests.windows_startup.registry import Registry
from tests.windows_startup.verdict import Target

SERVICE = "p2v-firstboot"
_NEVER, _AUTOMATIC = 4, 2
_OWN_PROCESS = 0x10
_POWER_STATES = ("intelppm", "amdppm", "amdk7", "amdk8", "p3", "crusoe", "processor")
_BOOT_STATUS_POLICY, _IGNORE_ALL_FAILURES = "250000e0", 1
_CURRENT_VERSION = "Microsoft\\Windows\\CurrentVersion"
_INF_SECTIONS = re.compile(r"^\[([^\]]+)\]([^\[]*)", re.MULTILINE)


class Omission(enum.Enum):
    """What a conversion left as it was, or left out."""

    RESTARTS = "a stop error restarts it at once, so nobody sees which"
    HIBERNATES = "fast start-up: shut down, it is a hibernated system"
    REPAIRS = "a start that failed is followed by a repair that waits for a person"
    STRANGER = "a service of another hypervisor or another maker's machine starts"
    STRANGER_ASKED = "a network provider of another hypervisor is asked for every path"
    STRANGER_AT_LOG_ON = "a program of another hypervisor runs at log-on"
    POWER_STATES = "a driver of processors' power states starts, which KVM shows none of"
    NO_FIRST_START = "what the first start is to do is not done"
    PACKAGE = "a driver package where Plug and Play looks is not whole"
    NOT_AS_INF = "a service is not as its INF file has it"
    NO_CLASS = "an entry for a critical device names no class"
    HALF_ENTRY = "an entry of DriverDatabase lacks what Windows' own have"


@dataclass(frozen=True)
class Expected:
    """What is known of the guest from elsewhere. ``strangers``, ``at_log_on``: names, in lower case.

    ``services``: what the values of a service's key are to be, by names with their keys below it (``Parameters\\BusType``).
    ``first_start``: whether there is to be one.
    """

    strangers: frozenset[str] = frozenset()
    at_log_on: frozenset[str] = frozenset()
    services: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    first_start: bool = False


def omissions(
    machine: Machine, target: Target, expected: Expected, *, last_known_good: bool = False
) -> list[tuple[Omission, str]]:
    """Everything that was left out, in a control set. Raises ``Stopped`` where there is none to look at."""
    system, registry_ = startup.begun(machine, target, last_known_good=last_known_good)
    software = startup.hive_of(system, "SOFTWARE")
    found = [*_settings(registry_), *_strangers(registry_, software, expected), *_entries(registry_), *_packages(system, software)]
    found += _repairs(machine)
    found += _as_inf(registry_, expected)
    if expected.first_start:
        found += ((Omission.NO_FIRST_START, text) for text in _first_start(system, registry_))
    return found


def omitted_drivers(machine: Machine, target: Target, expected: Expected, control_set: int) -> list[tuple[Omission, str]]:
    """The same for a control set that is not started unless somebody makes it the default: of drivers of storage only."""
    _, registry_ = startup.begun(machine, target, control_set=control_set)
    return [*_entries(registry_), *_as_inf(registry_, expected)]


def _settings(registry_: Registry) -> Iterator[tuple[Omission, str]]:
    """Microsoft, "Configure system failure and recovery options" (CrashControl, AutoReboot), "Fast startup causes hibernation or
    shutdown to fail" (HiberbootEnabled); Q888372 for processors up to Server 2003.
    """
    crash = registry_.key("Control\\CrashControl")
    if crash and crash.number("AutoReboot") != 0:
        yield Omission.RESTARTS, f"AutoReboot {crash.number('AutoReboot')}"
    power = registry_.key("Control\\Session Manager\\Power")
    if power and power.number("HiberbootEnabled"):
        yield Omission.HIBERNATES, "HiberbootEnabled"
    if registry_.service("volmgr") is None:
        for name in _POWER_STATES:
            service = registry_.service(name)
            if service and service.start < _NEVER:
                yield Omission.POWER_STATES, f"{name} has Start {service.start}"


def _repairs(machine: Machine) -> Iterator[tuple[Omission, str]]:
    """Microsoft, "BcdOSLoaderElementTypes": BcdOSLoaderInteger_BootStatusPolicy, 1 for IgnoreAllFailures."""
    for partition in machine.partitions:
        volume = machine.volume(partition)
        for path in ("Boot/BCD", "EFI/Microsoft/Boot/BCD"):
            data = volume.read(path)
            if data is not None:
                element = loaders.entry_of(hive.opened(data, path).at("Objects")).at(f"Elements\\{_BOOT_STATUS_POLICY}")
                policy = element.number("Element") if element else None
                if policy != _IGNORE_ALL_FAILURES:
                    yield Omission.REPAIRS, f"bootstatuspolicy {policy} in {path}"


def _strangers(registry_: Registry, software: Key, expected: Expected) -> Iterator[tuple[Omission, str]]:
    """A service with a Start below 4 may start (Microsoft, "Services Registry Tree"); Run is for everybody who logs on; those of
    ProviderOrder are asked one after the other (Microsoft, "Network Provider Order").
    """
    for name in sorted(expected.strangers):
        service = registry_.service(name)
        if service and service.start < _NEVER:
            yield Omission.STRANGER, f"{name} has Start {service.start}"
    order = registry_.key("Control\\NetworkProvider\\Order")
    for name in ((order.text("ProviderOrder") if order else None) or "").split(","):
        if name.strip().lower() in expected.strangers:
            yield Omission.STRANGER_ASKED, name
    run = software.at(f"{_CURRENT_VERSION}\\Run")
    for name in run.values if run else ():
        if name in expected.at_log_on:
            yield Omission.STRANGER_AT_LOG_ON, name


def _entries(registry_: Registry) -> Iterator[tuple[Omission, str]]:
    """Every entry of CriticalDeviceDatabase in Microsoft Q314082 has a class; of DriverDatabase's keys, exports posted in public
    agree on these values.
    """
    critical = registry_.key("Control\\CriticalDeviceDatabase")
    for key in critical.keys.values() if critical else ():
        if key.text("Service") and not key.text("ClassGUID"):
            yield Omission.NO_CLASS, key.name
    database = registry_.root_key("DriverDatabase")
    files = database.at("DriverInfFiles") if database else None
    for key in files.keys.values() if files else ():
        for name in ("", "active", "configurations"):
            if name not in key.values:
                yield Omission.HALF_ENTRY, f"{key.name}: {name}"
    packages = database.at("DriverPackages") if database else None
    for package in packages.keys.values() if packages else ():
        configurations = package.at("Configurations")
        for key in configurations.keys.values() if configurations else ():
            if "configflags" not in key.values:
                yield Omission.HALF_ENTRY, f"{package.name}\\{key.name}: ConfigFlags"


def _as_inf(registry_: Registry, expected: Expected) -> Iterator[tuple[Omission, str]]:
    """What an INF file's AddService section says is what the key holds (Microsoft, "INF AddService Directive"); where the others
    of its group have tags it has one as well (Microsoft, "Specifying Driver Load Order").
    """
    for name, values in expected.services.items():
        own = registry_.service(name)
        others = [each.tag for each in registry_.in_group(own.group) if each.name != own.name] if own else []
        if own and any(others) and not own.tag:
            yield Omission.NOT_AS_INF, f"{name} has no tag"
        for path, wanted in values.items():
            below, _, value = path.rpartition("\\")
            key = registry_.key("\\".join(part for part in ("Services", name, below) if part))
            found = (key.number(value) if isinstance(wanted, int) else key.text(value)) if key else None
            if found != wanted and not (isinstance(found, str) and found.lower() == str(wanted).lower()):
                yield Omission.NOT_AS_INF, f"{name}\\{path} is {found!r}, not {wanted!r}"


def _packages(system: System, software: Key) -> Iterator[tuple[Omission, str]]:
    """Folders of DevicePath besides Windows' own: each INF file with its catalogue and what it copies.

    Microsoft, "INF Version Section" (CatalogFile), "INF SourceDisksFiles Section".
    """
    current = software.at(_CURRENT_VERSION)
    for folder in ((current.text("DevicePath") if current else None) or "").split(";"):
        path = _in_system(system, folder)
        if path is None or path.lower().endswith("/inf"):
            continue
        files = [name for name in system.volume.names(path) if name.lower().endswith(".inf")]
        if not files:
            yield Omission.PACKAGE, f"{folder} has no INF file"
        for name in files:
            content = _text(system.volume.read(f"{path}/{name}") or b"")
            for wanted in _named_files(content):
                if system.volume.read(f"{path}/{wanted}") is None:
                    yield Omission.PACKAGE, f"{folder}\\{wanted}"


def _named_files(content: str) -> Iterator[str]:
    sections = {name.lower(): body for name, body in _INF_SECTIONS.findall(content.replace("\r", ""))}
    for line in sections.get("version", "").splitlines():
        name, _, value = line.partition("=")
        if name.strip().lower().startswith("catalogfile"):
            yield value.strip()
    for line in sections.get("sourcedisksfiles", "").splitlines():
        if "=" in line:
            yield line.partition("=")[0].strip()


def _first_start(system: System, registry_: Registry) -> Iterator[str]:
    """The service, as the service manager takes one; its list, and every file that its steps name.

    A key without Type, Start or ErrorControl is no service to it (CreateServiceW wants all three; ReactOS' service manager, made
    after what Windows' does, passes such keys over), ImagePath is what it runs. docs/first-boot.md has the rest: who it runs as,
    the list, the folder.
    """
    key = registry_.key(f"Services\\{SERVICE}")
    if key is None:
        yield "no service"
        return
    for name, wanted in (("Type", _OWN_PROCESS), ("Start", _AUTOMATIC), ("ErrorControl", 1)):
        if key.number(name) != wanted:
            yield f"{name} is {key.number(name)}"
    if key.text("ObjectName") != "LocalSystem":
        yield f"it runs as {key.text('ObjectName')}"
    image = _in_system(system, (key.text("ImagePath") or "").strip('"'))
    if image is None:
        yield f"ImagePath is {key.text('ImagePath')!r}"
        return
    yield from _unfit(system, image)
    folder = image.rpartition("/")[0]
    steps = system.volume.read(f"{folder}/steps.txt")
    if steps is None:
        yield "no list of steps"
        return
    yield from _steps(system, folder, steps.decode())


def _steps(system: System, folder: str, text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    if not lines[0].startswith("p2v-firstboot-1 ") or len(lines) < 2:
        yield "the list has no steps"
    for line in lines[1:]:
        yield from _absent(system, folder, line)
        for script in _own_files(line):
            content = system.volume.read(f"{folder}/{script}")
            yield from _absent(system, folder, (content or b"").decode("ascii")) if content is not None else (f"no {script}",)


def _own_files(text: str) -> list[str]:
    """Names of files beside the service: ``.\\NAME``, ``%P2V_FOLDER%\\NAME``, or PowerShell's way of writing that."""
    found = re.findall(r"(?:(?<=\s)\.|%P2V_FOLDER%|P2V_FOLDER \+ ')\\([A-Za-z0-9.-]+)", text)
    return list(dict.fromkeys(found))


def _absent(system: System, folder: str, text: str) -> Iterator[str]:
    """Programs beside the service, and packages, that a text names and that are not there."""
    for name in _own_files(text):
        if name.endswith(".exe"):
            yield from _unfit(system, f"{folder}/{name}")
    for path in dict.fromkeys(re.findall(r"%SystemRoot%(\\Drivers\\[^\"]+\.inf)", text)):
        if system.volume.read(f"{system.root}{path}") is None:
            yield f"no {path}"


def _unfit(system: System, path: str) -> Iterator[str]:
    """Windows for x64 runs programs for x86, and Windows for ARM64 as well (Microsoft, "How emulation works on Arm")."""
    program = system.volume.read(path)
    found = programs.machine_of(program) if program is not None else None
    if found not in (system.machine, programs.I386):
        yield f"{path} is {programs.NAMES[found] if found else 'no program'}"


def _in_system(system: System, path: str) -> str | None:
    """A path of the volume for one that begins with ``%SystemRoot%``; None for others."""
    tidy = path.strip().replace("\\", "/")
    start = "%systemroot%/"
    return f"{system.root}/{tidy[len(start) :]}" if tidy.lower().startswith(start) else None


def _text(data: bytes) -> str:
    return data.decode("utf-16", "replace") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("cp1252", "replace")
