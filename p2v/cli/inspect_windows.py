"""The rows of ``p2v inspect`` for a Windows guest."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import OperatingSystem
from drivers.windows.boot_facts import BootObject, WindowsBoot
from drivers.windows.boot_ini import default_path
from drivers.windows.facts import ControlSets, HiveFile, WindowsFacts
from drivers.windows.network_facts import NetworkAdapter
from drivers.windows.states.activation import channel
from p2v.core.units import format_bytes

_ENTRIES_SHOWN = 8


def rows(system: OperatingSystem, windows: WindowsFacts) -> Iterator[tuple[str, str]]:
    """Names of rows and what stands in them."""
    version = windows.version
    kind = ", ".join(word for word in (version.edition_id, version.installation_type, _role(version.product_type)) if word)
    yield "system", f"{system.id} {system.version}, {system.arch or 'unknown architecture'}"
    if kind:
        yield "edition", kind
    yield "folder", windows.system_root.replace("/", "\\")
    yield "control sets", _control_sets(windows.control_sets)
    yield from (("registry", _hive(name, hive)) for name, hive in windows.registry.items())
    yield from (("starts", what) for what in _starts(windows.boot))
    yield from (("network", _adapter(adapter)) for adapter in windows.network)
    if sold := channel(windows):
        yield "licence", sold
    yield "clock", "UTC" if windows.utc_clock else "local time"
    yield from (("unfinished", what) for what in _unfinished(windows))


def _role(product_type: str) -> str:
    return {"winnt": "workstation", "servernt": "server", "lanmannt": "domain controller"}.get(product_type.lower(), "")


def _control_sets(sets: ControlSets) -> str:
    numbers = ", ".join(f"{number:03d}" for number in sets.present) or "none"
    named = {"current": sets.current, "default": sets.default, "last known good": sets.last_known_good, "failed": sets.failed}
    roles = ", ".join(f"{role} {number:03d}" for role, number in named.items() if number)
    return f"{numbers} ({roles or 'none is named'})"


def _hive(name: str, hive: HiveFile) -> str:
    states = {"clean": "in order", "replayed": "read with its logs", "unreadable": f"UNREADABLE: {hive.problem}"}
    return f"{name}: {format_bytes(hive.size)}, {states.get(hive.state, hive.state)}"


def _starts(boot: WindowsBoot | None) -> Iterator[str]:
    if boot is None:
        yield "nothing on its disks starts it"
        return
    place = boot.mountpoint.replace("/", chr(92))
    where = f"disk {boot.disk + 1}, partition {boot.partition}" + (f" (shown at {place})" if place not in ("", chr(92)) else "")
    if boot.store is None:
        what = default_path(boot.boot_ini) or "nothing" if boot.boot_ini is not None else ""
        yield f"by boot.ini of {where}: {what}" if what else f"from {where}, without boot entries"
        return
    yield f"by the boot manager of {where}"
    entries = [each for each in boot.store.objects if each.is_windows]
    entries.sort(key=lambda each: each.id != boot.store.default if boot.store else False)
    yield from (_entry(each, each.id == boot.store.default) for each in entries[:_ENTRIES_SHOWN])
    if boot.manager is not None:
        fallback = boot.fallback.path if boot.fallback is not None else "none"
        yield f"without the firmware's own entries: {fallback}"


def _entry(entry: BootObject, is_default: bool) -> str:
    where = str(entry.os_device) if entry.os_device is not None else "nowhere"
    return f"{'default: ' if is_default else ''}{entry.title or entry.id}, {entry.system_root} on {where}"


def _adapter(adapter: NetworkAdapter) -> str:
    parts = ["DHCP" if adapter.dhcp else " ".join(adapter.addresses) or "no address"]
    parts += [f"gateway {gateway.address}" for gateway in adapter.gateways]
    parts += [f"DNS {' '.join(adapter.dns)}"] if adapter.dns else []
    parts += [f"metric {adapter.metric}"] if adapter.metric else []
    mac = f" {adapter.macs[0]}" if adapter.macs else ""
    return f"{adapter.name or adapter.id}{mac}: {', '.join(parts)} ({adapter.description or 'an adapter'})"


def _unfinished(windows: WindowsFacts) -> Iterator[str]:
    if windows.hibernation == "hibernated":
        yield "it is hibernated, or was shut down by fast start-up"
    if windows.dirty:
        yield f"its file system was not left in order: {windows.dirty}"
    yield from windows.pending
