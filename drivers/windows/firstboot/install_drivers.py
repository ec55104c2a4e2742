"""The step that installs the drivers that stand ready in the guest. Pure.

Windows Vista and later: ``pnputil`` puts a package into the driver store and onto the devices that are there. Its
options have other names since Windows 10 1607. Exit codes: 259 (no more items) where the package is there already or no
such device is; 3010 and 1641 where a restart has to follow.

Windows 2000, XP and Server 2003 have no such program, and their own way, the wizard, waits for somebody to log on:
``pnpinstall.c`` does there what the wizard does, without asking where that can be told to Windows.

Sources: Microsoft, "PnPUtil command syntax", "PnPUtil return values", "UpdateDriverForPlugAndPlayDevicesW",
"SetupCopyOEMInfW".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from drivers.windows.firstboot.program import INSTALLER
from drivers.windows.firstboot.steps import ScriptFile, Step, batch
from drivers.windows.firstboot.tools import GuestTools, program

_FIRST_WITH_PNPUTIL = (6, 0)
_NEW_OPTIONS_SINCE = 14393
_SECONDS_EACH = 180
_SECONDS_BEFORE = 120
# a batch file is read in the guest's own code page, and what is quoted in it must not end the quotes or be a variable
_PATH = re.compile(r"%SystemRoot%\\[A-Za-z0-9 ._()+\\-]+\.inf", re.IGNORECASE)
_DEVICE = re.compile(r"[A-Za-z0-9&_*.\\-]{1,200}")


def unsuitable(inf_files: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Those whose paths, or whose devices' ids, cannot stand in a batch file."""
    return tuple(path for path, ids in inf_files.items() if not _PATH.fullmatch(path) or not all(map(_DEVICE.fullmatch, ids)))


def install_drivers(inf_files: Mapping[str, tuple[str, ...]], tools: GuestTools) -> Step | None:
    """The step for INF files by their paths in Windows, each with the ids of its devices.

    None where there is none.
    """
    odd = unsuitable(inf_files)
    usable = {path: ids for path, ids in inf_files.items() if path not in odd}
    if not usable:
        return None
    name = "drivers.cmd"
    programs = (INSTALLER,) if tools.version < _FIRST_WITH_PNPUTIL else ()
    seconds = _SECONDS_BEFORE + _SECONDS_EACH * len(usable)
    why = "the drivers of virtio's devices are installed, as far as Plug and Play has not done so"
    script = ScriptFile(name, batch(*_script(usable, tools)))
    return Step("drivers", seconds, 3, tools.batch_file(name), why, (script,), programs)


def _script(inf_files: Mapping[str, tuple[str, ...]], tools: GuestTools) -> Iterator[str]:
    yield "set worst=0"
    yield "set restart=0"
    for path, ids in inf_files.items():
        yield _installing(path, ids, tools)
        yield f'call :ended "{path}"'
    yield "if not %worst%==0 exit %worst%"
    yield "exit %restart%"
    yield ":ended"
    yield "set code=%errorlevel%"
    yield "echo %~1: %code%"
    yield "if %code%==0 goto :eof"
    yield "if %code%==259 goto :eof"
    yield "if %code%==3010 set restart=3010"
    yield "if %code%==3010 goto :eof"
    yield "if %code%==1641 set restart=3010"
    yield "if %code%==1641 goto :eof"
    yield "set worst=%code%"


def _installing(path: str, ids: tuple[str, ...], tools: GuestTools) -> str:
    if tools.version < _FIRST_WITH_PNPUTIL:
        return " ".join((f'"%P2V_FOLDER%\\{INSTALLER}.exe"', f'"{path}"', *(f'"{id_}"' for id_ in ids)))
    words = f'/add-driver "{path}" /install' if tools.build >= _NEW_OPTIONS_SINCE else f'-i -a "{path}"'
    return f"{program('pnputil.exe')} {words}"
