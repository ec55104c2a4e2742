"""Hardware that several tests look at."""

from __future__ import annotations

from pathlib import Path

from p2v.core.units import GIB
from p2v.machine import DiskBus, Firmware, NicModel
from p2v.targets.hardware import TargetDisk, TargetHardware, TargetNic

HOSTILE = 'it\'s, a $(touch pwned) `id` "name"; <&> -x'


def hardware(
    name: str = "web1",
    *,
    bus: DiskBus = DiskBus.VIRTIO_BLK,
    disks: int = 1,
    firmware: Firmware = Firmware.BIOS,
    machine: str = "q35",
    secure_boot: bool = False,
    rng: bool = True,
    tpm: bool = False,
) -> TargetHardware:
    return TargetHardware(
        name=name,
        uuid="2b4ad1e5-0c74-5a77-8a44-111213141516",
        machine=machine,
        cpus=2,
        memory_bytes=GIB,
        firmware=firmware,
        disk_bus=bus,
        disks=tuple(TargetDisk(Path(f"{name}-{i}.qcow2"), serial=f"S-{i}") for i in range(disks)),
        nics=(
            TargetNic("52:54:00:aa:bb:01", NicModel.VIRTIO),
            TargetNic("52:54:00:aa:bb:02", NicModel.E1000E, "dmz"),
        ),
        secure_boot=secure_boot,
        tpm=tpm,
        rng=rng,
        balloon=True,
    )
