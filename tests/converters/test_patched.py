"""A disk with ranges of another: reads and extents agree byte for byte with what is meant."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from converters.digest import digest_disk
from converters.patched import PatchedDisk, sorted_apart
from p2v.core.disk import Extent
from p2v.core.units import MIB
from tests.converters.memory_disk import Kind, MemoryDisk, build

SIZE = 9 * MIB + 512
STRETCHES = [(Kind.HOLE, 3 * MIB), (Kind.STORED, 2 * MIB + 300), (Kind.ZLIB, 65536), (Kind.PREAD, 4096)]


def disk(folder: Path, seed: int) -> MemoryDisk:
    rest = SIZE - sum(length for _, length in STRETCHES)
    return build(folder / f"disk{seed}", [*STRETCHES, (Kind.DEFLATE, 65536), (Kind.ZERO, rest - 65536)], seed)


def meant(below: bytes, patch: bytes, ranges: tuple[tuple[int, int], ...]) -> bytes:
    whole = bytearray(below)
    for offset, length in ranges:
        whole[offset : offset + length] = patch[offset : offset + length]
    return bytes(whole)


RANGES = [
    (),
    ((0, SIZE),),
    ((0, 1), (1, 1), (SIZE - 1, 1)),
    ((3 * MIB - 10, 20), (5 * MIB + 290, 70_000)),
    ((2 * MIB, 4 * MIB),),
    ((3 * MIB + 100, 50), (3 * MIB + 200, 50), (5 * MIB + 400, 5)),
]


@pytest.mark.parametrize("ranges", RANGES)
def test_reads_and_walks_as_what_is_meant(tmp_path: Path, ranges: tuple[tuple[int, int], ...]) -> None:
    below, patch = disk(tmp_path, 1), disk(tmp_path, 2)
    patched, whole = PatchedDisk(below, patch, ranges), meant(below.data, patch.data, ranges)
    assert patched.pread(SIZE + 10, 0) == whole
    places = random.Random(SIZE)
    for _ in range(50):
        at = places.randrange(SIZE)
        assert patched.pread(1000, at) == whole[at : at + 1000]
    position = 0
    for extent in patched.extents():
        assert extent.offset == position
        position = extent.end
        assert not extent.zero or not any(whole[extent.offset : extent.end])
    assert position == SIZE
    (tmp_path / "whole").write_bytes(whole)
    assert digest_disk(patched) == digest_disk(MemoryDisk(whole, [extent_of(whole)], tmp_path / "whole"))


def extent_of(data: bytes) -> Extent:
    return Extent(0, len(data), zero=False, allocated=True)


@pytest.mark.parametrize(
    "ranges", [((0, 0),), ((-1, 5),), ((0, 10), (9, 1)), ((SIZE, 1),), ((0, SIZE + 1),), ((5, -2),)]
)
def test_ranges_that_overlap_or_leave_the_disk_are_none(ranges: tuple[tuple[int, int], ...]) -> None:
    assert sorted_apart(ranges, SIZE) is None


def test_ranges_are_put_in_order() -> None:
    assert sorted_apart([(10, 5), (0, 10)], SIZE) == ((0, 10), (10, 5))
