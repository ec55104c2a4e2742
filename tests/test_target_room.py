"""How much room a copy is said to need before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.image import open_disk
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.core.disk import Codec
from p2v.core.units import MIB
from p2v.target_room import still_to_write

SIZE, DATA = 16 * MIB, 3 * MIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.img"
    with path.open("wb") as file:
        file.write(b"x" * DATA)
        file.truncate(SIZE)
    return path


def needed(
    source: Path, layout: TargetOptions = PLAIN, *, left: int = 0, shares: bool = False, fresh: bool = False
) -> int:
    partial = source.with_name("disk.partial")
    partial.write_bytes(b"y" * left)
    with open_disk(source, "raw") as disk:
        return still_to_write([(disk, partial)], layout, shares=shares, fresh=fresh)


def test_what_is_stored_is_written_unless_it_is_there_already(source: Path) -> None:
    assert needed(source) == DATA
    assert needed(source, left=MIB) == DATA - MIB
    assert needed(source, left=MIB, fresh=True) == DATA
    assert needed(source, left=4 * MIB) == 0


@pytest.mark.parametrize("shares", [True, False])
def test_space_that_is_reserved_is_all_of_the_disk_whatever_could_be_shared(
    source: Path, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converters.reflink.Sharing.fits", lambda *place: True)
    assert needed(source, shares=True) == 0
    assert needed(source, TargetOptions(preallocation=Preallocation.FALLOC), left=MIB, shares=shares) == SIZE - MIB


def test_nobody_knows_what_compressed_data_comes_to(source: Path) -> None:
    assert needed(source, TargetOptions(compression=Codec.DEFLATE)) == 0
    assert needed(source, TargetOptions(compression=Codec.DEFLATE), left=MIB) == 0
