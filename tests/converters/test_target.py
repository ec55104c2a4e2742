"""Targets whole or not at all: who has one, whose name it takes, and what a host does that has no room or no luck."""

from __future__ import annotations

import resource
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from converters.copy import copy_disk
from converters.target import TargetFormat
from p2v.core.errors import NoSpace, P2vError, ReadFailed, TargetBusy, TargetExists
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import MIB
from tests.converters.images import held_by_qemu
from tests.converters.memory_disk import Kind, build
from tests.converters.resuming import FORMATS, QEMU, STRETCHES, assert_whole, copied, opened
from tests.loop_devices import tmpfs


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
    with held_by_qemu(tmp_path / "disk.partial", "qcow2"), pytest.raises(TargetBusy):
        opened(tmp_path, disk, TargetFormat.QCOW2)
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


@FORMATS
def test_a_full_file_system_is_no_space_and_the_copy_goes_on_later(tmp_path: Path, target_format: TargetFormat) -> None:
    disk = build(tmp_path / "source", [(Kind.STORED, 11 * MIB)])
    with tmpfs(tmp_path / "small", 8 * MIB) as small:
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
