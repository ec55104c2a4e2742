"""Drive letters: the one in SystemRoot must stay the letter of Windows' own partition. Pure.

Windows keeps them in MountedDevices by what tells a partition apart, so they stay where disks keep their signatures. A value for a
partition that is on none of these disks belongs to a disk that was copied into another one, or to one that is left out.

Source: Microsoft Q223188, "How to restore the system/boot drive letter in Windows".
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.plan import Finding
from drivers.windows.c_regf import REG_BINARY
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.places import is_mounted_partition, mounted_as, mounted_at, named, root_partition
from drivers.windows.wanted import WantedValue, wanted_edits

KEY = "MountedDevices"
WHY = "Windows looks for itself below this letter, which belongs to a partition that is on none of these disks"
_CURRENT_VERSION = "Microsoft\\Windows NT\\CurrentVersion"


def contribute(facts: GuestFacts, windows: WindowsFacts) -> WindowsContribution:
    """The letter of Windows' own partition put right, and a warning for letters of disks that are not here."""
    system, software, root = windows.registry[SYSTEM], windows.registry.get(SOFTWARE), root_partition(facts)
    letter = software.text(_CURRENT_VERSION, "SystemRoot")[:2].upper() if software is not None else ""
    if root is None or system.key(KEY) is None or len(letter) != 2 or letter[1] != ":":
        return WindowsContribution()
    name = f"\\DosDevices\\{letter}"
    here, value = mounted_as(facts, root), system.value(KEY, name)
    # without a value Windows gives its own partition the letter
    if here is None or value is None or value.data == here:
        return WindowsContribution(warnings=tuple(_lost(facts, windows, letter)))
    other = mounted_at(facts, value.data)
    if other is not None:
        message = f"Windows is to be on {letter}, which is the letter of {named(other)} and not of {named(root)}"
        hint = "Put the letters right where it runs: the key MountedDevices, as Microsoft's article 223188 has it."
        return WindowsContribution(blockers=(Finding("windows.drive-letter", message, hint),))
    edits = tuple(wanted_edits(system, [WantedValue(KEY, name, REG_BINARY, here.hex(), WHY)]))
    return WindowsContribution({SYSTEM: edits}, warnings=tuple(_lost(facts, windows, letter)))


def _lost(facts: GuestFacts, windows: WindowsFacts, own: str) -> Iterator[Finding]:
    """Letters of partitions that are on none of these disks: services that live there will not start."""
    system = windows.registry[SYSTEM]
    gone = []
    for each in system.keys[system.key(KEY) or KEY]:
        letter, value = each.name.rpartition("\\")[2].upper(), each.value()
        is_letter = each.name.lower().startswith("\\dosdevices\\") and letter != own
        if is_letter and is_mounted_partition(value.data) and mounted_at(facts, value.data) is None:
            gone.append(letter)
    if gone:
        message = f"drive letters belong to partitions that are on none of these disks: {', '.join(sorted(gone))}"
        yield Finding("windows.lost-letters", message, "Name all disks of the machine that were in it when it was shut down.")
