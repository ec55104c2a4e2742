"""Hardware as a definition of KVM's own states it, where a conversion would choose: for machines that already are QEMU's.

Pure. What the definition does not say (an entropy source, a balloon) stays what was chosen for the guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from p2v.machine import Attachment, DiskBus, DriveKind, Machine, SourceBus
from p2v.targets.hardware import IDE_DISKS, TargetHardware, TargetMedium, TargetNic, kept_card
from p2v.targets.platforms import PLATFORMS

_BUSES = {SourceBus.VIRTIO: DiskBus.VIRTIO_BLK, SourceBus.SATA: DiskBus.SATA, SourceBus.IDE: DiskBus.IDE}
_VIRTIO_SCSI = "virtio"


def as_defined(machine: Machine, hardware: TargetHardware) -> tuple[TargetHardware, tuple[str, ...]]:
    """The hardware with the definition's own machine type, bus and cards; and in sentences what it could not have.

    A machine of which no machine type is known (``Machine.chipset``) is another hypervisor's: ``hardware`` as it is.
    """
    if not machine.chipset:
        return hardware, ()
    problems: list[str] = []
    chipset = _family(machine.chipset, hardware.arch)
    if chipset is None:
        problems.append(f"the machine type {machine.chipset} is not known here; it is a {hardware.machine}")
    bus = _bus(machine)
    if bus is None or bus not in PLATFORMS[hardware.arch].disk_buses:
        problems.append(f"its disks hang on {_shown(machine)}, which is not one bus of those known here; "
                        f"they are on {hardware.disk_bus.value}")  # fmt: skip
    made = replace(
        hardware,
        machine=chipset or hardware.machine,
        disk_bus=bus if bus in PLATFORMS[hardware.arch].disk_buses and bus is not None else hardware.disk_bus,
        nics=tuple(_cards(machine, hardware, problems)),
    )
    if made.machine == "q35" and made.disk_bus is DiskBus.IDE:
        # q35 has no IDE controller: what is called so there is on AHCI
        made = replace(made, disk_bus=DiskBus.SATA)
    return _with_drives(machine, made), tuple(problems)


def _with_drives(machine: Machine, hardware: TargetHardware) -> TargetHardware:
    """As many drives for media as there is place for beside its disks and on its chipset."""
    kinds = [drive.kind for drive in machine.removable]
    left = IDE_DISKS - len(hardware.disks) if hardware.disk_bus is DiskBus.IDE else 1
    counts = {
        DriveKind.CDROM: min(kinds.count(DriveKind.CDROM), 1, left) if PLATFORMS[hardware.arch].has_ide_drives else 0,
        DriveKind.FLOPPY: min(kinds.count(DriveKind.FLOPPY), 2) if hardware.machine == "pc" else 0,
    }
    media = (
        TargetMedium(kind, number, drive.path)
        for kind in DriveKind
        for number, drive in enumerate([drive for drive in machine.removable if drive.kind is kind][: counts[kind]])
        if drive.path is not None and drive.path.is_file()
    )
    return replace(hardware, cdroms=counts[DriveKind.CDROM], floppies=counts[DriveKind.FLOPPY], media=tuple(media))


def _family(chipset: str, arch: str) -> str | None:
    """The machine type without its version (``pc-q35-7.2`` is ``q35``), which this QEMU may not have."""
    if "q35" in chipset:
        return "q35" if "q35" in PLATFORMS[arch].machines else None
    return next((known for known in PLATFORMS[arch].machines if chipset == known or chipset.startswith(f"{known}-")), None)


def _bus(machine: Machine) -> DiskBus | None:
    """The one bus of all disks; None where there is no such one."""
    found = {_bus_of(disk.attachment) for disk in machine.disks}
    return found.pop() if len(found) == 1 else None


def _bus_of(at: Attachment | None) -> DiskBus | None:
    if at is None:
        return None
    if at.bus is SourceBus.SCSI and at.model.startswith(_VIRTIO_SCSI):
        return DiskBus.VIRTIO_SCSI
    return _BUSES.get(at.bus)


def _shown(machine: Machine) -> str:
    buses = dict.fromkeys(
        f"{disk.attachment.bus.value} {disk.attachment.model}".strip() for disk in machine.disks if disk.attachment
    )
    return " and ".join(buses) or "nothing that is said"


def _cards(machine: Machine, hardware: TargetHardware, problems: list[str]) -> Iterator[TargetNic]:
    offered = PLATFORMS[hardware.arch].nic_models
    for number, (nic, chosen) in enumerate(zip(machine.nics, hardware.nics, strict=True), 1):
        model = kept_card(nic.model)
        if model is None or model not in offered:
            problems.append(f"network card {number} is a {nic.model or 'card of no stated kind'}, which is not known here; "
                            f"it is a {chosen.model.value}")  # fmt: skip
            yield chosen
        else:
            yield replace(chosen, model=model)
