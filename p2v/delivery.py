"""A conversion's result on its way into a libvirt: what is looked at before anything is copied, and what is done after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.facts import OperatingSystem
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Usage
from p2v.core.workspace import Outputs, write_synced
from p2v.machine import Connection
from p2v.targets.hardware import TargetHardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.libvirt_host import DeliveredFile, Delivery, Pool, Telling, deliver

NOTE_SUFFIX = ".p2v-undelivered"


@dataclass(frozen=True, slots=True)
class DeliveryNote:
    """A file beside a machine's results, while libvirt is still to be told of it: the next run goes on with that.

    It stands before the first name is given, and goes when the domain is defined. Each line of it is a volume that was begun.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> DeliveryNote:
        """The one of the machine ``name`` whose results go to ``folder``."""
        return cls(folder / f".{name}{NOTE_SUFFIX}")

    def make(self) -> None:
        """Nothing was uploaded yet. The caller syncs the folder. Raises as ``write_synced``."""
        write_synced(self.path, "")

    def begin(self, pool: Pool, volume: str) -> None:
        """A volume is about to be made. Raises as ``write_synced``."""
        known = dict.fromkeys([*self.begun(), (pool.name, volume)])
        write_synced(self.path, "".join(json.dumps(each) + "\n" for each in known))

    def begun(self) -> Iterator[tuple[str, str]]:
        """Pools and volumes that were begun; what makes no sense in it is passed over."""
        try:
            lines = self.path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return
        for line in lines:
            with suppress(ValueError):
                match json.loads(line):
                    case [str(pool), str(volume)]:
                        yield pool, volume


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
    *,
    note: DeliveryNote | None = None,
    telling: Telling = nullcontext,
) -> None:
    """Upload what has a pool, define the machine, start it if wanted. ``sizes``: the disks' virtual sizes in bytes. Devices stay.

    What belongs to no disk (media, UEFI variables) goes where the first disk goes. ``note``: tells what a run before this one had
    begun to upload, which is taken back first. ``telling``, and raises: as ``deliver``.
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
    if note is None:
        deliver(wanted, files, hardware.name, xml, own, telling=telling)
        return
    _take_back(wanted, note, files if own is None else [*files, own], telling)
    deliver(wanted, files, hardware.name, xml, own, telling=telling, begun=note.begin)


def _take_back(wanted: Delivery, note: DeliveryNote, files: Sequence[DeliveredFile], telling: Telling) -> None:
    """Volumes that a run before this one made, or was to make: those of this machine alone, whatever the note says."""
    ours = {(file.pool.name, file.path.name): file.pool for file in files if file.pool is not None}
    left = [(ours[each], each[1]) for each in note.begun() if each in ours]
    if left:
        with telling():
            for pool, volume in left:
                wanted.host.forget_volume(pool, volume)
