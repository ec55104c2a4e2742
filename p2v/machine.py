"""A machine as its source describes it: everything that is not on the disks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from converters.references import NOTHING_SAID, DiskSpec, Lookup
from p2v.core.units import GIB


class Firmware(enum.Enum):
    """What starts the boot loader."""

    BIOS = "bios"
    """The machine's own: SeaBIOS on a PC, SLOF on pseries, s390-ccw on s390x."""
    UEFI = "uefi"


class DiskBus(enum.Enum):
    """The controller a disk hangs on."""

    VIRTIO_BLK = "virtio-blk"
    VIRTIO_SCSI = "virtio-scsi"
    SATA = "sata"
    IDE = "ide"


class NicModel(enum.Enum):
    """The network card a guest sees."""

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    RTL8139 = "rtl8139"


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """One fixed disk, in the order the firmware sees them."""

    path: Path
    input_format: str | None = None
    serial: str | None = None
    lookup: Lookup = NOTHING_SAID

    @property
    def spec(self) -> DiskSpec:
        """How to open it."""
        return DiskSpec(self.path, self.input_format, self.lookup)


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card; ``mac`` in lower-case colon form, None where the source does not say."""

    mac: str | None = None
    network: str = "default"


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to move. ``assumed`` names the fields that are defaults, not facts of the source."""

    name: str
    disks: tuple[MachineDisk, ...]
    nics: tuple[Nic, ...] = (Nic(),)
    cpus: int = 2
    memory_bytes: int = 2 * GIB
    firmware: Firmware | None = None
    uuid: str | None = None
    assumed: tuple[str, ...] = ()
