"""Free blocks of XFS: exactly what xfs_db says, and a copy without them is the same tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, NEEDS_MOUNTS, needs, run

# the kernel of this machine may mount version 5 only
VARIANTS = {
    "plain": (),
    "bare": ("-m", "finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0", "-i", "sparse=0"),
    "rmapbt-reflink": ("-m", "rmapbt=1,reflink=1"),
    "nrext64": ("-i", "nrext64=1"),
    "1k-blocks": ("-b", "size=1024"),
    "more-groups": ("-d", "agcount=5"),
    "4k-sectors": ("-s", "size=4096"),
    "log-in-first-group": ("-l", "agnum=0"),
}
OLD = {
    "plain": (),
    "no-lazy-count": ("-l", "lazy-count=0"),
    "512-byte-blocks": ("-b", "size=512", "-n", "size=4096"),
}
PROTO = "/\n0 0\nd--755 0 0\n{files}$\n$\n"


def make(path: Path, options: tuple[str, ...], size: int = 384 * MIB) -> Path:
    """A file system on a poisoned disk."""
    run("mkfs.xfs", "-q", "-f", "-K", *options, made.poisoned(path, size))
    return path


def digest(image: Path) -> str:
    with made.mounted(image, "xfs", "ro,nouuid") as folder:
        return made.tree_digest(folder)


def check(image: Path) -> None:
    run("xfs_repair", "-n", "-f", image)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    yield path
    made.removed(path)


@NEEDS_MOUNTS
@needs("mkfs.xfs")
@pytest.mark.parametrize("name", VARIANTS)
def test_free_blocks_of_every_layout_are_left_out_and_nothing_else(image: Path, name: str) -> None:
    make(image, VARIANTS[name])
    new = made.only(made.unused(image))
    made.check_exact(image, new, made.free_by_xfs_db(image))
    with made.mounted(image, "xfs") as folder:
        made.scatter(folder, seed=2, budget=180 * MIB)
        if "reflink" in name:
            run("cp", "--reflink=always", "-r", folder / "second", folder / "shared")
    left_out = made.only(made.unused(image))
    free = made.free_by_xfs_db(image)
    made.check_exact(image, left_out, free)
    assert left_out.by_kind() == {"free blocks of XFS": left_out.total}
    assert left_out.total < new.total
    made.check_travels(image, left_out, free, digest, check)


@needs("mkfs.xfs")
@pytest.mark.parametrize("name", OLD)
def test_free_blocks_of_version_4_are_left_out_and_nothing_else(image: Path, tmp_path: Path, name: str) -> None:
    """Filled by mkfs itself, so that it takes no kernel that still mounts it."""
    files = []
    for number in range(300):
        source = tmp_path / f"source{number}"
        source.write_bytes(bytes([number % 251 + 1]) * (number * 997 % 200_000))
        files.append(f"file{number} ---644 0 0 {source}\n")
    proto = tmp_path / "proto"
    proto.write_text(PROTO.format(files="".join(files)))
    make(image, ("-m", "crc=0", "-p", str(proto), *OLD[name]))
    left_out = made.only(made.unused(image))
    free = made.free_by_xfs_db(image)
    made.check_exact(image, left_out, free)

    def digest_by_xfs_db(path: Path) -> str:
        """As far as a tree can be told without mounting it: every file's own blocks."""
        inodes = run("xfs_db", "-r", "-c", "ls /", path)
        numbers = [line.split()[1] for line in inodes.splitlines() if line.split()[2:3] == ["regular"]]
        assert len(numbers) == 300
        argv = [part for number in numbers[::7] for part in ("-c", f"inode {number}", "-c", "dblock 0", "-c", "p")]
        return run("xfs_db", "-r", *argv, path)

    made.check_travels(image, left_out, free, digest_by_xfs_db, check, least_share=0.9)
