"""A run that is killed at its phases: the source is untouched, nothing has a final name, the next run ends well."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2v.record import ConversionRecord, load_record
from tests.fixtures import guest, packed
from tests.pipeline.running import compare_outside, kill_when, names, p2v, programs_with, proven, started, state


def _some_bytes(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "bytes-done" and event["phase"] == "copy")


FINAL = {"vm.qcow2", "vm.xml", "vm.sh", "vm.json"}
# In this order, each run going on where the one before was killed.
PHASES: tuple[tuple[str, Callable[[dict[str, Any]], bool], signal.Signals], ...] = (
    ("inspect", started("inspect"), signal.SIGKILL),
    ("copy", _some_bytes, signal.SIGKILL),
    ("appliance", started("appliance"), signal.SIGTERM),
    ("apply", started("apply"), signal.SIGKILL),
    ("check-after", started("check-after"), signal.SIGINT),
    ("commit", started("commit"), signal.SIGKILL),
    ("publish", started("publish"), signal.SIGKILL),
)
# One by each signal, in the copy, in a launch, in an appliance that works, and between the renames. In the commit is the row below.
OFTEN = ("copy", "appliance", "check-after", "publish")
EVERY = tuple(phase for phase, _, _ in PHASES)


@pytest.mark.appliance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("phases", "options"),
    [
        pytest.param(OFTEN, (), id="often"),
        *(
            pytest.param(EVERY, options, id=" ".join(options) or "every", marks=pytest.mark.matrix)
            for options in (
                (),
                ("--compress=zstd",),
                ("--compress=deflate", "--cluster-size", "256K"),
                ("--preallocation", "metadata"),
            )
        ),
    ],
)
def test_killed_at_every_phase_one_after_the_other(tmp_path: Path, phases: tuple[str, ...], options: tuple[str, ...]) -> None:
    source, out = packed("vmware", "vmdk-sparse"), tmp_path / "out"
    before = state(source)
    words: list[str | Path] = ["convert", source, "-o", out, "--name", "vm", *options]
    for phase, reached, sig in (each for each in PHASES if each[0] in phases):
        assert kill_when(words, reached, sig), phase
        assert state(source) == before, phase
        assert phase == "publish" or not names(out) & FINAL, phase
        assert programs_with(str(tmp_path)) == [], phase
    if names(out) != FINAL:  # else the signal came too late to stop the last rename
        ran = p2v(*words, "--progress", "plain")
        assert ran.status == 0, ran.err
    assert names(out) == FINAL
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", out / "vm.qcow2"], check=True)
    record = load_record(out / "vm.json")
    assert record.disks[0].resumed_bytes > 0
    assert len(record.applied) == len(record.document.plan.changes)
    assert state(source) == before
    _compare_with_the_source(out / "vm.qcow2", record)
    proven(out / "vm.json", "-o", tmp_path / "proof.json")
    _finish_publishing(words, out)


def _compare_with_the_source(disk: Path, record: ConversionRecord) -> None:
    raw = disk.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw], check=True)
    try:
        compare_outside(guest("vmware"), raw, [(r.offset, r.length) for r in record.disks[0].changed])
    finally:
        raw.unlink()


def _finish_publishing(words: Sequence[str | Path], out: Path) -> None:
    """As a run leaves it that was killed between its renames: the next one renames the rest, and nothing else."""
    for name in ("vm.xml", "vm.json"):
        (out / name).rename(out / f"{name}.partial")
    disk = state(out / "vm.qcow2")
    ran = p2v(*words, "--progress", "json")
    assert ran.status == 0, ran.err
    assert names(out) == FINAL
    assert state(out / "vm.qcow2") == disk
    assert '"copy"' not in ran.err
    # what is there is not what the record says was made: nothing is passed off as the result
    (out / "vm.json").rename(out / "vm.json.partial")
    (out / "vm.xml").write_text("mine")
    ran = p2v(*words, "--progress", "none")
    assert ran.status == 73, ran.err
    assert (out / "vm.xml").read_text() == "mine"


@pytest.mark.boots
@pytest.mark.timeout(1800)
def test_killed_while_the_result_boots(tmp_path: Path) -> None:
    source, out = packed("vmware", "vmdk-stream"), tmp_path / "out"
    before = state(source)
    words: list[str | Path] = ["convert", source, "-o", out, "--name", "vm", "--verify"]
    assert kill_when(words, started("boot"), signal.SIGKILL)
    assert programs_with(str(tmp_path)) == []
    assert state(source) == before
    assert not names(out) & FINAL


@pytest.mark.appliance
@pytest.mark.timeout(1800)
def test_an_interrupted_copy_gives_the_same_disk_as_one_that_was_not(tmp_path: Path) -> None:
    """Resumed after a kill in the commit, the contents outside what was rewritten are the source's."""
    source = packed("vmware", "vhd-dynamic")
    for number in range(5):
        out = tmp_path / f"out{number}"
        words: list[str | Path] = ["convert", source, "-o", out, "--name", "vm", "--format", "raw", "--checksum"]
        assert kill_when(words, started("commit"), signal.SIGKILL)
        if not names(out) & {"vm.img", "vm.json"}:
            break  # else the signal came when all was done: a commit takes no time
    ran = p2v(*words)
    assert ran.status == 0, ran.err
    record = load_record(out / "vm.json")
    result = out / "vm.img"
    assert result.stat().st_size >= guest("vmware").stat().st_size
    with result.open("r+b") as file:
        # VHD rounds sizes up to its geometry
        file.truncate(guest("vmware").stat().st_size)
    compare_outside(guest("vmware"), result, [(r.offset, r.length) for r in record.disks[0].changed])
