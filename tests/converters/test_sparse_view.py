"""A disk without what need not travel: extents and reads tell the same, and the copy loop takes it as any disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.copy import copy_disk
from converters.digest import digest_disk
from converters.extents import invariant_broken
from converters.image import open_disk
from converters.sparse_view import SparseView
from converters.target import TargetFormat, open_target
from p2v.core.events import silent
from tests.converters.memory_disk import Kind, MemoryDisk, build

KIB, MIB = 1024, 1024 * 1024
STRETCHES = [
    (Kind.STORED, 3 * MIB), (Kind.HOLE, MIB), (Kind.ZLIB, 64 * KIB), (Kind.DEFLATE, 64 * KIB), (Kind.ZERO, MIB),
    (Kind.PREAD, 300 * KIB), (Kind.STORED_ZEROES, 100 * KIB), (Kind.STORED, 2 * MIB + 512),
]  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> MemoryDisk:
    return build(tmp_path / "stored", STRETCHES)


def some_ranges(seed: int, size: int) -> LeftOut:
    """Ranges of any place and length, at both ends too."""
    chance = random.Random(seed)
    edges = sorted(chance.sample(range(size // 512 + 1), 2 * chance.randrange(1, 12)))
    if seed % 3 == 0:
        edges[0], edges[-1] = 0, -(-size // 512)
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return LeftOut(LeftOutRange(a * 512, min(b * 512, size) - a * 512, "x") for a, b in pairs if a * 512 < size)


def expected(disk: MemoryDisk, left_out: LeftOut) -> bytes:
    data = bytearray(disk.data)
    for each in left_out:
        data[each.offset : each.end] = bytes(each.length)
    return bytes(data)


@pytest.mark.parametrize("seed", range(25))
def test_extents_and_reads_tell_the_same(disk: MemoryDisk, seed: int) -> None:
    view = SparseView(disk, some_ranges(seed, disk.virtual_size))
    whole = expected(disk, view.left_out)
    assert invariant_broken(view.extents(), view.virtual_size) is None
    for extent in view.extents():
        here = whole[extent.offset : extent.end]
        assert view.pread(extent.length, extent.offset) == here
        assert not extent.zero or not any(here)
        if extent.stored is not None:
            assert disk.file.read_bytes()[extent.stored.offset :][: extent.length] == here
    for each in view.left_out:
        assert all(e.zero for e in view.extents() if e.offset < each.end and e.end > each.offset)
    chance = random.Random(seed)
    for _ in range(50):
        offset, length = chance.randrange(len(whole) + 10), chance.randrange(MIB)
        assert view.pread(length, offset) == whole[offset : offset + length]


def test_what_is_left_out_is_not_read(disk: MemoryDisk) -> None:
    view = SparseView(disk, LeftOut([LeftOutRange(0, MIB, "x")]))
    disk.fail_at = 4096
    assert view.pread(MIB, 0) == bytes(MIB)
    assert len(view.pread(MIB + 10, 0)) == MIB + 10
    with pytest.raises(OSError, match="Input/output"):
        disk.pread(MIB, 0)


@pytest.mark.parametrize("target_format", list(TargetFormat))
@pytest.mark.parametrize("seed", [0, 3, 7])
def test_a_copy_has_everything_else(
    disk: MemoryDisk, tmp_path: Path, target_format: TargetFormat, seed: int
) -> None:
    view = SparseView(disk, some_ranges(seed, disk.virtual_size))
    path = tmp_path / "target"
    with open_target(path, target_format, view.virtual_size, "key") as target:
        result = copy_disk(view, target.writer, report=silent, threads=2)
        target.finish_copy()
    with open_disk(path, target_format.value) as copy:
        assert copy.pread(copy.virtual_size, 0) == expected(disk, view.left_out)
        assert digest_disk(copy) == digest_disk(view)
    assert result.read_bytes <= disk.virtual_size - view.left_out.total


def test_closing_the_view_closes_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * MIB)
    disk = open_disk(path, "raw")
    with SparseView(disk, LeftOut()) as view:
        assert view.pread(3, 0) == b"xxx"
        assert view.files == (path,)
    with pytest.raises(Exception, match="closed"):
        disk.pread(1, 0)
