"""Interrupted copies: whatever ends a run, the next one ends with the exact image."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.journal import Committing, Copied, Forgotten, JournalFile, JournalHeader, PiecesDone, Record
from converters.pieces import PIECE_BYTES
from converters.qemu_img import QemuImg
from converters.target import Target, TargetFormat, journal_path, open_target, piece_runs
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.core.disk import Codec
from p2v.core.errors import NoSpace, P2vError, ReadFailed, TargetBusy, TargetExists
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from tests.converters.memory_disk import Kind, MemoryDisk, build

QEMU = QemuImg(SystemRunner())
FORMATS = pytest.mark.parametrize("target_format", list(TargetFormat))
ZSTD = TargetOptions(compression=Codec.ZSTD)
LAYOUTS: dict[str, tuple[TargetFormat, TargetOptions]] = {
    "raw": (TargetFormat.RAW, PLAIN),
    "raw falloc": (TargetFormat.RAW, TargetOptions(preallocation=Preallocation.FALLOC)),
    "qcow2": (TargetFormat.QCOW2, PLAIN),
    "qcow2 1M": (TargetFormat.QCOW2, TargetOptions(cluster_bytes=MIB)),
    "zstd": (TargetFormat.QCOW2, ZSTD),
    "deflate 256K": (TargetFormat.QCOW2, TargetOptions(compression=Codec.DEFLATE, cluster_bytes=256 * KIB)),
    "metadata": (TargetFormat.QCOW2, TargetOptions(preallocation=Preallocation.METADATA)),
    "falloc 256K": (TargetFormat.QCOW2, TargetOptions(256 * KIB, Preallocation.FALLOC)),
}
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
STRETCHES = [
    *[(Kind.PREAD, 1500 * KIB), (Kind.HOLE, 300 * KIB)] * 12,
    (Kind.HOLE, 20 * MIB),
    (Kind.STORED_ZEROES, 6 * MIB),
    *[(Kind.PREAD, 3 * MIB), (Kind.ZLIB, 64 * KIB)] * 6,
]


def opened(
    folder: Path, disk: MemoryDisk, target_format: TargetFormat, identity: str = "one", options: TargetOptions = PLAIN
) -> Target:
    """The target in ``folder``, with checkpoints every few pieces."""
    path = folder / "disk.partial"
    return open_target(path, target_format, disk.virtual_size, identity, options=options, checkpoint_bytes=4 * MIB)


def copied(target: Target, disk: MemoryDisk) -> CopyResult:
    """Copy and finish."""
    result = copy_disk(disk, target.writer, report=silent)
    target.finish_copy()
    return result


def contents(path: Path, target_format: TargetFormat, size: int) -> bytes:
    """What an image reads as; a qcow2 must be sound too."""
    if target_format is TargetFormat.RAW:
        return path.read_bytes()
    assert QEMU.check(path, "qcow2").clean
    flat = path.with_name("flat")
    QEMU.convert(path, "qcow2", flat, "raw")
    return flat.read_bytes()[:size]


def assert_whole(folder: Path, disk: MemoryDisk, target_format: TargetFormat) -> None:
    """The published image is the disk, and nothing is left beside it."""
    found = contents(folder / "disk", target_format, disk.virtual_size)
    assert hashlib.sha256(found).digest() == hashlib.sha256(disk.data).digest()
    assert not list(folder.glob("disk.partial*"))


CHILD = """
import sys
from pathlib import Path
from tests.converters.test_copy_resume import LAYOUTS, STRETCHES, build, copied, opened
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


def damage(path: Path, offset: int, data: bytes) -> None:
    """Write into the partial file behind everybody's back."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@FORMATS
def test_a_piece_that_is_not_as_it_was_written_is_copied_again_and_told_of(tmp_path: Path, target_format: TargetFormat) -> None:
    """One flipped bit, a hole where data were, and data where nothing was: each is noticed, and nothing else is copied."""
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, target_format) as target:
        copied(target, disk)
    partial = tmp_path / "disk.partial"
    with partial.open("rb") as file:
        byte = os.pread(file.fileno(), 1, 2 * MIB + 77)
    damage(partial, 2 * MIB + 77, bytes((byte[0] ^ 4,)))
    damage(partial, 4 * MIB, bytes(64 * KIB))
    with opened(tmp_path, disk, target_format) as target:
        recorded = target.resumed_bytes
        result = copied(target, disk)
        damaged = target.writer.resumed.damaged_bytes
        assert damaged == 2 * PIECE_BYTES
        assert result.resumed_bytes == recorded - damaged
        assert str(damaged) in target.remarks[0]
    # the record of that run is whole again
    with opened(tmp_path, disk, target_format) as target:
        assert target.restart_reason == ""
        assert copied(target, disk).resumed_bytes == recorded
        assert not target.remarks
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, target_format)


QCOW2_LAYOUTS = {
    "zstd": TargetOptions(compression=Codec.ZSTD),
    "deflate, clusters of 2 MiB": TargetOptions(compression=Codec.DEFLATE, cluster_bytes=2 * MIB),
    "clusters of 512 KiB": TargetOptions(cluster_bytes=512 * KIB),
    "metadata": TargetOptions(preallocation=Preallocation.METADATA),
    "falloc": TargetOptions(preallocation=Preallocation.FALLOC),
}


@pytest.mark.parametrize("layout", QCOW2_LAYOUTS)
def test_in_every_layout_of_qcow2_damage_is_noticed_and_leaves_no_leak(tmp_path: Path, layout: str) -> None:
    """Half of the file's middle is overwritten: whole pieces, parts of them, streams that cannot be inflated any more."""
    disk = build(tmp_path / "source", STRETCHES)
    partial = tmp_path / "disk.partial"

    def layouted() -> Target:
        options = QCOW2_LAYOUTS[layout]
        return open_target(partial, TargetFormat.QCOW2, disk.virtual_size, "one", options=options, checkpoint_bytes=4 * MIB)

    with layouted() as target:
        copied(target, disk)
    size = partial.stat().st_size
    damage(partial, 6 * MIB + 4096 if size > 20 * MIB else size // 3, b"\x5a" * (size // 9))
    with layouted() as target:
        recorded = target.resumed_bytes
        result = copied(target, disk)
        assert PIECE_BYTES <= target.writer.resumed.damaged_bytes < recorded
        assert result.resumed_bytes == recorded - target.writer.resumed.damaged_bytes
        assert target.remarks
    with layouted() as target:
        assert copied(target, disk).resumed_bytes == recorded
        assert not target.remarks
        target.publish(tmp_path / "disk")
    # without leaks and corruptions, too
    assert_whole(tmp_path, disk, TargetFormat.QCOW2)


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


def overlay_with_changes(folder: Path, backing: Path, target_format: TargetFormat, size: int) -> Path:
    """An overlay that rewrites much of its backing file: data over data and over holes, zeroes over data."""
    overlay = folder / "overlay"
    QEMU.create_overlay(overlay, backing, target_format.value, size)
    steps = ["write -P 0xEE 0 9M", "write -z 9M 3M", "write -P 0xDD 25M 12M", "write -P 0xCC 40M 10M"]
    commands = [word for step in steps for word in ("-c", step)]
    SystemRunner().run(["qemu-io", "-f", "qcow2", *commands, str(overlay)], timeout=60)
    return overlay


@pytest.mark.parametrize(
    "layout,milliseconds",
    [(layout, ms) for layout in ("raw", "qcow2", "zstd") for ms in (0, 12, 16, 20, 30, 50, 2000)]
    + [(layout, ms) for layout in LAYOUTS if layout not in ("raw", "qcow2", "zstd") for ms in (20,)],
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


def test_a_second_run_is_told_that_the_target_is_busy(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with opened(tmp_path, disk, TargetFormat.QCOW2) as target:
        with pytest.raises(TargetBusy):
            opened(tmp_path, disk, TargetFormat.QCOW2)
        copied(target, disk)
        target.publish(tmp_path / "disk")
    assert_whole(tmp_path, disk, TargetFormat.QCOW2)


def test_of_many_runs_at_once_one_gets_the_target(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB)])
    outcomes: list[str] = []

    def run() -> None:
        try:
            with opened(tmp_path, disk, TargetFormat.RAW) as target:
                time.sleep(0.02)
                copied(target, disk)
                target.publish(tmp_path / "disk")
                outcomes.append("done")
        except P2vError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("done") == 1
    assert set(outcomes) <= {"done", "target-busy", "target-exists"}
    assert (tmp_path / "disk").read_bytes() == disk.data


def test_an_orphaned_qemu_program_makes_the_target_busy(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB)])
    with opened(tmp_path, disk, TargetFormat.QCOW2) as target:
        copied(target, disk)
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(tmp_path / "disk.partial")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdin is not None
        assert orphan.stdout is not None
        orphan.stdin.write(b"length\n")
        orphan.stdin.flush()
        orphan.stdout.readline()
        with pytest.raises(TargetBusy):
            opened(tmp_path, disk, TargetFormat.QCOW2)
        orphan.stdin.close()
    opened(tmp_path, disk, TargetFormat.QCOW2).close()


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB)])
    with opened(tmp_path, disk, TargetFormat.RAW) as target:
        copied(target, disk)
        target.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_publishing_replaces_nothing(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB)])
    (tmp_path / "disk").write_text("precious")
    with opened(tmp_path, disk, TargetFormat.RAW) as target:
        copied(target, disk)
        with pytest.raises(TargetExists):
            target.publish(tmp_path / "disk")
    assert (tmp_path / "disk").read_text() == "precious"
    assert (tmp_path / "disk.partial").exists()


def test_a_link_in_the_targets_place_is_not_followed(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB)])
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "disk.partial").symlink_to("elsewhere")
    with pytest.raises(TargetExists):
        opened(tmp_path, disk, TargetFormat.RAW)
    assert (tmp_path / "elsewhere").read_text() == "precious"


@contextmanager
def small_file_system(folder: Path, size: int) -> Iterator[None]:
    """A tmpfs of ``size`` bytes on ``folder``."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    runner = SystemRunner()
    runner.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], timeout=30)
    try:
        yield
    finally:
        runner.run(["umount", str(folder)], timeout=30)


@FORMATS
def test_a_full_file_system_is_no_space_and_the_copy_goes_on_later(tmp_path: Path, target_format: TargetFormat) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 11 * MIB)])
    small = tmp_path / "small"
    with small_file_system(small, 8 * MIB):
        with pytest.raises(NoSpace) as caught:
            with opened(small, disk, target_format) as target:
                copied(target, disk)
        assert caught.value.folder == small
        assert caught.value.needed > 0
        SystemRunner().run(["mount", "-o", f"remount,size={16 * MIB}", str(small)], timeout=30)
        with opened(small, disk, target_format) as target:
            assert target.resumed_bytes > 0
            copied(target, disk)
            target.publish(small / "disk")
        if target_format is TargetFormat.RAW:
            assert_whole(small, disk, target_format)
        else:
            assert QEMU.check(small / "disk", "qcow2").clean
            with (tmp_path / "raw").open("wb") as flat:
                flat.write(disk.data)
            assert QEMU.compare(small / "disk", "qcow2", tmp_path / "raw", "raw")


def test_a_limit_on_file_sizes_is_an_io_error_that_names_the_place(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 11 * MIB)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ExitStack() as after:
        after.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, limits[1]))
        with pytest.raises(ReadFailed, match="at byte") as caught:
            with opened(tmp_path, disk, TargetFormat.QCOW2) as target:
                copied(target, disk)
    assert caught.value.file == str(tmp_path / "disk.partial")


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    header = JournalHeader("identity", 10, "raw", 2 * MIB)
    records: list[Record] = [
        PiecesDone(array("I", [1, 2, 3, 4, 5, 6, 7, 8])),
        Copied(),
        Committing(((1, 2), (5, 6))),
        Forgotten(((1, 2),)),
    ]
    journal = JournalFile(path, tmp_path / "target")
    journal.start(header)
    for record in records:
        journal.append(record)
    journal.close()
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == records
    journal.append(Copied())
    journal.close()
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == [*records, Copied()]
    journal.close()


def test_records_of_an_older_journal_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalFile(path, tmp_path / "target")
    header = JournalHeader("identity", 10, "raw", 2 * MIB)
    journal.start(header)
    start = path.stat().st_size
    journal.append(Copied())
    old = path.read_bytes()[start:]
    journal.start(header)
    journal.close()
    with path.open("ab") as file:
        file.write(old)
    journal = JournalFile(path, tmp_path / "target")
    assert journal.read_header() == header
    assert list(journal.records()) == []
    journal.close()


def test_a_failed_checkpoint_stops_the_copy(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.PREAD, MIB)] * 100)
    disk.seconds_a_read = 0.005

    def refuse() -> None:
        raise ReadFailed("disk", "the sync failed")

    with opened(tmp_path, disk, TargetFormat.RAW) as target:
        target.writer.inner.sync = refuse  # type: ignore[method-assign]
        with pytest.raises(ReadFailed, match="sync failed"):
            copy_disk(disk, target.writer, report=silent)
    assert disk.reads < 60
