"""File systems that stand still, and are thawed whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.core.errors import NotHeldStill, NotPermitted
from p2v.core.freezing import frozen
from p2v.core.units import MIB
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted

pytestmark = NEEDS_LOOP_DEVICES
_HOLDER = """
import sys, time
from pathlib import Path
from p2v.core.freezing import frozen
with frozen([Path(sys.argv[1])], 3600):
    print("frozen", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with loop_device(tmp_path / "disk", 16 * MIB) as device:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
        with mounted(device, tmp_path / "mnt") as at:
            try:
                yield at
            finally:
                subprocess.run(["fsfreeze", "--unfreeze", at], capture_output=True, check=False)


def can_be_written(place: Path, seconds: float) -> bool:
    """Whether a write ends in a time; a program of its own does it, as nothing can end one that waits."""
    writer = subprocess.Popen(["touch", place / "written"])
    try:
        return writer.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        writer.kill()
        return False


def guards() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"p2v.core.freeze_guard" not in words:
                continue
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
        if parent == os.getpid():
            found.append(int(entry.name))
    return found


def test_nothing_is_written_while_a_file_system_is_frozen(place: Path) -> None:
    with frozen([place], 3600) as state:
        assert not can_be_written(place, 0.5)
    state.require_kept()
    assert state.seconds >= 0.5
    assert can_be_written(place, 120)


def test_it_is_thawed_when_an_error_ends_the_work(place: Path) -> None:
    with pytest.raises(ZeroDivisionError), frozen([place], 3600):
        raise ZeroDivisionError
    assert can_be_written(place, 120)


def test_it_is_thawed_when_the_time_is_up_and_that_is_told(place: Path) -> None:
    lost = threading.Event()
    with frozen([place], 5, lost.set) as state:
        assert lost.wait(60)
        assert can_be_written(place, 120)
    with pytest.raises(NotHeldStill, match="time allowed"):
        state.require_kept()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_thawed_when_the_program_is_killed(place: Path, sig: signal.Signals) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, place], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"frozen\n"
        assert not can_be_written(place, 0.3)
        holder.send_signal(sig)
        assert can_be_written(place, 120)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def test_it_is_thawed_when_its_guard_is_killed(place: Path) -> None:
    lost = threading.Event()
    with frozen([place], 3600, lost.set) as state:
        (guard,) = guards()
        os.kill(guard, signal.SIGKILL)
        assert lost.wait(120)
        assert can_be_written(place, 120)
    with pytest.raises(NotHeldStill, match="killed"):
        state.require_kept()


def test_what_somebody_else_thawed_is_not_believed(place: Path) -> None:
    with frozen([place], 3600) as state:
        subprocess.run(["fsfreeze", "--unfreeze", place], check=True)
    with pytest.raises(NotHeldStill, match="somebody else"):
        state.require_kept()


def test_one_that_cannot_be_frozen_leaves_none_frozen(place: Path) -> None:
    # what the kernel keeps in memory has nothing to freeze
    with pytest.raises(NotHeldStill, match="cannot be frozen"), frozen([place, Path("/proc")], 3600):
        pytest.fail("it was frozen")
    assert can_be_written(place, 120)
    with pytest.raises(NotPermitted), frozen([place, place / "not there"], 3600):
        pytest.fail("it was frozen")
    assert can_be_written(place, 120)


def test_a_file_system_in_a_file_of_another_is_frozen_with_it(place: Path, tmp_path: Path) -> None:
    with loop_device(place / "inner", 4 * MIB) as device:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
        with mounted(device, tmp_path / "inner") as inner:
            (inner / "dirty").write_bytes(b"x" * MIB)
            # in the other order the inner one would wait for the outer one, as long as the time allowed
            with frozen([inner, place], 60) as state:
                assert not can_be_written(inner, 0.3)
            state.require_kept()
            assert can_be_written(inner, 120)


@pytest.mark.parametrize("seconds", [0.02, 0.3])
def test_time_that_is_up_while_much_is_written_back_leaves_nothing_frozen(tmp_path: Path, seconds: float) -> None:
    # slow storage: what is dirty takes seconds to write back, and the kernel lets nobody end that
    with loop_device(tmp_path / "disk", 700 * MIB) as device:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
        with mounted(device, tmp_path / "mnt") as place:
            with (place / "dirty").open("wb") as file:
                for _ in range(500):
                    file.write(os.urandom(MIB))
            with pytest.raises(NotHeldStill, match="time allowed"):
                stand_still(place, seconds)
            # nobody is left who could freeze or thaw it
            assert guards() == []
            assert can_be_written(place, 120)


def stand_still(place: Path, seconds: float) -> None:
    with frozen([place], seconds) as state:
        time.sleep(1)
    state.require_kept()
