"""Every variant against what went in, its own extents, and independent readers."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import vhd, vmdk
from converters.extents import invariant_broken
from converters.image import open_disk
from p2v.core.disk import DiskReader
from p2v.core.errors import ReadFailed
from tests.converters.images import BY_NAME, MIB, SERVED, VARIANTS, read_by_qemu, rebuilt

NAMES = [variant.name for variant in VARIANTS]
LIBYAL = [name for name in NAMES if name.startswith(("vhd", "vmdk"))]
every_variant = pytest.mark.parametrize("name", NAMES)


@every_variant
def test_disk_has_the_bytes_that_went_in_and_zeroes_after_them(
    name: str, images: dict[str, Path], content: bytes
) -> None:
    with open_disk(images[name]) as disk:
        assert isinstance(disk, DiskReader)
        assert disk.facts.format == BY_NAME[name].format
        whole = disk.pread(disk.virtual_size, 0)
    assert len(whole) == disk.virtual_size >= len(content)
    assert whole[: len(content)] == content
    assert not any(whole[len(content) :])


@every_variant
def test_extents_alone_rebuild_the_disk(name: str, images: dict[str, Path], content: bytes) -> None:
    with open_disk(images[name]) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        whole = rebuilt(extents, disk)
    assert whole[: len(content)] == content
    assert not any(whole[len(content) :])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SERVED])
def test_only_a_last_cut_block_is_left_to_pread(name: str, images: dict[str, Path]) -> None:
    with open_disk(images[name]) as disk:
        left = [extent for extent in disk.extents() if not (extent.zero or extent.stored or extent.compressed)]
    assert all(extent.end == disk.virtual_size for extent in left)


@every_variant
def test_disk_reads_as_in_qemu(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    by_qemu = read_by_qemu(images[name], BY_NAME[name], tmp_path)
    with open_disk(images[name]) as disk:
        assert disk.virtual_size == len(by_qemu)
        assert disk.pread(disk.virtual_size, 0) == by_qemu


@pytest.mark.parametrize("name", LIBYAL)
def test_disk_reads_as_in_libyal(name: str, images: dict[str, Path]) -> None:
    second = (vhd if name.startswith("vhd") else vmdk).independent_reader(images[name])
    try:
        with open_disk(images[name]) as disk:
            # libvhdi goes by the current size, which is never below ours.
            assert second.get_media_size() >= disk.virtual_size
            for offset in range(0, disk.virtual_size, MIB):
                length = min(MIB, disk.virtual_size - offset)
                assert disk.pread(length, offset) == second.read_buffer_at_offset(length, offset)
    finally:
        second.close()


@pytest.mark.parametrize("name", ["vmdk-sparse", "vmdk-split-sparse", "vhd-dynamic", "vhdx-dynamic", "qcow2-v3"])
def test_what_was_never_written_is_a_hole(name: str, images: dict[str, Path], content: bytes) -> None:
    """qemu-img leaves zero blocks out of sparse images, so there must be holes and none of them over data."""
    with open_disk(images[name]) as disk:
        holes = [extent for extent in disk.extents() if not extent.allocated]
    assert holes
    assert all(not any(content[extent.offset : extent.end]) for extent in holes)


@pytest.mark.parametrize("name", ["qcow2-v3", "vmdk-sparse", "vhdx-fixed"])
def test_blocks_stored_side_by_side_make_one_extent(name: str, images: dict[str, Path]) -> None:
    with open_disk(images[name]) as disk:
        extents = [extent for extent in disk.extents() if extent.stored is not None]
        assert max(extent.length for extent in extents) > disk.layout.block_bytes


@pytest.mark.parametrize("name", ["vmdk-stream", "qcow2-deflate", "qcow2-zstd"])
def test_compressed_blocks_say_which_stored_range_to_inflate(name: str, images: dict[str, Path]) -> None:
    with open_disk(images[name]) as disk:
        assert any(extent.compressed is not None for extent in disk.extents())


@every_variant
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_range_reads_as_in_the_content(
    name: str, images: dict[str, Path], content: bytes, data: st.DataObject
) -> None:
    offset = data.draw(st.integers(0, len(content) + 4096))
    length = data.draw(st.integers(0, 3 * MIB))
    with open_disk(images[name]) as disk:
        expected = content.ljust(disk.virtual_size, b"\0")[offset : offset + length]
        assert disk.pread(length, offset) == expected


@every_variant
def test_threads_may_read_at_once(name: str, images: dict[str, Path], content: bytes) -> None:
    places = [random.Random(3).randrange(len(content) - 8192) for _ in range(60)]
    with open_disk(images[name]) as disk, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda offset: disk.pread(8192, offset), places))
    assert found == [content[offset : offset + 8192] for offset in places]


@every_variant
def test_source_is_not_written_and_closing_twice_is_harmless(name: str, images: dict[str, Path]) -> None:
    before = images[name].stat()
    disk = open_disk(images[name])
    disk.pread(4096, 0)
    disk.close()
    disk.close()
    after = images[name].stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    # QEMU cannot be told to leave the access time alone.
    assert before.st_atime_ns == after.st_atime_ns or name in SERVED
    with pytest.raises(ReadFailed):
        disk.pread(512, 0)


def test_negative_ranges_are_refused_and_reads_past_the_end_are_empty(images: dict[str, Path]) -> None:
    with open_disk(images["vhdx-dynamic"]) as disk:
        assert disk.pread(512, disk.virtual_size) == b""
        assert disk.pread(512, disk.virtual_size + 5 * MIB) == b""
        with pytest.raises(ValueError, match="cannot read"):
            disk.pread(512, -1)
        with pytest.raises(ValueError, match="cannot read"):
            disk.pread(-1, 0)
