"""A start that fails has to be seen: Windows stops and shows why, instead of starting again for ever. Pure.

Source: Microsoft, "Configure system failure and recovery options in Windows" (CrashControl, AutoReboot).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.windows import c_regf as c
from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import HiveEdit, SetValue, ValueData
from drivers.windows.facts import SYSTEM, WindowsFacts

_NAME = "AutoReboot"
_WHY = "where it stops at a start on KVM, the stop code stays on its screen"


def contribute(windows: WindowsFacts) -> WindowsContribution:
    """No restart after a stop error, in every control set that can be started."""
    return WindowsContribution({SYSTEM: tuple(_edits(windows))})


def _edits(windows: WindowsFacts) -> Iterator[HiveEdit]:
    system = windows.registry[SYSTEM]
    for number in windows.control_sets.bootable:
        key = system.key(f"ControlSet{number:03d}\\Control\\CrashControl")
        if key is None or system.number(key, _NAME) == 0:
            continue
        old = system.value(key, _NAME)
        before = ValueData(old.type, old.data.hex()) if old is not None else None
        yield SetValue(key, _NAME, c.REG_DWORD, "00000000", before, _WHY)
