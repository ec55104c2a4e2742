"""Streams of extents: merging, clipping, overlap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.extents import Occupancy, clip, data, hole, invariant_broken, merge, part_of
from p2v.core.disk import Codec, CompressedAt, Extent
from p2v.core.errors import BadImage

FILE, OTHER = Path("a"), Path("b")
BLOCK = 4096


@st.composite
def streams(draw: st.DrawFn) -> list[Extent]:
    """Sound streams with many neighbours that may be joined."""
    extents: list[Extent] = []
    offset, stored = 0, 0
    for _ in range(draw(st.integers(1, 30))):
        length = BLOCK * draw(st.integers(1, 3))
        kind = draw(st.sampled_from(["hole", "zero", "data", "data elsewhere", "other file", "compressed", "pread"]))
        if kind == "hole":
            extents.append(hole(offset, length))
        elif kind == "zero":
            extents.append(Extent(offset, length, zero=True, allocated=True))
        elif kind == "compressed":
            where = CompressedAt(FILE, stored, 100, Codec.ZLIB, length)
            extents.append(Extent(offset, length, zero=False, allocated=True, compressed=where))
        elif kind == "pread":
            extents.append(Extent(offset, length, zero=False, allocated=True))
        else:
            stored += BLOCK if kind == "data elsewhere" else 0
            extents.append(data(offset, length, OTHER if kind == "other file" else FILE, stored))
            stored += length
        offset += length
    return extents


def story(extents: list[Extent]) -> list[tuple[object, ...]]:
    """What each 4 KiB of the disk is, however the extents are cut."""
    told: list[tuple[object, ...]] = []
    for extent in extents:
        for within in range(0, extent.length, BLOCK):
            place = (extent.stored.file, extent.stored.offset + within) if extent.stored else None
            told.append((extent.offset + within, extent.zero, extent.allocated, place, extent.compressed))
    return told


@given(streams())
def test_merged_stream_tells_the_same_story_with_fewer_extents(extents: list[Extent]) -> None:
    merged = list(merge(extents))
    assert invariant_broken(merged, extents[-1].end) is None
    assert story(merged) == story(extents)
    assert len(merged) <= len(extents)
    assert list(merge(merged)) == merged


@given(streams(), st.integers(1, 4))
def test_data_extents_are_joined_up_to_a_bound_only(extents: list[Extent], blocks: int) -> None:
    largest_given = max(extent.length for extent in extents)
    merged = list(merge(extents, max_data_bytes=blocks * BLOCK))
    assert story(merged) == story(extents)
    assert all(extent.length <= max(largest_given, blocks * BLOCK) for extent in merged if extent.stored)


@given(streams(), st.integers(1, 90 * BLOCK))
def test_clipped_stream_ends_at_the_disks_end(extents: list[Extent], size: int) -> None:
    size = min(size, extents[-1].end)
    clipped = list(clip(extents, size))
    assert invariant_broken(clipped, size) is None
    for extent, whole in zip(clipped, extents, strict=False):
        assert (extent.stored, extent.compressed) == (whole.stored, whole.compressed)


@given(streams(), st.integers(0, 90 * BLOCK), st.integers(1, 90 * BLOCK))
def test_parts_of_extents_tell_the_same_story(extents: list[Extent], start: int, length: int) -> None:
    whole = extents[start % len(extents)]
    begin = whole.offset + start // BLOCK * BLOCK % whole.length
    part = part_of(whole, begin, min(whole.end, begin + length))
    assert (part.zero, part.allocated) == (whole.zero, whole.allocated)
    if whole.stored is not None:
        assert part.stored is not None
        assert part.stored.offset - whole.stored.offset == begin - whole.offset
    if whole.compressed is not None:
        assert part.compressed == replace(whole.compressed, skip=begin - whole.offset)


def test_neighbours_of_different_kinds_stay_apart() -> None:
    extents = [hole(0, 512), Extent(512, 512, zero=True, allocated=True), data(1024, 512, FILE, 0)]
    assert list(merge(extents)) == extents


def test_blocks_that_share_their_bytes_are_noticed() -> None:
    occupancy = Occupancy(BLOCK)
    occupancy.add(data(0, 4 * BLOCK, FILE, 512))
    occupancy.add(data(4 * BLOCK, BLOCK, FILE, 4 * BLOCK + 512))
    occupancy.add(data(5 * BLOCK, BLOCK, OTHER, 512))
    with pytest.raises(BadImage, match=str(2 * BLOCK + 512)):
        occupancy.add(data(6 * BLOCK, BLOCK, FILE, 2 * BLOCK + 512))


@pytest.mark.parametrize(
    "extents",
    [
        [],
        [hole(0, 1024)],
        [hole(512, 512)],
        [hole(0, 256), hole(300, 212)],
        [Extent(0, 0, zero=True, allocated=False), hole(0, 512)],
        [Extent(0, 512, zero=False, allocated=False)],
    ],
)
def test_broken_streams_are_noticed(extents: list[Extent]) -> None:
    assert invariant_broken(extents, 512) is not None
