"""VHDX: headers, regions, metadata, the table, the log, and damage to them."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from converters import c_vhdx, vhd
from converters.c_vhdx import KIB, MIB
from converters.image import open_disk
from p2v.core.errors import BadImage
from tests.converters.damage import patched, read_all, rewrite, truncated, vhdx_structures
from tests.converters.images import BY_NAME, Variant, make_image, patterned, qemu_img

HEADERS, REGIONS = c_vhdx.HEADER_OFFSETS, c_vhdx.REGION_TABLE_OFFSETS


def region(image: Path, guid: uuid.UUID) -> c_vhdx.Region:
    table = c_vhdx.unpack_region_table(image.read_bytes()[REGIONS[0] : REGIONS[0] + c_vhdx.REGION_TABLE_BYTES])
    assert table is not None
    return next(each for each in table if each.guid == guid)


def bat_at(image: Path) -> int:
    return region(image, c_vhdx.REGION_BAT).file_offset


def item_at(image: Path, item_id: uuid.UUID) -> int:
    begin = region(image, c_vhdx.REGION_METADATA).file_offset
    items = c_vhdx.unpack_metadata_table(image.read_bytes()[begin : begin + c_vhdx.METADATA_TABLE_BYTES])
    assert items is not None
    return begin + next(item.offset for item in items if item.item_id == item_id)


def test_crc32c_has_its_known_values() -> None:
    assert c_vhdx.crc32c(b"123456789") == 0xE3069283
    assert c_vhdx.crc32c(bytes(32)) == 0x8A9136AA


def test_identifiers_sector_sizes_and_creator_are_told(images: dict[str, Path]) -> None:
    with open_disk(images["vhdx-dynamic"]) as disk:
        facts = disk.facts
    second = vhd.independent_reader(images["vhdx-dynamic"])
    try:
        assert dict(facts.identifiers)["data write guid"] == second.get_identifier()
    finally:
        second.close()
    assert facts.logical_sector_size == 512
    assert facts.creator.startswith("QEMU")


def test_sector_bitmap_entries_between_chunks_are_stepped_over(tmp_path: Path) -> None:
    """With 256 MiB blocks a chunk has 16 of them: a disk of 4.5 GiB has a bitmap entry in its table."""
    variant = Variant("chunks", "vhdx", "vhdx", "block_size=256M")
    first, second = patterned(1 * MIB, 1), patterned(1 * MIB, 2)
    raw = tmp_path / "sparse.raw"
    with raw.open("wb") as file:
        file.truncate(4608 * MIB)
        file.write(first)
        file.seek(4100 * MIB)
        file.write(second)
    image = tmp_path / "chunks.vhdx"
    qemu_img("convert", "-f", "raw", "-O", "vhdx", "-o", variant.options, str(raw), str(image))
    with open_disk(image) as disk:
        assert disk.pread(1 * MIB, 0) == first
        assert disk.pread(1 * MIB, 4100 * MIB) == second
        data = [extent for extent in disk.extents() if not extent.zero]
    assert [(extent.offset, extent.length) for extent in data] == [(0, 256 * MIB), (4096 * MIB, 256 * MIB)]


def test_newer_of_two_headers_counts_and_one_may_be_damaged(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    image = images["vhdx-dynamic"]
    for damaged in HEADERS:
        with open_disk(patched(image, tmp_path / "x.vhdx", (damaged + 100, b"oops"))) as disk:
            assert disk.pread(len(content), 0) == content
    with pytest.raises(BadImage, match="checksum"):
        open_disk(patched(image, tmp_path / "x.vhdx", *((each + 100, b"oops") for each in HEADERS)))


def test_header_with_the_higher_sequence_number_counts(images: dict[str, Path], tmp_path: Path) -> None:
    guid = uuid.uuid4()
    higher = vhdx_structures(8, struct.pack("<Q", 1 << 40), HEADERS[:1], c_vhdx.HEADER_BYTES)
    named = vhdx_structures(32, guid.bytes_le, HEADERS[:1], c_vhdx.HEADER_BYTES)
    with open_disk(rewrite(images["vhdx-dynamic"], tmp_path / "x.vhdx", higher, named)) as disk:
        assert dict(disk.facts.identifiers)["data write guid"] == str(guid)


def test_second_region_table_serves_when_the_first_is_damaged(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    image = images["vhdx-dynamic"]
    with open_disk(patched(image, tmp_path / "x.vhdx", (REGIONS[0] + 40, b"oops"))) as disk:
        assert disk.pread(len(content), 0) == content
    with pytest.raises(BadImage, match="region table"):
        open_disk(patched(image, tmp_path / "x.vhdx", *((each + 40, b"oops") for each in REGIONS)))


@pytest.mark.parametrize("state", [0, 1, 2, 3])
def test_blocks_without_data_read_as_zero(state: int, images: dict[str, Path], tmp_path: Path) -> None:
    at = bat_at(images["vhdx-dynamic"])
    with open_disk(patched(images["vhdx-dynamic"], tmp_path / "x.vhdx", (at, struct.pack("<Q", state)))) as disk:
        assert disk.pread(MIB, 0) == bytes(MIB)
        assert next(disk.extents()).zero


@pytest.mark.parametrize("state", [4, 5, 7])
def test_states_a_standalone_disk_cannot_have_are_refused(state: int, images: dict[str, Path], tmp_path: Path) -> None:
    entry = struct.pack("<Q", 8 << 20 | state)
    image = patched(images["vhdx-dynamic"], tmp_path / "x.vhdx", (bat_at(images["vhdx-dynamic"]), entry))
    with open_disk(image) as disk, pytest.raises(BadImage, match=f"state {state}"):
        disk.pread(512, 0)


@pytest.mark.parametrize("megabytes", [1 << 40, (1 << 44) - 1, 5000])
def test_block_past_the_end_names_block_and_place(megabytes: int, images: dict[str, Path], tmp_path: Path) -> None:
    entry = struct.pack("<Q", megabytes << 20 | 6)
    image = patched(images["vhdx-dynamic"], tmp_path / "x.vhdx", (bat_at(images["vhdx-dynamic"]) + 8, entry))
    with open_disk(image) as disk, pytest.raises(BadImage) as caught:
        list(disk.extents())
    assert "block 1 " in caught.value.sentence()
    assert str(megabytes * MIB) in caught.value.sentence()


def test_blocks_over_tables_or_over_each_other_are_bad(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vhdx-dynamic"]
    at = bat_at(image)
    first = image.read_bytes()[at : at + 8]
    for entry in (struct.pack("<Q", 6), struct.pack("<Q", at // MIB << 20 | 6)):
        with open_disk(patched(image, tmp_path / "x.vhdx", (at, entry))) as disk, pytest.raises(BadImage):
            disk.pread(512, 0)
    with open_disk(patched(image, tmp_path / "y.vhdx", (at + 8, first))) as disk:
        with pytest.raises(BadImage, match="also serves"):
            list(disk.extents())


@pytest.mark.parametrize(
    ("item_id", "new"),
    [
        (c_vhdx.FILE_PARAMETERS, struct.pack("<I", 0)),
        (c_vhdx.FILE_PARAMETERS, struct.pack("<I", 3 * MIB)),
        (c_vhdx.FILE_PARAMETERS, struct.pack("<I", 1 << 31)),
        (c_vhdx.VIRTUAL_DISK_SIZE, struct.pack("<Q", 1 << 63)),
        (c_vhdx.VIRTUAL_DISK_SIZE, struct.pack("<Q", 0)),
        (c_vhdx.VIRTUAL_DISK_SIZE, struct.pack("<Q", 1000)),
        (c_vhdx.VIRTUAL_DISK_SIZE, struct.pack("<Q", 60 << 40)),
        (c_vhdx.LOGICAL_SECTOR_SIZE, struct.pack("<I", 0)),
        (c_vhdx.LOGICAL_SECTOR_SIZE, struct.pack("<I", 1 << 30)),
        (c_vhdx.PHYSICAL_SECTOR_SIZE, struct.pack("<I", 7)),
    ],
)
def test_impossible_parameters_are_refused(
    item_id: uuid.UUID, new: bytes, images: dict[str, Path], tmp_path: Path
) -> None:
    image = images["vhdx-dynamic"]
    with pytest.raises(BadImage):
        open_disk(patched(image, tmp_path / "x.vhdx", (item_at(image, item_id), new)))


def test_impossible_tables_of_contents_are_refused(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vhdx-dynamic"]
    metadata = region(image, c_vhdx.REGION_METADATA).file_offset
    for patch in ((metadata, b"METADATA"), (metadata + 10, b"\xff\xff"), (metadata + 32 + 16, b"\xff\xff\xff\xff")):
        with pytest.raises(BadImage):
            open_disk(patched(image, tmp_path / "x.vhdx", patch))
    for offset, new in ((8, b"\xff\xff\xff\xff"), (16 + 16, struct.pack("<Q", 1 << 62)), (16, bytes(16))):
        change = vhdx_structures(offset, new, REGIONS, c_vhdx.REGION_TABLE_BYTES)
        with pytest.raises(BadImage):
            open_disk(rewrite(image, tmp_path / "x.vhdx", change))


@pytest.mark.parametrize("size", [8, 600, 64 * KIB, 130 * KIB, 200 * KIB, 300 * KIB, MIB, 2 * MIB, 3 * MIB])
def test_image_cut_within_its_tables_is_refused_at_once(size: int, images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        open_disk(truncated(images["vhdx-dynamic"], tmp_path / "x.vhdx", size))


def test_image_cut_within_its_data_is_noticed_by_its_extents(images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vhdx-dynamic", "vhdx-fixed"):
        size = images[name].stat().st_size - 3 * MIB
        image = truncated(images[name], tmp_path / f"{name}{BY_NAME[name].suffix}", size)
        with open_disk(image) as disk, pytest.raises(BadImage, match=str(size)):
            list(disk.extents())


def test_sound_image_passes_what_the_damaged_ones_fail(tmp_path: Path, content: bytes) -> None:
    assert read_all(make_image(tmp_path / "a", BY_NAME["vhdx-dynamic"], content))
