"""Free clusters of NTFS of every cluster size: exactly what $Bitmap says, and a copy without them is the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, NEEDS_MOUNTS, needs, run

CLUSTERS = (512, 1024, 4096, 8192, 16384, 32768, 65536)


def make(path: Path, cluster: int, size: int = 160 * MIB) -> Path:
    """A file system on a poisoned disk."""
    run("mkntfs", "-q", "-F", "-Q", "-c", str(cluster), made.poisoned(path, size))
    return path


def digest(image: Path) -> str:
    with made.mounted_ntfs(image, "ro") as folder:
        return made.tree_digest(folder)


def check(image: Path) -> None:
    run("ntfsfix", "-n", image)
    # what clones only used clusters looks at the whole of the master file table, and says when the bitmap does not fit it
    run("ntfsclone", "--metadata", "--no-action", "-o", "/dev/null", "--force", image, ok=(0, 1))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    yield path
    made.removed(path)


def free_by_ntfs3g(image: Path) -> list[tuple[int, int]]:
    text = run("ntfsinfo", "-m", "-f", image)
    size, count = (
        int(re.search(rf"{name}: (\d+)", text)[1])  # type: ignore[index]
        for name in ("Cluster Size", "Volume Size in Clusters")
    )
    return made.free_by_bitmap(image, size, count)


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_free_clusters_of_every_size_are_left_out_and_nothing_else(image: Path, cluster: int) -> None:
    make(image, cluster)
    new = made.only(made.unused(image))
    made.check_exact(image, new, free_by_ntfs3g(image))
    with made.mounted_ntfs(image) as folder:
        made.scatter(folder, seed=3, budget=60 * MIB)
    left_out = made.only(made.unused(image))
    free = free_by_ntfs3g(image)
    made.check_exact(image, left_out, free)
    assert left_out.by_kind() == {"free clusters of NTFS": left_out.total}
    assert left_out.total < new.total
    made.check_travels(image, left_out, free, digest, check)
