"""File systems that really fill up, and devices that really fail: what is said, and that the same command goes on afterwards."""

from __future__ import annotations

import os
import random
import re
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from converters.copy import copy_disk
from converters.device_target import claimed_device
from converters.qemu_img import QemuImg
from converters.target import Target, TargetFormat, open_target
from drivers.appliance_values import ApplianceStopped
from drivers.facts import GuestFacts, ReadBy
from p2v import rewriting
from p2v.cli.disk import copying
from p2v.cli.main import main
from p2v.core import room
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.block_devices import look_at
from p2v.core.errors import NoSpace, ReadFailed
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from p2v.core.workspace import free_bytes
from tests.converters.memory_disk import Kind, MemoryDisk, build
from tests.drivers.making import sized
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted, tmpfs
from tests.pipeline.running import names, state

QEMU = QemuImg(SystemRunner())
# the smallest that mkfs.xfs makes today
_SIZES = {"ext4": 60 * MIB, "xfs": 300 * MIB, "tmpfs": 60 * MIB}
FORMATS = pytest.mark.parametrize("target_format", list(TargetFormat), ids=lambda each: each.value)


def small_file_system(folder: Path, kind: str) -> AbstractContextManager[Path]:
    """A file system of its own, mounted below ``folder``."""
    if kind == "tmpfs":
        return tmpfs(folder / "small", _SIZES[kind])
    image = sized(folder / "image", _SIZES[kind])
    keep_nothing = ["-m", "0", "-F"] if kind == "ext4" else ["-f"]
    subprocess.run([f"mkfs.{kind}", "-q", *keep_nothing, image], check=True, timeout=60)
    # XFS takes room ahead of a file that grows, counts it as used, and gives it back when there is none: megabytes of it
    options = "loop,allocsize=64k" if kind == "xfs" else "loop"
    return mounted(image, folder / "small", "-o", options)


def fill(place: Path, leave: int) -> Path:
    """A file that leaves only so many bytes."""
    found = os.statvfs(place)
    filler = place / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bfree * found.f_frsize - leave)
    return filler


def make_room(filler: Path) -> None:
    """Remove a file that fills a disk, and wait until its room is free: XFS gives it back a moment later."""
    length, free_before = filler.stat().st_blocks * 512, free_bytes(filler.parent)
    place = filler.parent
    filler.unlink()
    until = time.monotonic() + 120
    while free_bytes(place) < free_before + length - MIB:
        assert time.monotonic() < until, f"{place} has {free_bytes(place)} bytes free, {length} were given back"
        time.sleep(0.02)


@NEEDS_LOOP_DEVICES
@pytest.mark.parametrize("kind", _SIZES)
@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_disk_that_fills_up_in_the_middle_of_a_copy(
    tmp_path: Path, kind: str, disk_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.img"
    source.write_bytes(random.Random(1).randbytes(20 * MIB) + bytes(MIB))
    before = state(source)
    with small_file_system(tmp_path, kind) as place:
        filler = fill(place, 11 * MIB)
        argv = ["disk", "convert", str(source), str(place / "disk"), "--input-format", "raw", "--format", disk_format]
        # it is seen before anything is written
        assert main(argv) == 73
        assert names(place) <= {"filler", "lost+found"}
        err = capsys.readouterr().err
        assert str(place) in err
        with monkeypatch.context() as patch:
            # and when others fill it later
            patch.setattr(copying, "require_space", lambda *rest: None)
            for _ in range(2):
                assert main(argv) == 73
                err = capsys.readouterr().err
                lacking, free = _numbers(err, place)
                assert 8 * MIB < lacking < 45 * MIB
                assert free < 4 * MIB
                assert not (place / "disk").exists()
        make_room(filler)
        assert main(argv) == 0
        said = capsys.readouterr().out
        assert "of an earlier run" in said
        formats = ["--input-format", "raw", "--input-format-b", disk_format]
        assert main(["disk", "compare", str(source), str(place / "disk"), *formats]) == 0
        assert names(place) <= {"disk", "lost+found"}
    assert state(source) == before


def _numbers(err: str, place: Path) -> tuple[float, float]:
    """What is needed and what is free, in bytes, as it is told."""
    line = next(line for line in err.splitlines() if line.startswith(f"p2v: {place}: "))
    units = {"bytes": 1, "KiB": KIB, "MiB": MIB}
    needed, free = (float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+) (bytes|[KM]iB) are", line))
    return needed, free


@NEEDS_LOOP_DEVICES
@FORMATS
@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.matrix)])
def test_a_disk_that_fills_up_in_the_middle_of_a_commit(tmp_path: Path, target_format: TargetFormat, kind: str) -> None:
    """By the real qemu-img, into holes of the target: no space, by its name; later the same steps end with the same disk."""
    disk = build(tmp_path / "source", [(Kind.STORED, 3 * MIB), (Kind.HOLE, 20 * MIB), (Kind.STORED, MIB)])
    (tmp_path / "flat").write_bytes(disk.data)
    overlay, expected = tmp_path / "overlay", tmp_path / "expected"

    def committed(target: Target) -> None:
        QEMU.rebase_unsafe(overlay, target.path, target_format.value)
        target.note_committing(QEMU.changed_ranges(overlay))
        QEMU.commit(overlay, target.path, target_format.value)

    QEMU.create_overlay(overlay, tmp_path / "flat", "raw", disk.virtual_size)
    commands = ["-c", "write -P 0xEE 1M 1M", "-c", "write -P 0xDD 5M 12M"]
    SystemRunner().run(["qemu-io", "-f", "qcow2", *commands, str(overlay)], timeout=60)
    QEMU.convert(overlay, "qcow2", expected, "raw")
    with small_file_system(tmp_path, kind) as place:
        with _opened(place, disk, target_format) as target:
            _copied(target, disk)
            filler = fill(place, 5 * MIB)
            with pytest.raises(NoSpace) as caught:
                committed(target)
            assert caught.value.folder == place
            assert caught.value.free < 4 * MIB
        make_room(filler)
        with _opened(place, disk, target_format) as target:
            # what it may have written to is copied again, the rest is believed
            assert 0 < target.resumed_bytes < disk.virtual_size
            _copied(target, disk)
            committed(target)
            target.publish(place / "disk")
        assert QEMU.compare(place / "disk", target_format.value, expected, "raw")


def _opened(folder: Path, disk: MemoryDisk, target_format: TargetFormat) -> Target:
    return open_target(folder / "disk.partial", target_format, disk.virtual_size, "one", checkpoint_bytes=2 * MIB)


def _copied(target: Target, disk: MemoryDisk) -> None:
    copy_disk(disk, target.writer, report=silent)
    target.finish_copy()


@NEEDS_LOOP_DEVICES
def test_a_device_that_vanishes_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is cut: writes behind the cut fail as those to a disk that was pulled out. Then it is there again."""
    disk = build(tmp_path / "source", [*[(Kind.PREAD, 2 * MIB), (Kind.HOLE, 64 * KIB)] * 6])
    backing = tmp_path / "device"
    with loop_device(backing, disk.virtual_size) as path:

        def resized(size: int) -> None:
            os.truncate(backing, size)
            subprocess.run(["losetup", "--set-capacity", path], check=True, timeout=300)

        pread, once = disk.pread, threading.Lock()

        def pulled_out(length: int, offset: int) -> bytes:
            if once.acquire(blocking=False):
                resized(5 * MIB)
            return pread(length, offset)

        def copied(*, overwrite: bool) -> None:
            record = tmp_path / "disk.device"
            with claimed_device(look_at(path), record, disk.virtual_size, "one", overwrite=overwrite) as device:
                with device.start() as target:
                    _copied(target, disk)
                    target.publish(path)

        # by what is copied first, when the device was claimed
        monkeypatch.setattr(disk, "pread", pulled_out)
        with pytest.raises(ReadFailed) as caught:
            copied(overwrite=False)
        assert caught.value.exit_code == 74
        assert str(path) in caught.value.sentence()
        resized(disk.virtual_size)
        copied(overwrite=True)
        assert path.read_bytes() == disk.data


def test_a_full_disk_ends_the_rewriting_which_would_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU stops its guest where a write finds no room; the appliance never answers again."""
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.01)
    free = [10 * MIB, 10 * MIB, 5000]
    monkeypatch.setattr(room, "free_bytes", lambda folder: free.pop(0) if len(free) > 1 else free[0])

    def waiting(*rest: Any, stop: threading.Event, **more: Any) -> None:
        assert stop.wait(300)
        raise ApplianceStopped("go on", "it was to end")

    monkeypatch.setattr(rewriting, "rewrite", waiting)
    document = cast("Any", SimpleNamespace(facts=GuestFacts(ReadBy.HOST, (), ()), plan=None))
    supplements = cast("Any", SimpleNamespace(get=None))
    overlay = tmp_path / "out" / "vm.partial.work" / "overlay0.qcow2"
    overlay.parent.mkdir(parents=True)
    tcg = Acceleration(Accelerator.TCG, "tests")
    with pytest.raises(NoSpace) as caught:
        rewriting.rewrite_overlays(document, [overlay], supplements, tcg, silent, keys=())
    assert (caught.value.folder, caught.value.free) == (tmp_path / "out", 5000)
    # ended by somebody else, it is no matter of room
    free[:] = [10 * MIB]
    stop = threading.Event()
    stop.set()
    with pytest.raises(ApplianceStopped):
        rewriting.rewrite_overlays(document, [overlay], supplements, tcg, silent, keys=(), stop=stop)
