"""One thing taken out of a guest that would start, and the simulator says that it is this."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.fixtures.hives import binary, dword, multi_sz, sz
from tests.fixtures.windows import bcd, pe, records
from tests.fixtures.windows.pe import Arch
from tests.windows_startup import devices
from tests.windows_startup.editing import Edit, RemoveKey, RemoveValue, Set, edited
from tests.windows_startup.guests import PACKAGE, Sample, on_virtio, sample
from tests.windows_startup.registry import DISK_CLASS, SCSI_CLASS, VOLUME_CLASS
from tests.windows_startup.verdict import Reason

Change = Callable[[Sample], Sample]
_ACTIVE_FLAGS_AT = 446
_OTHER_CODE = pe.program(Arch.ARM64, pe.Subsystem.NATIVE, "for another processor")
_ID = "PCI\\VEN_1AF4&DEV_1001"
_LOADER = f"Objects\\{bcd.LOADER}\\Elements"


@dataclass(frozen=True)
class Taken:
    """What is changed, and what the verdict must be and say."""

    name: str
    change: Change
    reason: Reason
    evidence: str


def gone(path: str) -> Change:
    """Without a file of the system root."""
    return lambda found: found.with_files({found.path(path): None})


def gone_from_boot(path: str) -> Change:
    return lambda found: found.with_files({path: None}, found.boot)


def replaced(path: str, content: bytes) -> Change:
    return lambda found: found.with_files({found.path(path): content})


def in_system(*edits: Edit) -> Change:
    return lambda found: found.with_hive("SYSTEM", edits)


def in_set(*edits: Edit) -> Change:
    """Edits of the control set that is started: ``CCS`` stands for it."""

    def change(found: Sample) -> Sample:
        return found.with_hive("SYSTEM", [_placed(edit, found.booted_set) for edit in edits])

    return change


def _placed(edit: Edit, control_set: str) -> Edit:
    key = edit.key.replace("CCS", control_set, 1)
    if isinstance(edit, Set):
        return Set(key, edit.name, edit.data)
    return RemoveKey(key) if isinstance(edit, RemoveKey) else RemoveValue(key, edit.name)


def in_store(path: str, *edits: Edit) -> Change:
    def change(found: Sample) -> Sample:
        return found.with_files({path: edited(found.read(path, found.boot), edits)}, found.boot)

    return change


def on_disk(patches: dict[int, bytes]) -> Change:
    return lambda found: found.with_bytes(patches)


def torn(name: str, at: int, patch: bytes) -> Change:
    """A hive with some bytes changed."""

    def change(found: Sample) -> Sample:
        path = found.path(f"system32/config/{name}")
        hive = bytearray(found.read(path))
        hive[at : at + len(patch)] = patch
        if at < 508:
            total = 0
            for (word,) in struct.iter_unpack("<I", hive[:508]):
                total ^= word
            struct.pack_into("<I", hive, 508, total)
        return found.with_files({path: bytes(hive)})

    return change


def cut(name: str) -> Change:
    def change(found: Sample) -> Sample:
        path = found.path(f"system32/config/{name}")
        return found.with_files({path: found.read(path)[:-4096]})

    return change


def only_in_sets(*sets: int) -> Change:
    return lambda found: on_virtio(found, sets)


def start_value(service: str, start: int) -> Change:
    return in_set(Set(f"CCS\\Services\\{service}", "Start", dword(start)))


def filters(class_guid: str, which: str, *names: str) -> Change:
    return in_set(Set(f"CCS\\Control\\Class\\{class_guid}", which, multi_sz(*names)))


_MBR = (
    Taken("boot code", on_disk({0: bytes(440)}), Reason.NO_BOOT_CODE, "disk 0"),
    Taken("MBR's signature", on_disk({510: b"\0\0"}), Reason.NO_BOOT_CODE, "disk 0"),
    Taken("active flag", on_disk({_ACTIVE_FLAGS_AT: b"\0"}), Reason.NO_ACTIVE_PARTITION, "disk 0"),
    Taken("only one active", on_disk({_ACTIVE_FLAGS_AT + 16: b"\x80"}), Reason.SEVERAL_ACTIVE_PARTITIONS, "partition 2"),
    Taken(
        "active is the boot manager's", on_disk({_ACTIVE_FLAGS_AT: b"\0", _ACTIVE_FLAGS_AT + 16: b"\x80"}),
        Reason.NO_BOOT_SECTOR, "partition 2 asks for no loader",
    ),
    Taken("boot sector", on_disk({records.MIB: bytes(512)}), Reason.NO_BOOT_SECTOR, "partition 1"),
    Taken("hidden sectors", on_disk({records.MIB + 28: bytes(4)}), Reason.HIDDEN_SECTORS, "begins at sector 2048"),
    Taken("bootmgr", gone_from_boot("bootmgr"), Reason.NO_BOOT_MANAGER, "BOOTMGR on disk 0 partition 1"),
    Taken("disk signature", on_disk({440: b"\x01\x02\x03\x04"}), Reason.ENTRY_DEVICE, "signature 5ec0ae12"),
)  # fmt: skip

_STORE = (
    Taken("BCD store", gone_from_boot("Boot/BCD"), Reason.NO_STORE, "Boot/BCD on disk 0 partition 1"),
    Taken(
        "BCD store is no hive", lambda found: found.with_files({"Boot/BCD": b"x" * 9000}, found.boot),
        Reason.HIVE_DAMAGED, "Boot/BCD",
    ),
    Taken(
        "BCD: device on this disk",
        in_store("Boot/BCD", Set(f"{_LOADER}\\11000001", "Element", bcd.device(bcd.MbrPlace(0xBADC0DE, 17 << 20)))),
        Reason.ENTRY_DEVICE, "element 11000001: disk signature 0badc0de",
    ),
    Taken(
        "BCD: OS device in this place",
        in_store("Boot/BCD", Set(f"{_LOADER}\\21000001", "Element", bcd.device(bcd.MbrPlace(records.SIGNATURE, 63 * 512)))),
        Reason.ENTRY_DEVICE, "element 21000001: disk signature 5ec0ae12, partition at byte 32256",
    ),
    Taken(
        "BCD: device of a known type", in_store("Boot/BCD", Set(f"{_LOADER}\\11000001", "Element", binary(bytes(88)))),
        Reason.ENTRY_DEVICE, "type 0",
    ),
    Taken(
        "BCD: boot manager object", in_store("Boot/BCD", RemoveKey(f"Objects\\{bcd.BOOT_MANAGER}")),
        Reason.NO_ENTRY, "no boot manager",
    ),
    Taken("BCD: loader object", in_store("Boot/BCD", RemoveKey(f"Objects\\{bcd.LOADER}")), Reason.NO_ENTRY, bcd.LOADER),
    Taken("BCD: loader's path", in_store("Boot/BCD", RemoveKey(f"{_LOADER}\\12000002")), Reason.NO_ENTRY, "12000002"),
    Taken("BCD: system root", in_store("Boot/BCD", RemoveKey(f"{_LOADER}\\22000002")), Reason.NO_ENTRY, "22000002"),
)  # fmt: skip

_FILES = (
    Taken("winload.exe", gone("system32/winload.exe"), Reason.FILE_MISSING, "winload.exe"),
    Taken(
        "winload.exe for this processor", replaced("system32/winload.exe", _OTHER_CODE),
        Reason.WRONG_MACHINE, "winload.exe is ARM64, not x64",
    ),
    Taken("kernel", gone("system32/ntoskrnl.exe"), Reason.FILE_MISSING, "ntoskrnl.exe"),
    Taken("kernel is a program", replaced("system32/ntoskrnl.exe", b"MZ"), Reason.WRONG_MACHINE, "ntoskrnl.exe is no program"),
    Taken("HAL", gone("system32/hal.dll"), Reason.FILE_MISSING, "hal.dll"),
    Taken("HAL for this processor", replaced("system32/hal.dll", _OTHER_CODE), Reason.WRONG_MACHINE, "hal.dll"),
    Taken("debugger transport", gone("system32/kdcom.dll"), Reason.FILE_MISSING, "kdcom.dll"),
    Taken("code page", gone("system32/c_1252.nls"), Reason.FILE_MISSING, "c_1252.nls"),
    Taken("language table", gone("system32/l_intl.nls"), Reason.FILE_MISSING, "l_intl.nls"),
    Taken("session manager", gone("system32/smss.exe"), Reason.FILE_MISSING, "smss.exe"),
    Taken("SYSTEM hive", gone("system32/config/SYSTEM"), Reason.HIVE_MISSING, "SYSTEM"),
    Taken("SYSTEM written to its end", torn("SYSTEM", 4, b"\x77"), Reason.HIVE_NOT_CLEAN, "SYSTEM: sequence numbers 119 and"),
    Taken("SYSTEM's checksum", torn("SYSTEM", 508, b"\x01\x02\x03\x04"), Reason.HIVE_DAMAGED, "base block's checksum"),
    Taken("SYSTEM's last bin", cut("SYSTEM"), Reason.HIVE_DAMAGED, "SYSTEM has"),
    Taken("SYSTEM's first bin", torn("SYSTEM", 4096, b"xxxx"), Reason.HIVE_DAMAGED, "no bin at byte 4096"),
    Taken("SOFTWARE hive", gone("system32/config/SOFTWARE"), Reason.HIVE_MISSING, "SOFTWARE"),
    Taken("SAM written to its end", torn("SAM", 8, b"\x77"), Reason.HIVE_NOT_CLEAN, "SAM"),
)  # fmt: skip

_REGISTRY = (
    Taken("control set", in_system(Set("Select", "Default", dword(7))), Reason.NO_CONTROL_SET, "Select\\Default is 7"),
    Taken("Select", in_system(RemoveValue("Select", "Default")), Reason.NO_CONTROL_SET, "Select\\Default is None"),
    Taken(
        "viostor.sys", gone("system32/drivers/viostor.sys"),
        Reason.BOOT_DRIVER_MISSING, "viostor: system32\\drivers\\viostor.sys",
    ),
    Taken(
        "viostor.sys for this processor", replaced("system32/drivers/viostor.sys", _OTHER_CODE),
        Reason.WRONG_MACHINE, "viostor.sys",
    ),
    Taken("partmgr.sys", gone("system32/drivers/partmgr.sys"), Reason.BOOT_DRIVER_MISSING, "partmgr"),
    Taken(
        "viostor at boot", start_value("viostor", 3),
        Reason.STORAGE_DRIVER_NOT_BOOT_START, "viostor for virtio-blk has Start 3",
    ),
    Taken("viostor's service", in_set(RemoveKey("CCS\\Services\\viostor")), Reason.STORAGE_DRIVER_ABSENT, "viostor"),
    Taken("viostor's Start", in_set(RemoveValue("CCS\\Services\\viostor", "Start")), Reason.STORAGE_DRIVER_ABSENT, "viostor"),
    Taken(
        "no override", in_set(Set("CCS\\Services\\viostor\\StartOverride", "0", dword(3))),
        Reason.STORAGE_DRIVER_NOT_BOOT_START, "viostor for virtio-blk has Start 3",
    ),
    Taken("disk at boot", start_value("disk", 4), Reason.STORAGE_DRIVER_NOT_BOOT_START, "disk for the disk has Start 4"),
    Taken(
        "disk filters", filters(DISK_CLASS, "UpperFilters", "partmgr", "gone"),
        Reason.FILTER_MISSING, f"gone of class {DISK_CLASS}",
    ),
    Taken(
        "controller filters", filters(SCSI_CLASS, "LowerFilters", "gone"),
        Reason.FILTER_MISSING, f"gone of class {SCSI_CLASS}",
    ),
    Taken(
        "volume filters", filters(VOLUME_CLASS, "UpperFilters", "gone"),
        Reason.FILTER_MISSING, f"gone of class {VOLUME_CLASS}",
    ),
    Taken("filter at boot", filters(DISK_CLASS, "LowerFilters", "vmrawdsk"), Reason.FILTER_NOT_BOOT_START, "vmrawdsk"),
    Taken("partition manager", start_value("partmgr", 4), Reason.FILTER_NOT_BOOT_START, "partmgr"),
    Taken("volume manager", start_value("volmgr", 4), Reason.NO_VOLUME_MANAGER, "volmgr has Start 4"),
    Taken(
        "volume manager's device", in_set(RemoveKey("CCS\\Enum\\Root\\volmgr")),
        Reason.NO_VOLUME_MANAGER, "Enum\\Root\\volmgr",
    ),
    Taken("mount manager", start_value("mountmgr", 3), Reason.NO_VOLUME_MANAGER, "MountMgr has Start 3"),
    Taken("NTFS", gone("system32/drivers/ntfs.sys"), Reason.NO_FILE_SYSTEM, "Ntfs"),
    Taken("NTFS' service", in_set(RemoveKey("CCS\\Services\\Ntfs")), Reason.NO_FILE_SYSTEM, "Ntfs"),
)  # fmt: skip

_DRIVER_DATABASE = tuple(
    Taken(f"DriverDatabase: {name}", in_system(edit), Reason.NO_STORAGE_DRIVER, devices.VIRTIO_BLK.device_id)
    for name, edit in (
        ("device id", RemoveKey(f"DriverDatabase\\DeviceIds\\{_ID}")),
        ("device id's INF file", RemoveValue(f"DriverDatabase\\DeviceIds\\{_ID}", "viostor_own.inf")),
        ("INF file", RemoveKey("DriverDatabase\\DriverInfFiles\\viostor_own.inf")),
        ("active package", RemoveValue("DriverDatabase\\DriverInfFiles\\viostor_own.inf", "Active")),
        ("package", RemoveKey(f"DriverDatabase\\DriverPackages\\{PACKAGE}")),
        ("descriptor", RemoveKey(f"DriverDatabase\\DriverPackages\\{PACKAGE}\\Descriptors\\{_ID}")),
        ("configuration", RemoveKey(f"DriverDatabase\\DriverPackages\\{PACKAGE}\\Configurations\\own")),
        ("service", RemoveValue(f"DriverDatabase\\DriverPackages\\{PACKAGE}\\Configurations\\own", "Service")),
        ("version", RemoveValue(f"DriverDatabase\\DriverPackages\\{PACKAGE}", "Version")),
    )
)


def check(found: Sample, taken: Taken) -> None:
    """The guest starts on virtio-blk; with the one thing gone it stops, for that reason."""
    ready = on_virtio(found)
    assert ready.start(devices.VIRTIO_BLK).stop is None
    ended = taken.change(ready).start(devices.VIRTIO_BLK)
    assert ended.reason is taken.reason, ended
    assert taken.evidence in str(ended.stop)


def named(rows: Sequence[Taken]) -> dict[str, object]:
    return {"argvalues": rows, "ids": [row.name for row in rows]}


@pytest.mark.parametrize("taken", **named((*_MBR, *_STORE, *_FILES, *_REGISTRY, *_DRIVER_DATABASE)))  # type: ignore[arg-type]
def test_server_2016_without(taken: Taken) -> None:
    with sample("2016") as found:
        check(found, taken)


_UEFI = (
    Taken("ESP", on_disk({1024: bytes(15) + b"\1"}), Reason.NO_ESP, "GPT"),
    Taken("fallback loader", gone_from_boot("EFI/Boot/bootx64.efi"), Reason.NO_EFI_LOADER, "EFI/BOOT/BOOTx64.EFI"),
    Taken(
        "fallback loader for this processor",
        lambda found: found.with_files({"EFI/Boot/bootx64.efi": _OTHER_CODE}, found.boot), Reason.WRONG_MACHINE, "BOOTx64.EFI",
    ),
    Taken("BCD store", gone_from_boot("EFI/Microsoft/Boot/BCD"), Reason.NO_STORE, "EFI/Microsoft/Boot/BCD"),
    Taken("winload.efi", gone("system32/winload.efi"), Reason.FILE_MISSING, "winload.efi"),
    # the GPT's entry of partition 3: its own GUID follows its type
    Taken("partition's GUID", on_disk({1024 + 2 * 128 + 16: bytes(16)}), Reason.ENTRY_DEVICE, str(records.GPT_SYSTEM)),
    Taken("disk's GUID", on_disk({512 + 56: bytes(16)}), Reason.ENTRY_DEVICE, str(records.GPT_DISK)),
)  # fmt: skip


@pytest.mark.parametrize("taken", **named(_UEFI))  # type: ignore[arg-type]
def test_windows_10_on_uefi_without(taken: Taken) -> None:
    with sample("win10") as found:
        check(found, taken)


_CRITICAL = "Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1001"
_NT6 = (
    Taken("device id", in_set(RemoveKey(f"CCS\\{_CRITICAL}")), Reason.NO_STORAGE_DRIVER, "DEV_1001"),
    Taken("service of the id", in_set(RemoveValue(f"CCS\\{_CRITICAL}", "Service")), Reason.NO_STORAGE_DRIVER, "DEV_1001"),
    Taken("GenDisk", in_set(RemoveKey("CCS\\Control\\CriticalDeviceDatabase\\GenDisk")), Reason.NO_STORAGE_DRIVER, "GenDisk"),
    Taken(
        "service of that name", in_set(Set(f"CCS\\{_CRITICAL}", "Service", sz("viostore"))),
        Reason.STORAGE_DRIVER_ABSENT, "viostore",
    ),
)  # fmt: skip


@pytest.mark.parametrize("taken", **named(_NT6))  # type: ignore[arg-type]
def test_windows_7_without(taken: Taken) -> None:
    with sample("win7") as found:
        check(found, taken)


def _boot_ini(text: str) -> Change:
    return lambda found: found.with_files({"boot.ini": f"[boot loader]\r\ndefault={text}\r\n".encode()}, found.boot)


_NT5 = (
    Taken("NTLDR", gone_from_boot("NTLDR"), Reason.NO_BOOT_MANAGER, "NTLDR on disk 0 partition 1"),
    Taken("NTDETECT.COM", gone_from_boot("NTDETECT.COM"), Reason.FILE_MISSING, "NTDETECT.COM"),
    Taken(
        "boot.ini's partition", _boot_ini("multi(0)disk(0)rdisk(0)partition(2)\\WINDOWS"),
        Reason.NO_BOOT_INI_PATH, "partition(2)",
    ),
    Taken("boot.ini's disk", _boot_ini("multi(0)disk(0)rdisk(1)partition(1)\\WINDOWS"), Reason.NO_BOOT_INI_PATH, "rdisk(1)"),
    Taken(
        "boot.ini's folder", _boot_ini("multi(0)disk(0)rdisk(0)partition(1)\\WINNT"),
        Reason.FILE_MISSING, "WINNT\\system32\\ntoskrnl.exe",
    ),
    Taken("boot.ini by BIOS", _boot_ini("scsi(0)disk(0)rdisk(0)partition(1)\\WINDOWS"), Reason.NEEDS_NTBOOTDD, "scsi(0)"),
    Taken(
        "hidden sectors", on_disk({63 * 512 + 28: b"\0\x08"}),
        Reason.HIDDEN_SECTORS, "begins at sector 63, its boot sector says 2048",
    ),
    Taken("device id", in_set(RemoveKey(f"CCS\\{_CRITICAL}")), Reason.NO_STORAGE_DRIVER, "DEV_1001"),
    Taken("volume manager", start_value("Ftdisk", 4), Reason.NO_VOLUME_MANAGER, "ftdisk"),
    Taken("volume manager's device", in_set(RemoveKey("CCS\\Enum\\Root\\ftdisk")), Reason.NO_VOLUME_MANAGER, "ftdisk"),
)  # fmt: skip


@pytest.mark.parametrize("taken", **named(_NT5))  # type: ignore[arg-type]
def test_server_2003_without(taken: Taken) -> None:
    with sample("2003") as found:
        check(found, taken)


_AT_HOME = (
    ("nt4-server", Taken("miniport", start_value("BusLogic", 4), Reason.NO_STORAGE_DRIVER, "DEV_1040")),
    ("nt4-server", Taken("miniport's file", gone("system32/drivers/buslogic.sys"), Reason.BOOT_DRIVER_MISSING, "BusLogic")),
    ("nt4-server", Taken("disk driver", start_value("Disk", 4), Reason.STORAGE_DRIVER_NOT_BOOT_START, "Disk")),
    ("nt4-workstation", Taken("FAT", gone("system32/drivers/fastfat.sys"), Reason.NO_FILE_SYSTEM, "Fastfat")),
    ("xp", Taken("channel's driver", start_value("atapi", 4), Reason.STORAGE_DRIVER_NOT_BOOT_START, "the primary IDE channel")),
    (
        "xp",
        Taken(
            "channel's id",
            in_set(*(RemoveKey(f"CCS\\Control\\CriticalDeviceDatabase\\{known}") for known in ("Primary_IDE_Channel", "*PNP0600"))),
            Reason.NO_STORAGE_DRIVER, "the primary IDE channel",
        ),
    ),
    ("vista", Taken("channel's driver", start_value("atapi", 3), Reason.STORAGE_DRIVER_NOT_BOOT_START, "an ATA channel")),
)  # fmt: skip


@pytest.mark.parametrize("name, taken", _AT_HOME, ids=[f"{name}: {taken.name}" for name, taken in _AT_HOME])
def test_guest_at_home_without(name: str, taken: Taken) -> None:
    with sample(name) as found:
        assert found.start(found.guest.machine.controller).stop is None
        ended = taken.change(found).start(found.guest.machine.controller)
        assert ended.reason is taken.reason, ended
        assert taken.evidence in str(ended.stop)


@pytest.mark.parametrize(
    "name, reason",
    [
        # ids are in each set, so with the set gone nothing claims the controller
        ("win7", Reason.NO_STORAGE_DRIVER),
        # ids are at the hive's root, and name a service that this set has not
        ("2016", Reason.STORAGE_DRIVER_ABSENT),
    ],
)
def test_drivers_in_another_control_set_than_the_one_that_starts_do_not_count(name: str, reason: Reason) -> None:
    with sample(name) as found:
        assert found.guest.sets.default == 2
        ready = only_in_sets(2)(found)
        assert ready.start(devices.VIRTIO_BLK).stop is None
        assert ready.start(devices.VIRTIO_BLK, last_known_good=True).reason is reason
        assert only_in_sets(1, 3)(found).start(devices.VIRTIO_BLK).reason is reason
        assert only_in_sets(1, 3)(found).start(devices.VIRTIO_BLK, last_known_good=True).stop is None
