"""Comparing two disks finds every difference, reads no zeroes, and says how sizes differ."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.compare import compare_disks
from converters.image import open_disk
from converters.piece_walk import CopyCancelled
from p2v.core.errors import ReadFailed
from p2v.core.events import BytesDone, Event
from tests.converters.images import VARIANTS, qemu_img
from tests.converters.memory_disk import Kind, MemoryDisk, build, cancelled_at

MIB = 1 << 20
STRETCHES = [(Kind.STORED, MIB), (Kind.HOLE, 5 * MIB), (Kind.ZLIB, 65_536), (Kind.ZERO, MIB), (Kind.PREAD, 70_000)]


@pytest.fixture
def disk(tmp_path: Path) -> MemoryDisk:
    return build(tmp_path / "disk.bin", STRETCHES)


def changed(disk: MemoryDisk, *places: tuple[int, bytes]) -> MemoryDisk:
    """The same disk with some bytes replaced, read by pread alone."""
    data = bytearray(disk.data)
    for offset, new in places:
        data[offset : offset + len(new)] = new
    return in_memory(bytes(data), disk.file)


def in_memory(data: bytes, file: Path) -> MemoryDisk:
    made = build(file.with_suffix(".empty"), [(Kind.PREAD, max(len(data), 1))])
    return replace(made, data=data)


@pytest.mark.parametrize("name", [v.name for v in VARIANTS])
def test_every_variant_of_one_disk_is_the_same(name: str, images: dict[str, Path]) -> None:
    input_format = next(v.format for v in VARIANTS if v.name == name)
    with open_disk(images["raw"], "raw") as one, open_disk(images[name], input_format) as other:
        found = compare_disks(one, other)
    assert found.same_contents
    assert found.different_bytes == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_bytes_ranges_and_first_difference_are_exact(data: st.DataObject, disk: MemoryDisk) -> None:
    size = disk.virtual_size
    places = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 20_000)), max_size=6))
    raw = bytearray(disk.data)
    for offset, length in places:
        end = min(offset + length, size)
        raw[offset:end] = random.Random(offset).randbytes(end - offset)
    found = compare_disks(disk, in_memory(bytes(raw), disk.file))
    touched = {at for offset, length in places for at in range(offset, min(offset + length, size))}
    different = sorted(at for at in touched if raw[at] != disk.data[at])
    assert found.different_bytes == len(different)
    assert found.first_difference == (different[0] if different else None)
    sectors = {at // 512 for at in different}
    assert {at // 512 for offset, length in found.ranges for at in range(offset, offset + length, 512)} == sectors
    assert all(sum(a) < b[0] for a, b in pairwise(found.ranges))
    assert found.ranges_complete


def test_zeroes_of_both_are_not_read(disk: MemoryDisk, tmp_path: Path) -> None:
    other = build(tmp_path / "other.bin", STRETCHES)
    found = compare_disks(disk, other)
    assert found.same
    assert found.read_bytes == 2 * sum(n for kind, n in STRETCHES if kind not in (Kind.HOLE, Kind.ZERO))


def test_a_hole_is_compared_with_the_bytes_of_the_other_disk(disk: MemoryDisk) -> None:
    at = 3 * MIB + 17
    found = compare_disks(disk, changed(disk, (at, b"\1")))
    assert (found.first_difference, found.different_bytes) == (at, 1)
    assert found.ranges == ((at // 512 * 512, 512),)


@pytest.mark.parametrize("longer_is_first", [True, False])
def test_a_disk_that_ends_in_zeroes_more_has_the_same_contents(disk: MemoryDisk, longer_is_first: bool) -> None:
    longer = in_memory(disk.data + bytes(3 * MIB + 512), disk.file)
    found = compare_disks(*((longer, disk) if longer_is_first else (disk, longer)))
    assert found.same_contents
    assert not found.same


def test_bytes_behind_the_end_of_the_other_disk_differ(disk: MemoryDisk) -> None:
    longer = in_memory(disk.data + bytes(3 * MIB) + b"x", disk.file)
    found = compare_disks(disk, longer)
    assert found.first_difference == disk.virtual_size + 3 * MIB


def test_two_children_of_one_parent_are_read_only_where_they_have_data_of_their_own(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(random.Random(1).randbytes(16 * MIB))
    children = tmp_path / "one.qcow2", tmp_path / "other.qcow2"
    for number, child in enumerate(children):
        qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.name, str(child))
        write = f"write -P {number + 1} 5M 64k"
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, str(child)], check=True, capture_output=True)
    with open_disk(children[0]) as one, open_disk(children[1]) as other:
        found = compare_disks(one, other)
    assert found.ranges == ((5 * MIB, 65_536),)
    assert found.read_bytes == 2 * 2 * MIB


def test_many_scattered_differences_take_bounded_memory_and_are_all_counted(tmp_path: Path) -> None:
    disk = in_memory(bytes(8 * MIB), tmp_path / "x")
    speckled = in_memory((b"\1" + bytes(1023)) * (8 * 1024), tmp_path / "x")
    found = compare_disks(disk, speckled)
    assert found.different_bytes == 8 * 1024
    assert not found.ranges_complete
    assert found.ranges == tuple((number * 1024, 512) for number in range(1000))


def test_a_disk_that_cannot_be_read_is_an_error_and_not_a_difference(disk: MemoryDisk) -> None:
    broken = replace(changed(disk), fail_at=7 * MIB)
    with pytest.raises(ReadFailed):
        compare_disks(disk, broken)


def test_progress_sums_up_to_the_larger_size(disk: MemoryDisk) -> None:
    told: list[Event] = []
    longer = in_memory(disk.data + bytes(5 * MIB), disk.file)
    compare_disks(disk, longer, report=told.append)
    assert sum(event.count for event in told if isinstance(event, BytesDone)) == longer.virtual_size


def test_a_comparison_that_is_cancelled_ends_soon_and_says_nothing(tmp_path: Path) -> None:
    one, other = (build(tmp_path / name, [(Kind.PREAD, 1000 * 1024)] * 400) for name in "ab")
    one.seconds_a_read = 0.02
    cancelled = cancelled_at(one, 10)
    with pytest.raises(CopyCancelled):
        compare_disks(one, other, cancelled=cancelled)
    assert 10 < one.reads < 200
