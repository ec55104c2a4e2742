"""Free blocks of ext2, ext3 and ext4 of every layout: exactly what dumpe2fs says, and a copy without them is the same tree."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, NEEDS_MOUNTS, run

VARIANTS = {
    "ext2": ("ext2", "-b", "1024"),
    "ext2-revision-0": ("ext2", "-b", "1024", "-r", "0"),
    "ext3": ("ext3", "-b", "4096"),
    "plain": ("ext4",),
    "1k-blocks": ("ext4", "-b", "1024"),
    "small-groups": ("ext4", "-b", "4096", "-g", "1024", "-G", "4"),
    "bigalloc": ("ext4", "-O", "bigalloc", "-b", "4096", "-C", "65536"),
    "bigalloc-1k": ("ext4", "-O", "bigalloc", "-b", "1024", "-C", "16384"),
    "meta_bg": ("ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"),
    "no-flex_bg": ("ext4", "-O", "^flex_bg", "-b", "1024"),
    "32-bit": ("ext4", "-O", "^64bit"),
    "uninit_bg": ("ext4", "-O", "^64bit,^metadata_csum,uninit_bg", "-b", "1024"),
    "no-checksums": ("ext4", "-O", "^metadata_csum", "-b", "1024"),
    "sparse_super2": ("ext4", "-O", "sparse_super2", "-b", "1024"),
    "sparse_super2-one": ("ext4", "-O", "sparse_super2", "-E", "nodiscard,num_backup_sb=1", "-b", "1024"),
    "inline_data": ("ext4", "-O", "inline_data,metadata_csum_seed,large_dir"),
    "no-journal": ("ext4", "-O", "^has_journal"),
    "room-to-grow": ("ext4", "-E", "nodiscard,resize=64G", "-b", "1024"),
}
# what not every kernel can mount: filled by mke2fs, read by debugfs
UNMOUNTED = {
    "quota": ("ext4", "-O", "quota,project,mmp"),
    "casefold": ("ext4", "-O", "casefold,encrypt,verity,stable_inodes,orphan_file"),
    "64k-blocks": ("ext4", "-b", "65536"),
    "1k-inodes": ("ext4", "-I", "1024", "-O", "ea_inode", "-b", "2048"),
}


def make(path: Path, options: tuple[str, ...], size: int = 160 * MIB) -> Path:
    """A file system on a poisoned disk."""
    kind, *rest = options
    run("mke2fs", "-q", "-F", "-t", kind, "-E", "nodiscard", *rest, made.poisoned(path, size))
    return path


def digest(image: Path) -> str:
    with made.mounted(image, "ext4", "ro") as folder:
        return made.tree_digest(folder)


def check(image: Path) -> None:
    run("e2fsck", "-fn", image)


def digest_by_debugfs(image: Path) -> str:
    folder = image.with_name(image.name + ".mnt")
    folder.mkdir()
    try:
        run("debugfs", "-R", f"rdump / {folder}", image)
        return made.tree_digest(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    yield path
    made.removed(path)


@NEEDS_MOUNTS
@pytest.mark.parametrize("name", VARIANTS)
def test_free_blocks_of_every_layout_are_left_out_and_nothing_else(image: Path, name: str) -> None:
    make(image, VARIANTS[name])
    new = made.only(made.unused(image))
    made.check_exact(image, new, made.free_by_dumpe2fs(image))
    with made.mounted(image, "ext4") as folder:
        made.scatter(folder, seed=1, budget=90 * MIB)
    left_out = made.only(made.unused(image))
    free = made.free_by_dumpe2fs(image)
    made.check_exact(image, left_out, free)
    assert left_out.by_kind() == {"free blocks of ext2/3/4": left_out.total}
    assert left_out.total < new.total
    made.check_travels(image, left_out, free, digest, check)


@pytest.mark.parametrize("name", UNMOUNTED)
def test_free_blocks_of_what_the_kernel_here_does_not_mount(image: Path, tmp_path: Path, name: str) -> None:
    kind, *rest = UNMOUNTED[name]
    made.scatter(tmp_path / "files", seed=4, budget=60 * MIB)
    make(image, (kind, *rest, "-d", str(tmp_path / "files")))
    run("e2fsck", "-fy", image, ok=(0, 1))  # mke2fs does not count what it fills in
    left_out = made.only(made.unused(image))
    free = made.free_by_dumpe2fs(image)
    made.check_exact(image, left_out, free)
    made.check_travels(image, left_out, free, digest_by_debugfs, check)
