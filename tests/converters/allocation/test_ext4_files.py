"""An ext whose bitmaps and counts agree that blocks are free, and a file has them: it is copied whole."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from converters.allocation.runs import LEAST_RUN_BYTES, Runs
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, run, unused
from tests.drivers.making import make_ext, patch

LIES = "call blocks free that a file has"


def lie(image: Path, name: str, *, begin: int = 0, count: int | None = None) -> None:
    """Give the blocks of a file back to the bitmap and to both counts, as a crash may have left them."""
    blocks = [int(block) for block in run("debugfs", "-R", f"blocks {name}", image).split()][begin:]
    give_back(image, blocks if count is None else blocks[:count])


def give_back(image: Path, blocks: list[int]) -> None:
    text = run("dumpe2fs", image)
    group_blocks = int(re.search(r"Blocks per group: +(\d+)", text)[1])  # type: ignore[index]
    first = int(re.search(r"First block: +(\d+)", text)[1])  # type: ignore[index]
    free = int(re.search(r"Free blocks: +(\d+)", text)[1])  # type: ignore[index]
    commands = [f"freeb {block}" for block in blocks] + [f"ssv free_blocks_count {free + len(blocks)}"]
    for group, count in enumerate(re.findall(r"^ +(\d+) free blocks,", text, re.MULTILINE)):
        here = sum((block - first) // group_blocks == group for block in blocks)
        if here:
            commands += [f"set_bg {group} free_blocks_count {int(count) + here}", f"set_bg {group} checksum calc"]
    run("debugfs", "-w", "-f", "-", image, stdin="\n".join(commands) + "\n")


def whole(image: Path) -> str:
    (volume,) = unused(image).volumes
    return volume.why_whole


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ext") / "files"
    (folder / "many").mkdir(parents=True)
    for number in range(2000):
        (folder / "many" / f"a name long enough to fill the blocks of its folder {number:06}").touch()
    (folder / "large").write_bytes(os.urandom(3 * MIB))
    (folder / "link").symlink_to("x" * 300)
    return folder


LAYOUTS = {
    "ext4": ("-t", "ext4", "-b", "1024"),
    "no-checksums": ("-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit"),
    "ext2": ("-t", "ext2", "-b", "1024"),
    "ext3": ("-t", "ext3", "-b", "4096"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_understood_before_and_copied_whole_after(tmp_path: Path, files: Path, layout: str) -> None:
    image = make_ext(tmp_path / "ext", 24 * MIB, files, *LAYOUTS[layout])
    assert whole(image) == ""
    lie(image, "/large", begin=100, count=2 * LEAST_RUN_BYTES // KIB)
    assert LIES in whole(image)


@pytest.mark.parametrize("name", ["/many", "/large"])
def test_the_blocks_of_folders_and_of_lists_count_too(tmp_path: Path, files: Path, name: str) -> None:
    image = make_ext(tmp_path / "ext", 24 * MIB, files, *LAYOUTS["ext2"])
    lie(image, name)
    assert LIES in whole(image)


def test_a_deleted_file_has_nothing(tmp_path: Path, files: Path) -> None:
    image = make_ext(tmp_path / "ext", 24 * MIB, files, *LAYOUTS["ext4"])
    before = made.only(unused(image)).total
    run("debugfs", "-w", "-R", "rm /large", image)
    assert made.only(unused(image)).total > before + 2 * MIB


def test_a_tree_that_leads_to_itself_ends(tmp_path: Path, files: Path) -> None:
    image = make_ext(tmp_path / "ext", 24 * MIB, files, *LAYOUTS["no-checksums"])
    text = run("debugfs", "-R", "imap /large", image)
    block, offset = re.search(r"block (\d+), offset (0x\w+)", text).groups()  # type: ignore[union-attr]
    inode = int(block) * KIB + int(offset, 16)
    node = int(run("debugfs", "-R", "blocks /many", image).split()[0])
    # a root five levels deep, and one node that says the same of itself, and is its own child 84 times
    patch(image, inode + 40, struct.pack("<4HI", 0xF30A, 1, 4, 5, 0) + struct.pack("<IIHH", 0, node, 0, 0))
    entries = struct.pack("<IIHH", 0, node, 0, 0) * 84
    patch(image, node * KIB, struct.pack("<4HI", 0xF30A, 84, 84, 4, 0) + entries)
    assert "tree of extents is damaged" in whole(image)


def test_a_list_of_blocks_that_is_its_own_child_ends(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.allocation.ext4_files._LISTS_AT_MOST", 1000)
    image = make_ext(tmp_path / "ext", 24 * MIB, files, *LAYOUTS["ext2"])
    text = run("debugfs", "-R", "imap /large", image)
    block, offset = re.search(r"block (\d+), offset (0x\w+)", text).groups()  # type: ignore[union-attr]
    node = int(run("debugfs", "-R", "blocks /many", image).split()[0])
    patch(image, int(block) * KIB + int(offset, 16) + 40 + 56, struct.pack("<I", node))
    patch(image, node * KIB, struct.pack("<I", node) * 256)
    assert "too many pieces" in whole(image)


def test_of_too_many_ranges_the_longest_stay_and_of_equals_the_first() -> None:
    runs = Runs(at_most=8)
    for number in range(100):
        runs.add(number * 16 * LEAST_RUN_BYTES, LEAST_RUN_BYTES * (3 if number == 97 else 1))
    kept = list(runs)
    assert 4 <= len(kept) <= 8
    assert (97 * 16 * LEAST_RUN_BYTES, 3 * LEAST_RUN_BYTES) in kept
    assert kept[0] == (0, LEAST_RUN_BYTES)
    for offset, length in kept:
        assert runs.touches(offset + length - 1, 1)
        assert not runs.touches(offset + length, 1)
        assert runs.touches(offset - 1, 2) or not offset
