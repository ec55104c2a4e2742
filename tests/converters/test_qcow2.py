"""qcow2: what is refused, and damage."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from converters import c_qcow2
from converters.c_qcow2 import Qcow2Header
from converters.image import open_disk
from p2v.core.errors import BadImage, ForbiddenReference, ParentMissing, UnsupportedImage
from tests.converters.damage import patched, read_all, truncated
from tests.converters.images import BY_NAME, KIB, MIB, qemu_img, read_by_qemu, rebuilt

FIELDS = {
    "backing_file_offset": (8, ">Q"),
    "backing_file_size": (16, ">I"),
    "cluster_bits": (20, ">I"),
    "size": (24, ">Q"),
    "crypt_method": (32, ">I"),
    "l1_size": (36, ">I"),
    "l1_table_offset": (40, ">Q"),
    "version": (4, ">I"),
    "incompatible_features": (72, ">Q"),
    "header_length": (100, ">I"),
}


def header_of(image: Path) -> Qcow2Header:
    return c_qcow2.unpack_header(image.read_bytes()[:112])


def with_fields(image: Path, target: Path, **fields: int) -> Path:
    return patched(image, target, *((FIELDS[n][0], struct.pack(FIELDS[n][1], v)) for n, v in fields.items()))


def first_l2_entry(image: Path) -> int:
    header = header_of(image)
    entry: int = struct.unpack_from(">Q", image.read_bytes(), header.l1_table_offset)[0]
    return entry & c_qcow2.L1E_OFFSET_MASK


def test_header_survives_packing() -> None:
    header = Qcow2Header(3, 0, 0, 16, 1 << 40, 0, 2048, 0x30000, 0x10000, 1, 0, 0, 9, 1, 2, 4, 112, 1)
    assert c_qcow2.unpack_header(c_qcow2.pack_header(header)) == header
    old = replace(header, version=2, incompatible_features=0, compatible_features=0, autoclear_features=0)
    old = replace(old, header_length=72, compression_type=0)
    assert len(c_qcow2.pack_header(old)) == 72
    assert c_qcow2.unpack_header(c_qcow2.pack_header(old)) == old


@pytest.mark.parametrize("cluster_bits", [9, 12, 16, 21])
@pytest.mark.parametrize(("offset", "length"), [(65536, 1), (65536, 512), (65537, 511), (65537, 512), (99999, 400)])
def test_compressed_entry_covers_its_stream(cluster_bits: int, offset: int, length: int) -> None:
    entry = c_qcow2.compressed_entry(offset, length, cluster_bits)
    begin, stored = c_qcow2.compressed_range(entry, cluster_bits)
    assert begin == offset
    assert length <= stored < length + 512


def test_zero_cluster_with_a_place_is_zero_and_allocated(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["qcow2-v3"]
    at = first_l2_entry(image)
    entry = struct.unpack_from(">Q", image.read_bytes(), at)[0] | c_qcow2.L2E_ZERO
    with open_disk(patched(image, tmp_path / "x.qcow2", (at, struct.pack(">Q", entry)))) as disk:
        extent = next(disk.extents())
        assert (extent.zero, extent.allocated, extent.length) == (True, True, 64 * KIB)
        assert disk.pread(64 * KIB, 0) == bytes(64 * KIB)


def test_dirty_image_is_read_and_says_so(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    image = with_fields(images["qcow2-v3"], tmp_path / "x.qcow2", incompatible_features=c_qcow2.INCOMPAT_DIRTY)
    with open_disk(image) as disk:
        assert disk.facts.dirty == ("dirty refcounts",)
        assert disk.pread(len(content), 0) == content


def test_corrupt_bit_is_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    image = with_fields(images["qcow2-v3"], tmp_path / "x.qcow2", incompatible_features=c_qcow2.INCOMPAT_CORRUPT)
    with pytest.raises(BadImage, match="corrupt") as caught:
        open_disk(image)
    assert not isinstance(caught.value, UnsupportedImage)


def test_unknown_features_are_unsupported(images: dict[str, Path], tmp_path: Path) -> None:
    for fields in ({"incompatible_features": 1 << 40}, {"version": 4}, {"crypt_method": 9}):
        with pytest.raises(UnsupportedImage):
            open_disk(with_fields(images["qcow2-v3"], tmp_path / "x.qcow2", **fields))


@pytest.mark.parametrize(
    ("options", "word"),
    [("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "LUKS"), ("encrypt.format=aes,encrypt.key-secret=s", "AES")],
)
def test_encryption_is_refused_by_its_name(options: str, word: str, tmp_path: Path) -> None:
    image = str(tmp_path / "x.qcow2")
    words = ["create", "-q", "--object", "secret,id=s,data=abc", "-f", "qcow2", "-o", options, image, "4M"]
    # making a LUKS header, QEMU times itself, and gives up ("Unable to get accurate CPU usage") where that is too coarse
    for _ in range(30):
        if subprocess.run(["qemu-img", *words], capture_output=True, check=False, timeout=60).returncode == 0:
            break
    with pytest.raises(UnsupportedImage, match=f"encrypted .{word}"):
        open_disk(Path(image))


def test_backing_file_must_be_there_and_inside_the_images_folder(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    for name, expected in (("base.qcow2", ParentMissing), ("/etc/passwd", ForbiddenReference),
                           ("../base.qcow2", ForbiddenReference)):  # fmt: skip
        image = folder / "child.qcow2"
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", name, str(image), "4M")
        with pytest.raises(expected, match=r"base.qcow2|passwd"):
            open_disk(image)


@pytest.mark.parametrize("name", [b"json:{}", b"nbd://host/x", b"", b"a\0b"])
def test_backing_file_that_is_no_plain_name_is_forbidden(name: bytes, images: dict[str, Path], tmp_path: Path) -> None:
    image = patched(images["qcow2-v3"], tmp_path / "x.qcow2", (1024, name))
    with pytest.raises(ForbiddenReference):
        open_disk(with_fields(image, tmp_path / "y.qcow2", backing_file_offset=1024, backing_file_size=len(name)))


def test_snapshots_are_left_behind_with_a_note(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    image.write_bytes(images["qcow2-v3"].read_bytes())
    qemu_img("snapshot", "-c", "before", str(image))
    with open_disk(image) as disk:
        assert disk.facts.notes
        assert disk.pread(len(content), 0) == content


def test_dirty_bitmaps_are_left_behind_with_a_note(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    image.write_bytes(images["qcow2-v3"].read_bytes())
    qemu_img("bitmap", "--add", "-f", "qcow2", str(image), "daily")
    with open_disk(image) as disk:
        assert any("1 dirty bitmap" in note for note in disk.facts.notes)
        assert disk.pread(len(content), 0) == content


def test_an_extension_longer_than_the_headers_cluster_is_bad(images: dict[str, Path], tmp_path: Path) -> None:
    at = header_of(images["qcow2-v3"]).header_length
    for length in (0xFFFFFFFF, 64 * KIB - at - 7):
        extension = struct.pack(">II", c_qcow2.EXT_BACKING_FORMAT, length)
        with pytest.raises(BadImage, match="extension"):
            open_disk(patched(images["qcow2-v3"], tmp_path / "x.qcow2", (at, extension)))


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster_bits": 0},
        {"cluster_bits": 8},
        {"cluster_bits": 22},
        {"cluster_bits": 0xFFFFFFFF},
        {"size": 1 << 63},
        {"size": (1 << 62) + 512},
        {"size": 1 << 50},
        {"size": 777},
        {"size": 0},
        {"l1_size": 0},
        {"l1_size": 0xFFFFFFFF},
        {"l1_table_offset": 0},
        {"l1_table_offset": 12345},
        {"l1_table_offset": 1 << 62},
        {"header_length": 8},
        {"header_length": 0xFFFFFFF0},
        {"backing_file_offset": 512, "backing_file_size": 0xFFFFFFFF},
        {"backing_file_offset": 1 << 62, "backing_file_size": 10},
    ],
)
def test_impossible_headers_are_refused(fields: dict[str, int], images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        open_disk(with_fields(images["qcow2-v3"], tmp_path / "x.qcow2", **fields))


@pytest.mark.parametrize("entry", [1 << 50, 0x30200, (1 << 55) | (1 << 63)])
def test_tables_and_clusters_at_impossible_places_are_bad(entry: int, images: dict[str, Path], tmp_path: Path) -> None:
    image = images["qcow2-v3"]
    for at in (header_of(image).l1_table_offset, first_l2_entry(image)):
        damaged = patched(image, tmp_path / "x.qcow2", (at, struct.pack(">Q", entry)))
        with open_disk(damaged) as disk, pytest.raises(BadImage):
            disk.pread(512, 0)
        with open_disk(damaged) as disk, pytest.raises(BadImage):
            list(disk.extents())


def test_two_clusters_at_one_place_are_bad(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["qcow2-v3"]
    at = first_l2_entry(image)
    entry = image.read_bytes()[at : at + 8]
    with open_disk(patched(image, tmp_path / "x.qcow2", (at + 8, entry))) as disk:
        with pytest.raises(BadImage, match="also serves"):
            list(disk.extents())


def test_one_l2_table_for_all_l1_entries_is_bad(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(image), "2G")
    with image.open("r+b") as file:
        file.truncate(MIB)
    entry = struct.pack(">Q", 512 * KIB)
    with open_disk(patched(image, tmp_path / "y.qcow2", (header_of(image).l1_table_offset, entry * 4))) as disk:
        with pytest.raises(BadImage, match="same L2 table"):
            list(disk.extents())


def test_damaged_compressed_clusters_are_bad_when_they_are_read(images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("qcow2-deflate", "qcow2-zstd"):
        with open_disk(images[name]) as disk:
            where = next(extent.compressed for extent in disk.extents() if extent.compressed is not None)
        with open_disk(patched(images[name], tmp_path / "x.qcow2", (where.offset, b"\xff" * 64))) as disk:
            with pytest.raises(BadImage, match=r"damaged|holds"):
                disk.pread(1 * MIB, 0)


def test_compressed_cluster_past_the_end_is_bad(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["qcow2-deflate"]
    entry = c_qcow2.compressed_entry(1 << 40, 900, 16)
    with open_disk(patched(image, tmp_path / "x.qcow2", (first_l2_entry(image), struct.pack(">Q", entry)))) as disk:
        with pytest.raises(BadImage, match="compressed cluster 0"):
            disk.pread(512, 0)


def test_cluster_the_file_ends_in_reads_as_in_qemu_and_is_told_of(images: dict[str, Path], tmp_path: Path) -> None:
    image = truncated(images["qcow2-v3"], tmp_path / "x.qcow2", images["qcow2-v3"].stat().st_size - 63 * KIB)
    by_qemu = read_by_qemu(image, BY_NAME["qcow2-v3"], tmp_path)
    with open_disk(image) as disk:
        assert disk.pread(disk.virtual_size, 0) == by_qemu
        assert rebuilt(disk.extents(), disk) == by_qemu
        for offset in range(disk.virtual_size // KIB * KIB - 256 * KIB, disk.virtual_size, 1536):
            assert disk.pread(700, offset) == by_qemu[offset : offset + 700]
        assert any(str(image.stat().st_size) in note for note in disk.facts.notes)
    with open_disk(images["qcow2-v3"]) as disk:
        assert disk.pread(disk.virtual_size, 0) != by_qemu


@pytest.mark.parametrize("name", ["qcow2-v3", "qcow2-small-clusters", "qcow2-deflate", "qcow2-zstd"])
def test_images_cut_short_never_read_as_whole(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    whole = images[name].stat().st_size
    for size in (4, 50, 90, 600, 70000, 200_000, whole // 2, whole - 140 * KIB):
        with pytest.raises(BadImage):
            read_all(truncated(images[name], tmp_path / "x.qcow2", size))
