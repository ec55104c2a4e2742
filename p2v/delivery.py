"""A conversion's result on its way into a libvirt: what is looked at before anything is copied, and what is done after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from drivers.facts import OperatingSystem
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Usage
from p2v.core.workspace import Outputs
from p2v.machine import Connection
from p2v.targets.hardware import TargetHardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.libvirt_host import DeliveredFile, Delivery, Pool, deliver


def check_delivery(wanted: Delivery | None, hardware: TargetHardware) -> Mapping[str, Pool]:
    """The pools by their names, before anything is copied. Raises as ``LibvirtHost.check``, and Usage for disks no pool holds."""
    if wanted is None:
        return {}
    networks = [nic.network for nic in hardware.nics if nic.connection is Connection.NETWORK]
    pools = wanted.host.check(hardware.name, hardware.uuid, networks, wanted.pools.names)
    for index, disk in enumerate(hardware.disks):
        pool = pools.get(wanted.pools.of(index) or "")
        if pool is not None and not pool.takes_files and disk.format != "raw" and not disk.is_device:
            raise Usage(f"volumes of the pool {pool.name!a} ({pool.type}) are raw disks", "Say --format raw.")
    return pools


def deliver_machine(
    wanted: Delivery,
    pools: Mapping[str, Pool],
    hardware: TargetHardware,
    sizes: Sequence[int],
    outputs: Outputs,
    acceleration: Acceleration,
    system: OperatingSystem | None,
) -> None:
    """Upload what has a pool, define the machine, start it if wanted. ``sizes``: the disks' virtual sizes in bytes. Devices stay.

    What belongs to no disk (media, UEFI variables) goes where the first disk goes. Raises as ``deliver``.
    """
    names = [wanted.pools.of(index) for index in range(len(hardware.disks))]

    def delivered(name: Path, disk_format: str, size: int | None = None, index: int = 0) -> DeliveredFile:
        file = outputs.final(str(name))
        return DeliveredFile(file, disk_format, file.stat().st_size if size is None else size, pools.get(names[index] or ""))

    def xml(variables: Path | None) -> str:
        return domain_xml(hardware, outputs.folder.absolute(), acceleration, system, names, variables)

    files = [
        delivered(disk.path, disk.format, size, index)
        for index, (disk, size) in enumerate(zip(hardware.disks, sizes, strict=True))
        if not disk.is_device
    ]
    files += [delivered(medium.path, "raw") for medium in hardware.media]
    own = delivered(hardware.variables, "raw") if hardware.variables is not None else None
    deliver(wanted, files, hardware.name, xml, own)
