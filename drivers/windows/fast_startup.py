"""Fast start-up is turned off: a virtual machine that is off must not be a hibernated one. Pure.

What it leaves on the disk is a session with the hardware of then: after a change of the machine, or a copy of its disk, it is
resumed on hardware that it does not know.

Source: Microsoft, "Fast startup causes hibernation or shutdown to fail" (HiberbootEnabled).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import HiveEdit
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.wanted import number_value, wanted_edits

WHY = "a machine that is shut down is to be off, and not hibernated, when its hardware is changed or its disks are copied"
_NAME = "HiberbootEnabled"


def contribute(windows: WindowsFacts) -> WindowsContribution:
    """The setting taken back where it is on, in every set that can be started."""
    return WindowsContribution({SYSTEM: tuple(_edits(windows))})


def _edits(windows: WindowsFacts) -> Iterator[HiveEdit]:
    system = windows.registry[SYSTEM]
    for number in windows.control_sets.bootable:
        key = f"ControlSet{number:03d}\\Control\\Session Manager\\Power"
        if system.number(key, _NAME):
            yield from wanted_edits(system, [number_value(key, _NAME, 0, WHY)])
