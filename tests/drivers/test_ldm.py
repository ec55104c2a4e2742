"""Dynamic disks: what the private header and the database say of the group."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from drivers.facts import Partition
from drivers.layout import lay_out
from drivers.ldm import TYPE_DATA, TYPE_METADATA, DynamicDisk, read_dynamic
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows.dynamic_disks import GROUP, dynamic_disk, put_database

MIB = 1024 * 1024


class _Strict(RawReader):
    """A reader for which a range outside of the disk is a mistake."""

    def pread(self, length: int, offset: int) -> bytes:
        assert 0 <= offset <= self.virtual_size - length
        return super().pread(length, offset)


def read(path: Path, partitions: list[Partition], sector_bytes: int = 512) -> DynamicDisk | None:
    reader = _Strict(path)
    try:
        return read_dynamic(reader, partitions, sector_bytes)
    finally:
        reader.close()


def test_a_dynamic_disk_with_an_mbr(tmp_path: Path) -> None:
    path = dynamic_disk(tmp_path / "disk", number=2, disks=3)
    reader = RawReader(path)
    try:
        disk = lay_out([reader]).disks[0]
    finally:
        reader.close()
    assert disk.dynamic == DynamicDisk("11111111-0000-0000-0000-000000000002", GROUP, 3)


def test_a_dynamic_disk_with_a_gpt_has_its_header_at_the_end_of_the_metadata_partition(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 * MIB))
    metadata = Partition(0, 1, 1 * MIB, 1 * MIB, TYPE_METADATA)
    put_database(path, header_at=2 * MIB - 512, region_at=1 * MIB, disks=2)
    parts = [Partition(0, 2, 3 * MIB, 4 * MIB, TYPE_DATA), metadata]
    found = read(path, parts)
    assert found is not None
    assert (found.group, found.disks) == (GROUP, 2)
    assert read(path, [parts[0]]) is None


def test_a_basic_disk_is_none(tmp_path: Path) -> None:
    path = dynamic_disk(tmp_path / "disk")
    assert read(path, [Partition(0, 1, MIB, MIB, "07")]) is None
    assert read(path, []) is None


def test_a_disk_whose_type_says_so_without_a_header_is_none(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    assert read(path, [Partition(0, 1, 512, MIB - 512, "42")]) is None
    # a metadata partition that reaches past the end
    assert read(path, [Partition(0, 1, MIB - 512, 8 * MIB, TYPE_METADATA)]) is None


@pytest.mark.parametrize("start, sectors", [(0, 2048), (1 << 60, 2048), (16383, 2048), (2048, 1 << 60)])
def test_a_region_outside_of_the_disk_leaves_the_number_of_disks_open(tmp_path: Path, start: int, sectors: int) -> None:
    path = dynamic_disk(tmp_path / "disk", region=(start, sectors))
    found = read(path, [Partition(0, 1, MIB, MIB, "42")])
    assert found is not None
    assert (found.group, found.disks) == (GROUP, 0)


@pytest.mark.parametrize("number", [0, 0xFFFFFFFF])
def test_an_impossible_number_of_disks_is_not_believed(tmp_path: Path, number: int) -> None:
    found = read(dynamic_disk(tmp_path / "disk", disks=number), [Partition(0, 1, MIB, MIB, "42")])
    assert found is not None
    assert found.disks == 0


def test_what_stands_in_a_guid_is_no_more_than_letters(tmp_path: Path) -> None:
    path = dynamic_disk(tmp_path / "disk")
    with path.open("r+b") as file:
        file.seek(6 * 512 + 0xB0)
        file.write(b"\x1b[2J\n../A\xff" + struct.pack("<40s", b""))
    found = read(path, [Partition(0, 1, MIB, MIB, "42")])
    assert found is not None
    assert found.group == "2ja"
