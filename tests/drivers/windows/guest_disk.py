"""A disk with Windows on it, as far as reading goes: an MBR, one partition, the files given. No Windows file is in it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.hives import Data, Tree, binary, dword, make_hive, multi_sz, sz
from tests.fixtures.windows import bcd

_START = 2048
_SECTOR = 512
MIB = 1024 * 1024
SIGNATURE = 0x44332211
PLACE = bcd.MbrPlace(SIGNATURE, _START * _SECTOR)
_BOOT_CODE = b"\xeb\xfe" + b"stand-in for Windows' boot code"

CURRENT_VERSION = "Microsoft\\Windows NT\\CurrentVersion"


def ntfs_disk(path: Path, files: Mapping[str, bytes], *, size: int = 64 * MIB, folders: tuple[str, ...] = ()) -> Path:
    """A raw disk with one NTFS partition that holds ``files`` (paths with ``/``)."""
    partition = path.with_suffix(".ntfs")
    with open(partition, "wb") as file:
        file.truncate(size - _START * _SECTOR)
    words = ("mkntfs", "-Q", "-F", "-q", "-p", str(_START), "-H", "16", "-S", "63", "-s", "512", str(partition))
    subprocess.run(words, check=True, capture_output=True)
    with mounted(partition) as folder:
        for name in folders:
            (folder / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            at = folder / name.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(data)
    return _with_table(path, partition, size)


@contextmanager
def mounted(partition: Path, options: str = "big_writes") -> Iterator[Path]:
    """An image of NTFS, mounted for writing through FUSE. ``options``: ntfs-3g's."""
    folder = partition.with_suffix(".mnt")
    folder.mkdir()
    subprocess.run(["ntfs-3g", "-o", options, str(partition), str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def _with_table(path: Path, partition: Path, size: int) -> Path:
    sectors = size // _SECTOR - _START
    table = bytearray(_SECTOR)
    table[: len(_BOOT_CODE)] = _BOOT_CODE
    table[440:444] = struct.pack("<I", SIGNATURE)
    table[446:462] = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 7, b"\xfe\xff\xff", _START, sectors)
    table[510:] = b"\x55\xaa"
    with open(path, "wb") as file, open(partition, "rb") as source:
        file.write(table)
        file.seek(_START * _SECTOR)
        shutil.copyfileobj(source, file)
        file.truncate(size)
    partition.unlink()
    return path


def program(machine: int = 0x8664) -> bytes:
    """The beginning of a program for a machine (PE's number for it)."""
    return b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0" + struct.pack("<H", machine) + bytes(200)


def system_tree(*, current: int = 1, sets: tuple[int, ...] = (1,), more: Tree | None = None) -> Tree:
    """Keys of a SYSTEM hive."""
    tree: dict[str, Mapping[str, Data]] = {
        "Select": {"Current": dword(current), "Default": dword(current), "Failed": dword(0), "LastKnownGood": dword(sets[-1])},
        "MountedDevices": {"\\DosDevices\\C:": Data(3, b"\x11\x22\x33\x44" + struct.pack("<Q", _START * _SECTOR))},
        "Setup": {"SystemSetupInProgress": dword(0)},
    }
    for number in sets:
        base = f"ControlSet{number:03d}"
        tree |= {
            f"{base}\\Control\\CrashControl": {"AutoReboot": dword(1)},
            f"{base}\\Control\\ComputerName\\ComputerName": {"ComputerName": sz("WEB01")},
            f"{base}\\Control\\Session Manager\\Environment": {"PROCESSOR_ARCHITECTURE": sz("AMD64")},
            f"{base}\\Control\\ProductOptions": {"ProductType": sz("ServerNT")},
            f"{base}\\Control\\TimeZoneInformation": {"Bias": dword(0)},
            f"{base}\\Services\\Tcpip\\Parameters": {"Hostname": sz("web01"), "Domain": sz("example.org")},
            f"{base}\\Services\\disk": {"Start": dword(0), "Type": dword(1), "DependOnService": multi_sz("a", "b")},
        }
    return tree | dict(more or {})


def software_tree(values: Mapping[str, Data] | None = None, more: Tree | None = None) -> Tree:
    """Keys of a SOFTWARE hive: Server 2019, unless ``values`` say otherwise."""
    of_server_2019 = {
        "ProductName": sz("Windows Server 2019 Standard"), "CurrentVersion": sz("6.3"), "CurrentBuildNumber": sz("17763"),
        "CurrentMajorVersionNumber": dword(10), "CurrentMinorVersionNumber": dword(0), "EditionID": sz("ServerStandard"),
        "InstallationType": sz("Server"), "UBR": dword(1234),
    }  # fmt: skip
    return {CURRENT_VERSION: values if values is not None else of_server_2019, **(more or {})}


def boot_store(place: bcd.MbrPlace = PLACE, system: bcd.MbrPlace = PLACE, more: Tree | None = None) -> Tree:
    """Keys of a store whose one entry starts Windows on ``place``; its boot status policy is as plans want it."""
    tree = bcd.store(system, [bcd.Entry(bcd.LOADER, place, "Windows Server 2019")], uefi=False, resume=False)
    policy = {f"Objects\\{bcd.LOADER}\\Elements\\250000e0": {"Element": binary(struct.pack("<Q", 1))}}
    return {**tree, **policy, **(more or {})}


def windows_files(
    *, system: bytes | None = None, software: bytes | None = None, root: str = "/Windows", machine: int = 0x8664
) -> dict[str, bytes]:
    """The files by which Windows is recognised and started, and from which facts are read."""
    return {
        "/Boot/BCD": make_hive(boot_store(), name="BCD"),
        "/bootmgr": b"stand-in for bootmgr",
        f"{root}/System32/config/SYSTEM": system if system is not None else make_hive(system_tree()),
        f"{root}/System32/config/SOFTWARE": software if software is not None else make_hive(software_tree(), name="SOFTWARE"),
        f"{root}/System32/ntoskrnl.exe": program(machine),
        f"{root}/System32/cmd.exe": program(machine),
    }
