"""Looks for the files that a Windows starts with; to be used inside ``confined``, over any ``GuestTree``.

Sources: Microsoft, "Boot process and system files" of the resource kits (NT 4.0, 2000: NTLDR, NTDETECT.COM, ntoskrnl.exe,
hal.dll, boot drivers), "How the Windows boot process works" (bootmgr, winload), "Services Registry Tree" (Start 0, ImagePath).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.layout import Device, Layout
from drivers.start_files import StartFile, StartRole
from drivers.windows.boot_facts import BootDevice, BootObject, DeviceKind, WindowsBoot
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.names import Names
from drivers.windows.places import told_by
from drivers.windows.services import services_of

DRIVERS_AT_MOST = 500
CORE = ("ntoskrnl.exe", "hal.dll")
_BOOT_START = 0


@dataclass(frozen=True, slots=True)
class Trees:
    """Where to look: Windows' own partition, and the one that starts it with the path at which it is in its tree."""

    windows: Names
    device: Device
    boot: Names | None = None
    prefix: str = ""


def read_start_files(layout: Layout, windows: WindowsFacts, trees: Trees, firmware: str) -> tuple[StartFile, ...]:
    """The files of what starts when nobody chooses, whether they are there or not."""
    found = [_looked_for(trees.windows, StartRole.KERNEL, f"{windows.system_root}/system32/{name}") for name in CORE]
    if windows.boot is not None and trees.boot is not None:
        if firmware != "uefi":
            wanted = managers(windows.boot)
            found += [_looked_for(trees.boot, StartRole.MANAGER, f"{trees.prefix}/{name}") for name in wanted]
        found += _loader(layout, windows.boot, trees, trees.boot)
    drivers = (_looked_for(trees.windows, StartRole.DRIVER, path) for path in _drivers_elsewhere(windows))
    return (*found, *drivers)


def managers(boot: WindowsBoot) -> tuple[str, ...]:
    """What a BIOS machine's boot sector starts, by its own words, else by the configuration that there is."""
    wanted = (boot.sector.loader if boot.sector is not None else "") or ("NTLDR" if boot.boot_ini_path else "BOOTMGR")
    return ("ntldr", "ntdetect.com") if wanted == "NTLDR" else ("bootmgr",)


def default_entry(boot: WindowsBoot) -> BootObject | None:
    """The entry that starts when nobody chooses, where it starts a Windows; None before Vista as well."""
    found = boot.store.object(boot.store.default) if boot.store is not None else None
    return found if found is not None and found.is_windows else None


def driver_path(image: str, root: str) -> str | None:
    """A driver's file in the tree of Windows' partition, by its ImagePath in lower case; None for what leads elsewhere."""
    path = image.replace("\\", "/").removeprefix("/??/").strip()
    for start in ("/systemroot/", "%systemroot%/"):
        if path.startswith(start):
            return f"{root}/{path[len(start) :]}"
    if path[1:3] == ":/":
        return path[2:]
    return f"{root}/{path}" if path and path[0] not in "/%" else None


def _loader(layout: Layout, boot: WindowsBoot, trees: Trees, boot_names: Names) -> Iterator[StartFile]:
    default = default_entry(boot)
    if default is None or not default.path:
        return
    path = "/" + default.path.replace("\\", "/").lstrip("/")
    if _is_on_boot(layout, boot, trees, default.device):
        yield _looked_for(boot_names, StartRole.LOADER, f"{trees.prefix}{path}")
    elif default.device is not None and _is_on_windows(layout, trees, default.device):
        yield _looked_for(trees.windows, StartRole.LOADER, path)


def _is_on_boot(layout: Layout, boot: WindowsBoot, trees: Trees, device: BootDevice | None) -> bool:
    if device is None or device.kind is DeviceKind.BOOT:
        return True
    told = told_by(layout, device)
    return told is not None and told != trees.device and (told.disk, told.number) == (boot.disk, boot.partition)


def _is_on_windows(layout: Layout, trees: Trees, device: BootDevice) -> bool:
    """An entry that names a partition which is nowhere is one that planning writes anew."""
    if device.kind is DeviceKind.LOCATE:
        return True
    return device.kind is DeviceKind.PARTITION and told_by(layout, device) in (None, trees.device)


def _drivers_elsewhere(windows: WindowsFacts) -> Iterator[str]:
    """Files of boot-start drivers that are not in the drivers' folder, whose names the facts have."""
    sets = windows.control_sets
    services = services_of(windows.registry[SYSTEM], sets.default or sets.current or 1)
    started = [each for each in services.values() if each.start == _BOOT_START and each.file is None]
    for service in started[:DRIVERS_AT_MOST]:
        path = driver_path(service.image, windows.system_root)
        if path is not None:
            yield path


def _looked_for(names: Names, role: StartRole, path: str) -> StartFile:
    spelt = names.file(path)
    if spelt is None:
        return StartFile(role, path)
    try:
        size = names.tree.lstat(spelt).size
    except FileNotFoundError:
        return StartFile(role, path)
    return StartFile(role, path, spelt, size)
