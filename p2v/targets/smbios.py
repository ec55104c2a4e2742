"""What front ends cannot tell a guest of its machine by SMBIOS; pure."""

from __future__ import annotations

from dataclasses import fields

from p2v.machine import Smbios
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetHardware

# A machine's own there; all others are set for a cluster, or by a cloud.
_KUBEVIRT = frozenset({"serial", "chassis_serial", "asset_tag"})
_TAKEN = {FrontEnd.KUBEVIRT: _KUBEVIRT, FrontEnd.OPENSTACK: frozenset[str]()}


def smbios_lost(hardware: TargetHardware, front_end: FrontEnd) -> str:
    """A sentence about what is lost; empty where nothing is."""
    if front_end not in _TAKEN:
        return ""
    stated = [field.name for field in fields(Smbios) if getattr(hardware.smbios, field.name)]
    lost = [name.replace("_", " ") for name in stated if name not in _TAKEN[front_end]]
    if not lost:
        return ""
    return f"{front_end.value} has no place for what SMBIOS told the guest of its machine: {', '.join(lost)}"
