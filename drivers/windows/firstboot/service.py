"""The service of the first start: its files in the guest, and its entry in every control set that can be started.
Pure.

Sources: Microsoft, "CreateServiceW" and "CurrentControlSet\\Services subkey entries" (Type, Start, ErrorControl,
ObjectName).
"""

from __future__ import annotations

import hashlib
import posixpath
import struct
from collections.abc import Iterator, Sequence

from drivers.changes import CarryFile, Change, WriteFile
from drivers.windows import c_regf as c
from drivers.windows.edits import HiveEdit
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot.program import FIRSTBOOT, PROGRAMS
from drivers.windows.firstboot.steps import Step, step_list
from drivers.windows.firstboot.tools import GuestTools
from drivers.windows.inf_registry import terminated
from drivers.windows.wanted import WantedValue, wanted_edits

SERVICE = "p2v-firstboot"
STARTS_AT_MOST, RESTARTS_AT_MOST = 10, 1
_FOLDER = "p2v"
_OWN_PROCESS, _AUTOMATIC, _NORMAL = 0x10, 2, 1
# who is no administrator may look at it, and must not change what the system is going to run
_MODE = 0o644
_DIGITS = 12
_WHY = "what only the running guest can do is done at its first start, by a service that removes itself"


def folder_of(steps: Sequence[Step]) -> str:
    """The name of the folder for these steps: others have another one, so that nothing of an earlier conversion is there."""
    digest = hashlib.sha256(step_list(steps, STARTS_AT_MOST, RESTARTS_AT_MOST).encode())
    for file in (file for step in steps for file in step.files):
        digest.update(f"\0{file.name}\0{file.content}".encode())
    return f"firstboot-{digest.hexdigest()[:_DIGITS]}"


def files(steps: Sequence[Step], windows: WindowsFacts, tools: GuestTools) -> tuple[Change, ...]:
    """The program, its list, and the steps' own files."""
    folder = posixpath.join(windows.system_root, _FOLDER, folder_of(steps))
    listed = step_list(steps, STARTS_AT_MOST, RESTARTS_AT_MOST)
    scripts = [
        WriteFile(posixpath.join(folder, file.name), file.content, _MODE, step.why) for step in steps for file in step.files
    ]
    programs = dict.fromkeys([(FIRSTBOOT, _WHY), *((name, step.why) for step in steps for name in step.programs)])
    return (
        *(_carried(name, folder, tools, why) for name, why in programs),
        WriteFile(posixpath.join(folder, "steps.txt"), listed, _MODE, "the steps of the first start, in their order"),
        *scripts,
    )


def _carried(name: str, folder: str, tools: GuestTools, why: str) -> CarryFile:
    program = PROGRAMS[name][tools.program]
    return CarryFile(program.source, program.size, program.sha256, posixpath.join(folder, f"{name}.exe"), _MODE, why)


def entries(steps: Sequence[Step], windows: WindowsFacts) -> tuple[HiveEdit, ...]:
    """The edits of SYSTEM that make it a service."""
    return tuple(wanted_edits(windows.registry[SYSTEM], _values(steps, windows)))


def _values(steps: Sequence[Step], windows: WindowsFacts) -> Iterator[WantedValue]:
    # no letter of a drive in it: which one the system has is only known once it runs
    image = f'"%SystemRoot%\\{_FOLDER}\\{folder_of(steps)}\\firstboot.exe"'
    for number in windows.control_sets.bootable:
        key = f"ControlSet{number:03d}\\Services\\{SERVICE}"
        for name, value in (("Type", _OWN_PROCESS), ("Start", _AUTOMATIC), ("ErrorControl", _NORMAL)):
            yield WantedValue(key, name, c.REG_DWORD, struct.pack("<I", value).hex(), _WHY)
        yield WantedValue(key, "ImagePath", c.REG_EXPAND_SZ, terminated(image).hex(), _WHY)
        yield WantedValue(key, "ObjectName", c.REG_SZ, terminated("LocalSystem").hex(), _WHY)
        yield WantedValue(key, "DisplayName", c.REG_SZ, terminated("First start after the move to KVM (p2v)").hex(), _WHY)
