"""The rows of ``p2v inspect`` for a Windows guest."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import OperatingSystem
from drivers.windows.facts import ControlSets, HiveFile, WindowsFacts
from p2v.core.units import format_bytes


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


def _unfinished(windows: WindowsFacts) -> Iterator[str]:
    if windows.hibernation == "hibernated":
        yield "it is hibernated, or was shut down by fast start-up"
    if windows.dirty:
        yield f"its file system was not left in order: {windows.dirty}"
    yield from windows.pending
