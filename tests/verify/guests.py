"""The sample guests as the boot check wants them: hardware, and the few facts it looks at."""

from __future__ import annotations

from pathlib import Path

from drivers.facts import BootLoader, GuestFacts, Mount, OperatingSystem, ReadBy
from p2v.core.units import GIB
from p2v.machine import DiskBus, Firmware, NicModel
from p2v.targets.hardware import TargetDisk, TargetHardware, TargetNic, stable_mac

DEBIAN = GuestFacts(
    read_by=ReadBy.HOST,
    disks=(),
    partitions=(),
    os=OperatingSystem("linux", "debian", "12", "Debian GNU/Linux 12", "x86_64", "debian", init="systemd"),
    root=Mount("/", 0, 1),
    mounts=(Mount("/", 0, 1),),
    boot_loader=BootLoader("grub2", "/boot/grub/grub.cfg"),
)


def machine_with(disk: Path, name: str, image_format: str = "raw") -> TargetHardware:
    return TargetHardware(
        name=name,
        uuid="2b4ad1e5-0c74-5a77-8a44-111213141516",
        machine="q35",
        cpus=1,
        memory_bytes=GIB,
        firmware=Firmware.BIOS,
        disk_bus=DiskBus.VIRTIO_BLK,
        disks=(TargetDisk(disk, image_format),),
        nics=(TargetNic(stable_mac(name, 0), NicModel.VIRTIO),),
        rng=True,
    )
