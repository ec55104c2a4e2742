"""Hardware that a Windows brings drivers for itself. Pure.

Sources: Microsoft's lists of drivers in the box (AHCI since Vista, 82574L since Windows 8), QEMU's device documentation.
"""

from __future__ import annotations

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts
from drivers.windows.facts import WindowsFacts

_2000, _VISTA, _EIGHT = (5, 0), (6, 0), (6, 2)


def plan_caps(facts: GuestFacts, windows: WindowsFacts) -> GuestCaps:
    """What the guest can use without any driver added to it."""
    version = windows.version.number
    is_old = version < _VISTA
    return GuestCaps(
        ("ide",) if is_old else ("sata", "ide"),
        _cards(version),
        facts.firmware,
        windows.arch,
        local_time=not windows.utc_clock,
        machine="virt" if windows.arch == "aarch64" else "pc" if is_old else "q35",
    )


def _cards(version: tuple[int, int]) -> tuple[str, ...]:
    if version < _2000:
        return ("pcnet", "ne2k_pci")
    if version < _VISTA:
        return ("rtl8139", "pcnet")
    return ("e1000e", "e1000") if version >= _EIGHT else ("e1000",)
