"""Sample guests on simulated machines: as they are, and as a conversion to virtio would leave them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.fixtures.hives import binary, dword, expand_sz, multi_sz, sz
from tests.fixtures.windows import Firmware, WindowsGuest, named, pe, windows_disks
from tests.fixtures.windows.hardware import SCSI_ADAPTER
from tests.fixtures.windows.pe import Arch
from tests.windows_startup.devices import Device
from tests.windows_startup.editing import Edit, Set, edited
from tests.windows_startup.machine import Machine, Partition, machine
from tests.windows_startup.startup import start
from tests.windows_startup.verdict import Startup, Target

_EFI_SUFFIXES = {Arch.X86: "ia32", Arch.X64: "x64", Arch.ARM64: "aa64"}
_DRIVERS = {"viostor": ("1001", "1042", 1), "vioscsi": ("1004", "1048", 0x0A)}
PACKAGE = "viostor_own.inf_amd64_5ec0ae120000000"


@dataclass(frozen=True)
class Sample:
    """A guest and a machine with its disks."""

    guest: WindowsGuest
    machine: Machine

    @property
    def boot(self) -> Partition:
        """The partition with the boot manager."""
        return self._partition(self.guest.layout.boot.number)

    @property
    def system(self) -> Partition:
        """The partition with Windows."""
        return self._partition(self.guest.layout.system.number)

    def _partition(self, number: int) -> Partition:
        return next(part for part in self.machine.disks[0].partitions if part.number == number)

    def target(self, controller: Device, card: Device | None = None) -> Target:
        """A machine like the guest's, with other devices."""
        return Target(controller, self.guest.firmware is Firmware.UEFI, card, efi_suffix=_EFI_SUFFIXES[self.guest.arch])

    @property
    def at_home(self) -> Target:
        """The machine it was installed on."""
        return self.target(self.guest.machine.controller, self.guest.machine.card.device)

    def start(self, controller: Device, card: Device | None = None, *, last_known_good: bool = False) -> Startup:
        """Start it on that controller."""
        return start(self.machine, self.target(controller, card), last_known_good=last_known_good)

    def path(self, below: str) -> str:
        """A path below the system root, from the volume's root."""
        return f"{self.guest.version.folder}/{below}"

    def read(self, path: str, partition: Partition | None = None) -> bytes:
        """A file that is there."""
        content = self.machine.volume(partition or self.system).read(path)
        assert content is not None, path
        return content

    def with_files(self, files: Mapping[str, bytes | None], partition: Partition | None = None) -> Sample:
        """The same with files (paths from the volume's root) replaced or gone."""
        return Sample(self.guest, self.machine.with_files(partition or self.system, files))

    def with_hive(self, name: str, edits: Iterable[Edit]) -> Sample:
        """The same with a hive edited."""
        path = self.path(f"system32/config/{name}")
        return self.with_files({path: edited(self.read(path), edits)})

    def with_bytes(self, patches: Mapping[int, bytes]) -> Sample:
        """The same with other bytes at offsets of the first disk."""
        return Sample(self.guest, self.machine.with_bytes(0, patches))

    @property
    def booted_set(self) -> str:
        return f"ControlSet{self.guest.sets.default:03d}"


@contextlib.contextmanager
def sample(name: str) -> Iterator[Sample]:
    """A sample guest by its name."""
    guest = named(name)
    with machine(*windows_disks(guest)) as found:
        yield Sample(guest, found)


def virtio_edits(guest: WindowsGuest, sets: Iterable[int]) -> list[Edit]:
    """What makes a guest know virtio storage from the start: viostor and vioscsi, in these control sets."""
    edits: list[Edit] = []
    for driver, (legacy, modern, bus_type) in _DRIVERS.items():
        for number in sets:
            edits += _service(f"ControlSet{number:03d}\\Services\\{driver}", driver, bus_type)
        for device in (legacy, modern):
            known = f"PCI\\VEN_1AF4&DEV_{device}"
            if guest.version.nt >= (6, 2):
                edits += _package(driver, known)
                continue
            for number in sets:
                key = f"ControlSet{number:03d}\\Control\\CriticalDeviceDatabase\\{known.replace(chr(92), '#')}"
                edits += [Set(key, "Service", sz(driver)), Set(key, "ClassGUID", sz(SCSI_ADAPTER))]
    return edits


def _service(key: str, driver: str, bus_type: int) -> list[Edit]:
    return [
        Set(key, "Type", dword(1)),
        Set(key, "Start", dword(0)),
        Set(key, "ErrorControl", dword(1)),
        Set(key, "Group", sz("SCSI miniport")),
        Set(key, "Tag", dword(64)),
        Set(key, "ImagePath", expand_sz(f"system32\\drivers\\{driver}.sys")),
        Set(f"{key}\\Parameters", "BusType", dword(bus_type)),
        Set(f"{key}\\Parameters\\PnpInterface", "5", dword(1)),
    ]


def _package(driver: str, known: str) -> list[Edit]:
    inf, label, top = f"{driver}_own.inf", PACKAGE.replace("viostor", driver), "DriverDatabase"
    class_bytes = bytes.fromhex("7be9364d25e3ce11bfc108002be10318")
    return [
        Set(f"{top}\\DeviceIds\\{known}", inf, binary(bytes.fromhex("01ff0000"))),
        Set(f"{top}\\DriverInfFiles\\{inf}", "", multi_sz(label)),
        Set(f"{top}\\DriverInfFiles\\{inf}", "Active", sz(label)),
        Set(f"{top}\\DriverPackages\\{label}", "Version", binary(bytes.fromhex("00ff090000000000") + class_bytes + bytes(24))),
        Set(f"{top}\\DriverPackages\\{label}\\Configurations\\own", "Service", sz(driver)),
        Set(f"{top}\\DriverPackages\\{label}\\Descriptors\\{known}", "Configuration", sz("own")),
    ]


def on_virtio(found: Sample, sets: Iterable[int] = ()) -> Sample:
    """The guest with virtio's storage drivers in all its control sets (or in those), and their files."""
    edits = virtio_edits(found.guest, tuple(sets) or found.guest.sets.existing)
    files = {
        found.path(f"system32/drivers/{driver}.sys"): pe.program(found.guest.arch, pe.Subsystem.NATIVE, driver)
        for driver in _DRIVERS
    }
    return found.with_hive("SYSTEM", edits).with_files(files)

