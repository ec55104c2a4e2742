"""What a simulated start is asked, and what comes of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tests.windows_startup.devices import Device


class Reason(enum.Enum):
    """Why a start ends, by what a person at the screen would be told or would find."""

    NO_BOOT_CODE = "the firmware finds no boot code on the disk"
    NO_ACTIVE_PARTITION = "no partition is active"
    SEVERAL_ACTIVE_PARTITIONS = "several partitions are active: the boot code calls the table invalid"
    NO_BOOT_SECTOR = "the active partition's boot sector is none"
    HIDDEN_SECTORS = "the boot sector looks for its partition in another place"
    GEOMETRY = "the boot sector counts with other heads than the firmware"
    NO_BOOT_MANAGER = "the boot sector's loader is missing"
    NO_ESP = "no EFI system partition"
    NO_EFI_LOADER = "no loader where this firmware looks"
    NO_STORE = "the boot configuration store is missing"
    NO_ENTRY = "the boot configuration names no entry to start"
    ENTRY_DEVICE = "the entry's device is on no disk of this machine"
    NO_BOOT_INI_PATH = "boot.ini names a partition that is not there"
    NEEDS_NTBOOTDD = "boot.ini's path needs a SCSI driver of the loader's own"
    HIBERNATED = "a saved session would be resumed on other hardware"
    VOLUME_ENCRYPTED = "the system volume is encrypted"
    VOLUME_UNREADABLE = "the system volume cannot be read"
    FILE_MISSING = "a file that is needed to start is missing"
    WRONG_MACHINE = "a program is for another processor"
    HIVE_MISSING = "a hive is missing"
    HIVE_DAMAGED = "a hive is damaged"
    HIVE_NOT_CLEAN = "a hive was left in the middle of a write"
    NO_CONTROL_SET = "the control set to start is not there"
    BOOT_DRIVER_MISSING = "a boot-start driver's file is missing"
    NO_STORAGE_DRIVER = "0x7B: no driver claims the disk's controller"
    STORAGE_DRIVER_ABSENT = "0x7B: the driver that claims a device has no service"
    NO_KERNEL_DRIVER = "0x7B: what claims a device is no kernel driver"
    STORAGE_DRIVER_NOT_BOOT_START = "0x7B: the driver that claims a device does not start at boot"
    FILTER_MISSING = "0x7B: a class filter has no service, so the device does not start"
    FILTER_NOT_BOOT_START = "0x7B: a class filter does not start at boot"
    NO_VOLUME_MANAGER = "0x7B: nothing makes volumes of the disk's partitions"
    NO_FILE_SYSTEM = "0x7B: no driver for the system volume's file system"


class Doubt(enum.Enum):
    """What does not stop a start, and is not as it should be either."""

    DRIVE_LETTER = "the system volume's drive letter belongs to another place"
    CHECK_AT_START = "the volume is marked dirty: autochk runs"
    NO_NETWORK_DRIVER = "no driver for the network card"
    DATA_DISK_OFFLINE = "the SAN policy leaves the other disks offline"
    PROCESSOR_DRIVER = "a driver of Intel's processors starts on another one"
    IDLE_PROCESSORS = "the HAL uses one of several processors"
    NO_INPUT = "a filter of keyboards or mice does not start, so none of them does"
    IGNORED_DRIVER = "a boot-start driver that may fail (ErrorControl 0) has no file"


@dataclass(frozen=True)
class Target:
    """The machine to start on. ``efi_entries``: loaders that its variables name; a moved disk has none.

    ``efi_suffix``: what the firmware calls its own processor in ``\\EFI\\BOOT\\BOOT*.EFI``. ``heads``: of the first disk, as the
    BIOS counts (``devices.seabios_heads``); None leaves that out. ``intel``: whether the processors say that they are Intel's.
    """

    controller: Device
    uefi: bool = False
    card: Device | None = None
    efi_entries: tuple[str, ...] = ()
    efi_suffix: str = "x64"
    heads: int | None = None
    processors: int = 1
    intel: bool = True


@dataclass(frozen=True)
class Stop:
    """Where a start ended: the reason, and what was found that says so."""

    reason: Reason
    evidence: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.evidence}"


@dataclass(frozen=True)
class Startup:
    """A simulated start: ``stop`` is None when it came through. ``boot_drivers`` are services in the order they load."""

    stop: Stop | None
    steps: tuple[str, ...]
    doubts: tuple[tuple[Doubt, str], ...] = ()
    control_set: int = 0
    boot_drivers: tuple[str, ...] = ()
    storage_service: str = ""

    @property
    def reason(self) -> Reason | None:
        return self.stop.reason if self.stop else None

    def __str__(self) -> str:
        end = str(self.stop) if self.stop else "started"
        return "\n".join((*self.steps, *(f"doubt: {doubt.value}: {text}" for doubt, text in self.doubts), end))


class Stopped(Exception):
    """Raised by a rule; ``start`` turns it into a verdict."""

    def __init__(self, reason: Reason, evidence: str) -> None:
        super().__init__(f"{reason.value}: {evidence}")
        self.stop = Stop(reason, evidence)


@dataclass
class Trace:
    """What a start has come to know so far."""

    steps: list[str] = field(default_factory=list)
    doubts: list[tuple[Doubt, str]] = field(default_factory=list)
    control_set: int = 0
    boot_drivers: tuple[str, ...] = ()
    storage_service: str = ""

    def step(self, text: str) -> None:
        self.steps.append(text)

    def doubt(self, kind: Doubt, evidence: str) -> None:
        self.doubts.append((kind, evidence))

    def ended(self, stop: Stop | None) -> Startup:
        return Startup(
            stop, tuple(self.steps), tuple(self.doubts), self.control_set, self.boot_drivers, self.storage_service
        )
