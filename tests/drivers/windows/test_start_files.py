"""Which files a Windows start needs: where they are looked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.facts import Disk, FileSystem, Partition
from drivers.layout import Layout
from drivers.start_files import StartFile, StartRole
from drivers.windows.boot_facts import BootDevice, BootObject, BootSector, BootStore, DeviceKind, WindowsBoot
from drivers.windows.c_bcd import OS_LOADER
from drivers.windows.facts import WindowsFacts
from drivers.windows.names import Names
from drivers.windows.start_files import Trees, driver_path, managers, read_start_files
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.windows.guest_facts import facts, service

SYSTEM = Partition(0, 2, 1 << 29, 1 << 28, "07", partuuid="01-02", filesystem=FileSystem("ntfs"))
BOOT = Partition(0, 1, 1 << 20, 1 << 28, "07", True, "01-01", filesystem=FileSystem("ntfs"))
LAYOUT = Layout((Disk(0, 1 << 31, "mbr", "0a0b0c0d", "windows"),), (BOOT, SYSTEM))
ON_SYSTEM, ON_BOOT = (BootDevice(DeviceKind.PARTITION, "0a0b0c0d", part.offset) for part in (SYSTEM, BOOT))
NOWHERE = BootDevice(DeviceKind.PARTITION, "ffffffff", 4096)
FILES: dict[str, Node] = {
    "/Windows/System32/ntoskrnl.exe": b"MZ",
    "/Windows/System32/HAL.DLL": b"MZ",
    "/Windows/System32/winload.exe": b"MZ",
    "/Windows/own/x.sys": b"MZ",
}


def windows(device: BootDevice | None = ON_SYSTEM, image: str = "") -> WindowsFacts:
    """A Windows on the second partition, started by the first; ``image``: a boot-start driver's."""
    entry = BootObject("{1}", OS_LOADER, path="\\Windows\\system32\\winload.exe", device=device)
    boot = WindowsBoot(0, 1, "", store=BootStore((entry,), "{1}"))
    return replace(facts({"ControlSet001\\Services\\own": service(0, image)}), boot=boot)


def found(of: WindowsFacts, boot: dict[str, Node], firmware: str = "bios") -> dict[str, StartFile]:
    trees = Trees(Names(InMemoryTree(FILES)), SYSTEM, Names(InMemoryTree(boot)))
    return {file.path: file for file in read_start_files(LAYOUT, of, trees, firmware)}


def test_files_in_any_case_on_both_partitions() -> None:
    files = found(windows(image="\\SystemRoot\\OWN\\x.sys"), {"/BOOTMGR": b"x" * 9})
    assert files["/bootmgr"] == StartFile(StartRole.MANAGER, "/bootmgr", "/BOOTMGR", 9)
    assert files["/Windows/system32/hal.dll"] == StartFile(
        StartRole.KERNEL, "/Windows/system32/hal.dll", "/Windows/System32/HAL.DLL", 2
    )
    assert files["/Windows/system32/winload.exe"].found == "/Windows/System32/winload.exe"
    assert files["/Windows/own/x.sys"].role is StartRole.DRIVER


def test_what_is_not_there_is_told_too() -> None:
    files = found(windows(image="\\SystemRoot\\gone.sys"), {"/other": b"x"})
    assert {path for path, file in files.items() if not file.found} == {"/bootmgr", "/Windows/gone.sys"}


@pytest.mark.parametrize(
    ("device", "where"),
    [
        (ON_SYSTEM, "/Windows/System32/winload.exe"),
        # what names no partition of these disks is written anew by the conversion
        (NOWHERE, "/Windows/System32/winload.exe"),
        (BootDevice(DeviceKind.LOCATE, detail="12000002"), "/Windows/System32/winload.exe"),
        (ON_BOOT, ""),
        (BootDevice(DeviceKind.BOOT), ""),
    ],
)
def test_loader_is_looked_for_on_the_partition_that_the_entry_names(device: BootDevice, where: str) -> None:
    assert found(windows(device), {"/bootmgr": b"x"})["/Windows/system32/winload.exe"].found == where


def test_loader_in_a_file_is_not_looked_for() -> None:
    files = found(windows(BootDevice(DeviceKind.VIRTUAL_DISK)), {"/bootmgr": b"x"})
    assert [file.role for file in files.values() if file.role is StartRole.LOADER] == []


def test_uefi_has_its_own_boot_manager() -> None:
    assert "/bootmgr" not in found(windows(), {"/bootmgr": b"x"}, "uefi")


@pytest.mark.parametrize(
    ("loader", "boot_ini", "expected"),
    [
        ("BOOTMGR", "", ("bootmgr",)),
        ("NTLDR", "", ("ntldr", "ntdetect.com")),
        ("", "/boot.ini", ("ntldr", "ntdetect.com")),
        ("", "", ("bootmgr",)),
    ],
)
def test_what_the_boot_sector_starts(loader: str, boot_ini: str, expected: tuple[str, ...]) -> None:
    boot = WindowsBoot(0, 1, "/", boot_ini_path=boot_ini, sector=BootSector(0, 1, "ntfs", loader=loader))
    assert managers(boot) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("\\systemroot\\own\\x.sys", "/Windows/own/x.sys"),
        ("%systemroot%\\own\\x.sys", "/Windows/own/x.sys"),
        ("system32\\x.sys", "/Windows/system32/x.sys"),
        ("\\??\\c:\\own\\x.sys", "/own/x.sys"),
        ("\\device\\harddiskvolume1\\x.sys", None),
        ("%programfiles%\\x.sys", None),
        ("", None),
    ],
)
def test_path_of_a_driver(image: str, expected: str | None) -> None:
    assert driver_path(image, "/Windows") == expected
