"""A converted machine's way into libvirt: what is looked at before anything is copied, and what is done at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers.facts import OperatingSystem
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Usage
from p2v.machine import Connection
from p2v.targets.hardware import TargetHardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.libvirt_host import Delivery, Pool, deliver


def check_delivery(wanted: Delivery, hardware: TargetHardware) -> Pool | None:
    """The pool that the disks go to, if one was named. Raises as ``LibvirtHost.check``, and Usage for disks it cannot have."""
    networks = [nic.network for nic in hardware.nics if nic.connection is Connection.NETWORK]
    pool = wanted.host.check(hardware.name, hardware.uuid, networks, wanted.pool)
    if pool is not None and not pool.takes_files and any(disk.format != "raw" for disk in hardware.disks if not disk.is_device):
        raise Usage(f"volumes of the pool {pool.name!a} ({pool.type}) are raw disks", "Say --format raw.")
    return pool


def deliver_machine(
    wanted: Delivery,
    pool: Pool | None,
    hardware: TargetHardware,
    folder: Path,
    sizes: Sequence[int],
    system: OperatingSystem | None,
    acceleration: Acceleration,
) -> None:
    """Upload the disks in ``folder`` (virtual sizes in bytes) where there is a pool, and define the domain. Block devices stay.

    Raises as ``deliver``.
    """
    sized = [(disk, size) for disk, size in zip(hardware.disks, sizes, strict=True) if not disk.is_device]
    disks = [(folder / disk.path, disk.format, size) for disk, size in sized]

    def xml(into: Pool | None) -> str:
        return domain_xml(hardware, folder.absolute(), acceleration, system, into.name if into else None)

    deliver(wanted, pool, disks, hardware.name, xml)
