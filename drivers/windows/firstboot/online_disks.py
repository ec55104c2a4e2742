"""The step that brings data disks online. Pure.

Windows Server 2008 and later leave disks offline (and read-only) that they meet on another bus than before, where
their SAN policy says so; on KVM every disk is one. Windows 8 and Server 2012 and later tell that reason from others,
so only those come online. Before, ``diskpart`` does not tell, and it is asked for all. Disks of a cluster are the
cluster's to bring online: there the step is left out, and that is said.

Sources: Microsoft, "SAN policy" (diskpart), "Get-Disk" (OfflineReason), "attributes disk".
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot.steps import ScriptFile, Step
from drivers.windows.firstboot.tools import GuestTools

_POLICY_SINCE = (6, 0)
_DISKS_AT_MOST = 64
_CLUSTER = "ClusSvc"
_DISABLED = 4
_SECONDS = 300
_WHY = "its other disks are on another bus than they were, which may leave them offline"
_CMDLETS = (
    "$ErrorActionPreference = 'Stop'",
    "try {",
    "    foreach ($disk in @(Get-Disk | Where-Object { $_.IsOffline -and $_.OfflineReason -eq 'Policy' })) {",
    '        Write-Output "disk $($disk.Number): $($disk.FriendlyName)"',
    "        Set-Disk -Number $disk.Number -IsOffline $false",
    "        Set-Disk -Number $disk.Number -IsReadOnly $false",
    "    }",
    "} catch {",
    "    Write-Output $_",
    "    exit 1",
    "}",
    "exit 0",
)


def bring_online(disks: int, windows: WindowsFacts, tools: GuestTools) -> tuple[Step | None, tuple[Finding, ...]]:
    """The step for a machine of so many disks; None where it has one, or a Windows that leaves none offline."""
    if disks < 2 or tools.version < _POLICY_SINCE:
        return None, ()
    if _is_clustered(windows):
        message = "it is a member of a cluster: its other disks stay offline until the cluster brings them online"
        return None, (Finding("windows.cluster-disks", message, "Look at them in the failover cluster manager."),)
    if tools.has_network_cmdlets:
        file, command = ScriptFile("disks.ps1", _text(_CMDLETS)), tools.powershell("disks.ps1")
    else:
        file = ScriptFile("disks.txt", _text(tuple(_diskpart(disks))))
        command = f'{tools.command("diskpart.exe")} /s "%P2V_FOLDER%\\disks.txt"'
    return Step("disks", _SECONDS, 2, command, _WHY, (file,)), ()


def _is_clustered(windows: WindowsFacts) -> bool:
    system = windows.registry[SYSTEM]
    start = system.number(f"ControlSet{windows.control_sets.current or 1:03d}\\Services\\{_CLUSTER}", "Start")
    return start is not None and start != _DISABLED


def _diskpart(disks: int) -> Iterator[str]:
    yield "rescan"
    for number in range(min(disks, _DISKS_AT_MOST)):
        yield f"select disk {number}"
        # that of the system is online already, which is an error
        yield "online disk noerr"
        yield "attributes disk clear readonly noerr"


def _text(lines: tuple[str, ...]) -> str:
    return "".join(f"{line}\r\n" for line in lines)
