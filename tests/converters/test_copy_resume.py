"""Interrupted copies: whatever ends a run, the next one ends with the exact image."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.copy import copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.target import TargetFormat, journal_path
from p2v.core.errors import ReadFailed
from p2v.core.events import silent
from p2v.core.units import MIB
from tests.converters.memory_disk import Kind, build
from tests.converters.resuming import FORMATS, LAYOUTS, STRETCHES, ZSTD, assert_whole, contents, copied, opened

CHILD = """
import sys
from pathlib import Path
from tests.converters.memory_disk import build
from tests.converters.resuming import LAYOUTS, STRETCHES, copied, opened
folder = Path(sys.argv[1])
disk = build(folder / f"source{sys.argv[3]}", STRETCHES)
disk.seconds_a_read = 0.01
target_format, options = LAYOUTS[sys.argv[2]]
with opened(folder, disk, target_format, options=options) as target:
    print(target.resumed_bytes, target.restart_reason, flush=True)
    copied(target, disk)
    print("finished", flush=True)
"""


@pytest.mark.parametrize(
    "layout,seed", [(layout, seed) for layout in LAYOUTS for seed in range(3 if layout in ("raw", "qcow2", "zstd") else 1)]
)
def test_a_copy_killed_at_any_moments_ends_with_the_exact_image(tmp_path: Path, layout: str, seed: int) -> None:
    rng = random.Random(seed)
    target_format, options = LAYOUTS[layout]
    disk = build(tmp_path / "source", STRETCHES)
    resumed = [killed_copy(tmp_path, layout, round, rng.uniform(0.0, 0.4)) for round in range(4)]
    while not resumed[-1] and len(resumed) < 9:
        # on a busy host it came to nothing in that time
        resumed.append(killed_copy(tmp_path, layout, len(resumed), 2.0 ** (len(resumed) - 3)))
    with opened(tmp_path, disk, target_format, options=options) as target:
        resumed.append(target.resumed_bytes)
        result = copied(target, disk)
        assert result.resumed_bytes == target.resumed_bytes
        target.publish(tmp_path / "disk")
    assert resumed == sorted(resumed)
    assert resumed[-1] > 0
    assert_whole(tmp_path, disk, target_format)


def killed_copy(folder: Path, layout: str, number: int, seconds: float) -> int:
    """Copy in a process that is killed ``seconds`` after it began; returns what it found complete."""
    argv = [sys.executable, "-c", CHILD, str(folder), layout, str(number)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        found, _, reason = child.stdout.readline().partition(" ")
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
    assert reason.strip() == ""
    return int(found)


def test_other_options_begin_anew_and_say_what_it_was_to_become(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, TargetFormat.QCOW2) as target:
        copied(target, disk)
    with opened(tmp_path, disk, TargetFormat.QCOW2, options=ZSTD) as target:
        assert "cluster_size=65536" in target.restart_reason
        assert target.resumed_bytes == 0
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, TargetFormat.QCOW2)
    assert (tmp_path / "disk").stat().st_size < len(disk.data) * 0.6


@FORMATS
@pytest.mark.parametrize("has_file", [True, False])
def test_a_run_killed_before_anything_was_recorded_is_begun_anew_without_a_word(
    tmp_path: Path, target_format: TargetFormat, has_file: bool
) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, target_format) as target:
        partial = target.path
    partial.unlink()
    if has_file:
        partial.touch()
    with opened(tmp_path, disk, target_format) as target:
        assert (target.resumed_bytes, target.restart_reason) == (0, "")
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, target_format)


@FORMATS
def test_a_copy_that_failed_goes_on_where_it_was(tmp_path: Path, target_format: TargetFormat) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    disk.fail_at = 30 * MIB + len(disk.data) // 3
    with pytest.raises(ReadFailed), opened(tmp_path, disk, target_format) as target:
        copied(target, disk)
    disk.fail_at, disk.reads = None, 0
    digest = digest_disk(disk)
    disk.reads = 0
    with opened(tmp_path, disk, target_format) as target:
        assert target.resumed_bytes > 20 * MIB
        result = copied(target, disk)
        target.publish(tmp_path / "disk")
    assert result.read_bytes < disk.virtual_size - result.resumed_bytes
    assert_whole(tmp_path, disk, target_format)
    assert digest_disk(disk) == digest


def test_a_resumed_copy_has_the_digest_of_the_whole_disk(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    disk.fail_at = disk.virtual_size - 1 * MIB
    with pytest.raises(ReadFailed), opened(tmp_path, disk, TargetFormat.QCOW2) as target:
        copied(target, disk)
    disk.fail_at = None
    with opened(tmp_path, disk, TargetFormat.QCOW2) as target:
        digest = ContentDigest(disk.virtual_size)
        result = copy_disk(disk, target.writer, report=silent, digest=digest)
        assert result.resumed_bytes > 0
        assert result.written_bytes < disk.virtual_size // 2
    assert result.digest == digest_disk(disk)


@FORMATS
def test_another_source_begins_anew_and_says_so(tmp_path: Path, target_format: TargetFormat) -> None:
    old = build(tmp_path / "old", [(Kind.STORED, len(build(tmp_path / "x", STRETCHES).data))], seed=9)
    with opened(tmp_path, old, target_format, "old") as target:
        copied(target, old)
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, target_format, "new") as target:
        assert "source" in target.restart_reason
        assert target.resumed_bytes == 0
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, target_format)


@FORMATS
@pytest.mark.parametrize("damage", ["no target", "short target", "no journal", "empty journal", "flipped", "format"])
def test_what_does_not_fit_together_is_not_resumed(tmp_path: Path, target_format: TargetFormat, damage: str) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, target_format) as target:
        copied(target, disk)
    partial = tmp_path / "disk.partial"
    journal = journal_path(partial)
    match damage:
        case "no target":
            partial.unlink()
        case "short target":
            os.truncate(partial, MIB)
        case "no journal":
            journal.unlink()
        case "empty journal":
            os.truncate(journal, 0)
        case "flipped":
            journal.write_bytes(journal.read_bytes().replace(b"one", b"two"))
        case "format":
            (target_format,) = set(TargetFormat) - {target_format}
    with opened(tmp_path, disk, target_format) as target:
        assert target.restart_reason
        assert target.resumed_bytes == 0
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, target_format)


@FORMATS
def test_a_journal_cut_anywhere_is_resumed_as_far_as_it_goes(tmp_path: Path, target_format: TargetFormat) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, target_format) as target:
        copied(target, disk)
    journal = journal_path(tmp_path / "disk.partial")
    image, whole, rng = (tmp_path / "disk.partial").read_bytes(), journal.read_bytes(), random.Random(3)
    for _ in range(15):
        (tmp_path / "disk.partial").write_bytes(image)
        cut = rng.randrange(len(whole))
        journal.write_bytes(whole[:cut] + rng.randbytes(rng.randrange(40)))
        with opened(tmp_path, disk, target_format) as target:
            copied(target, disk)
        found = contents(tmp_path / "disk.partial", target_format, disk.virtual_size)
        assert found == disk.data
