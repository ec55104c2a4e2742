"""Block devices as targets, on real loop devices: they read as the disk afterwards, whatever they held before."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from converters.compare import compare_disks
from converters.copy import CopyResult, copy_disk
from converters.device_target import ClaimedDevice, claimed_device
from converters.device_writer import DeviceWriter
from converters.pieces import PIECE_BYTES
from converters.raw import open_beginning
from converters.target import Target, journal_path
from p2v.core.block_devices import look_at
from p2v.core.errors import DeviceInUse, DeviceNotEmpty, ReadFailed, TargetBusy, UnfitDevice
from p2v.core.events import silent
from p2v.core.units import KIB, MIB
from tests.converters.memory_disk import Kind, MemoryDisk, build
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

pytestmark = NEEDS_LOOP_DEVICES

STRETCHES = [
    *[(Kind.PREAD, 1500 * KIB), (Kind.HOLE, 300 * KIB)] * 6,
    (Kind.HOLE, 20 * MIB),
    (Kind.STORED_ZEROES, 6 * MIB),
    (Kind.ZERO, 3 * MIB),
    *[(Kind.PREAD, 3 * MIB), (Kind.ZLIB, 64 * KIB)] * 4,
    (Kind.STORED, 64 * KIB),
    (Kind.HOLE, 700 * KIB),
    (Kind.PREAD, 4608),
]
# the disk's end is in the middle of a page of the device
SIZE = sum(length for _, length in STRETCHES)


@contextmanager
def claimed(
    folder: Path, path: Path, disk: MemoryDisk, identity: str = "one", *, overwrite: bool = False
) -> Iterator[ClaimedDevice]:
    with claimed_device(
        look_at(path), folder / "disk.device", disk.virtual_size, identity, overwrite=overwrite, checkpoint_bytes=4 * MIB
    ) as found:
        yield found


@contextmanager
def opened(folder: Path, path: Path, disk: MemoryDisk, identity: str = "one", *, overwrite: bool = False) -> Iterator[Target]:
    with claimed(folder, path, disk, identity, overwrite=overwrite) as device, device.start() as target:
        yield target


def copied(target: Target, disk: MemoryDisk) -> CopyResult:
    result = copy_disk(disk, target.writer, report=silent)
    target.finish_copy()
    return result


def assert_whole(path: Path, disk: MemoryDisk, folder: Path) -> None:
    """The device begins with the disk, by two ways of comparing, and no journal is left."""
    with path.open("rb") as device:
        found = device.read(disk.virtual_size)
    assert hashlib.sha256(found).digest() == hashlib.sha256(disk.data).digest()
    with open_beginning(path, disk.virtual_size) as second:
        assert compare_disks(disk, second).same
    assert not list(folder.glob("*.journal"))


@pytest.mark.parametrize("unable", [(), ("punch_hole",), ("punch_hole", "_BLKZEROOUT")])
def test_a_device_full_of_garbage_reads_as_the_disk_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unable: tuple[str, ...]
) -> None:
    """Whether the device makes holes, or only zeroes, or neither, so that zeroes are written."""
    disk = build(tmp_path / "source", STRETCHES)
    if "punch_hole" in unable:
        monkeypatch.setattr("converters.device_writer.punch_hole", lambda *_: False)
    if "_BLKZEROOUT" in unable:
        monkeypatch.setattr("converters.device_writer._BLKZEROOUT", 0x12FF)
    with loop_device(tmp_path / "device", SIZE, fill=b"\xff") as path:
        with opened(tmp_path, path, disk, overwrite=True) as target:
            result = copied(target, disk)
            target.publish(tmp_path / "nothing")
        assert_whole(path, disk, tmp_path)
        assert not (tmp_path / "nothing").exists()
        assert result.written_bytes < SIZE // 2


def test_zeroes_are_made_by_the_device_and_take_no_place(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, MIB), (Kind.HOLE, 59 * MIB), (Kind.STORED, 4 * MIB)])
    with loop_device(tmp_path / "device", 64 * MIB, fill=b"\xff") as path:
        with opened(tmp_path, path, disk, overwrite=True) as target:
            copied(target, disk)
            target.publish(path)
        os.sync()
        assert (tmp_path / "device").stat().st_blocks * 512 < 8 * MIB


def test_a_disk_that_is_empty_leaves_an_empty_device(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.HOLE, 5 * MIB + 512)])
    with loop_device(tmp_path / "device", 6 * MIB, fill=b"\xff") as path:
        with opened(tmp_path, path, disk, overwrite=True) as target:
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


def test_behind_the_disk_only_the_end_of_a_larger_device_is_emptied(tmp_path: Path) -> None:
    """What a RAID or a partition table kept at the device's end would be found by the guest."""
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 9 * MIB, fill=b"\xff") as path:
        with opened(tmp_path, path, disk, overwrite=True) as target:
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)
        with path.open("rb") as device:
            device.seek(5 * MIB)
            assert device.read() == b"\xff" * (3 * MIB) + bytes(MIB)


def test_an_unfinished_disk_does_not_look_like_one(tmp_path: Path) -> None:
    """Its first and last piece are written when all others are: no host takes up half a guest's volumes."""
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE, fill=b"\xff") as path:
        disk.fail_at = SIZE - 6 * MIB
        with pytest.raises(ReadFailed), opened(tmp_path, path, disk, overwrite=True) as target:
            copied(target, disk)
        with path.open("rb") as device:
            assert not any(device.read(MIB))
            device.seek(SIZE - 512 * KIB)
            assert not any(device.read())
        # so a run without --overwrite-device can go on
        disk.fail_at = None
        with opened(tmp_path, path, disk) as target:
            assert target.resumed_bytes > 20 * MIB
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


def test_contents_are_refused_and_named_unless_they_may_be_lost(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 16 * MIB) as path:
        subprocess.run(["mkfs.ext4", "-q", path], check=True)
        before = (tmp_path / "device").read_bytes()
        with pytest.raises(DeviceNotEmpty) as caught, claimed(tmp_path, path, disk):
            pass
        assert caught.value.contents == ("an ext file system",)
        assert (tmp_path / "device").read_bytes() == before
        assert not list(tmp_path.glob("*.journal"))
        with opened(tmp_path, path, disk, overwrite=True) as target:
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


@pytest.mark.parametrize("at", [3000, 8 * MIB - 1])
def test_any_byte_at_either_end_counts_as_contents(tmp_path: Path, at: int) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 8 * MIB) as path:
        with path.open("r+b") as device:
            device.seek(at)
            device.write(b"\x01")
        with pytest.raises(DeviceNotEmpty) as caught, claimed(tmp_path, path, disk):
            pass
        assert str(at) in caught.value.contents[0]


CHILD = """
import sys
from pathlib import Path
from tests.converters.test_device_target import STRETCHES, build, copied, opened
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
disk = build(folder / f"source{sys.argv[3]}", STRETCHES)
disk.seconds_a_read = 0.01
with opened(folder, path, disk) as target:
    print(target.resumed_bytes, target.restart_reason, flush=True)
    copied(target, disk)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_killed_at_any_moments_ends_with_the_exact_disk(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = build(tmp_path / "source", STRETCHES)
    # garbage in the middle, as a device has it that was emptied at its ends
    with loop_device(tmp_path / "device", SIZE, fill=b"\xff") as path:
        with path.open("r+b") as device:
            device.write(bytes(MIB))
            device.seek(SIZE - MIB)
            device.write(bytes(MIB))
        resumed = [killed_copy(tmp_path, path, number, rng.uniform(0.0, 0.4)) for number in range(4)]
        while not resumed[-1] and len(resumed) < 9:
            # on a busy host it came to nothing in that time
            resumed.append(killed_copy(tmp_path, path, len(resumed), 2.0 ** (len(resumed) - 3)))
        with opened(tmp_path, path, disk) as target:
            resumed.append(target.resumed_bytes)
            copied(target, disk)
            target.publish(path)
        assert resumed == sorted(resumed)
        assert resumed[-1] > 0
        assert_whole(path, disk, tmp_path)


def killed_copy(folder: Path, path: Path, number: int, seconds: float) -> int:
    argv = [sys.executable, "-c", CHILD, str(folder), str(path), str(number)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        found, _, reason = child.stdout.readline().partition(" ")
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
    assert reason.strip() == ""
    return int(found)


def test_an_interrupted_commit_is_undone_on_the_device(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE) as path:
        with opened(tmp_path, path, disk) as target:
            copied(target, disk)
            # pieces with data, pieces of a hole, and the first: as an overlay's commit writes them
            target.note_committing([(0, 4096), (5 * MIB, MIB), (12 * MIB, 3 * MIB)])
            with path.open("r+b") as device:
                for at in (0, 5 * MIB, 13 * MIB):
                    device.seek(at)
                    device.write(b"half of a commit")
        with opened(tmp_path, path, disk) as target:
            assert 0 < target.resumed_bytes < SIZE
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


@pytest.mark.parametrize("at", [7 * MIB, 20 * MIB])
def test_what_others_wrote_since_is_refused_and_copied_again_when_it_may_be_lost(tmp_path: Path, at: int) -> None:
    """Also where the disk is zero: a journal knows what was written, not what is there."""
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE) as path:
        with opened(tmp_path, path, disk) as target:
            copied(target, disk)
        with path.open("r+b") as device:
            device.seek(at)
            device.write(b"somebody else's")
        with pytest.raises(DeviceNotEmpty, match="written to since"), claimed(tmp_path, path, disk):
            pass
        with opened(tmp_path, path, disk, overwrite=True) as target:
            assert SIZE - 2 * PIECE_BYTES <= target.resumed_bytes < SIZE
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


def test_another_device_or_source_is_begun_anew(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with ExitStack() as stack:
        first, second = (stack.enter_context(loop_device(tmp_path / name, 5 * MIB)) for name in ("one", "two"))
        with opened(tmp_path, first, disk) as target:
            copied(target, disk)
        with opened(tmp_path, second, disk) as target:
            assert "device" in target.restart_reason
            assert target.resumed_bytes == 0
            copied(target, disk)
        with opened(tmp_path, second, disk, "another source", overwrite=True) as target:
            assert "source" in target.restart_reason
            copied(target, disk)
            target.publish(second)
        assert_whole(second, disk, tmp_path)


def test_discarding_forgets_the_record_and_leaves_the_device(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 5 * MIB) as path:
        with opened(tmp_path, path, disk) as target:
            copied(target, disk)
            target.discard()
        assert path.exists()
        assert not list(tmp_path.glob("*.journal"))


def test_two_runs_do_not_get_one_device(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 5 * MIB) as path, opened(tmp_path, path, disk):
        with pytest.raises(DeviceInUse), claimed(tmp_path / "elsewhere", path, disk):
            pass
        with loop_device(tmp_path / "other", 5 * MIB) as other:
            # one journal for both
            with pytest.raises(TargetBusy), claimed(tmp_path, other, disk):
                pass


def test_a_device_that_qemu_reads_is_in_use(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 5 * MIB) as path:
        with subprocess.Popen(["qemu-io", "-r", "-f", "raw", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
            assert qemu.stdin is not None
            assert qemu.stdout is not None
            qemu.stdin.write(b"length\n")
            qemu.stdin.flush()
            qemu.stdout.readline()
            with pytest.raises(DeviceInUse, match="QEMU"), claimed(tmp_path, path, disk):
                pass
            qemu.stdin.close()
        with claimed(tmp_path, path, disk):
            pass


def test_a_device_too_small_is_refused_and_left_alone(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB + 512)])
    with loop_device(tmp_path / "device", 5 * MIB) as path:
        with pytest.raises(UnfitDevice), claimed(tmp_path, path, disk):
            pass
        assert not any((tmp_path / "device").read_bytes())
        assert not list(tmp_path.glob("*.journal"))


def test_a_device_that_was_discarded_first_reads_as_the_disk(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE + 40 * MIB, fill=b"\xff") as path:
        with claimed(tmp_path, path, disk, overwrite=True) as device, device.start(discard=True) as target:
            assert device.discards
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)
        os.sync()
        assert (tmp_path / "device").stat().st_blocks * 512 < SIZE


def test_a_device_that_takes_no_discard_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.device_writer._BLKDISCARD", 0x12FF)
    with loop_device(tmp_path / "device", 3 * MIB) as path:
        writer = DeviceWriter(os.open(path, os.O_RDWR | os.O_CLOEXEC), path, 3 * MIB)
        assert not writer.discard(3 * MIB)
        writer.close()


def test_the_journal_stands_beside_the_name_it_is_given(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 5 * MIB)])
    with loop_device(tmp_path / "device", 5 * MIB) as path:
        with opened(tmp_path, path, disk):
            assert journal_path(tmp_path / "disk.device").exists()


def test_killed_while_its_ends_are_written_it_is_still_known_as_ours(tmp_path: Path) -> None:
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE) as path:
        with opened(tmp_path, path, disk) as target:
            copy_disk(disk, target.writer, report=silent)
            inner = target.writer.inner
            written = inner.write_piece

            def killed(index: int, data: memoryview, data_map: int) -> int:
                written(index, data, data_map)
                raise ReadFailed("the host", "was killed")

            inner.write_piece = killed  # type: ignore[method-assign]
            with pytest.raises(ReadFailed):
                target.finish_copy()
        with path.open("rb") as device:
            assert any(device.read(MIB))
        with opened(tmp_path, path, disk) as target:
            copied(target, disk)
            target.publish(path)
        assert_whole(path, disk, tmp_path)


def test_a_new_file_system_over_a_finished_copy_is_seen(tmp_path: Path) -> None:
    """The pieces at its ends are looked at like all others, though they were written last."""
    disk = build(tmp_path / "source", STRETCHES)
    with loop_device(tmp_path / "device", SIZE) as path:
        with opened(tmp_path, path, disk) as target:
            copied(target, disk)
        subprocess.run(["mkswap", path], check=True, capture_output=True)
        with pytest.raises(DeviceNotEmpty, match="at byte 0 among"), claimed(tmp_path, path, disk):
            pass
