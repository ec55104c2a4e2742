"""``--live`` as a user meets it: devices that are written while they are copied."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.cli import live_options
from p2v.consistency import Way
from p2v.core.run import SystemRunner
from p2v.core.units import MIB
from p2v.live_sources import look_over
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted
from tests.pipeline.running import kill_when, names, p2v, started, typed
from tests.test_freezing import can_be_written

pytestmark = NEEDS_LOOP_DEVICES
# The second file never tells of a generation that the first one does not know; between two writes it is one behind.
_WRITER = """
import os, sys
number = 0
while True:
    number += 1
    for name in ("first", "second"):
        handle = os.open(os.path.join(sys.argv[1], name), os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(handle, b"%08d" % number, 0)
        os.fsync(handle)
        os.close(handle)
    churn = os.path.join(sys.argv[1], f"churn{number % 7}")
    with open(churn, "wb") as file:
        file.write(b"%08d" % number * 8192)
    if number == 3:
        print("writing", flush=True)
"""


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def live_device(folder: Path, kind: str, size: int = 512 * MIB) -> Iterator[tuple[Path, Path]]:
    """A device and where the file system on it is mounted."""
    with loop_device(folder / "disk", size) as device:
        program = {"ext4": ["mke2fs", "-q", "-t", "ext4"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}[kind]
        subprocess.run([*program, device], check=True)
        with mounted(device, folder / "mnt") as place:
            yield device, place


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Somebody who writes all the time."""
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, place], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        yield
        assert writer.poll() is None, "the writer came to an end"
    finally:
        writer.kill()
        writer.wait()
        if writer.stdout is not None:
            writer.stdout.close()


def generations(image: Path, place: Path) -> tuple[int, int]:
    """What the two files say in a copy, which is mounted (and its journal replayed)."""
    with loop_device(image) as device:
        with mounted(device, place) as at:
            return int((at / "first").read_text()), int((at / "second").read_text())


def checked(image: Path, kind: str) -> None:
    """Assert that a checker finds nothing wrong with a file system that was unmounted properly."""
    words = {"ext4": ["e2fsck", "-f", "-n"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check", "--force"]}[kind]
    done = subprocess.run([*words, image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_copied_while_it_is_frozen_is_of_one_moment(tmp_path: Path, kind: str) -> None:
    copy = tmp_path / "copy.raw"
    with live_device(tmp_path, kind) as (device, place), writing(place):
        ran = p2v("disk", "convert", "--live", device, copy, "--progress", "plain")
        assert ran.status == 0, ran.err
        assert f"froze {place}, thawed {place} after" in ran.out
        assert "no LVM snapshot" in ran.err
        assert can_be_written(place, 120)
    first, second = generations(copy, tmp_path / "copied")
    assert first - second in (0, 1)
    assert second >= 3
    checked(copy, kind)


def test_a_frozen_ext4_needs_no_journal_replayed(tmp_path: Path) -> None:
    copy = tmp_path / "copy.raw"
    with live_device(tmp_path, "ext4") as (device, place), writing(place):
        ran = p2v("disk", "convert", "--live", device, copy, "--json")
        assert ran.status == 0, ran.err
    (live,) = json.loads(ran.out)["live"]
    assert (live["way"], live["done"][0]) == ("freeze", f"froze {place}")
    checked(copy, "ext4")
    features = subprocess.run(["dumpe2fs", "-h", copy], capture_output=True, text=True, check=True).stdout
    assert "needs_recovery" not in features


def test_what_is_copied_as_it_runs_says_so(tmp_path: Path) -> None:
    copy = tmp_path / "copy.raw"
    with live_device(tmp_path, "ext4") as (device, place):
        (place / "file").write_text("kept")
        ran = p2v("disk", "convert", "--live", "--freeze-limit", "0", device, copy, "--progress", "plain")
    assert ran.status == 0, ran.err
    assert "not of one moment" in ran.out
    assert "no freeze: --freeze-limit 0 forbids it" in ran.err
    with loop_device(copy) as device, mounted(device, tmp_path / "copied") as at:
        assert (at / "file").read_text() == "kept"
    checked(copy, "ext4")


def test_a_device_in_use_is_refused_with_its_users_by_every_verb_that_copies_or_plans(tmp_path: Path) -> None:
    with live_device(tmp_path, "ext4") as (device, place):
        verbs: tuple[tuple[str | Path, ...], ...] = (
            ("disk", "convert", device, tmp_path / "copy.raw"),
            ("disk", "convert", device, tmp_path / "copy.vhdx"),
            ("plan", device),
            ("convert", device, "-o", tmp_path / "out"),
        )
        for words in verbs:
            ran = p2v(*words)
            assert ran.status == 75, (words, ran.err)
            assert f"mounted on {place}" in ran.err
            assert "--live" in ran.err
        assert names(tmp_path) == {"disk", "mnt"}
        # who only looks is told
        ran = p2v("inspect", device, "--reader", "host")
        assert ran.status == 0, ran.err
        assert f"mounted on {place}" in ran.err
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        ran = p2v("disk", "convert", device, tmp_path / "copy.raw", "--progress", "plain")
        assert ran.status == 0, ran.err
        assert "read-only" in ran.err
    with loop_device(tmp_path / "disk") as device:
        handle = os.open(device, os.O_RDWR)
        try:
            ran = p2v("disk", "convert", device, tmp_path / "other.raw")
        finally:
            os.close(handle)
        assert ran.status == 75
        assert f"(process {os.getpid()})" in ran.err


def test_the_plan_names_the_way_and_why_no_better_one_is_possible(tmp_path: Path) -> None:
    with live_device(tmp_path, "ext4") as (device, place):
        ran = p2v("plan", "--live", device, "--reader", "host")
        assert ran.status == 4, ran.err  # no guest is in it
        told = next(line for line in ran.out.splitlines() if "source.live" in line)
        assert f"copied while nothing can be written to {place}" in told
        assert f"no LVM snapshot: {device} is no logical volume" in told
        ran = p2v("plan", "--live", "--freeze-limit", "0", device, "--reader", "host")
        told = next(line for line in ran.out.splitlines() if "source.live" in line)
        assert "not of one moment" in told
        assert can_be_written(place, 120)


def test_what_goes_to_the_file_system_itself_is_not_frozen_for(tmp_path: Path) -> None:
    with live_device(tmp_path, "ext4", size=2048 * MIB) as (device, place):
        ran = p2v("disk", "convert", "--live", device, place / "copy.qcow2", "--progress", "plain")
        assert "must stay writable: the results go there" in ran.err
        assert "froze" not in ran.out


def test_no_plan_is_made_to_freeze_what_the_results_go_to(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    live_options.configure(parser)
    words = parser.parse_args(["--live"])
    with live_device(tmp_path, "ext4") as (device, place):
        for results, way in ((tmp_path / "out", Way.FREEZE), (place / "not/there/yet", Way.AS_IT_RUNS)):
            seen = look_over([device], live_options.wish_of(words, results), SystemRunner())
            assert [live.way for live in seen.live] == [way]


def test_a_freeze_that_is_too_short_leaves_nothing(tmp_path: Path) -> None:
    with live_device(tmp_path, "ext4") as (device, place):
        with (place / "large").open("wb") as file:
            for _ in range(400):
                file.write(os.urandom(MIB))
        ran = p2v("disk", "convert", "--live", "--freeze-limit", "0.15", device, tmp_path / "copy.qcow2")
        assert ran.status == 75, ran.err
        assert "time allowed was over" in ran.err
        assert names(tmp_path) == {"disk", "mnt"}
        assert can_be_written(place, 120)


def test_a_run_that_is_killed_while_file_systems_are_frozen_leaves_them_thawed_and_is_begun_anew(tmp_path: Path) -> None:
    copy = tmp_path / "copy.qcow2"
    with live_device(tmp_path, "ext4") as (device, place):
        with (place / "large").open("wb") as file:
            for _ in range(300):
                file.write(os.urandom(MIB))
        # longer than is waited for here
        words: list[str | Path] = ["disk", "convert", "--live", "--freeze-limit", "3600", device, copy]
        assert kill_when(words, started("copy"), signal.SIGKILL)
        assert can_be_written(place, 120)
        assert not copy.exists()
        ran = p2v(*words, "--progress", "plain")
        assert ran.status == 0, ran.err
        # pieces of another moment are not taken over
        assert "begun anew" in ran.err
        assert "of an earlier run" not in ran.out
    checked_copy = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", copy, checked_copy], check=True)
    checked(checked_copy, "ext4")


def test_options_that_make_no_sense_are_told(tmp_path: Path) -> None:
    for words, said in (
        (("plan", tmp_path / "x", "--freeze-limit", "5"), "--freeze-limit is for --live"),
        (("plan", tmp_path / "x", "--live", "--freeze-limit", "-1"), "0 to 86400 seconds"),
        (("convert", tmp_path / "x", "-o", tmp_path / "out", "--in-place", "--live"), "--live is for copies"),
    ):
        ran = typed(*words)
        assert (ran.status, said in ran.err) == (64, True), ran.err
