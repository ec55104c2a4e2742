"""A machine as its source describes it: everything that is not on the disks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from converters.references import NOTHING_SAID, DiskSpec, Lookup
from drivers.plan import Addressing
from p2v.core.units import GIB


class Firmware(enum.Enum):
    """What starts the boot loader."""

    BIOS = "bios"
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


class Connection(enum.Enum):
    """What of the host a network card hangs on."""

    NETWORK = "network"
    """A network of libvirt's, by its name; QEMU alone has none and uses its own (NAT)."""
    BRIDGE = "bridge"
    """A bridge of the host's, by its name."""
    USER = "user"
    """QEMU's own network: NAT, no name, nothing reaches the guest from outside."""


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card as it is to be; ``mac`` in lower-case colon form, None where the source does not say.

    ``source_mac``: what the card had, where ``mac`` is another one. ``network``: the name of what it hangs on.
    ``addressing``: what its address in the guest is to be, where the user wants another one.
    """

    mac: str | None = None
    network: str = "default"
    connection: Connection = Connection.NETWORK
    source_mac: str | None = None
    addressing: Addressing | None = None


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
