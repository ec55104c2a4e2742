"""Systems without Linux in them are told from disks shaped like theirs; UFS and FAT are made by makefs and mkfs.fat."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.facts import GuestFacts
from drivers.inspection import inspect_confined, needs_appliance
from drivers.layout import Layout
from p2v.core.units import KIB, MIB, SECTOR_BYTES
from tests.drivers.raw_reader import RawReader

START = 64 * SECTOR_BYTES


def mbr(path: Path, type_id: int, contents: bytes, size: int = 8 * MIB) -> Path:
    """A disk with one active partition of a type, filled from its begin."""
    size = max(size, START + len(contents))
    sector = bytearray(SECTOR_BYTES)
    sector[446:462] = struct.pack("<B3xB3xII", 0x80, type_id, START // SECTOR_BYTES, (size - START) // SECTOR_BYTES)
    sector[510:] = b"\x55\xaa"
    with path.open("wb") as file:
        file.write(sector)
        file.seek(START)
        file.write(contents)
        file.truncate(size)
    return path


def gpt(path: Path, type_guid: str, contents: bytes) -> Path:
    size = len(contents) + 8 * MIB
    with path.open("wb") as file:
        file.truncate(size)
    script = f"label: gpt\nstart=2048, type={type_guid.upper()}\n"
    subprocess.run(["sfdisk", "-q", path], input=script, text=True, check=True)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(contents)
    return path


def signed(*places: tuple[int, bytes]) -> bytes:
    data = bytearray(4 * MIB)
    for at, text in places:
        data[at : at + len(text)] = text
    return bytes(data)


def tree(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def ufs(folder: Path, files: Mapping[str, str | bytes], version: int = 2) -> bytes:
    image = folder / f"ufs{version}"
    below = tree(folder / "files", files)
    made: list[str | Path] = ["makefs", "-M", "4m", "-t", "ffs", "-o", f"version={version}", image, below]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    return image.read_bytes()


def fat(folder: Path, files: Mapping[str, str | bytes]) -> bytes:
    image = folder / "fat"
    subprocess.run(["mkfs.fat", "-C", image, "4096"], check=True, stdout=subprocess.DEVNULL)
    below = tree(folder / "files", files)
    subprocess.run(["mcopy", "-s", "-i", image, *below.iterdir(), "::"], check=True)
    return image.read_bytes()


def label(ufs_at: int, base: int) -> bytes:
    """A disklabel whose ``a`` is UFS at ``ufs_at`` bytes of the slice; offsets count from ``base`` bytes."""
    raw = bytearray(SECTOR_BYTES)
    struct.pack_into("<I", raw, 0, 0x82564557)
    struct.pack_into("<I", raw, 132, 0x82564557)
    struct.pack_into("<H", raw, 138, 8)
    struct.pack_into("<IIIBBH", raw, 148, 4 * MIB // SECTOR_BYTES, (base + ufs_at) // SECTOR_BYTES, 0, 7, 0, 0)
    struct.pack_into("<IIIBBH", raw, 148 + 32, 8 * MIB // SECTOR_BYTES, base // SECTOR_BYTES, 0, 0, 0, 0)
    return bytes(raw)


def facts(path: Path) -> GuestFacts:
    reader = RawReader(path)
    try:
        return inspect_confined([reader])
    finally:
        reader.close()


def told(path: Path) -> tuple[str, str]:
    found = facts(path)
    assert found.os is not None, found.notes
    assert found.os.kind == "other"
    assert not needs_appliance(Layout.of(found), found)
    return found.os.id, found.os.version


FREEBSD = {"bin/freebsd-version": 'USERLAND_VERSION="13.2-RELEASE-p1"\n', "etc/fstab": "/dev/ada0p2 / ufs rw 1 1\n"}


def test_freebsd_on_gpt_with_its_version_and_the_names_of_its_devices(tmp_path: Path) -> None:
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0"
    files: dict[str, str | bytes] = {**FREEBSD, "etc/rc.conf": 'ifconfig_em0="inet 10.0.2.40/24"\n', "bin/sh": program}
    disk = gpt(tmp_path / "d", "516e7cb6-6ecf-11d6-8ff8-00022d09712b", ufs(tmp_path, files))
    found = facts(disk)
    assert told(disk) == ("freebsd", "13.2")
    assert found.os is not None
    assert found.os.arch == "x86_64"
    assert found.texts["/etc/fstab"].text == FREEBSD["etc/fstab"]
    assert "em0" in found.texts["/etc/rc.conf"].text


@pytest.mark.parametrize("base", [0, START], ids=["offsets of the slice", "offsets of the disk"])
@pytest.mark.parametrize("version", [1, 2])
def test_bsd_in_a_slice_with_a_disklabel(tmp_path: Path, base: int, version: int) -> None:
    inner = bytearray(64 * KIB)
    inner[512:1024] = label(64 * KIB, base)
    disk = mbr(tmp_path / "d", 0xA5, bytes(inner) + ufs(tmp_path, FREEBSD, version))
    assert told(disk) == ("freebsd", "13.2")
    assert "/etc/fstab" in facts(disk).texts


@pytest.mark.parametrize(
    ("type_id", "files", "expected"),
    [
        (0xA6, {"bsd": "k", "etc/motd": "OpenBSD 7.3 (GENERIC.MP) #1125\n", "etc/hostname.em0": "dhcp\n"}, ("openbsd", "7.3")),
        (0xA9, {"netbsd": "k", "etc/release": "NetBSD 9.3/amd64\n", "etc/ifconfig.wm0": "dhcp\n"}, ("netbsd", "9.3")),
        (0xBF, {"etc/release": "   Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n", "etc/vfstab": "-\n"}, ("solaris", "10")),
        (0xA6, {"etc/fstab": "/dev/sd0a / ffs rw 1 1\n"}, ("openbsd", "")),
    ],
)
def test_other_systems_on_ufs(tmp_path: Path, type_id: int, files: Mapping[str, str], expected: tuple[str, str]) -> None:
    assert told(mbr(tmp_path / "d", type_id, ufs(tmp_path, files))) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"IO.SYS": "x", "MSDOS.SYS": "binary", "COMMAND.COM": "x"}, "dos"),
        ({"IO.SYS": "x", "MSDOS.SYS": "[Paths]\r\nWinDir=C:\\WINDOWS\r\n", "COMMAND.COM": "x"}, "win9x"),
        ({"KERNEL.SYS": "x", "COMMAND.COM": "x"}, "dos"),
        ({"OS2KRNL": "x", "OS2LDR": "x", "CONFIG.SYS": "x"}, "os2"),
        ({"NTLDR": "x", "WINNT35/SYSTEM32/CONFIG/SOFTWARE": b"regf" + bytes(20) + b"\x02\0\0\0" + bytes(99)}, "nt3"),
    ],
)
def test_systems_by_the_files_at_the_root_of_fat(tmp_path: Path, files: Mapping[str, str | bytes], expected: str) -> None:
    assert told(mbr(tmp_path / "d", 0x06, fat(tmp_path, files)))[0] == expected


@pytest.mark.parametrize(
    "files",
    [
        {"NTLDR": "x", "WINNT/SYSTEM32/CONFIG/SOFTWARE": b"regf" + bytes(20) + b"\x03\0\0\0" + bytes(99)},
        {"NTLDR": "x"},
        {"EFI/BOOT/BOOTX64.EFI": "x"},
        {"data.txt": "x"},
    ],
    ids=["NT 4", "NT without a hive to tell", "an EFI system partition", "data alone"],
)
def test_a_fat_that_does_not_tell_is_no_old_system(tmp_path: Path, files: Mapping[str, str | bytes]) -> None:
    assert facts(mbr(tmp_path / "d", 0x06, fat(tmp_path, files))).os is None


@pytest.mark.parametrize(
    ("type_id", "contents", "expected"),
    [
        (0x07, signed((16 * 512, b"\x49\xe8\x95\xf9\xc5\xe9\x53\xfa")), "os2"),
        (0x35, signed((32 * KIB, b"JFS1")), "os2"),
        (0xEB, signed((544, b"1SFB")), "haiku"),
        (0x65, signed((0x4000, b"HOTFIX00")), "netware"),
        (0x63, signed((KIB, b"\xf5\xfc\x01\xa5")), "unix"),
        (0xAF, signed((KIB, b"H+\0\x04")), "macos"),
        (0xFB, signed((MIB, b"\x0d\xd0\x01\xc0")), "esxi"),
        (0x0A, signed(), "os2"),
    ],
)
def test_systems_by_partition_types_and_file_systems(tmp_path: Path, type_id: int, contents: bytes, expected: str) -> None:
    assert told(mbr(tmp_path / "d", type_id, contents))[0] == expected


@pytest.mark.parametrize(
    ("guid", "expected"),
    [
        ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "freebsd"),
        ("824cc7a0-36a8-11e3-890a-952519ad3f61", "openbsd"),
        ("49f48d5a-b10e-11dc-b99b-0019d1879648", "netbsd"),
        ("42465331-3ba3-10f1-802a-4861696b7521", "haiku"),
        ("7c3457ef-0000-11aa-aa11-00306543ecac", "macos"),
    ],
)
def test_systems_by_gpt_types(tmp_path: Path, guid: str, expected: str) -> None:
    uberblock = b"\x0c\xb1\xba\0\0\0\0\0"
    disk = gpt(tmp_path / "d", guid, signed((128 * KIB, uberblock)) if expected == "freebsd" else signed())
    assert told(disk)[0] == expected


def test_a_linux_that_only_the_appliance_can_read_is_not_taken_for_another_system(tmp_path: Path) -> None:
    linux = bytearray(signed((64 * KIB + 64, b"_BHRfS_M")))
    disk = mbr(tmp_path / "d", 0x83, bytes(linux))
    assert facts(disk).os is None
    assert needs_appliance(Layout.of(facts(disk)))


def test_nothing_is_told_of_what_says_nothing(tmp_path: Path) -> None:
    assert facts(mbr(tmp_path / "d", 0x83, signed())).os is None


@pytest.mark.parametrize("damage", range(24))
def test_damaged_ufs_ends_with_facts_not_with_a_crash(tmp_path: Path, damage: int) -> None:
    data = bytearray(ufs(tmp_path, {**FREEBSD, **{f"etc/f{i}": "x" * 9000 for i in range(40)}}))
    seed = 7919 * (damage + 1)
    for step in range(400):
        at = (seed * (step + 1) * 2654435761) % len(data)
        # the superblock's own numbers every second time, anything anywhere else
        place = 8192 + at % 1376 if step % 2 else at
        data[place] = (at >> 8) & 0xFF
    disk = gpt(tmp_path / "d", "516e7cb6-6ecf-11d6-8ff8-00022d09712b", bytes(data))
    found = facts(disk)
    assert found.os is not None
    assert found.os.id == "freebsd"
