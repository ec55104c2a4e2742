"""What starts a Windows guest, as frozen values that survive JSON: boot entries, boot.ini, loaders, boot sectors."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drivers.windows import c_bcd as c


class DeviceKind(enum.Enum):
    """How a boot entry tells where something is."""

    PARTITION = "partition"
    """By the disk's signature and the partition's place (MBR), or by both GUIDs (GPT)."""
    BOOT = "boot"
    """On the partition that the boot manager was started from."""
    LOCATE = "locate"
    """On the first partition that has a certain file."""
    VIRTUAL_DISK = "virtual disk"
    """In a VHD that is a file of a partition."""
    FILE = "file"
    """In a file, or in memory that is filled from one (a recovery environment)."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class BootDevice:
    """A device element. ``disk``: an MBR's signature (eight hexadecimal digits) or a GPT's GUID; ``partition``: the GUID.

    ``offset``: of a partition of an MBR, in bytes. ``detail``: the file, where one is told; of ``OTHER`` what its bytes say.
    """

    kind: DeviceKind
    disk: str = ""
    offset: int | None = None
    partition: str = ""
    detail: str = ""

    def __str__(self) -> str:
        match self.kind:
            case DeviceKind.PARTITION if self.offset is not None:
                return f"the partition at byte {self.offset} of the disk with signature {self.disk}"
            case DeviceKind.PARTITION:
                return f"the partition {self.partition} of the disk {self.disk}"
            case DeviceKind.BOOT:
                return "the partition that was started from"
            case DeviceKind.LOCATE:
                return f"the first partition that has what element {self.detail} names"
            case DeviceKind.VIRTUAL_DISK | DeviceKind.FILE:
                return f"the {self.kind.value} {self.detail}".rstrip()
        return f"a device that is not known ({self.detail})"


@dataclass(frozen=True, slots=True)
class BootObject:
    """An object of a boot configuration store. ``id`` as the store spells it; ``type``: ``c_bcd.OS_LOADER``, ...

    ``device``: where its program is, ``path``; ``os_device`` and ``system_root``: the Windows that it starts.
    """

    id: str
    type: int
    title: str = ""
    path: str = ""
    system_root: str = ""
    device: BootDevice | None = None
    os_device: BootDevice | None = None

    @property
    def is_windows(self) -> bool:
        """Whether it starts a Windows (Vista or later)."""
        return self.type == c.OS_LOADER


@dataclass(frozen=True, slots=True)
class BootStore:
    """A boot configuration store. ``default``: what starts when nobody chooses; empty where it names nothing that is there.

    ``once``: objects that the next start takes instead.
    """

    objects: tuple[BootObject, ...] = ()
    default: str = ""
    order: tuple[str, ...] = ()
    once: tuple[str, ...] = ()

    def object(self, id_: str) -> BootObject | None:
        """The object of an identifier, in any case."""
        return next((each for each in self.objects if each.id.lower() == id_.lower()), None)


@dataclass(frozen=True, slots=True)
class BootSector:
    """What the first sectors of a volume say about starting it. ``loader``: ``BOOTMGR`` or ``NTLDR``, empty for none of them.

    ``hidden_sectors``: where it takes itself to begin; ``heads``: of the disk's geometry, which old boot code counts with.
    """

    disk: int
    partition: int
    kind: str
    """``ntfs``, ``fat``, or empty."""
    heads: int = 0
    hidden_sectors: int = 0
    loader: str = ""


@dataclass(frozen=True, slots=True)
class LoaderFile:
    """A program that the firmware starts. ``path`` in the guest's tree; ``arch`` as ``OperatingSystem.arch``.

    ``sha256``: empty for one that is larger than any such program. ``is_windows``: it calls itself Windows' boot manager.
    """

    path: str
    size: int
    sha256: str
    arch: str = ""
    is_windows: bool = False


@dataclass(frozen=True, slots=True)
class WindowsBoot:
    """What starts the guest, as far as it lies on its disks.

    ``disk``, ``partition``: where the boot manager or NTLDR is. ``mountpoint``: where that partition is in the guest's tree, ``/``
    for Windows' own; empty where it has no place there, and so nothing on it can be changed. ``dirty``: why its file system
    may not be as Windows sees it. ``store``: of Vista and later, whose hive is ``WindowsFacts.registry["BCD"]``; ``boot_ini``: its
    text, any bytes kept (surrogateescape), and ``boot_ini_path``. ``manager``: bootmgfw.efi; ``fallback``: what firmware without
    entries starts.
    """

    disk: int
    partition: int
    mountpoint: str
    dirty: str = ""
    store: BootStore | None = None
    boot_ini: str | None = None
    boot_ini_path: str = ""
    manager: LoaderFile | None = None
    fallback: LoaderFile | None = None
    fallback_path: str = ""
    """Where a fallback for the manager's processor belongs, folders spelt as they are there."""
    sector: BootSector | None = None
