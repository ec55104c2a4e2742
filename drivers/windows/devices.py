"""The devices of KVM that Windows needs drivers for, by the ids that Plug and Play knows them by.

Sources: virtio 1.2, 4.1.2.1 (PCI device ids: 0x1000 to 0x1009 for the transitional ones, 0x1040 and the device's number for the
modern); QEMU, docs/specs/pci-ids.rst and docs/specs/fw_cfg.rst (1B36:..., QEMU0001, QEMU0002).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BLOCK, SCSI, NETWORK = "block", "scsi", "network"


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device. ``legacy``: its ids as a transitional device, ``modern``: all others; without subsystem or revision."""

    id: str
    title: str
    modern: tuple[str, ...]
    legacy: tuple[str, ...] = ()

    def matching(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Those of a driver's ids that are this device's, as they are written."""
        return tuple(each for each in ids if _is_one_of(each, (*self.legacy, *self.modern)))

    def is_modern(self, ids: Iterable[str]) -> bool:
        """Whether ids reach the device where it is not transitional."""
        return any(_is_one_of(each, self.modern) for each in ids)


def _is_one_of(found: str, wanted: tuple[str, ...]) -> bool:
    """Whether an id is one of the others, or one of them with more behind it."""
    return f"{found}&".upper().startswith(tuple(f"{each}&" for each in wanted))


def _virtio(id_: str, title: str, number: int, legacy: int | None = None) -> Device:
    old = (rf"PCI\VEN_1AF4&DEV_{legacy:04X}",) if legacy is not None else ()
    return Device(id_, title, (rf"PCI\VEN_1AF4&DEV_{0x1040 + number:04X}",), old)


DEVICES: tuple[Device, ...] = (
    _virtio(BLOCK, "virtio disks", 2, 0x1001),
    _virtio(SCSI, "virtio SCSI controllers", 8, 0x1004),
    _virtio(NETWORK, "virtio network cards", 1, 0x1000),
    _virtio("balloon", "memory balloon", 5, 0x1002),
    _virtio("random", "random numbers", 4, 0x1005),
    _virtio("serial", "channels of the guest agent", 3, 0x1003),
    _virtio("input", "keyboard and tablet", 18),
    _virtio("gpu", "virtio display", 16),
    _virtio("files", "shared folders", 26),
    _virtio("memory", "memory that grows", 24),
    _virtio("socket", "sockets to the host", 19, 0x1012),
    Device("panic", "reporting of crashes", (r"ACPI\QEMU0001", r"ACPI\VEN_QEMU&DEV_0001")),
    Device("panic-pci", "reporting of crashes by PCI", (r"PCI\VEN_1B36&DEV_0011",)),
    Device("firmware", "configuration by the firmware", (r"ACPI\QEMU0002", r"ACPI\VEN_QEMU&DEV_0002")),
    Device("serial-port", "serial ports on PCI", tuple(rf"PCI\VEN_1B36&DEV_{number:04X}" for number in (2, 3, 4))),
    Device("qxl", "QXL display", (r"PCI\VEN_1B36&DEV_0100",)),
    Device("smbus", "SMBus of Q35 machines", (r"PCI\VEN_8086&DEV_2930",)),
)


def device_by_id(name: str) -> Device:
    """The device of an id. Raises KeyError."""
    for device in DEVICES:
        if device.id == name:
            return device
    raise KeyError(name)
