"""qcow2 with an external data file: where it may be, what it holds, and damage."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from converters import c_qcow2
from converters.extents import invariant_broken
from converters.image import describe, open_disk
from converters.references import Lookup
from p2v.core.errors import BadImage, ForbiddenReference
from tests.converters.damage import patched
from tests.converters.images import BY_NAME, KIB, MIB, make_image, patterned, qemu_img, rebuilt
from tests.descriptors import descriptors

CLUSTER = 64 * KIB
SIZE = 2 * MIB + 512


def whole(image: Path, lookup: Lookup | None = None) -> bytes:
    with open_disk(image, lookup=lookup or Lookup()) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        by_extents = rebuilt(extents, disk)
        assert disk.pread(disk.virtual_size, 0) == by_extents
    return by_extents


def l2_table(image: Path) -> int:
    raw = image.read_bytes()
    header = c_qcow2.unpack_header(raw[:112])
    return int.from_bytes(raw[header.l1_table_offset :][:8], "big") & c_qcow2.L1E_OFFSET_MASK


@pytest.fixture(params=["qcow2-data-file", "qcow2-data-file-raw"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_image(tmp_path / "vm", BY_NAME[request.param], patterned(SIZE))


def test_data_comes_from_the_data_file(image: Path) -> None:
    assert whole(image) == patterned(SIZE)
    with open_disk(image) as disk:
        assert disk.files == (image, image.parent / "data-file.bin")
        stored = [extent.stored for extent in disk.extents() if extent.stored is not None]
        assert stored
        assert all(place.file == disk.files[1] for place in stored)
        assert "external data file" in disk.facts.variant
        assert disk.facts.notes == ()


def test_what_the_tables_leave_out_is_zero_though_the_data_file_has_bytes_there(tmp_path: Path) -> None:
    image = make_image(tmp_path, BY_NAME["qcow2-data-file"], patterned(SIZE))
    at = l2_table(image)
    for entry, extent_allocated in ((0, False), (c_qcow2.L2E_ZERO | c_qcow2.OFLAG_COPIED, True)):
        changed = patched(image, tmp_path / "x.qcow2", (at, struct.pack(">Q", entry)))
        qemu_img("convert", "-f", "qcow2", "-O", "raw", str(changed), str(tmp_path / "raw"))
        assert whole(changed) == (tmp_path / "raw").read_bytes() == bytes(CLUSTER) + patterned(SIZE)[CLUSTER:]
        with open_disk(changed) as disk:
            assert next(disk.extents()).allocated is extent_allocated


def test_the_first_cluster_stands_at_byte_0_where_bit_63_says_so(image: Path) -> None:
    at = l2_table(image)
    assert image.read_bytes()[at : at + 8] == struct.pack(">Q", c_qcow2.OFLAG_COPIED)
    with open_disk(image) as disk:
        assert disk.pread(512, 0) == patterned(SIZE)[:512]


def test_holes_of_the_data_file_are_holes(tmp_path: Path) -> None:
    image, held = tmp_path / "x.qcow2", tmp_path / "data.bin"
    options = f"data_file={held},data_file_raw=on,preallocation=metadata"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, str(image), "64M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 32M 4K", str(image)], check=True, capture_output=True)
    with open_disk(image) as disk:
        assert describe(disk).allocated_size < MIB
        assert disk.pread(4 * KIB, 32 * MIB) == b"\1" * 4 * KIB
    assert whole(image) == held.read_bytes()


def test_subclusters_in_a_data_file_over_a_backing_file(tmp_path: Path) -> None:
    base, image = tmp_path / "base.raw", tmp_path / "x.qcow2"
    base.write_bytes(patterned(SIZE))
    options = f"extended_l2=on,data_file={tmp_path}/data.bin"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, "-b", str(base), "-F", "raw", str(image), str(SIZE))
    commands = ["-c", "write -P 1 2K 2K", "-c", "write -z 8K 2K", "-c", "write -P 3 200K 64K"]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, str(image)], check=True, capture_output=True)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(image), str(tmp_path / "raw"))
    assert whole(image) == (tmp_path / "raw").read_bytes() != base.read_bytes()


def test_a_data_file_that_moved_is_found_beside_the_image_or_where_the_user_says(image: Path, tmp_path: Path) -> None:
    moved = image.parent.rename(tmp_path / "moved")
    assert whole(moved / image.name) == patterned(SIZE)
    other = tmp_path / "other"
    other.mkdir()
    (moved / "data-file.bin").rename(other / "data-file.bin")
    with pytest.raises(BadImage):
        open_disk(moved / image.name)
    assert whole(moved / image.name, Lookup(folders=(other,))) == patterned(SIZE)


def test_a_data_file_elsewhere_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    image = tmp_path / "vm" / "x.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data.bin", str(image), "4M")
    before = descriptors()
    with pytest.raises(ForbiddenReference, match=r"data\.bin"):
        open_disk(image)
    (tmp_path / "vm" / "data.bin").symlink_to(tmp_path / "data.bin")
    with pytest.raises(ForbiddenReference):
        open_disk(image)
    assert not descriptors() - before
    with open_disk(image, lookup=Lookup(allowed=(tmp_path,))) as disk:
        assert disk.pread(512, 0) == bytes(512)


def test_an_image_that_does_not_name_its_data_file_is_bad(images: dict[str, Path], tmp_path: Path) -> None:
    bit = struct.pack(">Q", c_qcow2.INCOMPAT_DATA_FILE)
    with pytest.raises(BadImage, match="does not name it"):
        open_disk(patched(images["qcow2-v3"], tmp_path / "x.qcow2", (72, bit)))


def test_a_failed_parent_closes_the_data_file(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    words = ["-o", f"data_file={tmp_path}/data.bin", "-u", "-b", "gone.raw", "-F", "raw"]
    qemu_img("create", "-q", "-f", "qcow2", *words, str(image), "4M")
    before = descriptors()
    with pytest.raises(BadImage):
        open_disk(image)
    assert not descriptors() - before


@pytest.mark.parametrize(
    ("number", "entry"),
    [(1, 2 * CLUSTER), (1, c_qcow2.OFLAG_COPIED), (0, CLUSTER), (0, 512), (1, c_qcow2.compressed_entry(CLUSTER, 900, 16))],
)
def test_a_cluster_that_is_not_in_its_own_place_is_bad(number: int, entry: int, image: Path) -> None:
    at = l2_table(image) + 8 * number
    damaged = patched(image, image.with_name("y.qcow2"), (at, struct.pack(">Q", entry)))
    with open_disk(damaged) as disk, pytest.raises(BadImage, match=f"cluster {number} "):
        disk.pread(512, number * CLUSTER)
    with open_disk(damaged) as disk, pytest.raises(BadImage):
        list(disk.extents())


def test_a_data_file_cut_short_never_reads_as_whole(image: Path) -> None:
    os.truncate(image.parent / "data-file.bin", SIZE // 2)
    with pytest.raises(BadImage, match=r"data-file\.bin.*past the end"):
        whole(image)
