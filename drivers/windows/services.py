"""The services of a control set, and what keeps one from starting. Pure.

Source: Microsoft, "HKLM\\SYSTEM\\CurrentControlSet\\Services Registry Tree" (Start: 0 boot, 1 system, 2 automatic, 3 on demand,
4 never).
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.windows import c_regf as c
from drivers.windows.edits import SetValue, ValueData
from drivers.windows.facts import HiveFile

NEVER = 4
_NEVER_DATA = "04000000"
_DRIVERS_FOLDER = "system32\\drivers"


@dataclass(frozen=True, slots=True)
class Service:
    """A service's key. ``start``: None where it has none. ``image``: the path of its program, in lower case."""

    name: str
    key: str
    start: int | None
    image: str

    @property
    def file(self) -> str | None:
        """The name of its program in the drivers' folder, in lower case; None when it is elsewhere.

        A driver without ImagePath is ``NAME.sys`` there (Microsoft, "CreateServiceW").
        """
        if not self.image:
            return f"{self.name.lower()}.sys"
        folder, _, name = self.image.rpartition("\\")
        return name if folder.endswith(_DRIVERS_FOLDER) else None


def services_of(system: HiveFile, number: int) -> dict[str, Service]:
    """The services of a control set, by their names in upper case."""
    found: dict[str, Service] = {}
    for key in system.below(f"ControlSet{number:03d}\\Services"):
        name = key.rpartition("\\")[2]
        image = system.text(key, "ImagePath").replace("/", "\\").strip('"').lower()
        # of a name that is there twice the first counts, as it does for who looks it up
        found.setdefault(c.upper(name), Service(name, key, system.number(key, "Start"), image))
    return found


def never_started(system: HiveFile, service: Service, why: str) -> SetValue | None:
    """The edit that disables a service; None when it is so already, or is none that starts."""
    old = system.value(service.key, "Start")
    if old is None or service.start is None or service.start >= NEVER:
        return None
    return SetValue(service.key, "Start", c.REG_DWORD, _NEVER_DATA, ValueData(old.type, old.data.hex()), why)
