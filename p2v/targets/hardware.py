"""The hardware KVM will offer a guest: what the machine had, limited by what the rewritten guest can use.

Every target takes it, and the boot check runs exactly it.
"""

from __future__ import annotations

import enum
import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.caps import GuestCaps
from p2v.core.errors import Usage
from p2v.core.units import round_up
from p2v.machine import DiskBus, Firmware, Machine, NicModel
from p2v.targets.platforms import PLATFORMS, Video, known_architecture, platform_of

# Two channels with two units each; nothing else can hang on an IDE controller.
IDE_DISKS = 4


class Clock(enum.Enum):
    """What the hardware clock shows."""

    UTC = "utc"
    LOCAL_TIME = "localtime"


@dataclass(frozen=True, slots=True)
class TargetDisk:
    """One disk of the result; a relative ``path`` is relative to the folder of the definition."""

    path: Path
    format: str = "qcow2"
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class TargetNic:
    """One network card; ``network`` is the name of the host's network it hangs on."""

    mac: str
    model: NicModel
    network: str = "default"


@dataclass(frozen=True, slots=True)
class TargetHardware:
    """A virtual machine's hardware; ``memory_bytes`` is a multiple of 1 MiB, or of what its machine asks for.

    ``firmware``: UEFI, or what the machine has without it (``bios``: SeaBIOS; SLOF on pseries, s390-ccw on s390x).
    """

    name: str
    uuid: str
    machine: str
    """QEMU's machine type: ``q35``, ``pc``, ``virt``, ``pseries``, ``s390-ccw-virtio``."""
    cpus: int
    memory_bytes: int
    firmware: Firmware
    disk_bus: DiskBus
    disks: tuple[TargetDisk, ...]
    nics: tuple[TargetNic, ...]
    arch: str = "x86_64"
    secure_boot: bool = False
    tpm: bool = False
    video: Video = Video.VGA
    rng: bool = False
    balloon: bool = False
    clock: Clock = Clock.UTC


def target_hardware(machine: Machine, caps: GuestCaps, disks: Sequence[TargetDisk]) -> TargetHardware:
    """What KVM offers: the machine's sizes and cards, on buses and models the guest has drivers for.

    The firmware is the machine's own where the source states it: a disk may hold boot loaders for both. Raises Usage
    when the disks cannot all hang on the only bus the guest knows, or the machine cannot have the firmware that is stated.
    """
    arch = known_architecture(caps.arch)
    here = PLATFORMS[arch]
    bus = next((bus for bus in map(DiskBus, caps.disk_buses) if bus in here.disk_buses), here.disk_buses[0])
    if bus is DiskBus.IDE and len(disks) > IDE_DISKS:
        raise Usage(
            f"{machine.name}: the guest knows only IDE disks, and {len(disks)} disks do not fit on one controller",
            f"Convert at most {IDE_DISKS} disks, or add a driver for SATA or virtio to the guest first.",
        )
    return TargetHardware(
        name=machine.name,
        uuid=machine.uuid or _stable_uuid(machine.name),
        machine=_machine_type(caps, bus),
        cpus=machine.cpus,
        memory_bytes=round_up(machine.memory_bytes, here.memory_step_bytes),
        firmware=_firmware(machine, caps),
        disk_bus=bus,
        disks=tuple(replace(d, serial=usable_serial(d.serial)) for d in disks),
        nics=_nics(machine, caps),
        arch=arch,
        video=here.video,
        rng=caps.rng,
        balloon=caps.balloon,
        clock=Clock.LOCAL_TIME if caps.local_time else Clock.UTC,
    )


def usable_serial(serial: str | None) -> str | None:
    """A disk's serial number as QEMU and libvirt both take it: at most 20 characters, of few kinds."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", serial.strip())[:20] or None if serial else None


def stable_mac(name: str, index: int) -> str:
    """A MAC address in QEMU's range for the card ``index`` of a machine: the same on every run."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in _digest(f"{name}/{index}")[:3])


def _stable_uuid(name: str) -> str:
    return str(uuid.UUID(bytes=_digest(f"uuid/{name}")[:16], version=5))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _machine_type(caps: GuestCaps, bus: DiskBus) -> str:
    # q35 has no IDE controller: a disk called IDE would hang on AHCI there, for which the guest may have no driver
    if bus is DiskBus.IDE:
        return "pc"
    machines = platform_of(caps.arch).machines
    return caps.machine if caps.machine in machines else machines[0]


def _firmware(machine: Machine, caps: GuestCaps) -> Firmware:
    stated = machine.firmware if "firmware" not in machine.assumed else None
    offered = platform_of(caps.arch).firmwares
    if stated is not None and stated not in offered:
        names = " or ".join(firmware.value for firmware in offered)
        raise Usage(f"{machine.name}: virtual machines for {caps.arch} have no {stated.value} firmware, only {names}")
    wanted = stated or Firmware(caps.firmware)
    return wanted if wanted in offered else offered[0]


def _nics(machine: Machine, caps: GuestCaps) -> tuple[TargetNic, ...]:
    offered = platform_of(caps.arch).nic_models
    model = next((model for model in map(NicModel, caps.nic_models) if model in offered), offered[0])
    return tuple(
        TargetNic((nic.mac or stable_mac(machine.name, index)).lower(), model, nic.network)
        for index, nic in enumerate(machine.nics)
    )
