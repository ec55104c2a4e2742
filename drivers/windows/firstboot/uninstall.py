"""The steps that uninstall programs with their own uninstallers, one for each, as ``uninstalling.py`` chose them. Pure.

Sources: Microsoft, "msiexec" and its error codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.windows.firstboot.steps import ScriptFile, Step, batch
from drivers.windows.firstboot.tools import GuestTools
from drivers.windows.uninstalling import Uninstall

_SECONDS = 900
_NOT_INSTALLED = 1605


def uninstall(programs: Sequence[Uninstall], tools: GuestTools) -> tuple[Step, ...]:
    """One step for each program, in their order."""
    return tuple(_step(number, program, tools) for number, program in enumerate(programs, 1))


def _step(number: int, program: Uninstall, tools: GuestTools) -> Step:
    file = f"uninstall-{number}.cmd"
    # a drive that the program is on may have lost its letter: then there is nothing to run, which is a failure that is seen
    lines = (program.command, f"if %errorlevel%=={_NOT_INSTALLED} exit 0", "exit %errorlevel%")
    return Step(f"uninstall-{number}", _SECONDS, 2, tools.batch_file(file), program.why, (ScriptFile(file, batch(*lines)),))
