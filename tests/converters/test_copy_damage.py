"""What somebody did to a partial file between two runs: it is noticed, and the result is the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters.pieces import PIECE_BYTES
from converters.target import TargetFormat
from p2v.core.errors import ReadFailed
from p2v.core.units import KIB, MIB
from tests.converters.memory_disk import build
from tests.converters.resuming import LAYOUTS, STRETCHES, assert_whole, copied, damage, opened

FEW, MANY = "a bit, and a hole", "a ninth of the file"
# where single clusters stand is known of plain ones of 64 KiB
DAMAGES = [*((layout, FEW) for layout in ("raw", "qcow2")), *((layout, MANY) for layout in LAYOUTS)]


def damage_somewhere(partial: Path, kind: str) -> None:
    """One flipped bit, and a hole where data were; or whole pieces, parts of them, streams that cannot be inflated any more."""
    if kind == FEW:
        with partial.open("rb") as file:
            byte = os.pread(file.fileno(), 1, 2 * MIB + 77)
        damage(partial, 2 * MIB + 77, bytes((byte[0] ^ 4,)))
        damage(partial, 4 * MIB, bytes(64 * KIB))
    else:
        size = partial.stat().st_size
        damage(partial, 6 * MIB + 4096 if size > 20 * MIB else size // 3, b"\x5a" * (size // 9))


@pytest.mark.parametrize("layout,kind", DAMAGES)
def test_pieces_that_are_not_as_they_were_written_are_copied_again_and_told_of(tmp_path: Path, layout: str, kind: str) -> None:
    """Each damage is noticed, nothing else is copied, and no leak is left."""
    disk = build(tmp_path / "source", STRETCHES)
    target_format, options = LAYOUTS[layout]
    with opened(tmp_path, disk, target_format, options=options) as target:
        copied(target, disk)
    damage_somewhere(tmp_path / "disk.partial", kind)
    with opened(tmp_path, disk, target_format, options=options) as target:
        recorded = target.resumed_bytes
        result = copied(target, disk)
        damaged = target.writer.resumed.damaged_bytes
        assert PIECE_BYTES <= damaged < recorded
        if kind == FEW:
            assert damaged == 2 * PIECE_BYTES
        assert result.resumed_bytes == recorded - damaged
        assert str(damaged) in target.remarks[0]
    # the record of that run is whole again
    with opened(tmp_path, disk, target_format, options=options) as target:
        assert target.restart_reason == ""
        assert copied(target, disk).resumed_bytes == recorded
        assert not target.remarks
        target.publish(tmp_path / "disk")
    # without leaks and corruptions, too
    assert_whole(tmp_path, disk, target_format)


def test_garbage_where_the_disk_is_zero_does_not_stay(tmp_path: Path) -> None:
    """In a hole of the disk, in a piece that was not recorded, and behind the end."""
    disk = build(tmp_path / "source", STRETCHES)
    disk.fail_at = 50 * MIB
    with pytest.raises(ReadFailed), opened(tmp_path, disk, TargetFormat.RAW) as target:
        copied(target, disk)
    disk.fail_at = None
    partial = tmp_path / "disk.partial"
    for offset in (30 * MIB, 45 * MIB, len(disk.data)):
        assert not any(disk.data[offset : offset + 9])
        damage(partial, offset, b"somebody's")
    with opened(tmp_path, disk, TargetFormat.RAW) as target:
        assert target.resumed_bytes
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, TargetFormat.RAW)
