"""The step that removes network adapters that are not there any more. Pure.

Windows keeps the device of a card that is gone, with the addresses that it had, and a card that is given one of these meets
"already assigned to another adapter". Only those that the registry names as the old cards are looked at, and of them only
those that are not present are removed: a card that is the same on KVM stays.

``pnputil`` removes devices from Windows 10 2004 on, whether they are present or not: so PowerShell asks before. Before that,
``pnpremove.c`` does what the device manager does. Their keys below Enum are never deleted in the hive: nobody but the system
may write there, and classes, connections, interfaces and bindings point to them, which only Plug and Play takes back with them.

Sources: Microsoft, "PnPUtil command syntax" (``/remove-device``), "Win32_PnPEntity class" (``Present``), "DIF_REMOVE"
(without parameters: from the whole system), "CM_Locate_DevNodeW" (``CM_LOCATE_DEVNODE_NORMAL``); Q269155 (the message).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.windows.firstboot.program import REMOVER
from drivers.windows.firstboot.steps import ScriptFile, Step, batch
from drivers.windows.firstboot.tools import GuestTools
from drivers.windows.network_facts import INSTANCE

_PNPUTIL_REMOVES_SINCE = 19041
_SECONDS = 300
_WHY = "the adapters of its old cards are gone, and what Windows keeps of them would still hold their addresses"


def can_remove(tools: GuestTools) -> bool:
    """Whether it can be done: not on ARM64 before pnputil does it, where a program for another processor may not."""
    return tools.build >= _PNPUTIL_REMOVES_SINCE or not tools.is_emulated


def remove_ghosts(instances: Sequence[str], tools: GuestTools) -> Step | None:
    """The step for instances of devices below Enum; None where there are none, or Windows lets nobody remove them.

    Raises ValueError for one that must not stand in a script.
    """
    if not instances or not can_remove(tools):
        return None
    if odd := next((each for each in instances if not INSTANCE.fullmatch(each)), None):
        raise ValueError(f"no instance of a device: {odd!r}")
    if tools.build >= _PNPUTIL_REMOVES_SINCE:
        file = ScriptFile("ghosts.ps1", "".join(f"{line}\r\n" for line in _powershell(instances)))
        return Step("ghosts", _SECONDS, 2, tools.powershell(file.name), _WHY, (file,))
    file = ScriptFile("ghosts.cmd", batch(*_batch(instances)))
    return Step("ghosts", _SECONDS, 2, tools.batch_file(file.name), _WHY, (file,), (REMOVER,))


def _powershell(instances: Sequence[str]) -> Iterator[str]:
    yield "$failed = 0"
    yield "$restart = 0"
    yield "$devices = @(Get-PnpDevice -ErrorAction SilentlyContinue)"
    yield "foreach ($id in @("
    yield ",\r\n".join(f"    '{instance}'" for instance in instances)
    yield ")) {"
    yield "    $device = $devices | Where-Object { $_.InstanceId -eq $id }"
    yield "    if (!$device) { continue }"
    yield '    if ($device.Present -ne $false) { Write-Output "${id}: present, left alone"; continue }'
    yield '    & "$env:SystemRoot\\System32\\pnputil.exe" /remove-device $id'
    yield "    if ($LASTEXITCODE -eq 3010 -or $LASTEXITCODE -eq 1641) { $restart = 3010 }"
    yield "    elseif ($LASTEXITCODE -ne 0) { $failed = $LASTEXITCODE }"
    yield "}"
    yield "if ($failed -ne 0) { exit $failed }"
    yield "exit $restart"


def _batch(instances: Sequence[str]) -> Iterator[str]:
    """One call for each: a command line is bounded."""
    yield "set worst=0"
    yield "set restart=0"
    for instance in instances:
        yield f'"%P2V_FOLDER%\\{REMOVER}.exe" "{instance}"'
        yield "call :ended"
    yield "if not %worst%==0 exit %worst%"
    yield "exit %restart%"
    yield ":ended"
    yield "set code=%errorlevel%"
    yield "if %code%==0 goto :eof"
    yield "if %code%==3010 set restart=3010"
    yield "if %code%==3010 goto :eof"
    yield "set worst=%code%"
