"""The step that installs the drivers that stand ready in the guest. Pure.

Windows Vista and later: ``pnputil`` puts a package into the driver store and onto the devices that are there. Its
options have other names since Windows 10 1607. Exit codes: 259 (no more items) where the package is there already or
no such device is; 3010 and 1641 where a restart has to follow. Windows 2000, XP and Server 2003 have no such program:
there Plug and Play looks into the folders of DevicePath at each start and installs what is signed without asking; the
step makes it look once more.

Sources: Microsoft, "PnPUtil command syntax", "PnPUtil return values"; "DevicePath" in "Specifying the source media
for a device".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from drivers.windows.firstboot.steps import ScriptFile, Step, batch
from drivers.windows.firstboot.tools import GuestTools

_FIRST_WITH_PNPUTIL = (6, 0)
_NEW_OPTIONS_SINCE = 14393
_SECONDS_EACH = 180
_SECONDS_BEFORE = 120
# a batch file is read in the guest's own code page, and what is quoted in it must not end the quotes or be a variable
_PATH = re.compile(r"%SystemRoot%\\[A-Za-z0-9 ._()+\\-]+\.inf", re.IGNORECASE)


def can_install(tools: GuestTools) -> bool:
    """Whether a step installs drivers; before Windows Vista Plug and Play does by itself."""
    return tools.version >= _FIRST_WITH_PNPUTIL


def unsuitable(inf_files: Sequence[str]) -> tuple[str, ...]:
    """Those whose paths cannot stand in a batch file."""
    return tuple(path for path in inf_files if not _PATH.fullmatch(path))


def install_drivers(inf_files: Sequence[str], tools: GuestTools) -> Step | None:
    """The step for INF files by their paths in Windows; None where there is none, or nothing to install them with."""
    usable = [path for path in inf_files if _PATH.fullmatch(path)]
    if not usable or not can_install(tools):
        return None
    name = "drivers.cmd"
    seconds = _SECONDS_BEFORE + _SECONDS_EACH * len(usable)
    why = "the drivers of virtio's devices are installed, as far as Plug and Play has not done so"
    return Step("drivers", seconds, 3, tools.batch_file(name), why, (ScriptFile(name, batch(*_script(usable, tools))),))


def _script(inf_files: Sequence[str], tools: GuestTools) -> Iterator[str]:
    yield "set worst=0"
    yield "set restart=0"
    for path in inf_files:
        yield f'call :install "{path}"'
    yield "if not %worst%==0 exit %worst%"
    yield "exit %restart%"
    yield ":install"
    words = '/add-driver "%~1" /install' if tools.build >= _NEW_OPTIONS_SINCE else '-i -a "%~1"'
    yield f"{tools.exe('pnputil.exe')} {words}"
    yield "set code=%errorlevel%"
    yield "echo %~1: %code%"
    yield "if %code%==0 goto :eof"
    yield "if %code%==259 goto :eof"
    yield "if %code%==3010 set restart=3010"
    yield "if %code%==3010 goto :eof"
    yield "if %code%==1641 set restart=3010"
    yield "if %code%==1641 goto :eof"
    yield "set worst=%code%"
