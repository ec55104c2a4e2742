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
from p2v.core.units import MIB, round_up
from p2v.machine import DiskBus, Firmware, Machine, NicModel

# Two channels with two units each; nothing else can hang on an IDE controller.
IDE_DISKS = 4

_MACHINE_TYPES = ("q35", "pc")


class Video(enum.Enum):
    """The graphics card."""

    VGA = "vga"
    """QEMU's standard VGA: every system has a driver for it, and its text mode can be read from outside."""
    VIRTIO = "virtio"


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
    """A virtual machine's hardware; ``memory_bytes`` is a multiple of 1 MiB."""

    name: str
    uuid: str
    machine: str
    """``q35`` or ``pc``."""
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
    when the disks cannot all hang on the only bus the guest knows.
    """
    bus = DiskBus(caps.disk_buses[0]) if caps.disk_buses else DiskBus.SATA
    if bus is DiskBus.IDE and len(disks) > IDE_DISKS:
        raise Usage(
            f"{machine.name}: the guest knows only IDE disks, and {len(disks)} disks do not fit on one controller",
            f"Convert at most {IDE_DISKS} disks, or add a driver for SATA or virtio to the guest first.",
        )
    stated = machine.firmware if "firmware" not in machine.assumed else None
    return TargetHardware(
        name=machine.name,
        uuid=machine.uuid or _stable_uuid(machine.name),
        machine=_machine_type(caps, bus),
        cpus=machine.cpus,
        memory_bytes=round_up(machine.memory_bytes, MIB),
        firmware=stated or Firmware(caps.firmware),
        disk_bus=bus,
        disks=tuple(replace(d, serial=usable_serial(d.serial)) for d in disks),
        nics=_nics(machine, caps),
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


def copys_uuid(machine: Machine) -> str:
    """The SMBIOS UUID of a copy that runs beside its machine: neither the machine's nor that of its plain conversion.

    The same on every run. In a virtual machine systemd makes the machine id from it (machine-id(5)).
    """
    return _stable_uuid(f"copy/{machine.uuid or ''}/{machine.name}")


def _stable_uuid(name: str) -> str:
    return str(uuid.UUID(bytes=_digest(f"uuid/{name}")[:16], version=5))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _machine_type(caps: GuestCaps, bus: DiskBus) -> str:
    # q35 has no IDE controller: a disk called IDE would hang on AHCI there, for which the guest may have no driver
    if bus is DiskBus.IDE:
        return "pc"
    return caps.machine if caps.machine in _MACHINE_TYPES else "q35"


def _nics(machine: Machine, caps: GuestCaps) -> tuple[TargetNic, ...]:
    model = NicModel(caps.nic_models[0]) if caps.nic_models else NicModel.E1000
    return tuple(
        TargetNic((nic.mac or stable_mac(machine.name, index)).lower(), model, nic.network)
        for index, nic in enumerate(machine.nics)
    )
