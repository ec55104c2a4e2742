"""VHD: sizes by creator, footers, tables, and damage to them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from converters import vhd
from converters.image import describe, open_disk, probe
from p2v.core.errors import AmbiguousFormat, BadImage
from tests.converters.damage import patched, read_all, rewrite, truncated, vhd_dynamic_header, vhd_footer
from tests.converters.images import MIB

CREATOR, CURRENT_SIZE, GEOMETRY, DISK_TYPE, SAVED_STATE = 28, 48, 56, 60, 84
BAT_AT = 1536


def test_size_is_the_geometry_for_virtual_pc_and_the_current_size_for_hyper_v(
    images: dict[str, Path], tmp_path: Path
) -> None:
    small = struct.pack(">HBB", 100, 4, 17)
    for creator, expected in ((b"vpc ", 100 * 4 * 17 * 512), (b"vs  ", 100 * 4 * 17 * 512), (b"win ", None)):
        image = rewrite(
            images["vhd-fixed"], tmp_path / "x.vhd", vhd_footer(CREATOR, creator), vhd_footer(GEOMETRY, small)
        )
        with open_disk(image) as disk:
            current = image.stat().st_size - 512
            assert disk.virtual_size == (expected or current)
            assert bool(disk.facts.notes) == (expected is not None)


def test_geometry_larger_than_the_current_size_or_at_its_limit_does_not_count(
    images: dict[str, Path], tmp_path: Path
) -> None:
    for geometry in (struct.pack(">HBB", 60000, 16, 63), struct.pack(">HBB", 65535, 16, 255), bytes(4)):
        image = rewrite(images["vhd-fixed"], tmp_path / "x.vhd", vhd_footer(GEOMETRY, geometry))
        with open_disk(image) as disk:
            assert disk.virtual_size == image.stat().st_size - 512


def test_identifier_and_creator_are_told_as_libvhdi_has_them(images: dict[str, Path]) -> None:
    with open_disk(images["vhd-dynamic"]) as disk:
        facts = disk.facts
    second = vhd.independent_reader(images["vhd-dynamic"])
    try:
        assert dict(facts.identifiers)["uuid"] == second.get_identifier()
    finally:
        second.close()
    assert (facts.creator, facts.variant) == ("qemu", "dynamic")


def test_footer_of_511_bytes_is_read(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    for name in ("vhd-fixed", "vhd-dynamic"):
        image = truncated(images[name], tmp_path / f"{name}.vhd", images[name].stat().st_size - 1)
        with open_disk(image) as disk:
            assert disk.pread(len(content), 0) == content


def test_copy_of_the_footer_serves_when_the_footer_is_damaged_or_gone(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    image = images["vhd-dynamic"]
    damaged = patched(image, tmp_path / "damaged.vhd", (-400, b"oops"))
    gone = truncated(image, tmp_path / "gone.vhd", image.stat().st_size - 512)
    for each in (damaged, gone):
        with open_disk(each) as disk:
            assert disk.facts.dirty == ("footer damaged",)
            assert disk.pread(len(content), 0) == content


@pytest.mark.parametrize("at", [0, 100])
def test_a_damaged_copy_of_the_footer_is_worth_a_note_and_changes_nothing_else(
    at: int, images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    with open_disk(images["vhd-dynamic"]) as sound:
        facts = sound.facts
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (at, b"oops"))
    with open_disk(image, "vhd") as disk:
        assert len(disk.facts.notes) == len(facts.notes) + 1
        assert (disk.facts.identifiers, disk.facts.dirty) == (facts.identifiers, ())
        assert disk.pread(len(content), 0) == content


def test_both_footers_damaged_is_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (-400, b"oops"), (100, b"oops"))
    with pytest.raises(BadImage, match="checksum"):
        open_disk(image)
    fixed = patched(images["vhd-fixed"], tmp_path / "y.vhd", (-400, b"oops"))
    with pytest.raises(BadImage, match="checksum"):
        open_disk(fixed)


def test_dynamic_disk_cut_short_is_refused_when_it_is_opened(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vhd-dynamic"]
    for size in (511, 512, 1000, 1536, 1540, 2048, 4 * MIB, image.stat().st_size - 3 * MIB):
        with pytest.raises(BadImage) as caught:
            open_disk(truncated(image, tmp_path / "x.vhd", size))
        assert size < 600 or str(size) in str(caught.value)


def test_fixed_disk_cut_short_does_not_pass_for_a_raw_disk(images: dict[str, Path], tmp_path: Path) -> None:
    image = truncated(images["vhd-fixed"], tmp_path / "x.vhd", 5 * MIB)
    with pytest.raises(AmbiguousFormat):
        open_disk(image)
    with open_disk(image, "raw") as disk:
        assert disk.virtual_size == 5 * MIB


def test_fixed_disk_with_bytes_missing_in_the_middle_is_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    def cut(raw: bytearray) -> None:
        del raw[2 * MIB : 3 * MIB]

    with pytest.raises(BadImage, match="stand before it"):
        open_disk(rewrite(images["vhd-fixed"], tmp_path / "x.vhd", cut))


def test_block_past_the_end_names_block_and_places(images: dict[str, Path], tmp_path: Path) -> None:
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (BAT_AT, struct.pack(">I", 9_000_000)))
    with open_disk(image) as disk, pytest.raises(BadImage) as caught:
        disk.pread(512, 0)
    for fact in ("block 0", str(9_000_000 * 512 + 512), str(image.stat().st_size)):
        assert fact in caught.value.sentence()
    assert caught.value.hint()
    with open_disk(image) as disk, pytest.raises(BadImage):
        list(disk.extents())


@pytest.mark.parametrize("sector", [0, 1, 3, 2])
def test_block_over_the_tables_is_a_bad_image(sector: int, images: dict[str, Path], tmp_path: Path) -> None:
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (BAT_AT, struct.pack(">I", sector)))
    with open_disk(image) as disk, pytest.raises(BadImage, match="own tables"):
        disk.pread(512, 0)


def test_two_blocks_at_one_place_are_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    raw = images["vhd-dynamic"].read_bytes()
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (BAT_AT + 4, raw[BAT_AT : BAT_AT + 4]))
    with open_disk(image) as disk, pytest.raises(BadImage, match="also serves"):
        list(disk.extents())


def test_clear_bits_of_a_dynamic_disks_bitmap_do_not_hide_data(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    first = struct.unpack_from(">I", images["vhd-dynamic"].read_bytes(), BAT_AT)[0] * 512
    image = patched(images["vhd-dynamic"], tmp_path / "x.vhd", (first, bytes(512)))
    with open_disk(image) as disk:
        assert disk.pread(len(content), 0) == content


@pytest.mark.parametrize("size", [0, 1 << 63, (1 << 64) - 512, 12345, 1 << 45])
def test_absurd_sizes_are_refused(size: int, images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vhd-dynamic", "vhd-fixed"):
        image = rewrite(images[name], tmp_path / f"{name}.vhd", vhd_footer(CURRENT_SIZE, struct.pack(">Q", size)))
        with pytest.raises(BadImage):
            open_disk(image)


@pytest.mark.parametrize(
    ("offset", "new"),
    [
        (32, struct.pack(">I", 0)),  # block size
        (32, struct.pack(">I", 3 * MIB)),
        (32, struct.pack(">I", 1 << 31)),
        (28, struct.pack(">I", 2)),  # table entries
        (28, struct.pack(">I", 0xFFFFFFFF)),
        (16, struct.pack(">Q", 1 << 63)),  # table offset
        (24, struct.pack(">I", 0x00070000)),  # version
        (0, b"cxwrongs"),
    ],
)
def test_impossible_dynamic_headers_are_refused(
    offset: int, new: bytes, images: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(BadImage):
        open_disk(rewrite(images["vhd-dynamic"], tmp_path / "x.vhd", vhd_dynamic_header(offset, new)))


def test_dynamic_header_with_a_wrong_checksum_is_refused(images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="checksum"):
        open_disk(patched(images["vhd-dynamic"], tmp_path / "x.vhd", (512 + 600, b"oops")))


def test_unknown_disk_type_is_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="type 9"):
        open_disk(rewrite(images["vhd-fixed"], tmp_path / "x.vhd", vhd_footer(DISK_TYPE, struct.pack(">I", 9))))


def test_saved_state_is_a_sign_of_dirt(images: dict[str, Path], tmp_path: Path) -> None:
    image = rewrite(images["vhd-fixed"], tmp_path / "x.vhd", vhd_footer(SAVED_STATE, b"\1"))
    with open_disk(image) as disk:
        assert describe(disk).dirty == ("saved state",)


def test_fixed_and_dynamic_are_told_apart_by_their_ends(images: dict[str, Path]) -> None:
    assert (probe(images["vhd-fixed"]).format, probe(images["vhd-fixed"]).variant) == ("vhd", "fixed")
    assert (probe(images["vhd-dynamic"]).format, probe(images["vhd-dynamic"]).variant) == ("vhd", "dynamic")


def test_sound_image_passes_what_the_damaged_ones_fail(images: dict[str, Path], tmp_path: Path) -> None:
    assert read_all(rewrite(images["vhd-dynamic"], tmp_path / "x.vhd", vhd_footer(CREATOR, b"qemu")))
