"""The content digest: the definition, and that nothing but contents makes a difference."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from pathlib import Path

import pytest

from converters.digest import LEAF_BYTES, ContentDigest, digest_disk
from p2v.core.disk import Extent
from p2v.core.units import GIB, KIB, MIB, TIB
from tests.converters.memory_disk import Kind, MemoryDisk, build


def by_definition(data: bytes) -> str:
    """The digest as the docstring of ``converters.digest`` defines it, without its code."""
    leaves = [hashlib.sha256(data[at : at + 2097152]).digest() for at in range(0, len(data), 2097152)]
    groups = [hashlib.sha256(b"".join(leaves[at : at + 512])).digest() for at in range(0, len(leaves), 512)]
    root = b"p2v content digest 1\n" + len(data).to_bytes(8, "big") + b"".join(groups)
    return "p2v1-" + hashlib.sha256(root).hexdigest()


@pytest.mark.parametrize("length", [0, 1, 512, 2 * MIB, 2 * MIB + 1, 9 * MIB - 512, GIB, GIB + 2 * MIB, GIB + 5])
def test_the_digest_is_what_its_definition_says(tmp_path: Path, length: int) -> None:
    data = bytearray(length)
    for at in range(0, length, 97 * MIB):
        data[at] = 7
    layout = [Extent(0, length, False, True)] if length else []
    assert digest_disk(MemoryDisk(bytes(data), layout, tmp_path / "none")) == by_definition(bytes(data))


@pytest.mark.parametrize("length", [1, 2 * MIB, 3 * MIB, GIB - 1, GIB, 2 * GIB + 3 * MIB])
def test_holes_and_stored_zeroes_are_the_same(tmp_path: Path, length: int) -> None:
    hole = MemoryDisk(bytes(length), [Extent(0, length, True, False)], tmp_path / "none")
    assert digest_disk(hole) == by_definition(bytes(length))


def test_layout_makes_no_difference_and_contents_do(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.HOLE, 3 * MIB), (Kind.ZLIB, 64 * KIB), (Kind.STORED, 5 * MIB)])
    flat = MemoryDisk(disk.data, [Extent(0, len(disk.data), False, True)], tmp_path / "s")
    changed = MemoryDisk(disk.data[:-1] + b"\0", flat.layout, tmp_path / "s")
    longer = MemoryDisk(disk.data + b"\0", [Extent(0, len(disk.data) + 1, False, True)], tmp_path / "s")
    assert digest_disk(disk) == digest_disk(flat) == by_definition(disk.data)
    assert len({digest_disk(flat), digest_disk(changed), digest_disk(longer)}) == 3


def test_leaves_may_come_in_any_order() -> None:
    order = list(range(700))
    random.Random(4).shuffle(order)
    digest = ContentDigest(700 * LEAF_BYTES)
    for index in order:
        digest.zero_leaves(index, 1)
    whole = ContentDigest(700 * LEAF_BYTES)
    whole.zero_leaves(0, 700)
    assert digest.text() == whole.text()


def test_an_incomplete_digest_is_refused() -> None:
    digest = ContentDigest(5 * LEAF_BYTES)
    digest.zero_leaves(0, 4)
    with pytest.raises(ValueError, match="lacks"):
        digest.text()


def test_a_leaf_given_twice_is_refused() -> None:
    digest = ContentDigest(5 * LEAF_BYTES)
    digest.zero_leaves(2, 1)
    with pytest.raises(ValueError, match="twice"):
        digest.zero_leaves(0, 5)


def test_a_leaf_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        ContentDigest(5 * LEAF_BYTES).leaf(0, memoryview(b"short"))


def test_sixteen_tib_of_nothing_take_a_moment_and_little_memory() -> None:
    tracemalloc.start()
    digest = ContentDigest(16 * TIB)
    digest.zero_leaves(0, 16 * TIB // LEAF_BYTES)
    assert digest.text().startswith("p2v1-")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB
