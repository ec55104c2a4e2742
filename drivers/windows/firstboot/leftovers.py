"""Steps that uninstall another hypervisor's tools with their own uninstallers, where those work without that
hypervisor. Pure.

Known is the name that they have in the list of installed programs (both views of it, of 64-bit and of 32-bit
programs), and how they are told to be silent and not to restart. What else stands in the list is not run; nor are
VMware Tools, which refuse to be removed where there is no VMware (their uninstaller ends with 1603), and other builds
of virtio's drivers, which the guest starts with.

Sources: Microsoft, "msiexec" and its error codes; VirtualBox's manual, "Unattended installation of the Guest
Additions"; Parallels, knowledge base.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, HiveFile, WindowsFacts
from drivers.windows.firstboot.steps import ScriptFile, Step, batch
from drivers.windows.firstboot.tools import GuestTools, program

_VIEWS = ("", "Wow6432Node\\")
_LIST = "Microsoft\\Windows\\CurrentVersion\\Uninstall"
_PRODUCT = re.compile(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", re.IGNORECASE)
# as it stands in a batch file between quotes
_PROGRAM = re.compile(r'"?([A-Za-z]:\\[A-Za-z0-9 ._()+\\-]+\.exe)"?', re.IGNORECASE)
_SECONDS = 900
_STEPS_AT_MOST = 8
_NOT_INSTALLED = 1605
_REFUSES = re.compile(r"VMware Tools", re.IGNORECASE)
_QUIET = "/qn /norestart REBOOT=ReallySuppress"


@dataclass(frozen=True, slots=True)
class _Tools:
    """Tools that can be uninstalled anywhere. ``name``: what the name in the list begins with, or has in it.

    ``properties``: more of the installer's; ``switches``: those of an uninstaller of their own, None for the Windows Installer.
    """

    name: re.Pattern[str]
    properties: str = ""
    switches: str | None = None


_KNOWN = (
    _Tools(re.compile(r"Oracle (VM )?VirtualBox Guest Additions", re.IGNORECASE), switches="/S"),
    _Tools(
        re.compile(r"(Parallels|Virtuozzo) (Guest )?Tools", re.IGNORECASE),
        " REMOVE=ALL PREVENT_REBOOT=Yes LAUNCHED_BY_SETUP_EXE=Yes",
    ),
    _Tools(re.compile(r"(Citrix (Hypervisor|XenServer)|XenServer|XCP-ng) Windows (Management|Guest) Agent", re.IGNORECASE)),
    _Tools(re.compile(r"Nutanix Guest Tools", re.IGNORECASE)),
)


def uninstall(windows: WindowsFacts, tools: GuestTools) -> tuple[Step, ...]:
    """One step for each that is installed, in the order of the list."""
    software = windows.registry.get(SOFTWARE)
    commands = dict.fromkeys(_commands(software)) if software is not None else {}
    return tuple(_step(n, *command, tools) for n, command in enumerate(list(commands)[:_STEPS_AT_MOST], 1))


def staying(windows: WindowsFacts) -> Iterator[Finding]:
    """What is known to refuse to be uninstalled away from its hypervisor, and is installed."""
    software = windows.registry.get(SOFTWARE)
    names = (software.text(key, "DisplayName") for key in _listed(software)) if software is not None else iter(())
    if any(_REFUSES.match(name) for name in names):
        message = "VMware Tools stay installed: without VMware their uninstaller does nothing but fail"
        yield Finding("windows.tools-stay", message, "Uninstall them where it still runs on VMware, before it is copied.")


def _listed(software: HiveFile) -> Iterator[str]:
    for view in _VIEWS:
        yield from software.below(f"{view}{_LIST}")


def _commands(software: HiveFile) -> Iterator[tuple[str, str]]:
    """What each is called, and the command line that removes it."""
    for key in _listed(software):
        name = software.text(key, "DisplayName")
        known = next((each for each in _KNOWN if each.name.match(name)), None)
        command = _command(software, key, known) if known is not None else None
        if known is not None and command is not None:
            # no more of a name from the guest than what was looked for
            found = known.name.match(name)
            yield found.group() if found else "", command


def _command(software: HiveFile, key: str, known: _Tools) -> str | None:
    if known.switches is not None:
        found = _PROGRAM.fullmatch(software.text(key, "UninstallString").strip())
        return f'"{found.group(1)}" {known.switches}' if found else None
    product = key.rpartition("\\")[2]
    return f"{program('msiexec.exe')} /x {product} {_QUIET}{known.properties}" if _PRODUCT.fullmatch(product) else None


def _step(number: int, name: str, command: str, tools: GuestTools) -> Step:
    file = f"uninstall-{number}.cmd"
    # a drive that the program is on may have lost its letter: then there is nothing to run, which is a failure that is seen
    lines = (command, f"if %errorlevel%=={_NOT_INSTALLED} exit 0", "exit %errorlevel%")
    why = f"{name} are for another hypervisor"
    return Step(f"uninstall-{number}", _SECONDS, 2, tools.batch_file(file), why, (ScriptFile(file, batch(*lines)),))
