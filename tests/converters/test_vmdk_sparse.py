"""Hosted sparse extents and streams: several tables, odd sizes, redundant directories, footers, damage."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from converters import vmdk
from converters.extents import data
from converters.image import describe, open_disk
from converters.vmdk_sparse import GrainOccupancy
from p2v.core.errors import BadImage, UnsupportedImage
from tests.converters import vmdk_writer as writer
from tests.converters.damage import patched, read_all, truncated
from tests.converters.images import patterned, qemu_img, rebuilt

SECTOR = 512
KIB = 1024
# Where fields of the sparse extent header stand.
VERSION, FLAGS, CAPACITY, GRAIN, DESCRIPTOR_AT, GTES, RGD, GD = 4, 8, 12, 20, 28, 44, 48, 56


def text_for(capacity: int, create_type: str = "monolithicSparse") -> str:
    return writer.descriptor(f'RW {capacity} SPARSE "disk.vmdk"', create_type=create_type)


def sparse_disk(
    folder: Path, content: bytes, *, grain_sectors: int = 8, gtes: int = 16, redundant: bool = True
) -> Path:
    """A one-file disk of many small grain tables."""
    capacity = len(content) // SECTOR
    grains = writer.grains_of(content, grain_sectors)
    raw = writer.sparse(
        grains, capacity, grain_sectors=grain_sectors, gtes=gtes, text=text_for(capacity), redundant=redundant
    )
    return writer.put(folder, "disk.vmdk", raw)


def stream_disk(
    folder: Path, content: bytes, *, version: int = 3, deflate: Callable[[bytes], bytes] = zlib.compress
) -> Path:
    """A stream as ovftool writes it."""
    capacity = len(content) // SECTOR
    text = text_for(capacity, "streamOptimized")
    raw = writer.stream(writer.grains_of(content, 128), capacity, text=text, version=version, deflate=deflate)
    return writer.put(folder, "disk.vmdk", raw)


def whole(image: Path) -> bytes:
    with open_disk(image) as disk:
        describe(disk)
        by_extents = rebuilt(disk.extents(), disk)
        assert disk.pread(disk.virtual_size + 1, 0) == by_extents
    return by_extents


def field(image: Path, offset: int) -> int:
    value: int = struct.unpack_from("<Q", image.read_bytes(), offset)[0]
    return value


def table_at(image: Path, directory: int, number: int) -> int:
    """Byte where a grain table begins, by the directory the header names in its field ``directory``."""
    at: int = struct.unpack_from("<I", image.read_bytes(), field(image, directory) * SECTOR + 4 * number)[0]
    return at * SECTOR


def by_qemu(image: Path, folder: Path) -> bytes:
    target = folder / "by-qemu"
    qemu_img("convert", "-f", "vmdk", "-O", "raw", str(image), str(target))
    return target.read_bytes()


def by_libvmdk(image: Path) -> bytes:
    second = vmdk.independent_reader(image)
    try:
        found: bytes = second.read_buffer_at_offset(second.get_media_size(), 0)
        return found
    finally:
        second.close()


@pytest.mark.parametrize(
    ("grain_sectors", "gtes", "sectors"),
    [(8, 16, 5001), (16, 512, 20_001), (128, 512, 70_003), (128, 16, 6_143), (64, 32, 1)],
)
def test_any_size_of_grains_and_tables_reads_as_in_qemu_and_libvmdk(
    grain_sectors: int, gtes: int, sectors: int, tmp_path: Path
) -> None:
    content = patterned(sectors * SECTOR, sectors)
    image = sparse_disk(tmp_path, content, grain_sectors=grain_sectors, gtes=gtes)
    assert whole(image) == content
    assert by_qemu(image, tmp_path) == content
    # libvmdk refuses others.
    if grain_sectors > 8 and gtes == 512:
        assert by_libvmdk(image) == content


def test_a_file_may_end_with_the_disk_within_its_last_grain(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(2501 * SECTOR)
    image = sparse_disk(tmp_path, content)
    short = truncated(image, tmp_path / "short.vmdk", image.stat().st_size - 3 * SECTOR)
    assert whole(short) == content
    with pytest.raises(BadImage, match="grain 312 "):
        whole(truncated(image, tmp_path / "cut.vmdk", image.stat().st_size - 4 * SECTOR))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_one_to_three_are_read(version: int, tmp_path: Path) -> None:
    content = patterned(3001 * SECTOR)
    capacity = len(content) // SECTOR
    raw = writer.sparse(writer.grains_of(content, 128), capacity, version=version, text=text_for(capacity))
    assert whole(writer.put(tmp_path, "disk.vmdk", raw)) == content
    assert whole(stream_disk(tmp_path, content, version=version)) == content
    with pytest.raises(UnsupportedImage, match="version 4"):
        open_disk(patched(tmp_path / "disk.vmdk", tmp_path / "x.vmdk", (VERSION, b"\4")))


def test_changed_block_tracking_is_noted(tmp_path: Path) -> None:
    text = writer.descriptor('RW 8 ZERO ""', create_type="vmfs", more='changeTrackPath="disk-ctk.vmdk"\n')
    with open_disk(writer.put(tmp_path, "disk.vmdk", text)) as disk:
        assert any("disk-ctk.vmdk" in note for note in disk.facts.notes)


def test_an_unclean_shutdown_is_told(tmp_path: Path) -> None:
    writer.put(tmp_path, "one.vmdk", writer.sparse({}, 100, unclean=True))
    writer.put(tmp_path, "two.vmdk", writer.cowd({}, 100, unclean=True))
    writer.put(tmp_path, "three.vmdk", writer.sparse({}, 100))
    text = writer.descriptor(
        'RW 100 SPARSE "one.vmdk"', 'RW 100 VMFSSPARSE "two.vmdk"', 'RW 100 SPARSE "three.vmdk"', create_type="custom"
    )
    with open_disk(writer.put(tmp_path, "disk.vmdk", text)) as disk:
        assert disk.facts.dirty == ("unclean shutdown (one.vmdk)", "unclean shutdown (two.vmdk)")
    raw = writer.sparse({}, 100, unclean=True, text=text_for(100))
    with open_disk(writer.put(tmp_path, "single.vmdk", raw)) as disk:
        assert disk.facts.dirty == ("unclean shutdown",)


# Redundant grain directory.


@pytest.mark.parametrize("damage", ["directory in the header", "no directory", "directory's entry", "table's entry"])
def test_the_redundant_directory_is_read_where_the_primary_one_leads_nowhere(damage: str, tmp_path: Path) -> None:
    content = patterned(5001 * SECTOR, 2)
    image = sparse_disk(tmp_path, content)
    far = struct.pack("<I", 0xFFFFFF00)
    patch = {
        "directory in the header": (GD, struct.pack("<Q", 1 << 50)),
        "no directory": (GD, bytes(8)),
        "directory's entry": (field(image, GD) * SECTOR + 8, far),
        "table's entry": (table_at(image, GD, 3) + 20, far),
    }[damage]
    damaged = patched(image, tmp_path / "damaged.vmdk", patch)
    with open_disk(damaged) as disk:
        assert any("redundant" in note for note in disk.facts.notes)
        assert disk.pread(len(content), 0) == content
    not_valid = patched(damaged, tmp_path / "not-valid.vmdk", (FLAGS, b"\5"))
    with pytest.raises(BadImage, match=r"directory|grain"):
        whole(not_valid)
    # Where both are damaged nothing is made up.
    both = [(field(image, RGD) * SECTOR + 8, far)]
    with pytest.raises(BadImage, match=r"directory|grain"):
        whole(patched(damaged, tmp_path / "both.vmdk", *both))


def test_a_sound_disk_uses_its_primary_directory_without_a_note(tmp_path: Path) -> None:
    content = patterned(5001 * SECTOR, 2)
    image = sparse_disk(tmp_path, content)
    damaged = patched(image, tmp_path / "x.vmdk", (field(image, RGD) * SECTOR, b"\xff" * 4))
    with open_disk(damaged) as disk:
        assert disk.facts.notes == ()
        assert disk.pread(len(content), 0) == content


# Streams.


def test_a_stream_as_ovftool_writes_it_reads_as_in_qemu_and_libvmdk(tmp_path: Path) -> None:
    content = patterned(70_003 * SECTOR, 4)
    image = stream_disk(tmp_path, content)
    assert whole(image) == content
    assert by_qemu(image, tmp_path) == content
    assert by_libvmdk(image) == content
    with open_disk(image) as disk:
        assert disk.facts.variant == "streamOptimized"


@pytest.mark.parametrize("missing", [1, 512, 1024, 1536, 2000, 100_000])
def test_a_cut_stream_says_that_its_footer_is_missing(missing: int, tmp_path: Path) -> None:
    content = patterned(3001 * SECTOR, 4)
    image = stream_disk(tmp_path, content)
    size = image.stat().st_size
    cut = truncated(image, tmp_path / "cut.vmdk", size - missing)
    if missing <= 512:
        # Only the end marker is gone, which is zeroes.
        assert whole(cut) == content
        return
    with pytest.raises(BadImage, match="footer") as caught:
        open_disk(cut)
    assert str(size - missing) in str(caught.value)
    assert "again" in caught.value.hint()


def test_a_stream_padded_with_zeroes_is_read_with_a_note(tmp_path: Path) -> None:
    content = patterned(3001 * SECTOR, 4)
    image = stream_disk(tmp_path, content)
    writer.put(tmp_path, "disk.vmdk", image.read_bytes() + bytes(10_000))
    with open_disk(image) as disk:
        assert any("footer" in note for note in disk.facts.notes)
        assert disk.pread(len(content), 0) == content


@pytest.mark.parametrize("at", [CAPACITY, GRAIN, GTES])
def test_a_footer_that_contradicts_the_header_is_refused(at: int, tmp_path: Path) -> None:
    image = stream_disk(tmp_path, patterned(3001 * SECTOR))
    with pytest.raises(BadImage, match="footer"):
        open_disk(patched(image, tmp_path / "x.vmdk", (-1024 + at, b"\x40")))


def test_a_footer_in_place_of_something_else_is_refused(tmp_path: Path) -> None:
    image = stream_disk(tmp_path, patterned(3001 * SECTOR))
    for at, new in ((-1024, b"XXXX"), (-1536 + 12, b"\2"), (-1024 + GD, bytes(8)), (-1024 + GD, b"\xff" * 8)):
        with pytest.raises(BadImage):
            open_disk(patched(image, tmp_path / "x.vmdk", (at, new)))


def test_a_grain_that_inflates_to_more_than_a_grain_is_refused(tmp_path: Path) -> None:
    content = b"\1" * (128 * SECTOR)
    bomb = stream_disk(tmp_path, content, deflate=lambda grain: zlib.compress(grain * 1000, 9))
    with open_disk(bomb) as disk, pytest.raises(BadImage, match="65536"):
        disk.pread(1, 0)


def test_a_grain_that_inflates_to_less_than_a_grain_is_refused(tmp_path: Path) -> None:
    content = b"\1" * (256 * SECTOR)
    short = stream_disk(tmp_path, content, deflate=lambda grain: zlib.compress(grain[:-1]))
    with open_disk(short) as disk, pytest.raises(BadImage, match="65535 bytes instead of 65536"):
        disk.pread(65536, 0)


def test_a_last_grain_may_be_stored_only_as_far_as_the_disk_goes(tmp_path: Path) -> None:
    content = b"\1" * (130 * SECTOR)
    image = stream_disk(tmp_path, content, deflate=lambda grain: zlib.compress(grain.rstrip(b"\0")))
    assert whole(image) == content


def test_a_grain_whose_checksum_is_wrong_is_refused(tmp_path: Path) -> None:
    image = stream_disk(tmp_path, b"\1" * (128 * SECTOR), deflate=lambda grain: zlib.compress(grain)[:-4] + b"\0\0\0\0")
    with open_disk(image) as disk, pytest.raises(BadImage, match="damaged"):
        disk.pread(65536, 0)


@pytest.mark.parametrize(
    ("at", "new"),
    [(0, struct.pack("<Q", 128)), (8, bytes(4)), (8, b"\xff" * 4), (8, struct.pack("<I", 130 * KIB)), (8, b"\1\0\0\0")],
)
def test_damaged_markers_of_grains_are_refused(at: int, new: bytes, tmp_path: Path) -> None:
    image = stream_disk(tmp_path, patterned(256 * SECTOR))
    first = (1 + writer.ROOM_FOR_DESCRIPTOR) * SECTOR
    with open_disk(patched(image, tmp_path / "x.vmdk", (first + at, new))) as disk, pytest.raises(BadImage):
        disk.pread(65536, 0)


def test_markers_that_name_each_other_are_not_walked(tmp_path: Path) -> None:
    """A directory that names its own marker, or tables that name themselves, end in an error and not in a loop."""
    image = stream_disk(tmp_path, patterned(256 * SECTOR))
    gd = field(patched(image, tmp_path / "y.vmdk"), image.stat().st_size - 1024 + GD)
    for target in (gd, gd - 1, 0xFFFFFFFF):
        with pytest.raises(BadImage):
            whole(patched(image, tmp_path / "x.vmdk", (gd * SECTOR, struct.pack("<I", target))))


# Damage.


def test_errors_name_what_is_damaged_and_where(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(5000 * SECTOR)
    image = sparse_disk(tmp_path, content, redundant=False)
    gd = field(image, GD) * SECTOR
    table = table_at(image, GD, 2)
    entry = image.read_bytes()[table : table + 4]
    far = struct.pack("<I", 1 << 31)
    cases = (
        ((gd + 8, far), f"grain table 2 lies at byte {(1 << 31) * SECTOR}"),
        ((gd + 8, image.read_bytes()[gd + 4 : gd + 8]), "entries 1 and 2 name the same grain table"),
        ((table + 4, far), f"grain 33 lies at byte {(1 << 31) * SECTOR}"),
        ((table + 8, b"\1\0\0\0"), None),
        ((table + 8, b"\2\0\0\0"), "grain 34 lies at byte 1024, over the image's own header"),
        ((table + 40, entry), "also serves another part"),
        ((table + 40, struct.pack("<I", struct.unpack("<I", entry)[0] + 3)), "also serves another part"),
        ((table + 40, struct.pack("<I", struct.unpack("<I", entry)[0] - 3)), "also serves another part"),
    )
    for patch, words in cases:
        damaged = patched(image, tmp_path / "x.vmdk", patch)
        if words is None:
            # A zeroed grain: the writer sets that flag.
            assert whole(damaged)[34 * 4096 : 35 * 4096] == bytes(4096)
            continue
        with pytest.raises(BadImage, match=words):
            read_all(damaged)


@pytest.mark.parametrize(
    ("offset", "new"),
    [
        (CAPACITY, struct.pack("<Q", 1 << 63)),
        (CAPACITY, struct.pack("<Q", 1 << 54)),
        (CAPACITY, struct.pack("<Q", (1 << 64) - 1)),
        (GRAIN, bytes(8)),
        (GRAIN, struct.pack("<Q", 12)),
        (GRAIN, struct.pack("<Q", 1 << 63)),
        (GTES, bytes(4)),
        (GTES, struct.pack("<I", 513)),
        (DESCRIPTOR_AT, struct.pack("<Q", 1 << 40)),
        (DESCRIPTOR_AT, struct.pack("<Q", (1 << 64) - 1)),
    ],
)
def test_impossible_sizes_are_refused_at_once(offset: int, new: bytes, tmp_path: Path) -> None:
    image = sparse_disk(tmp_path, patterned(1000 * SECTOR))
    with pytest.raises(BadImage):
        open_disk(patched(image, tmp_path / "x.vmdk", (offset, new)))


def test_a_capacity_of_zero_frames_a_descriptor(tmp_path: Path) -> None:
    content = patterned(1000 * SECTOR)
    writer.put(tmp_path, "flat.bin", content)
    text = writer.descriptor('RW 1000 FLAT "flat.bin" 0', create_type="monolithicFlat")
    image = writer.put(tmp_path, "disk.vmdk", patched_bytes(writer.sparse({}, 8, text=text), CAPACITY, bytes(8)))
    assert whole(image) == content


def patched_bytes(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def test_a_descriptor_may_stand_behind_the_grains_but_no_grain_on_it(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(1000 * SECTOR)
    image = sparse_disk(tmp_path, content, redundant=False)
    raw = image.read_bytes()
    end = len(raw) // SECTOR
    moved = patched_bytes(raw + raw[SECTOR : 21 * SECTOR], DESCRIPTOR_AT, struct.pack("<Q", end))
    moved = patched_bytes(moved, SECTOR, bytes(20 * SECTOR))
    assert whole(writer.put(tmp_path, "moved.vmdk", moved)) == content
    table = table_at(tmp_path / "moved.vmdk", GD, 0)
    for sector in (end - 7, end, end + 19):
        damaged = patched(tmp_path / "moved.vmdk", tmp_path / "x.vmdk", (table, struct.pack("<I", sector)))
        with pytest.raises(BadImage, match="descriptor"):
            whole(damaged)


def test_a_sparse_file_named_for_two_extents_is_refused(tmp_path: Path) -> None:
    writer.put(tmp_path, "s.vmdk", writer.sparse({0: b"x" * 65536}, 200))
    text = writer.descriptor('RW 200 SPARSE "s.vmdk"', 'RW 200 SPARSE "./s.vmdk"', create_type="twoGbMaxExtentSparse")
    with pytest.raises(BadImage, match="extent 1 "):
        open_disk(writer.put(tmp_path, "disk.vmdk", text))


def test_an_extent_shorter_or_longer_than_its_line(tmp_path: Path) -> None:
    writer.put(tmp_path, "s.vmdk", writer.sparse({0: b"x" * 65536, 1: b"y" * 65536}, 200))
    text = writer.descriptor('RW 131 SPARSE "s.vmdk"', "RW 2 ZERO", create_type="twoGbMaxExtentSparse")
    expected = b"x" * 65536 + b"y" * 3 * SECTOR + bytes(2 * SECTOR)
    assert whole(writer.put(tmp_path, "disk.vmdk", text)) == expected
    with pytest.raises(BadImage, match="holds 102400 bytes of disk"):
        open_disk(writer.put(tmp_path, "disk.vmdk", text.replace("RW 131", "RW 201")))


def test_a_compressed_extent_is_cut_where_its_line_ends(tmp_path: Path) -> None:
    writer.put(tmp_path, "s.vmdk", writer.stream({0: b"x" * 65536, 1: b"y" * 65536}, 200))
    text = writer.descriptor('RW 131 SPARSE "s.vmdk"', "RW 2 ZERO", create_type="custom")
    assert whole(writer.put(tmp_path, "disk.vmdk", text)) == b"x" * 65536 + b"y" * 3 * SECTOR + bytes(2 * SECTOR)


@pytest.mark.parametrize("seed", range(20))
def test_occupancy_notices_every_overlap_and_nothing_else(seed: int) -> None:
    noise = random.Random(seed)
    size, path = 8 * SECTOR, Path("x")
    taken: list[tuple[int, int]] = []
    occupancy = GrainOccupancy(size)
    for number in range(300):
        length = noise.choice((1, 1, 2, 5)) * size
        at = noise.randrange(4000) * SECTOR
        overlaps = any(at < end and begin < at + length for begin, end in taken)
        extent = data(number * 10 * size, length, path, at)
        if overlaps:
            with pytest.raises(BadImage, match="also serves"):
                occupancy.add(extent)
        else:
            occupancy.add(extent)
            taken.append((at, at + length))
    assert len(taken) > 20
