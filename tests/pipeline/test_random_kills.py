"""Real processes, killed and interrupted at random: the whole process group, at any moment from its start to its end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from converters.compare import compare_disks
from converters.copy import copy_disk
from converters.image import open_disk
from converters.qemu_img import QemuImg
from converters.target import Target, TargetFormat, open_target
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from tests.converters.memory_disk import Kind, build
from tests.pipeline.running import names, p2v, state

QEMU = QemuImg(SystemRunner())
# checkpoints every few MiB, so that a disk of this size has many
CHILD = """
import sys
try:
    from converters import target
    from p2v.__main__ import run
except KeyboardInterrupt:
    sys.exit(130)
target.open_target.__kwdefaults__["checkpoint_bytes"] = 4 << 20
sys.exit(run(sys.argv[1:]))
"""


@dataclass
class Bench:
    """A disk of 160 MiB, half of it data, and the command that converts it."""

    folder: Path
    format: str
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.source = self.folder / "source.img"
        dice = random.Random(self.format)
        with self.source.open("wb") as file:
            for at in range(0, 160 * MIB, 16 * MIB):
                file.seek(at + 4096)
                file.write(dice.randbytes(8 * MIB))
            file.truncate(160 * MIB)
        self.before = state(self.source)
        self.out = self.folder / "out"
        self.out.mkdir()
        self.final = self.out / "disk"

    def start(self, *options: str) -> subprocess.Popen[str]:
        words: list[str | Path] = ["disk", "convert", self.source, self.final, "--input-format", "raw", "--format", self.format]
        words += options
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def seconds(self) -> float:
        """How long an uninterrupted run takes."""
        started = time.monotonic()
        with self.start() as process:
            said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        self.final.unlink()
        return time.monotonic() - started

    def ended(self, sig: signal.Signals, after: float) -> tuple[int, str]:
        """A run that gets a signal after some seconds: its status and what it said."""
        with self.start() as process:
            time.sleep(after)
            if process.poll() is None:
                os.killpg(process.pid, sig)
            said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def whole(self) -> bool:
        """Whether the result is there, and then it is complete."""
        found = self.source.stat()
        assert (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == self.before[1:]
        if not self.final.exists():
            return False
        with open_disk(self.source, "raw") as one, open_disk(self.final, self.format) as other:
            assert compare_disks(one, other).same
        return True

    def end(self) -> None:
        """The same command ends it, whatever was left."""
        left = names(self.out)
        if "disk" not in left or any(name.endswith(".journal") for name in left):
            ran = p2v("disk", "convert", self.source, self.final, "--input-format", "raw", "--format", self.format)
            assert ran.status == 0, ran.err
            assert "were not as" not in ran.err
            self.tally["resumed" if "earlier run" in ran.out else "from the start"] += 1
        assert self.whole()
        assert names(self.out) == {"disk"}
        self.final.unlink()


@pytest.fixture(params=["raw", "qcow2"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, str(request.param))
    yield made
    assert state(made.source) == made.before
    print(f"\n{made.format}: {dict(made.tally)}")


def killed(bench: Bench, rounds: int, seed: int) -> None:
    dice, seconds = random.Random(seed), bench.seconds()
    for _ in range(rounds):
        # up to three runs in a row, each going on where the one before was killed
        for _ in range(dice.randrange(1, 4)):
            status, said = bench.ended(signal.SIGKILL, dice.uniform(0.1, 1.1) * seconds)
            assert "Traceback" not in said
            bench.tally["killed" if status == -signal.SIGKILL else "came to its end"] += 1
            if bench.whole():
                break
        bench.end()


def test_killed_at_random_moments(bench: Bench) -> None:
    killed(bench, 4, seed=1)
    # until one was: on a host that was busy only while it was measured, all of them may have come to their end
    for seed in range(10, 20):
        if not bench.tally["killed"]:
            killed(bench, 2, seed)
    assert bench.tally["killed"]


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(2, 7))
def test_killed_at_many_random_moments(bench: Bench, seed: int) -> None:
    killed(bench, 20, seed)
    assert bench.tally["killed"] > 20
    assert bench.tally["resumed"]


def interrupted(bench: Bench, rounds: int, seed: int) -> None:
    dice, seconds = random.Random(seed), bench.seconds()
    for number in range(rounds):
        sig = (signal.SIGINT, signal.SIGTERM)[number % 2]
        status, said = bench.ended(sig, dice.uniform(0.02, 1.1) * seconds)
        # before Python looks for signals, and when p2v has done all, it is the signal that ends the process
        assert status in (0, 128 + sig, -sig), said
        assert "Traceback" not in said, said
        bench.tally[str(status)] += 1
        if status == 128 + sig and said:
            assert "the same command goes on" in said
            bench.tally["told"] += 1
        bench.whole()
        bench.end()


def test_interrupted_at_random_moments(bench: Bench) -> None:
    interrupted(bench, 6, seed=3)
    # until one met p2v at work: half of the time it is Python that begins or ends
    for seed in range(4, 10):
        if not bench.tally["told"]:
            interrupted(bench, 4, seed)
    assert bench.tally["told"]


@pytest.mark.matrix
def test_interrupted_at_many_random_moments(bench: Bench) -> None:
    interrupted(bench, 60, seed=4)
    assert bench.tally["130"] > 5
    assert bench.tally["143"] > 5


SYSTEM_CALLS = ("pwritev", "pwrite64", "fallocate", "fdatasync")


@pytest.mark.matrix
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("target_format", list(TargetFormat), ids=lambda each: each.value)
def test_the_real_commit_killed_at_its_own_system_calls(tmp_path: Path, target_format: TargetFormat) -> None:
    """What qemu-img had written of the changes is taken from the source again, and the commit then ends as it should."""
    stretches = [*[(Kind.STORED, 1500 * KIB), (Kind.HOLE, 1100 * KIB)] * 8]
    disk = build(tmp_path / "source", stretches)
    (tmp_path / "flat").write_bytes(disk.data)
    overlay, expected = tmp_path / "overlay", tmp_path / "expected"
    QEMU.create_overlay(overlay, tmp_path / "flat", "raw", disk.virtual_size)
    changes = ["write -P 0xEE 0 3M", "write -z 4M 2M", "write -P 0xDD 9M 5M", "write -P 0xCC 15M 700k"]
    SystemRunner().run(["qemu-io", "-f", "qcow2", *[w for c in changes for w in ("-c", c)], str(overlay)], timeout=60)
    QEMU.convert(overlay, "qcow2", expected, "raw")

    def opened() -> Target:
        return open_target(tmp_path / "disk.partial", target_format, disk.virtual_size, "one", checkpoint_bytes=4 * MIB)

    killed = 0
    for call in SYSTEM_CALLS:
        for when in (1, 2, 3):
            with opened() as target:
                copy_disk(disk, target.writer, report=silent)
                target.finish_copy()
                QEMU.rebase_unsafe(overlay, target.path, target_format.value)
                target.note_committing(QEMU.changed_ranges(overlay))
                inject = [f"inject={call}:signal=KILL:when={when}", "-o", "/dev/null"]
                commit = ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(overlay)]
                argv = ["strace", "-f", "-e", f"trace={call}", "-e", *inject, *commit]
                killed += subprocess.run(argv, check=False, timeout=60).returncode in (137, -9)
            with opened() as target:
                assert target.restart_reason == ""
                assert 0 < target.resumed_bytes < disk.virtual_size
                copy_disk(disk, target.writer, report=silent)
                target.finish_copy()
                assert not target.remarks
                with target.path.open("rb") if target_format is TargetFormat.RAW else nullcontext() as copied:
                    assert copied is None or copied.read() == disk.data
    assert killed >= 5
    with opened() as target:
        copy_disk(disk, target.writer, report=silent)
        target.finish_copy()
        QEMU.rebase_unsafe(overlay, target.path, target_format.value)
        target.note_committing(QEMU.changed_ranges(overlay))
        QEMU.commit(overlay, target.path, target_format.value)
        target.publish(tmp_path / "disk")
    assert QEMU.compare(tmp_path / "disk", target_format.value, expected, "raw")
    print(f"\n{killed} of {3 * len(SYSTEM_CALLS)} commits were killed")


def test_a_second_run_is_told_to_wait_and_a_dead_ones_lock_is_no_obstacle(bench: Bench) -> None:
    # so slowly that it is at it when it is stopped, however late that is
    with bench.start("--limit", "256K") as first:
        while not (bench.out / "disk.partial").exists():
            assert first.poll() is None
            time.sleep(0.005)
        os.killpg(first.pid, signal.SIGSTOP)
        ran = p2v("disk", "convert", bench.source, bench.final, "--input-format", "raw", "--format", bench.format)
        assert ran.status == 75, ran.err
        assert "another run is writing it" in ran.err
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    assert (bench.out / "disk.partial.journal").exists()
    bench.end()
