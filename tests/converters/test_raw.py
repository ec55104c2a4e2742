"""Raw files: holes, odd sizes, files that change underneath."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters.extents import invariant_broken
from converters.image import describe, open_disk
from p2v.core.errors import ReadFailed
from tests.converters.images import MIB


def test_holes_of_the_host_file_system_are_holes_of_the_disk(tmp_path: Path) -> None:
    image = tmp_path / "x.raw"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
        file.seek(4 * MIB)
        file.write(b"x" * MIB)
        file.seek(10 * MIB)
        file.write(b"y" * MIB)
    with open_disk(image, "raw") as disk:
        extents = list(disk.extents())
        info = describe(disk)
    assert invariant_broken(extents, 16 * MIB) is None
    if len(extents) == 1:
        pytest.skip("the file system below the temporary folder tells no holes")
    assert [(extent.offset, extent.end, extent.zero) for extent in extents] == [
        (0, 4 * MIB, True),
        (4 * MIB, 5 * MIB, False),
        (5 * MIB, 10 * MIB, True),
        (10 * MIB, 11 * MIB, False),
        (11 * MIB, 16 * MIB, True),
    ]
    assert not any(extent.allocated for extent in extents if extent.zero)
    assert info.allocated_size == 2 * MIB


def test_only_holes_is_one_hole(tmp_path: Path) -> None:
    image = tmp_path / "x.raw"
    image.touch()
    os.truncate(image, 1 << 40)
    with open_disk(image, "raw") as disk:
        extents = list(disk.extents())
        assert sum(extent.length for extent in extents) == disk.virtual_size == 1 << 40
        assert disk.pread(512, (1 << 40) - 512) == bytes(512)


def test_size_is_rounded_up_to_whole_sectors_with_zeroes(tmp_path: Path) -> None:
    image = tmp_path / "x.raw"
    image.write_bytes(b"z" * 1000)
    with open_disk(image, "raw") as disk:
        assert disk.virtual_size == 1024
        assert disk.pread(4096, 0) == b"z" * 1000 + bytes(24)
        assert disk.pread(30, 990) == b"z" * 10 + bytes(20)
        assert disk.facts.notes
        assert invariant_broken(disk.extents(), 1024) is None


def test_file_cut_while_it_is_open_fails_instead_of_reading_as_zero(tmp_path: Path) -> None:
    image = tmp_path / "x.raw"
    image.write_bytes(b"z" * MIB)
    with open_disk(image, "raw") as disk:
        os.truncate(image, 4096)
        with pytest.raises(ReadFailed, match="8192"):
            disk.pread(4096, 8192)
