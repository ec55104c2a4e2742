"""The file of UEFI variables that a converted machine begins with: the firmware's own template, and what comes from the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from p2v.core.events import Reporter, Warned
from p2v.core.firmware import installed_firmware
from p2v.machine import Firmware, Machine
from p2v.nvram.carried import for_machine
from p2v.nvram.edk2 import write_store
from p2v.nvram.variables import BadVariables
from p2v.targets.front_ends import DefinitionFile, FrontEnd
from p2v.targets.hardware import TargetHardware
from p2v.targets.qemu import variable_store_name

# These have no place for a file of variables: their machines begin with the firmware's template.
_WITHOUT_FILES = {FrontEnd.KUBEVIRT: "KubeVirt", FrontEnd.OPENSTACK: "OpenStack"}


@dataclass(frozen=True, slots=True)
class VariableStore:
    """Hardware that begins with variables of its own, and the file of them; none where nothing comes from the source."""

    hardware: TargetHardware
    files: tuple[DefinitionFile, ...] = ()


def variable_store(machine: Machine, hardware: TargetHardware, front_end: FrontEnd, report: Reporter) -> VariableStore:
    """Write what comes from the source's variables into this host's template. Nothing is written to disk here.

    Without a template (no firmware is installed here) or with variables that do not fit, the machine begins with new ones: told.
    """
    given = for_machine(machine.variables, secure_boot=hardware.secure_boot)
    if hardware.firmware is not Firmware.UEFI or not given:
        return VariableStore(hardware)
    files = installed_firmware(secure_boot=hardware.secure_boot, arch=hardware.arch)
    if files is None:
        report(Warned("the source's UEFI variables do not come along: no UEFI firmware is installed here to make a store for"))
        return VariableStore(hardware)
    try:
        data = write_store(files.variables.read_bytes(), given)
    except BadVariables as error:
        report(Warned(f"the source's UEFI variables do not come along: the firmware's template {files.variables} {error}"))
        return VariableStore(hardware)
    name = variable_store_name(hardware)
    if front_end in _WITHOUT_FILES:
        place = _WITHOUT_FILES[front_end]
        report(Warned(f"{place} has no place for the UEFI variables in {name}: machines there begin with new ones"))
    return VariableStore(replace(hardware, variables=Path(name)), (DefinitionFile(name, data),))
