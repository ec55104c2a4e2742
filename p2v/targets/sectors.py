"""Sectors of disks, and which front ends can say how large they are; pure."""

from __future__ import annotations

from p2v.core.units import SECTOR_BYTES
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetHardware

# Their descriptions of disks have no place for it: Proxmox VE's qm.conf(5), OpenStack's image properties.
_CANNOT_SAY = frozenset({FrontEnd.PROXMOX, FrontEnd.OPENSTACK})


def sectors_lost(hardware: TargetHardware, front_end: FrontEnd) -> str:
    """A sentence about what a front end cannot say and the guest cannot do without; empty where nothing is."""
    large = [str(number) for number, d in enumerate(hardware.disks, 1) if d.logical_sector_bytes != SECTOR_BYTES]
    if front_end not in _CANNOT_SAY or not large:
        return ""
    which = f"disk{'s' if len(large) > 1 else ''} {', '.join(large)}"
    return (
        f"{front_end.value} cannot be told that {which} had sectors of 4096 bytes: with sectors of 512 the guest does not "
        "understand the partition table. The script that starts it with QEMU says it"
    )
