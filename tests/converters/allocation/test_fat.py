"""Free clusters of FAT12, FAT16, FAT32 and exFAT, in disks filled by mtools and by a kernel in an appliance."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, needs, run, unused
from tests.drivers.making import patch

VARIANTS = {
    "fat12": (8 * MIB, ("-F", "12")),
    "fat16": (64 * MIB, ("-F", "16")),
    "fat16-64k": (300 * MIB, ("-F", "16", "-s", "128")),
    "fat32": (80 * MIB, ("-F", "32", "-s", "1")),
    "fat32-4k-sectors": (300 * MIB, ("-F", "32", "-S", "4096")),
    "one-table": (64 * MIB, ("-F", "16", "-f", "1")),
}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    yield path
    made.removed(path)


def digest(image: Path) -> str:
    folder = image.with_name(image.name + ".files")
    folder.mkdir()
    run("mcopy", "-s", "-Q", "-i", image, "::/", folder)
    found = made.tree_digest(folder)
    shutil.rmtree(folder)
    return found


def check(image: Path) -> None:
    run("fsck.fat", "-n", image)


def make(image: Path, name: str, files: Path) -> Path:
    """Filled, two files of three taken away, and some put in their place."""
    size, options = VARIANTS[name]
    run("mkfs.vfat", *options, made.poisoned(image, size))
    made.scatter(files, seed=8, budget=size // 3, largest=100 * KIB)
    shutil.move(files / "second", files.with_name("second"))
    run("mcopy", "-s", "-i", image, files / "first", "::/")
    for path in sorted((files / "first").rglob("file*"))[::2]:
        run("mdel", "-i", image, f"::/{path.relative_to(files)}")
    run("mcopy", "-s", "-i", image, files.with_name("second"), "::/")
    return image


def clusters(image: Path) -> tuple[int, int, int]:
    """Used, all, and bytes of each: fsck.fat is the witness."""
    text = run("fsck.fat", "-n", "-v", image)
    used, count = re.search(r"(\d+)/(\d+) clusters", text).groups()  # type: ignore[union-attr]
    return int(used), int(count), int(re.search(r"(\d+) bytes per cluster", text)[1])  # type: ignore[index]


@needs("mkfs.vfat", "mcopy", "mdel", "fsck.fat")
@pytest.mark.parametrize("name", VARIANTS)
def test_free_clusters_are_left_out_and_nothing_else(image: Path, tmp_path: Path, name: str) -> None:
    make(image, name, tmp_path / "files")
    left_out = made.only(unused(image))
    used, count, cluster_bytes = clusters(image)
    free = (count - used) * cluster_bytes
    assert left_out.by_kind() == {"free clusters of FAT": left_out.total}
    # with clusters of 64 KiB no run is too short
    assert left_out.total == free if cluster_bytes == 64 * KIB else 0.8 * free < left_out.total <= free
    before = digest(image)
    copy = made.copied(image, left_out)
    check(copy)
    assert digest(copy) == before
    assert copy.read_bytes().count(made.POISON) < 0.3 * image.read_bytes().count(made.POISON)


def _dirty_bit(image: Path) -> None:
    table = 512 * struct.unpack_from("<H", image.read_bytes()[:512], 14)[0]
    size = 512 * struct.unpack_from("<H", image.read_bytes()[:512], 22)[0]
    for at in (table, table + size):
        patch(image, at + 3, b"\x7f")


def _dirty_flag(image: Path) -> None:
    patch(image, 37, b"\x01")


def _tables_differ(image: Path) -> None:
    table = 512 * struct.unpack_from("<H", image.read_bytes()[:512], 14)[0]
    patch(image, table + 2 * 5000, b"\xff\xff")


def _other_cluster_size(image: Path) -> None:
    patch(image, 13, bytes([image.read_bytes()[13] * 2]))


def _other_root(image: Path) -> None:
    patch(image, 17, struct.pack("<H", 520))


@needs("mkfs.vfat", "mcopy", "mdel")
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_dirty_bit, "marked dirty"),
        (_dirty_flag, "marked dirty"),
        (_tables_differ, "two tables differ"),
        (_other_cluster_size, ""),
        (_other_root, "room for 520 files"),
    ],
)
def test_what_is_dirty_or_contradicts_itself_is_copied_whole(
    image: Path, tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    make(image, "fat16", tmp_path / "files")
    damage(image)
    found = unused(image)
    assert found.volumes[0].why_whole
    assert why in found.volumes[0].why_whole
    assert not found.disks[0].total
