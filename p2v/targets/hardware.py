"""The hardware KVM will offer a guest: what the machine had, limited by what the rewritten guest can use.

Every target takes it, and the boot check runs exactly it.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.caps import GuestCaps
from drivers.plan import Finding
from p2v.core.errors import Usage
from p2v.core.text import printable
from p2v.core.units import SECTOR_BYTES, format_bytes, round_up
from p2v.machine import (
    NOTHING_TOLD,
    Clock,
    Connection,
    DiskBus,
    DriveKind,
    Firmware,
    Machine,
    MediumImage,
    Nic,
    NicModel,
    Smbios,
    Topology,
)
from p2v.targets.cpus import CpuPlace, cpu_losses, divided
from p2v.targets.hyperv import Enlightenment, usable
from p2v.targets.platforms import PLATFORMS, UsbController, Video, known_architecture, platform_of

# What sources call cards that QEMU has too, in small letters.
_KEPT_CARDS = {
    **{model.value: model for model in NicModel},
    "vlance": NicModel.PCNET, "flexible": NicModel.PCNET, "pcnet32": NicModel.PCNET, "am79c970a": NicModel.PCNET,
    "am79c973": NicModel.PCNET, "am79c960": NicModel.PCNET, "82540em": NicModel.E1000, "82543gc": NicModel.E1000,
    "82545em": NicModel.E1000, "82574l": NicModel.E1000E, "e1000-82540em": NicModel.E1000, "dec21140": NicModel.TULIP,
    "ne2k": NicModel.NE2000, "virtio-net": NicModel.VIRTIO, "virtio-net-pci": NicModel.VIRTIO,
}  # fmt: skip

# What front ends call the buses: libvirt, Proxmox VE, OpenStack and KubeVirt in the same words.
BUS_NAMES = {DiskBus.VIRTIO_BLK: "virtio", DiskBus.VIRTIO_SCSI: "scsi", DiskBus.SATA: "sata", DiskBus.IDE: "ide"}

# QEMU's IDE and SATA disks have sectors of 512 bytes only.
LARGE_SECTOR_BUSES = frozenset({DiskBus.VIRTIO_BLK, DiskBus.VIRTIO_SCSI})

# Two channels with two units each; nothing else can hang on an IDE controller.
IDE_DISKS = 4


@dataclass(frozen=True, slots=True)
class TargetDisk:
    """One disk of the result; a relative ``path`` is relative to the folder of the definition.

    ``is_device``: it is a block device of the host, which front ends are told by its own (absolute) name.
    ``logical_sector_bytes``: what the guest's addresses count in (512, or 4096: 4Kn); ``physical_sector_bytes``: what it should
    write whole (512, or 4096: 512e and 4Kn).
    """

    path: Path
    format: str = "qcow2"
    serial: str | None = None
    is_device: bool = False
    logical_sector_bytes: int = SECTOR_BYTES
    physical_sector_bytes: int = SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class TargetMedium:
    """A medium in a drive: the ``number``-th of its kind, from 0; ``path`` as a disk's."""

    kind: DriveKind
    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class TargetNic:
    """One network card; ``network`` is the name of the host's network or bridge it hangs on."""

    mac: str
    model: NicModel
    network: str = "default"
    connection: Connection = Connection.NETWORK


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
    topology: Topology | None = None
    generation_id: str | None = None
    cdroms: int = 0
    floppies: int = 0
    smbios: Smbios = NOTHING_TOLD
    media: tuple[TargetMedium, ...] = ()
    variables: Path | None = None
    """The file that a UEFI machine's variables begin with, relative as disks are; None: the firmware's own template."""
    cpu_model: str = ""
    """QEMU's name of the CPU; empty: all that the host or the emulation has."""
    hyperv: tuple[Enlightenment, ...] = ()
    """Hyper-V's interfaces that it has under KVM."""
    counts_ticks: bool = False
    """Missed timer interrupts are made up for, and there is no HPET."""
    tablet: UsbController | None = None
    """The controller of a pointer that moves where the screen's does; None: none besides what comes with the machine."""
    agent: bool = True
    """It has a channel for the guest agent."""


def target_hardware(machine: Machine, caps: GuestCaps, disks: Sequence[TargetDisk], state: str = "") -> TargetHardware:
    """What KVM offers: the machine's sizes and cards, on buses and models the guest has drivers for.

    ``state``: what names the contents of its disks; another generation id is made for others.

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
    firmware = _firmware(machine, caps)
    machine_type = _machine_type(caps, bus)
    is_secure = machine.secure_boot and firmware is Firmware.UEFI and here.has_secure_boot
    place = divided(machine, caps)
    memory = min(machine.memory_bytes, caps.memory_at_most_bytes or machine.memory_bytes)
    drives = [drive.kind for drive in machine.removable]
    # one behind the disks, with which it shares the controller where they are on IDE
    cdroms = min(1, IDE_DISKS - len(disks) if bus is DiskBus.IDE else 1) if here.has_ide_drives else 0
    made = TargetHardware(
        name=machine.name,
        uuid=machine.uuid or _stable_uuid(machine.name),
        machine=machine_type,
        cpus=place.cpus,
        memory_bytes=round_up(memory, here.memory_step_bytes),
        firmware=firmware,
        disk_bus=bus,
        disks=tuple(replace(d, serial=usable_serial(d.serial)) for d in disks),
        nics=_nics(machine, caps),
        arch=arch,
        rng=caps.rng,
        balloon=caps.balloon,
        clock=Clock.LOCAL_TIME if caps.local_time else (not caps.utc_time and machine.clock) or Clock.UTC,
        # the old PC has no system management mode that its variables could be kept safe by
        secure_boot=is_secure and machine_type != "pc",
        tpm=(machine.tpm or caps.tpm) and here.has_tpm,
        smbios=machine.smbios if here.has_smbios else NOTHING_TOLD,
        topology=place.topology,
        generation_id=_generation_id(machine, caps, state) if here.has_generation_id else None,
        cdroms=min(drives.count(DriveKind.CDROM), cdroms),
        # of the PC's chipsets only the old one has a floppy controller
        floppies=min(drives.count(DriveKind.FLOPPY), 2) if machine_type == "pc" else 0,
    )
    made = _as_the_guest_knows(made, caps)
    return replace(made, media=tuple(_media(machine, made)))


def _as_the_guest_knows(hardware: TargetHardware, caps: GuestCaps) -> TargetHardware:
    """The same with what no machine had and the guest makes use of, or cannot do with."""
    here = PLATFORMS[hardware.arch]
    return replace(
        hardware,
        video=Video(caps.video) if caps.video else here.video,
        cpu_model=caps.cpu_model,
        hyperv=usable(caps.hyperv) if here.has_hyperv else (),
        counts_ticks=caps.counts_ticks,
        tablet=UsbController(caps.tablet) if caps.tablet and not here.usb_input else None,
        agent=caps.agent,
    )


def media_images(machine: Machine, hardware: TargetHardware) -> tuple[MediumImage, ...]:
    """The images that come along and have a drive here, in the order of ``TargetHardware.media``."""
    return tuple(image for kind in DriveKind for image in _images(machine, hardware, kind))


def with_files(hardware: TargetHardware, place: Callable[[str], Path]) -> TargetHardware:
    """The same with what it has besides its disks (media, UEFI variables) where ``place`` says that a file of that name is."""
    media = tuple(replace(each, path=place(str(each.path))) for each in hardware.media)
    variables = place(str(hardware.variables)) if hardware.variables is not None else None
    return replace(hardware, media=media, variables=variables)


def with_sectors_of(disk: TargetDisk, other: TargetDisk) -> TargetDisk:
    """A disk with the sectors of another one."""
    logical, physical = other.logical_sector_bytes, other.physical_sector_bytes
    return replace(disk, logical_sector_bytes=logical, physical_sector_bytes=physical)


def medium_in(hardware: TargetHardware, kind: DriveKind, number: int) -> TargetMedium | None:
    """What is in a drive, the ``number``-th of its kind from 0; None for an empty one."""
    return next((each for each in hardware.media if (each.kind, each.number) == (kind, number)), None)


def _media(machine: Machine, hardware: TargetHardware) -> Iterator[TargetMedium]:
    suffixes = {DriveKind.CDROM: "iso", DriveKind.FLOPPY: "img"}
    for kind in DriveKind:
        for number in range(len(_images(machine, hardware, kind))):
            yield TargetMedium(kind, number, Path(f"{machine.name}-{kind.value}{number + 1}.{suffixes[kind]}"))


def _images(machine: Machine, hardware: TargetHardware, kind: DriveKind) -> list[MediumImage]:
    drives = hardware.cdroms if kind is DriveKind.CDROM else hardware.floppies
    # of more drives than there are here, those with something in them
    return [drive.image for drive in machine.removable if drive.kind is kind and drive.image is not None][:drives]


def losses(machine: Machine, caps: GuestCaps, hardware: TargetHardware) -> Iterator[Finding]:
    """What the machine had and KVM does not give the guest; pure."""
    yield from cpu_losses(machine, caps, CpuPlace(hardware.cpus, hardware.topology))
    # of what nobody said that it had nothing is lost
    stated = "memory" not in machine.assumed
    if stated and caps.memory_at_most_bytes and machine.memory_bytes > caps.memory_at_most_bytes:
        had, gets = format_bytes(machine.memory_bytes), format_bytes(hardware.memory_bytes)
        message = f"the guest can use {gets} of the machine's {had} of memory; it gets no more"
        yield Finding("hardware.memory", message, f"{caps.limits}." if caps.limits else "")
    if machine.secure_boot and not hardware.secure_boot:
        yield Finding("hardware.secure-boot", "the machine started with secure boot, which it will not have")
    if machine.tpm and not hardware.tpm:
        yield Finding("hardware.tpm", "the machine had a TPM, which it will not have")
    if hardware.tpm and not machine.tpm:
        message = "the guest wants a TPM 2.0, which nothing says that the machine had: it gets an empty one"
        yield Finding("hardware.tpm-added", message, "Have recovery keys at hand for disks that are sealed to an old one.")
    if machine.smbios != hardware.smbios:
        yield Finding("hardware.smbios", "the machine had serial numbers or tags of its own in SMBIOS, which it will not have")
    # nearly every old machine has a floppy drive with nothing in it, which nobody misses
    kinds = [drive.kind for drive in machine.removable if drive.medium or drive.kind is DriveKind.CDROM]
    for kind, count in ((DriveKind.CDROM, hardware.cdroms), (DriveKind.FLOPPY, hardware.floppies)):
        drives = kinds.count(kind)
        if drives > count:
            what = ("CD-ROM" if kind is DriveKind.CDROM else "floppy") + (" drive" if drives == 1 else " drives")
            yield Finding("hardware.drives", f"the machine had {drives} {what}, and will have {count or 'none'}")
    yield from _media_lost(machine, hardware)
    yield from _sectors(hardware)
    for number, (nic, given) in enumerate(zip(machine.nics, hardware.nics, strict=True), 1):
        if caps.keeps_cards and nic.model and kept_card(nic.model) is not given.model:
            was = printable(nic.model, keep="")[:80]
            message = f"network card {number} was a {was}, which KVM has not; it becomes {given.model.value}"
            yield Finding("hardware.card", message, "The guest may need a driver for it.")
        if not nic.connected:
            message = f"network card {number} was not connected; here it is"
            yield Finding("hardware.link", message, "Unplug it before the first start.")


def _sectors(hardware: TargetHardware) -> Iterator[Finding]:
    first = hardware.disks[0] if hardware.disks else None
    is_bios = hardware.firmware is Firmware.BIOS and hardware.machine in ("q35", "pc")
    if first is not None and first.logical_sector_bytes != SECTOR_BYTES and is_bios:
        message = f"the first disk has sectors of {first.logical_sector_bytes} bytes, and a PC's BIOS starts from none such"
        yield Finding("hardware.sectors", message, "It starts with --firmware uefi, if the disk has a boot loader for that.")


def bus_blockers(caps: GuestCaps) -> Iterator[Finding]:
    """A guest that knows none of the buses that disks have in the machine for its processor; pure.

    One that knows no bus at all has a blocker of its own planner's.
    """
    here = platform_of(caps.arch).disk_buses
    if caps.disk_buses and not any(DiskBus(bus) in here for bus in caps.disk_buses):
        known, offered = " or ".join(caps.disk_buses), ", ".join(bus.value for bus in here)
        message = f"the guest has drivers for disks on {known}, and KVM's machine for {caps.arch} has them on {offered} only"
        hint = "It needs a driver of virtio's disks; for Windows, name a medium with --virtio-win."
        yield Finding("hardware.disk-bus", message, hint)


def sector_blockers(hardware: TargetHardware) -> Iterator[Finding]:
    """Disks whose sectors the bus cannot have that the guest has drivers for; pure."""
    if hardware.disk_bus in LARGE_SECTOR_BUSES:
        return
    for number, disk in enumerate(hardware.disks, 1):
        if disk.logical_sector_bytes != SECTOR_BYTES:
            message = f"disk {number} has sectors of {disk.logical_sector_bytes} bytes, which KVM has on virtio only"
            yield Finding("hardware.sectors", message, "The guest has no driver for that; add one first.")


def _media_lost(machine: Machine, hardware: TargetHardware) -> Iterator[Finding]:
    carried = media_images(machine, hardware)
    for drive in machine.removable:
        if drive.medium and drive.image not in carried:
            message = f"a medium is in a drive ({printable(drive.medium, keep='')[:200]}); it does not travel"
            hint = "--with-media copies it." if drive.path is not None and drive.image is None else ""
            yield Finding("hardware.medium", message, hint)


def dns_label(name: str) -> str:
    """A machine's name as front ends take it that want a DNS label: letters, digits, hyphens, at most 63."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")[:63].rstrip("-") or "machine"


def kept_card(model: str) -> NicModel | None:
    """KVM's own card of the kind that a source names; None where it has none."""
    return _KEPT_CARDS.get(model.strip().lower())


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


def copys_generation_id(machine: Machine) -> str:
    """The generation id of a copy that runs beside its machine, which has one; the same on every run."""
    return _stable_uuid(f"copy/generation/{machine.generation_id or ''}/{machine.name}")


def _generation_id(machine: Machine, caps: GuestCaps, state: str) -> str | None:
    """The machine's own; a new one where the guest looks at it and the machine had none that is known."""
    made = _stable_uuid(f"generation/{machine.uuid or ''}/{machine.name}/{state}") if caps.generation_id else None
    return machine.generation_id or made


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
    best = next((model for model in map(NicModel, caps.nic_models) if model in offered), offered[0])

    def model_of(nic: Nic) -> NicModel:
        kept = kept_card(nic.model) if caps.keeps_cards else None
        return kept if kept in offered else best

    return tuple(
        TargetNic((nic.mac or stable_mac(machine.name, index)).lower(), model_of(nic), nic.network, nic.connection)
        for index, nic in enumerate(machine.nics)
    )
