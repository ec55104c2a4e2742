"""A check goes on behind what is wrong: every damaged block, shared cluster, stream and second copy is found."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from converters import c_qcow2, c_vhd, c_vhdx
from converters.check import FINDINGS_KEPT, Checked, check_data, check_tables
from converters.image import open_disk
from tests.converters.damage import rewrite, vhdx_structures
from tests.converters.images import BY_NAME, MIB, VARIANTS, make_image, patterned, qemu_img
from tests.converters.vhd_writer import DIFFERENCING, Vhd

CLUSTER = 65_536


def tables(image: Path) -> Checked:
    with open_disk(image) as disk:
        return check_tables(disk)


def data(image: Path) -> Checked:
    with open_disk(image) as disk:
        done: list[int] = []
        found = check_data(disk, done.append)
        assert sum(done) == disk.virtual_size
    return found


def l2_entries(changes: dict[int, int]) -> Callable[[bytearray], None]:
    """Changes entries of the first L2 table of a qcow2 image; a value not above zero: the same as entry -value."""

    def change(raw: bytearray) -> None:
        (l1,) = struct.unpack_from(">Q", raw, 40)
        (entry,) = struct.unpack_from(">Q", raw, l1)
        l2 = entry & c_qcow2.L1E_OFFSET_MASK
        for index, value in changes.items():
            new = raw[l2 - 8 * value : l2 - 8 * value + 8] if value <= 0 else struct.pack(">Q", value)
            raw[l2 + 8 * index : l2 + 8 * index + 8] = new

    return change


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "made", BY_NAME["qcow2-v3"], patterned(4 * MIB + 512))


@pytest.mark.parametrize("name", [v.name for v in VARIANTS if v.name != "raw"])
def test_sound_images_are_sound(name: str, images: dict[str, Path]) -> None:
    assert tables(images[name]) == Checked(())


def test_every_damaged_entry_is_found_and_not_only_the_first(image: Path, tmp_path: Path) -> None:
    past, within = 1 << 40, 5 * CLUSTER + 512
    damaged = rewrite(image, tmp_path / "bad.qcow2", l2_entries({2: past, 9: within, 10: past + CLUSTER, 40: past}))
    found = tables(damaged)
    assert [each.offset for each in found.findings] == [n * CLUSTER for n in (2, 9, 10, 40)]
    assert all(each.image == damaged for each in found.findings)
    assert found.complete


def test_every_cluster_that_serves_twice_is_found(image: Path, tmp_path: Path) -> None:
    with open_disk(image) as disk:
        stored = [e for e in disk.extents() if e.stored is not None]
        clusters = [at // CLUSTER for e in stored for at in range(e.offset, e.end, CLUSTER)]
    again = [max(clusters) - number for number in (5, 2, 1)]
    changes = {twice: -once for once, twice in zip(clusters[:3], again, strict=True)}
    damaged = rewrite(image, tmp_path / "bad.qcow2", l2_entries(changes))
    found = tables(damaged)
    # and at the end their refcounts, which are for one use
    assert [each.offset for each in found.findings] == [*(n * CLUSTER for n in again), None]


def test_a_damaged_table_is_told_once_a_page_and_what_follows_is_still_looked_at(tmp_path: Path) -> None:
    image = tmp_path / "three.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(image), "2G")
    raw = bytearray(image.read_bytes().ljust(8 * CLUSTER, b"\0"))
    (l1,) = struct.unpack_from(">Q", raw, 40)
    # of four L2 tables the second lies past the end, the third is there and its last cluster is not
    struct.pack_into(">QQQ", raw, l1 + 8, 1 << 40, 6 * CLUSTER, 0)
    struct.pack_into(">Q", raw, 7 * CLUSTER - 8, 1 << 41)
    image.write_bytes(raw)
    started = time.process_time()
    found = tables(image)
    # tables are read by pages of 4096 entries, and this one has two
    assert [each.offset for each in found.findings][:3] == [512 * MIB, 768 * MIB, 3 * 512 * MIB - CLUSTER]
    # the table put behind the image has no refcount
    assert [each.offset for each in found.findings][3:] == [None]
    assert time.process_time() - started < 2


def test_findings_have_a_limit(tmp_path: Path) -> None:
    image = tmp_path / "many.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(image), "512M")
    raw = bytearray(image.read_bytes().ljust(6 * CLUSTER, b"\0"))
    (l1,) = struct.unpack_from(">Q", raw, 40)
    struct.pack_into(">Q", raw, l1, 5 * CLUSTER)
    for index in range(8192):
        struct.pack_into(">Q", raw, 5 * CLUSTER + 8 * index, (1 << 40) + 2 * index * CLUSTER)
    image.write_bytes(raw)
    found = tables(image)
    assert len(found.findings) == FINDINGS_KEPT
    assert not found.complete


def test_the_parents_findings_are_told_as_theirs(image: Path, tmp_path: Path) -> None:
    parent = rewrite(image, tmp_path / "parent.qcow2", l2_entries({7: 1 << 40}))
    child = tmp_path / "child.qcow2"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", parent.name, str(child), str(4 * MIB + 512))
    found = tables(child)
    assert [(each.image, each.offset) for each in found.findings] == [(parent, 7 * CLUSTER)]


def test_streams_that_do_not_inflate_are_found_by_reading_all_of_them(tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["vmdk-stream"], patterned(4 * MIB))
    with open_disk(image) as disk:
        packed = [extent for extent in disk.extents() if extent.compressed is not None]
    broken = [packed[1], packed[-1]]
    raw = bytearray(image.read_bytes())
    for extent in broken:
        assert extent.compressed is not None
        at = extent.compressed.offset
        raw[at : at + 40] = b"\xff" * 40
    image.write_bytes(raw)
    assert tables(image) == Checked(())
    assert [each.offset for each in data(image).findings] == [extent.offset for extent in broken]


def test_blocks_that_share_bytes_are_found_where_blocks_are_cut_into_sectors(tmp_path: Path) -> None:
    parent = Vhd(64 * 1024, {0: b"\xeb" * 512})
    parent.write(tmp_path / "parent.vhd")
    sectors = {number: bytes([number]) * 512 for number in range(0, 64, 3)}
    child = Vhd(64 * 1024, sectors, kind=DIFFERENCING, parent_id=parent.unique_id, parent_name="parent.vhd")
    path = child.write(tmp_path / "child.vhd")
    assert tables(path) == Checked(())
    raw = bytearray(path.read_bytes())
    (bat,) = struct.unpack_from(">Q", raw, 512 + 16)
    raw[bat + 4 : bat + 8] = raw[bat : bat + 4]
    path.write_bytes(raw)
    assert len(tables(path).findings) == 1


def test_a_damaged_second_copy_is_found_though_the_disk_reads_well(tmp_path: Path) -> None:
    vhd = make_image(tmp_path / "vhd", BY_NAME["vhd-dynamic"], patterned(MIB))
    vhdx = make_image(tmp_path / "vhdx", BY_NAME["vhdx-dynamic"], patterned(MIB))

    def spoiled(at: int) -> Callable[[bytearray], None]:
        def change(raw: bytearray) -> None:
            raw[at] ^= 0xFF

        return change

    assert len(tables(rewrite(vhd, tmp_path / "a.vhd", spoiled(100))).findings) == 1
    assert len(tables(rewrite(vhd, tmp_path / "b.vhd", spoiled(c_vhd.FOOTER_CHECKSUM_OFFSET))).findings) == 1
    end = vhd.stat().st_size - 512
    assert len(tables(rewrite(vhd, tmp_path / "c.vhd", spoiled(end + 100))).findings) == 1
    second = c_vhdx.REGION_TABLE_OFFSETS[1]
    assert len(tables(rewrite(vhdx, tmp_path / "a.vhdx", spoiled(second + 100))).findings) == 1
    differing = vhdx_structures(2000, b"x", (second,), c_vhdx.REGION_TABLE_BYTES)
    assert len(tables(rewrite(vhdx, tmp_path / "b.vhdx", differing)).findings) == 1


def test_what_is_not_stored_of_a_large_disk_costs_nothing(tmp_path: Path) -> None:
    image = tmp_path / "large.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(image), "63T")
    started = time.process_time()
    assert tables(image) == data(image) == Checked(())
    assert time.process_time() - started < 2
