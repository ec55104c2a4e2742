"""A machine as its source describes it: everything that is not on the disks."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from pathlib import Path

from converters.references import NOTHING_SAID, DiskSpec, Lookup
from drivers.plan import Addressing, Finding
from p2v.core.units import GIB


class Firmware(enum.Enum):
    """What starts the boot loader."""

    BIOS = "bios"
    """The machine's own: SeaBIOS on a PC, SLOF on pseries, s390-ccw on s390x."""
    UEFI = "uefi"


class DiskBus(enum.Enum):
    """The controller KVM hangs a disk on."""

    VIRTIO_BLK = "virtio-blk"
    VIRTIO_SCSI = "virtio-scsi"
    SATA = "sata"
    IDE = "ide"


class SourceBus(enum.Enum):
    """What a drive hung on in the machine as it was."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    NVME = "nvme"
    VIRTIO = "virtio"
    XEN = "xen"
    USB = "usb"
    FLOPPY = "floppy"
    UNKNOWN = "unknown"


class NicModel(enum.Enum):
    """The network card a guest sees."""

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    RTL8139 = "rtl8139"
    VMXNET3 = "vmxnet3"
    PCNET = "pcnet"
    NE2000 = "ne2k_pci"
    TULIP = "tulip"


class Clock(enum.Enum):
    """What the hardware clock shows."""

    UTC = "utc"
    LOCAL_TIME = "localtime"


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where a drive hung: controller and unit count from 0; ``model`` is the controller in the source's own words."""

    bus: SourceBus
    controller: int = 0
    unit: int = 0
    model: str = ""

    @property
    def place(self) -> str:
        """Where that is, for people: ``scsi0:1``."""
        return f"{self.bus.value}{self.controller}:{self.unit}"


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """One fixed disk, in the order the firmware sees them.

    ``stated_bytes``: its virtual size as the description says it, None where it says none.
    """

    path: Path
    input_format: str | None = None
    serial: str | None = None
    lookup: Lookup = NOTHING_SAID
    attachment: Attachment | None = None
    stated_bytes: int | None = None

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

    ``network`` and ``model`` are the source's own words for what it hangs on and what card it is, until the user says
    otherwise. ``source_mac``: what the card had, where ``mac`` is another one. ``addressing``: what its address in the
    guest is to be, where the user wants another one. ``source_network``: what it hung on, where a description says it;
    ``is_mapped``: somebody said what that is here.
    """

    mac: str | None = None
    network: str = "default"
    model: str = ""
    connected: bool = True
    connection: Connection = Connection.NETWORK
    source_mac: str | None = None
    addressing: Addressing | None = None
    source_network: str = ""
    is_mapped: bool = False


class DriveKind(enum.Enum):
    """A drive whose medium can be taken out."""

    CDROM = "cdrom"
    FLOPPY = "floppy"


@dataclass(frozen=True, slots=True)
class MediumImage:
    """The image of a medium that comes along, as it was when it was looked at; ``size`` in bytes."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class RemovableDrive:
    """A drive for removable media; ``medium`` is what was in it, in the source's words (empty: nothing).

    ``path``: the medium's image, where it is at hand. ``image``: the same, when the user wants it to come along.
    """

    kind: DriveKind
    medium: str = ""
    attachment: Attachment | None = None
    path: Path | None = None
    image: MediumImage | None = None


@dataclass(frozen=True, slots=True)
class UefiVariable:
    """One variable of a UEFI firmware. ``vendor``: its GUID in the usual form; ``value`` and ``time`` (EFI_TIME): hexadecimal."""

    name: str
    vendor: str
    attributes: int
    value: str
    time: str = "00" * 16

    @property
    def vendor_bytes(self) -> bytes:
        """The GUID as firmware keeps it."""
        return uuid.UUID(self.vendor).bytes_le


@dataclass(frozen=True, slots=True)
class Smbios:
    """What SMBIOS tells the guest of its machine; empty: what the hypervisor says by itself.

    Of the system: ``manufacturer``, ``product``, ``version``, ``serial``, ``sku``, ``family``; of its board ``board_serial`` and
    ``board_asset``; of its case ``chassis_serial`` and ``asset_tag``.
    """

    manufacturer: str = ""
    product: str = ""
    version: str = ""
    serial: str = ""
    sku: str = ""
    family: str = ""
    board_serial: str = ""
    board_asset: str = ""
    chassis_serial: str = ""
    asset_tag: str = ""


NOTHING_TOLD = Smbios()


@dataclass(frozen=True, slots=True)
class Topology:
    """How the CPUs are divided; their product is ``Machine.cpus``."""

    sockets: int
    cores: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to move. ``assumed`` names the fields that are defaults, not facts of the source.

    ``described_by`` says what kind of description was read (empty: bare disks), ``guest`` what it says runs in
    the machine, in its own words. ``warnings`` and ``blockers``: what of the machine cannot travel, or must not.
    """

    name: str
    disks: tuple[MachineDisk, ...]
    nics: tuple[Nic, ...] = (Nic(),)
    cpus: int = 2
    memory_bytes: int = 2 * GIB
    firmware: Firmware | None = None
    uuid: str | None = None
    assumed: tuple[str, ...] = ()
    described_by: str = ""
    guest: str = ""
    topology: Topology | None = None
    generation_id: str | None = None
    secure_boot: bool = False
    tpm: bool = False
    clock: Clock | None = None
    display: str = ""
    removable: tuple[RemovableDrive, ...] = ()
    description: Path | None = None
    """What was named as the source: the description, or the folder or archive it is in; None for disks alone."""
    beside: tuple[Path, ...] = ()
    """Files that by their names are disks and lie in the machine's folder, whether or not they are its own."""
    warnings: tuple[Finding, ...] = ()
    blockers: tuple[Finding, ...] = ()
    chipset: str = ""
    """QEMU's machine type in the description's own words (``pc-q35-7.2``); empty for other hypervisors' machines."""
    nvram: Path | None = None
    """The file of the machine's UEFI variables, where there is one that could be read."""
    variables: tuple[UefiVariable, ...] = ()
    """Those of them that mean something on another machine."""
    smbios: Smbios = NOTHING_TOLD
