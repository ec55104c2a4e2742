"""Partition tables against sfdisk's own view of them, sound, damaged and hostile."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from drivers.layout import Layout, firmware, lay_out
from drivers.partitions import DiskLayout, read_partitions, recognise_boot_code
from tests.drivers.making import MIB, make_disk, patch, run, sized
from tests.drivers.raw_reader import RawReader

LOGICALS = """label: dos
label-id: 0x12345678
start=2048, size=2048, type=83, bootable
start=4096, size=2048, type=82
start=8192, type=5
start=10240, size=2048, type=83
start=14336, size=4096, type=8e
start=20480, size=2048, type=7
"""
GPT = """label: gpt
label-id: 0A0B0C0D-1111-2222-3333-444455556666
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name="BIOS boot"
start=4096, size=4096, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=AAAAAAAA-0000-4000-8000-000000000002
start=10240, size=8192, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="wurzel-ä", attrs="LegacyBIOSBootable"
"""


def layout_of(path: Path) -> DiskLayout:
    reader = RawReader(path)
    try:
        return read_partitions(reader, 0)
    finally:
        reader.close()


def witness(path: Path) -> list[dict[str, Any]]:
    partitions: list[dict[str, Any]] = json.loads(run("sfdisk", "-J", path))["partitiontable"]["partitions"]
    return partitions


@pytest.mark.parametrize("script", [LOGICALS, GPT], ids=["mbr", "gpt"])
def test_partitions_are_those_that_sfdisk_sees(tmp_path: Path, script: str) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, script)
    found = layout_of(disk)
    seen = [(p.offset // 512, p.length // 512, p.type_id.lstrip("0"), p.number) for p in found.partitions]
    # sfdisk reports the container of logical partitions at full size, as we do
    expected = [
        (w["start"], w["size"], w["type"].lower().lstrip("0"), int(w["node"].removeprefix(str(disk))))
        for w in witness(disk)
    ]
    assert seen == expected
    assert found.notes == ()


def test_mbr_tells_ids_boot_flag_and_partuuids_as_linux_spells_them(tmp_path: Path) -> None:
    found = layout_of(make_disk(tmp_path / "disk", 32 * MIB, LOGICALS))
    assert (found.disk.table, found.disk.disk_id) == ("mbr", "12345678")
    assert [p.number for p in found.partitions] == [1, 2, 3, 5, 6, 7]
    assert [p.partuuid for p in found.partitions][-1] == "12345678-07"
    assert [p.bootable for p in found.partitions] == [True, False, False, False, False, False]


def test_gpt_tells_guids_and_names(tmp_path: Path) -> None:
    found = layout_of(make_disk(tmp_path / "disk", 32 * MIB, GPT))
    assert (found.disk.table, found.disk.disk_id) == ("gpt", "0a0b0c0d-1111-2222-3333-444455556666")
    assert found.partitions[1].partuuid == "aaaaaaaa-0000-4000-8000-000000000002"
    assert [p.partlabel for p in found.partitions] == ["BIOS boot", None, "wurzel-ä"]
    assert [p.bootable for p in found.partitions] == [False, False, True]


def test_gpt_agrees_with_pyvsgpt(tmp_path: Path) -> None:
    pyvsgpt = pytest.importorskip("pyvsgpt")
    disk = make_disk(tmp_path / "disk", 32 * MIB, GPT)
    volume = pyvsgpt.volume()
    volume.open_file_object(io.BytesIO(disk.read_bytes()))
    seen = [(p.volume_offset, p.size, str(p.type_identifier)) for p in volume.partitions]
    volume.close()
    assert [(p.offset, p.length, p.type_id) for p in layout_of(disk).partitions] == seen


@pytest.mark.parametrize("place", [512 + 40, 1024 + 32], ids=["header", "entries"])
def test_backup_gpt_is_used_when_the_primary_is_bad(tmp_path: Path, place: int) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, GPT)
    sound = layout_of(disk)
    damaged = layout_of(patch(disk, place, b"\xee\xee\xee"))
    assert damaged.partitions == sound.partitions
    assert len(damaged.notes) == 1


def test_gpt_that_is_bad_twice_has_no_partitions_and_says_so(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, GPT)
    patch(patch(disk, 512, bytes(512)), 32 * MIB - 512, bytes(512))
    found = layout_of(disk)
    assert (found.disk.table, found.partitions, len(found.notes)) == ("gpt", (), 2)


def test_gpt_with_absurd_entry_count_is_refused_without_reading_it(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, GPT)
    import zlib

    for at in (512, 32 * MIB - 512):
        raw = bytearray(disk.read_bytes()[at : at + 92])
        raw[80:84] = struct.pack("<I", 0xFFFFFFFF)
        raw[16:20] = bytes(4)
        raw[16:20] = struct.pack("<I", zlib.crc32(raw))
        patch(disk, at, bytes(raw))
    assert layout_of(disk).partitions == ()


def test_loop_of_logical_partitions_ends(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, LOGICALS)
    # the second record's link is made to lead to itself
    second = next(p for p in layout_of(disk).partitions if p.number == 6)
    record = witness(disk)[4]["start"] - 2048
    patch(disk, record * 512 + 446 + 16, struct.pack("<B3xB3xII", 0, 5, record - 8192, 2048))
    found = layout_of(disk)
    assert second in found.partitions
    assert any("loop" in note for note in found.notes)


def test_endless_chain_of_logical_partitions_is_cut(tmp_path: Path) -> None:
    disk = sized(tmp_path / "disk", 8 * MIB)
    table = struct.pack("<B3xB3xII", 0, 5, 1, 16000)
    patch(patch(disk, 446, table), 510, b"\x55\xaa")
    for index in range(300):
        at = (1 + index) * 512
        entries = struct.pack("<B3xB3xII", 0, 0x83, 1, 1) + struct.pack("<B3xB3xII", 0, 5, index + 1, 1)
        patch(patch(disk, at + 446, entries), at + 510, b"\x55\xaa")
    found = layout_of(disk)
    assert len(found.partitions) == 1 + 128
    assert any("128" in note for note in found.notes)


def test_partition_past_the_end_is_cut_or_left_out_with_a_note(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 32 * MIB, "label: dos\nstart=2048, size=4096\nstart=40960, size=4096\n")
    with disk.open("r+b") as file:
        file.truncate(2 * MIB)
    found = layout_of(disk)
    assert [(p.number, p.offset + p.length) for p in found.partitions] == [(1, 2 * MIB)]
    assert len(found.notes) == 2


def test_disks_without_table(tmp_path: Path) -> None:
    fat = sized(tmp_path / "fat", 8 * MIB)
    run("mkfs.vfat", fat)
    empty = sized(tmp_path / "empty", MIB)
    stub = tmp_path / "stub"
    stub.write_bytes(b"x" * 100)
    assert [layout_of(p).disk.table for p in (fat, empty, stub)] == ["none"] * 3


def _sector(code: bytes, at: int = 0) -> bytes:
    return bytes(at) + code + bytes(510 - at - len(code)) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("sector", "name"),
    [
        (_sector(b"\xeb\x63GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0"), "grub2"),
        (_sector(b"\xeb\x48GRUB \0Geom\0Hard Disk\0Read\0 Error\0"), "grub1"),
        (_sector(b"LILO", 6), "lilo"),
        (_sector(b"Missing operating system.\r\nOperating system load error.\r\n"), "syslinux"),
        (_sector(b"Invalid partition table\0Error loading operating system\0Missing operating system"), "windows"),
        (_sector(b"\xfa\x31\xc0"), "unknown"),
        (_sector(b""), ""),
        (b"GRUB", ""),
    ],
)
def test_boot_code(sector: bytes, name: str) -> None:
    assert recognise_boot_code(sector) == name


def test_real_grub_boot_code(tmp_path: Path) -> None:
    image = Path("/usr/lib/grub/i386-pc/boot.img")
    if not image.exists():
        pytest.skip("grub-pc-bin is not installed")
    assert recognise_boot_code(image.read_bytes()[:512]) == "grub2"


@pytest.mark.parametrize(
    ("code", "sector", "filled", "expected"),
    [
        (
            b"\xeb\x63GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0".ljust(0x5C, b"\0") + struct.pack("<Q", 1),
            1,
            True,
            "there",
        ),
        (
            b"\xeb\x63GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0".ljust(0x5C, b"\0") + struct.pack("<Q", 1),
            1,
            False,
            "zeroes",
        ),
        (b"\xeb\x63GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0".ljust(0x5C, b"\0") + b"\xff" * 8, 1, True, "outside"),
        (b"\xeb\x48GRUB \0Geom\0Hard Disk\0Read\0 Error\0".ljust(0x44, b"\0") + struct.pack("<I", 7), 7, True, "there"),
        (b"Missing operating system.\r\nOperating system load error.\r\n", 1, True, ""),
        (b"", 1, True, ""),
    ],
)
def test_where_grubs_boot_code_goes_on(tmp_path: Path, code: bytes, sector: int, filled: bool, expected: str) -> None:
    disk = make_disk(tmp_path / "disk", 8 * MIB, "label: dos\nstart=2048, type=83\n")
    patch(patch(disk, 0, code), sector * 512, b"core" if filled else b"")
    assert layout_of(disk).disk.next_stage == expected


def test_zipls_record_is_known_on_a_disk_without_a_signature() -> None:
    assert recognise_boot_code(b"zIPL".ljust(512, b"\0")) == "zipl"


def test_first_sector_of_an_active_partition_is_looked_at(tmp_path: Path) -> None:
    script = "label: dos\nstart=2048, size=4096, type=83\nstart=8192, size=4096, type=83, bootable\n"
    disk = make_disk(tmp_path / "disk", 8 * MIB, script)
    for sector in (2048, 8192):
        patch(disk, sector * 512, _sector(b"EXTLINUX"))
    reader = RawReader(disk)
    try:
        assert [part.boot_code for part in lay_out([reader]).partitions] == ["", "syslinux"]
    finally:
        reader.close()


ESP_ONLY = "label: gpt\nstart=2048, size=4096, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
ESP_MBR = "label: dos\nstart=2048, size=4096, type=ef\n"
GRUB_CODE = b"\xeb\x63GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0"
WINDOWS_CODE = b"Error loading operating system"


@pytest.mark.parametrize(
    ("script", "code", "expected"),
    [
        (LOGICALS, GRUB_CODE, "bios"),
        (ESP_ONLY, b"", "uefi"),
        (ESP_ONLY, WINDOWS_CODE, "uefi"),
        (ESP_ONLY, GRUB_CODE, "uefi"),  # without a BIOS boot partition there is no core for this code to load
        (GPT, b"", "uefi"),
        (GPT, GRUB_CODE, "bios"),
        (ESP_MBR, b"", "uefi"),
        (ESP_MBR, GRUB_CODE, "bios"),
    ],
)
def test_firmware_is_told_by_esp_bios_boot_partition_and_boot_code(
    tmp_path: Path, script: str, code: bytes, expected: str
) -> None:
    found = layout_of(patch(make_disk(tmp_path / "disk", 32 * MIB, script), 0, code))
    assert firmware(Layout((found.disk,), found.partitions)) == expected
