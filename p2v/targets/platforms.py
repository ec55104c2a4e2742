"""QEMU's machines by architecture: what can be plugged into each, and how it is called there.

Sources: QEMU's System Emulation User's Guide ("Arm 'virt'", "pSeries family boards", "S390 system emulator") and libvirt's
"Domain XML format".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from p2v.core.units import MIB
from p2v.machine import DiskBus, Firmware, NicModel


class Video(enum.Enum):
    """The graphics card."""

    VGA = "vga"
    """QEMU's standard VGA: every system has a driver for it, and its text mode can be read from outside."""
    CIRRUS = "cirrus"
    """What Windows up to Server 2003 has a driver for."""
    VIRTIO = "virtio"
    RAMFB = "ramfb"
    """A frame buffer in the guest's memory, as its firmware sets it up: for systems that know no display but that."""
    NONE = "none"


class UsbController(enum.Enum):
    """A USB controller, by libvirt's name of it."""

    UHCI = "piix3-uhci"
    EHCI = "ich9-ehci1"
    XHCI = "qemu-xhci"


@dataclass(frozen=True, slots=True)
class Platform:
    """One architecture's machine.

    ``machines``: machine types, the usual one first. ``firmwares``: what can start there, likewise.
    ``virtio_video``: QEMU's name of the card for ``Video.VIRTIO``.
    ``machine_options``: what QEMU is told besides. ``bus``: what virtio devices hang on, as the ending of QEMU's names
    (``pci``, ``ccw``). ``disk_buses``, ``nic_models``: what there is, the first where the guest knows nothing better.
    ``usb_input``: keyboard and pointer come with no chipset.
    ``memory_step_bytes``: sizes of memory are multiples of it. ``libvirt_features``: of the domain.
    ``emulated_cpu``: libvirt's name of the emulation's CPU; empty for all that it has. ``console``: libvirt's target of the
    first serial line where that is no serial port. ``has_text_screen``: VGA text can be read from the guest's memory.
    ``has_secure_boot``, ``has_tpm``, ``has_generation_id``, ``has_smbios``: what this version can give such a machine.
    """

    machines: tuple[str, ...]
    firmwares: tuple[Firmware, ...]
    disk_buses: tuple[DiskBus, ...]
    nic_models: tuple[NicModel, ...]
    video: Video
    virtio_video: str = "virtio-gpu-pci"
    machine_options: str = ""
    bus: str = "pci"
    usb_input: bool = False
    memory_step_bytes: int = MIB
    libvirt_features: tuple[str, ...] = ()
    emulated_cpu: str = ""
    console: str = ""
    has_text_screen: bool = False
    has_secure_boot: bool = False
    has_tpm: bool = False
    tpm_device: str = "tpm-crb"
    """QEMU's name of the TPM; libvirt's is the same without ``-device``."""
    has_generation_id: bool = False
    has_smbios: bool = False
    has_hyperv: bool = False
    """KVM has Hyper-V's interfaces there."""
    has_ide_drives: bool = False
    """CD-ROM drives on SATA or IDE, which every guest can read."""


_VIRTIO_DISKS = (DiskBus.VIRTIO_BLK, DiskBus.VIRTIO_SCSI)
_PCI_NICS = (NicModel.E1000, NicModel.VIRTIO, NicModel.E1000E, NicModel.RTL8139)

PLATFORMS: Mapping[str, Platform] = {
    "x86_64": Platform(
        machines=("q35", "pc"),
        firmwares=(Firmware.BIOS, Firmware.UEFI),
        disk_buses=(DiskBus.SATA, *_VIRTIO_DISKS, DiskBus.IDE),
        nic_models=(*_PCI_NICS, NicModel.VMXNET3, NicModel.PCNET, NicModel.NE2000, NicModel.TULIP),
        video=Video.VGA,
        virtio_video="virtio-vga",
        libvirt_features=("acpi", "apic"),
        has_text_screen=True,
        has_secure_boot=True,
        has_tpm=True,
        has_generation_id=True,
        has_smbios=True,
        has_hyperv=True,
        has_ide_drives=True,
    ),
    # AAVMF starts from virtio's disks; a VGA card's memory cannot be mapped by it, nor by a guest under KVM
    "aarch64": Platform(
        machines=("virt",),
        firmwares=(Firmware.UEFI,),
        disk_buses=_VIRTIO_DISKS,
        nic_models=_PCI_NICS,
        video=Video.VIRTIO,
        # the host's own interrupt controller under KVM, the newest one under emulation
        machine_options="gic-version=max",
        usb_input=True,
        libvirt_features=("acpi",),
        has_tpm=True,
        tpm_device="tpm-tis-device",
        has_smbios=True,
    ),
    # SLOF has drivers for virtio's disks and for VGA
    "ppc64le": Platform(
        machines=("pseries",),
        firmwares=(Firmware.BIOS,),
        disk_buses=_VIRTIO_DISKS,
        nic_models=_PCI_NICS,
        video=Video.VGA,
        usb_input=True,
        memory_step_bytes=256 * MIB,
        emulated_cpu="POWER9",
    ),
    "s390x": Platform(
        machines=("s390-ccw-virtio",),
        firmwares=(Firmware.BIOS,),
        disk_buses=_VIRTIO_DISKS,
        nic_models=(NicModel.VIRTIO,),
        video=Video.NONE,
        bus="ccw",
        console="sclp",
    ),
}


def platform_of(arch: str) -> Platform:
    """The machine for guests of an architecture; the PC for those that are not known, and for 32-bit PCs."""
    return PLATFORMS[known_architecture(arch)]


def known_architecture(arch: str) -> str:
    """The architecture a guest's hardware has: a PC of 32 bits is one of 64."""
    return arch if arch in PLATFORMS else "x86_64"
