"""Commits of an overlay into a finished target: whole ones, and interrupted ones, which are undone from the source."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from converters.pieces import PIECE_BYTES
from converters.target import TargetFormat, journal_path, piece_runs
from p2v.core.run import SystemRunner
from p2v.core.units import MIB
from tests.converters.memory_disk import Kind, build
from tests.converters.resuming import (
    EVERY_LAYOUT,
    LAYOUTS,
    QEMU,
    STRETCHES,
    assert_whole,
    contents,
    copied,
    opened,
)


def overlay_with_changes(folder: Path, backing: Path, target_format: TargetFormat, size: int) -> Path:
    """An overlay that rewrites much of its backing file: data over data and over holes, zeroes over data."""
    overlay = folder / "overlay"
    QEMU.create_overlay(overlay, backing, target_format.value, size)
    steps = ["write -P 0xEE 0 9M", "write -z 9M 3M", "write -P 0xDD 25M 12M", "write -P 0xCC 40M 10M"]
    commands = [word for step in steps for word in ("-c", step)]
    SystemRunner().run(["qemu-io", "-f", "qcow2", *commands, str(overlay)], timeout=60)
    return overlay


# when it is killed: before it writes, in the middle, when it has ended; `make matrix` kills at more moments
_OFTEN_MS, _SELDOM_MS = (0, 16, 2000), (12, 20, 30, 50)


@pytest.mark.parametrize(
    "layout,milliseconds",
    [
        *((layout, ms) for layout in ("raw", "qcow2", "zstd") for ms in _OFTEN_MS),
        *((layout, 20) for layout in LAYOUTS if layout not in ("raw", "qcow2", "zstd")),
        *(pytest.param(layout, ms, marks=pytest.mark.matrix) for layout in ("raw", "qcow2", "zstd") for ms in _SELDOM_MS),
    ],
)
def test_an_interrupted_commit_is_undone_from_the_source(tmp_path: Path, layout: str, milliseconds: int) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    target_format, options = LAYOUTS[layout]
    partial = tmp_path / "disk.partial"
    with opened(tmp_path, disk, target_format, options=options) as target:
        copied(target, disk)
        overlay = overlay_with_changes(tmp_path, partial, target_format, disk.virtual_size)
        target.note_committing(QEMU.changed_ranges(overlay))
        argv = ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(overlay)]
        with subprocess.Popen(argv) as commit:
            time.sleep(milliseconds / 1000)
            commit.kill()
    with opened(tmp_path, disk, target_format, options=options) as target:
        assert target.restart_reason == ""
        assert 0 < target.resumed_bytes < disk.virtual_size - 30 * MIB
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, target_format)


@EVERY_LAYOUT
def test_pieces_copied_again_after_a_commit_stay_when_the_run_is_killed_again(tmp_path: Path, layout: str) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    target_format, options = LAYOUTS[layout]
    with opened(tmp_path, disk, target_format, options=options) as target:
        copied(target, disk)
        overlay = overlay_with_changes(tmp_path, target.path, target_format, disk.virtual_size)
        target.note_committing(QEMU.changed_ranges(overlay))
        QEMU.commit(overlay, target.path, target_format.value)
    resumed = []
    for _ in range(3):
        with opened(tmp_path, disk, target_format, options=options) as target:
            resumed.append(target.resumed_bytes)
            copied(target, disk)
        found = contents(tmp_path / "disk.partial", target_format, disk.virtual_size)
        assert found == disk.data
    assert resumed[0] < resumed[1] == resumed[2]


@pytest.mark.parametrize("layout", ["qcow2", "zstd"])
def test_all_of_a_table_may_be_copied_again_any_number_of_times(tmp_path: Path, layout: str) -> None:
    disk = build(tmp_path / "source", [(Kind.HOLE, 4 * MIB), (Kind.PREAD, MIB), (Kind.HOLE, 510 * MIB), (Kind.PREAD, MIB)])
    target_format, options = LAYOUTS[layout]
    for _ in range(3):
        with opened(tmp_path, disk, target_format, options=options) as target:
            assert target.restart_reason == ""
            copied(target, disk)
            # another table of the same pieces: what is behind moved meanwhile
            overlay = tmp_path / "overlay"
            QEMU.create_overlay(overlay, target.path, target_format.value, disk.virtual_size)
            SystemRunner().run(["qemu-io", "-f", "qcow2", "-c", "write -P 0xEE 4M 1M", str(overlay)], timeout=60)
            target.note_committing(QEMU.changed_ranges(overlay))
            QEMU.commit(overlay, target.path, target_format.value)
            overlay.unlink()
    with opened(tmp_path, disk, target_format, options=options) as target:
        assert target.restart_reason == ""
        assert target.resumed_bytes >= disk.virtual_size % PIECE_BYTES
        copied(target, disk)
    assert contents(tmp_path / "disk.partial", target_format, disk.virtual_size) == disk.data


@EVERY_LAYOUT
def test_a_whole_commit_gives_the_rewritten_disk(tmp_path: Path, layout: str) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    target_format, options = LAYOUTS[layout]
    (tmp_path / "flat").write_bytes(disk.data)
    with opened(tmp_path, disk, target_format, options=options) as target:
        overlay = overlay_with_changes(tmp_path, tmp_path / "flat", TargetFormat.RAW, disk.virtual_size)
        QEMU.convert(overlay, "qcow2", tmp_path / "expected", "raw")
        copied(target, disk)
        QEMU.rebase_unsafe(overlay, target.path, target_format.value)
        target.note_committing(QEMU.changed_ranges(overlay))
        QEMU.commit(overlay, target.path, target_format.value)
        target.publish(tmp_path / "disk")
    assert QEMU.compare(tmp_path / "expected", "raw", tmp_path / "disk", target_format.value)
    if target_format is TargetFormat.QCOW2:
        assert QEMU.check(tmp_path / "disk", "qcow2").clean
    assert not journal_path(tmp_path / "disk.partial").exists()


def test_byte_ranges_become_runs_of_pieces() -> None:
    size = 100 * PIECE_BYTES + 5
    ranges = [
        (0, 1),
        (PIECE_BYTES - 1, 2),
        (10 * PIECE_BYTES, PIECE_BYTES),
        (100 * PIECE_BYTES, PIECE_BYTES),
        (size, 9),
    ]
    assert piece_runs(reversed(ranges), size) == ((0, 2), (10, 1), (100, 1))
