"""A VMDK's redundant grain directory and tables against the primary ones: every table that differs is found and named."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import vmdk_sparse
from converters.check import Checked, check_tables
from converters.image import open_disk
from tests.converters.images import BY_NAME, MIB, make_image, patterned
from tests.converters.vmdk_writer import SECTOR, descriptor, grains_of, put, sparse

GRAIN = 8
GTES = 16
TABLES = 32
CONTENT = patterned(TABLES * GTES * GRAIN * SECTOR)
TEXT = descriptor('RW 4096 SPARSE "disk.vmdk"', create_type="monolithicSparse")
# Behind the header and the descriptor: directory, tables, and the same again.
RGD = 21
GD = RGD + 1 + TABLES
RAW = sparse(grains_of(CONTENT, GRAIN), len(CONTENT) // SECTOR, grain_sectors=GRAIN, gtes=GTES, text=TEXT)


def check(image: Path) -> Checked:
    with open_disk(image) as disk:
        return check_tables(disk)


def entry_of(gd: int, table: int, entry: int) -> int:
    """Where the writer has an entry of a grain table, in bytes."""
    return (gd + 1 + table) * SECTOR + 4 * entry


def damaged(folder: Path, *entries: int, raw: bytes = RAW, value: int | None = None) -> Path:
    """The image with table entries changed: their last bit, or to a value."""
    changed = bytearray(raw)
    for at in entries:
        old = struct.unpack_from("<I", changed, at)[0]
        struct.pack_into("<I", changed, at, old ^ 1 if value is None else value)
    return put(folder, "disk.vmdk", bytes(changed))


@pytest.mark.parametrize("name", ["vmdk-sparse", "vmdk-sparse-zeroed", "vmdk-stream", "vmdk-split-sparse"])
def test_images_of_qemu_have_two_copies_alike(name: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME[name], patterned(3 * MIB))
    assert check(image) == Checked(())


def test_an_entry_that_differs_is_named_by_its_offsets_in_both_tables(tmp_path: Path) -> None:
    assert check(put(tmp_path, "disk.vmdk", RAW)) == Checked(())
    at = entry_of(RGD, 3, 2)
    found = check(damaged(tmp_path, at))
    assert len(found.findings) == 1
    assert f"byte {at}" in found.findings[0].problem
    assert f"byte {entry_of(GD, 3, 2)}" in found.findings[0].problem


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.tuples(st.integers(0, TABLES - 1), st.integers(0, GTES - 1)), max_size=12))
def test_each_table_that_differs_is_one_finding(tmp_path: Path, where: set[tuple[int, int]]) -> None:
    found = check(damaged(tmp_path, *(entry_of(RGD, *each) for each in where)))
    assert len(found.findings) == len({table for table, _ in where})


def test_nothing_is_compared_where_the_header_does_not_say_that_the_second_copy_is_valid(tmp_path: Path) -> None:
    raw = bytearray(RAW)
    raw[8] &= ~2
    assert check(damaged(tmp_path, entry_of(RGD, 3, 2), raw=bytes(raw))) == Checked(())


@pytest.mark.parametrize("gd", [GD, RGD])
def test_a_directory_entry_that_leads_nowhere_is_found_in_either_copy(gd: int, tmp_path: Path) -> None:
    found = check(damaged(tmp_path, gd * SECTOR + 4 * 5, value=1 << 30))
    # the disk is read by the copy that is sound
    assert len(found.findings) == 1
    assert "grain table 5" in found.findings[0].problem


def test_a_directory_past_the_end_is_found(tmp_path: Path) -> None:
    raw = bytearray(RAW)
    struct.pack_into("<Q", raw, 48, 1 << 40)
    assert len(check(put(tmp_path, "disk.vmdk", bytes(raw))).findings) == 1


def test_a_table_that_is_missing_says_what_one_of_zeroes_does(tmp_path: Path) -> None:
    some = dict.fromkeys(range(3), b"\xaa" * GRAIN * SECTOR)
    raw = sparse(some, TABLES * GTES * GRAIN, grain_sectors=GRAIN, gtes=GTES, text=TEXT)
    assert check(damaged(tmp_path, RGD * SECTOR + 4 * 7, raw=raw, value=0)) == Checked(())
    assert len(check(damaged(tmp_path, RGD * SECTOR, raw=raw, value=0)).findings) == 1


def test_every_extent_of_a_split_disk_is_compared_and_flat_ones_are_not_taken_for_sparse(tmp_path: Path) -> None:
    sectors = len(CONTENT) // SECTOR
    part = sparse(grains_of(CONTENT, GRAIN), sectors, grain_sectors=GRAIN, gtes=GTES)
    bad = bytearray(part)
    at = 2 * SECTOR + 4
    bad[at] ^= 1
    put(tmp_path, "a.vmdk", part)
    put(tmp_path, "b.vmdk", bytes(bad))
    put(tmp_path, "c.vmdk", bytes(bad))
    lines = [f'RW {sectors} SPARSE "a.vmdk"', f'RW {sectors} SPARSE "b.vmdk"', f'RW {len(bad) // SECTOR} FLAT "c.vmdk" 0']
    image = put(tmp_path, "disk.vmdk", descriptor(*lines, create_type="custom"))
    assert [finding.image.name for finding in check(image).findings] == ["b.vmdk"]


def test_tables_past_a_limit_are_said_not_to_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmdk_sparse, "MAX_COMPARED_TABLES", TABLES - 2)
    found = check(put(tmp_path, "disk.vmdk", RAW))
    assert found.findings == ()
    assert len(found.notes) == 1


def test_a_large_mostly_empty_disk_costs_little(tmp_path: Path) -> None:
    """64 TiB with the usual grains: two directories of 2 Mi entries that name nothing but one table."""
    gtes, grain_sectors, tables = 512, 128, 2 * 1024 * 1024
    raw = bytearray(sparse({}, gtes * grain_sectors, text=TEXT))
    sectors = tables * gtes * grain_sectors
    struct.pack_into("<Q", raw, 12, sectors)
    directory = tables * 4 // SECTOR
    struct.pack_into("<QQ", raw, 48, 1024, 1024 + directory)
    path = put(tmp_path, "disk.vmdk", bytes(raw))
    with path.open("r+b") as file:
        file.truncate((1024 + 2 * directory + 8) * SECTOR)
        for number, begin in enumerate((1024, 1024 + directory)):
            file.seek(begin * SECTOR + 4 * (tables - 1))
            file.write(struct.pack("<I", 1024 + 2 * directory + 4 * number))
        file.seek((1024 + 2 * directory) * SECTOR + 40)
        file.write(struct.pack("<I", random.Random(1).randrange(2, 1024)))
    started = time.process_time()
    found = check(path)
    assert time.process_time() - started < 3
    assert f"entry 10 of its grain table {tables - 1}" in found.findings[0].problem
