"""An XFS of which a file has blocks that both trees of free space have too: it is copied whole."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.allocation import xfs_files
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, NEEDS_MOUNTS, needs, run, unused
from tests.drivers.making import patch

LIES = "its trees of free space have blocks that a file has"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    yield path
    made.removed(path)


def make(path: Path, *options: str) -> dict[str, int]:
    """A file system with files of every map; the number of each inode, by name."""
    run("mkfs.xfs", "-q", "-f", "-K", *options, made.poisoned(path, 320 * MIB))
    found = {}
    with made.mounted(path, "xfs", "nouuid") as folder:
        (folder / "plain").write_bytes(os.urandom(MIB))
        with (folder / "pieces").open("wb") as file:
            # a hole after each, so that the map becomes a tree
            for number in range(400):
                file.seek(number * 32 * KIB)
                file.write(os.urandom(4 * KIB))
        (folder / "many").mkdir()
        for number in range(1500):
            (folder / "many" / f"a name long enough to fill the blocks of its folder {number:06}").touch()
        for name in ("plain", "pieces", "many"):
            found[name] = (folder / name).stat().st_ino
    return found


def whole(image: Path) -> str:
    (volume,) = unused(image).volumes
    return volume.why_whole


def free_block(image: Path) -> int:
    """The number of a block in the middle of the largest free range of the first group, as files have it."""
    text = run("xfs_db", "-r", "-c", "freesp -d -h 1 -a 0", image)
    ranges = [tuple(map(int, line)) for line in re.findall(r"^ *(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)]
    _, block, count = max(ranges, key=lambda each: each[2])
    return block + count // 2


@NEEDS_MOUNTS
@needs("mkfs.xfs", "xfs_db")
@pytest.mark.parametrize("options", [(), ("-i", "nrext64=0"), ("-b", "size=1024")], ids=["plain", "narrow", "1k"])
def test_it_is_understood_before_and_copied_whole_after(image: Path, options: tuple[str, ...]) -> None:
    inodes = make(image, *options)
    assert whole(image) == ""
    free = free_block(image)
    run("xfs_db", "-x", "-c", f"inode {inodes['plain']}", "-c", f"write u3.bmx[0].startblock {free}", image)
    assert LIES in whole(image)


@NEEDS_MOUNTS
@needs("mkfs.xfs", "xfs_db")
def test_maps_that_are_trees_are_followed_and_end(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inodes = make(image)
    assert run("xfs_db", "-r", "-c", f"inode {inodes['pieces']}", "-c", "p core.format", image).strip().endswith("(btree)")
    assert whole(image) == ""
    monkeypatch.setattr(xfs_files, "_NODES_AT_MOST", 3)
    assert "too many pieces" in whole(image)
    monkeypatch.undo()
    free = free_block(image)
    run("xfs_db", "-x", "-c", f"inode {inodes['pieces']}", "-c", f"write u3.bmbt.ptrs[1] {free}", image)
    assert LIES in whole(image)


@NEEDS_MOUNTS
@needs("mkfs.xfs", "xfs_db")
def test_an_inode_that_is_none_is_a_doubt(image: Path) -> None:
    inodes = make(image)
    raw, number = image.read_bytes(), struct.pack(">Q", inodes["plain"])
    # an inode of version 5 says its own number
    at = next(each.start() - 152 for each in re.finditer(re.escape(number), raw) if raw[each.start() - 152 :][:2] == b"IN")
    patch(image, at, b"XX")
    assert "an inode is damaged" in whole(image)
