"""Facts of a guest that this host's readers may not read: through a read-only appliance. Imported where one is needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from converters.mapped import MappedDisk
from converters.qemu_img import QemuImg
from converters.served_overlay import served_overlay
from drivers.appliance_launch import open_appliance
from drivers.appliance_reading import facts_by_appliance
from drivers.appliance_values import ApplianceDisk
from drivers.facts import GuestFacts
from drivers.keys import Key
from drivers.layout import Layout
from p2v.core.acceleration import Acceleration
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.core.units import SECTOR_BYTES
from p2v.core.workspace import socket_folder, temporary_folder
from p2v.machine import MachineDisk


def by_appliance(
    disks: Sequence[MachineDisk],
    readers: Sequence[MappedDisk],
    layout: Layout,
    why: str,
    acceleration: Acceleration,
    report: Reporter,
    keys: Sequence[Key],
) -> GuestFacts:
    """The same facts through a read-only appliance: its overlay replays the journals, the source does not change.

    ``why``: why the host's readers do not. Raises what starting and asking an appliance raises.
    """
    qemu_img = QemuImg(SystemRunner())
    with ExitStack() as stack:
        scratch = stack.enter_context(temporary_folder())
        sockets = stack.enter_context(socket_folder())
        overlays = []
        for index, (disk, reader) in enumerate(zip(disks, readers, strict=True)):
            path = scratch / f"overlay{index}.qcow2"
            overlay = stack.enter_context(served_overlay(disk.spec, path, reader.virtual_size, sockets, qemu_img))
            sectors = layout.disks[index].sector_bytes if index < len(layout.disks) else SECTOR_BYTES
            overlays.append(ApplianceDisk(overlay, "qcow2", read_only=False, sector_bytes=sectors))
        appliance = stack.enter_context(open_appliance(overlays, acceleration, report=report))
        return facts_by_appliance(appliance, layout, why, keys)
