"""Further disks have to be online at the first start: to Windows they are new ones, behind a controller that it did not know. Pure.

What the policy decides when Windows meets a disk, stands with its device (``Enum\\...\\Device Parameters\\Partmgr``:
Attributes), which on KVM is another one. So no step of the first start has to bring anything online, and what an administrator
took offline on a virtio bus stays so.

Sources: Microsoft Q2849097 (Attributes); "SAN policy" (VDS_SAN_POLICY: 1 all online, 2 those on a shared bus offline, 3 all
offline; Enterprise and Datacenter servers begin with 2), which partmgr keeps in its Parameters; virtio's drivers and SAS count
as a shared bus.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.plan import Finding
from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import HiveEdit
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.states.roles import is_in_cluster
from drivers.windows.wanted import is_there, number_value, wanted_edits

WHY = "its further disks are new ones to it, which this setting would leave offline at every start"
_SINCE = (6, 0)
_ONLINE = 1


def contribute(facts: GuestFacts, windows: WindowsFacts) -> WindowsContribution:
    """All disks online, in every set that can be started, where there are further disks; clusters decide themselves."""
    if len(facts.disks) < 2:
        return WindowsContribution()
    alike = tuple(_alike(facts))
    if windows.version.number < _SINCE:
        return WindowsContribution(warnings=alike)
    if is_in_cluster(windows):
        message = "it is a member of a cluster, so its further disks stay as its own setting has them, which may be offline"
        hint = "Bring them online once the cluster sees them (`Get-Disk`, `Set-Disk -IsOffline $false`)."
        return WindowsContribution(warnings=(Finding("windows.cluster-disks", message, hint), *alike))
    return WindowsContribution({SYSTEM: tuple(_edits(windows))}, warnings=alike)


def _alike(facts: GuestFacts) -> Iterator[Finding]:
    """Disks that one identifier is of, as a copy has that of its original: Windows gives one of them another, or keeps it off."""
    by_id: dict[str, list[int]] = {}
    for disk in facts.disks:
        if disk.disk_id and disk.disk_id.strip("0"):
            by_id.setdefault(disk.disk_id, []).append(disk.index + 1)
    for id_, numbers in by_id.items():
        if len(numbers) > 1:
            which = " and ".join(map(str, numbers))
            message = f"disks {which} have the same signature ({id_}), and Windows keeps only one of them online"
            yield Finding("windows.same-signature", message, "Leave the copy out, or give it another signature (`uniqueid disk`).")


def _edits(windows: WindowsFacts) -> Iterator[HiveEdit]:
    system = windows.registry[SYSTEM]
    for number in windows.control_sets.bootable:
        service = f"ControlSet{number:03d}\\Services\\partmgr"
        policy = system.number(f"{service}\\Parameters", "SanPolicy")
        # a workstation without the setting has them online
        if is_there(system, service) and policy != _ONLINE and (policy is not None or windows.version.is_server):
            yield from wanted_edits(system, [number_value(f"{service}\\Parameters", "SanPolicy", _ONLINE, WHY)])
