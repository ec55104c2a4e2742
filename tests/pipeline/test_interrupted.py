"""A run that is killed at any phase: the source is untouched, nothing has a final name, the next run ends well."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2v.record import load_record
from tests.fixtures import packed
from tests.pipeline.running import kill_when, names, p2v, programs_with, started, state


def _some_bytes(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "bytes-done" and event["phase"] == "copy")


PHASES: tuple[tuple[str, Callable[[dict[str, Any]], bool], signal.Signals], ...] = (
    ("copy", _some_bytes, signal.SIGKILL),
    ("appliance", started("appliance"), signal.SIGTERM),
    ("apply", started("apply"), signal.SIGKILL),
    ("commit", started("commit"), signal.SIGKILL),
)


@pytest.mark.appliance
@pytest.mark.parametrize("phase,reached,sig", PHASES, ids=[p[0] for p in PHASES])
def test_killed_at_a_phase(
    tmp_path: Path, phase: str, reached: Callable[[dict[str, Any]], bool], sig: signal.Signals
) -> None:
    source = packed("vmware", "vmdk-sparse")
    before = state(source)
    words: list[str | Path] = ["convert", source, "-o", tmp_path / "out", "--name", "vm"]
    assert kill_when(words, reached, sig)
    assert state(source) == before
    final = {"vm.qcow2", "vm.xml", "vm.sh", "vm.json"}
    assert not names(tmp_path / "out") & final
    assert programs_with(str(tmp_path)) == []
    ran = p2v(*words, "--progress", "plain")
    assert ran.status == 0, ran.err
    assert names(tmp_path / "out") == final
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", tmp_path / "out" / "vm.qcow2"], check=True)
    record = load_record(tmp_path / "out" / "vm.json")
    if phase in ("apply", "commit"):
        assert record.disks[0].resumed_bytes > 0
    assert len(record.applied) == len(record.document.plan.changes)
    assert state(source) == before


@pytest.mark.appliance
def test_an_interrupted_copy_gives_the_same_disk_as_one_that_was_not(tmp_path: Path) -> None:
    """Resumed after a kill in the commit, the contents outside what was rewritten are the source's."""
    source = packed("vmware", "vhd-dynamic")
    words: list[str | Path] = ["convert", source, "-o", tmp_path / "out", "--name", "vm", "--format", "raw", "--checksum"]
    assert kill_when(words, started("commit"), signal.SIGKILL)
    ran = p2v(*words)
    assert ran.status == 0, ran.err
    record = load_record(tmp_path / "out" / "vm.json")
    from tests.fixtures import guest
    from tests.pipeline.test_convert import _compare_outside

    result = tmp_path / "out" / "vm.img"
    assert result.stat().st_size >= guest("vmware").stat().st_size
    with result.open("r+b") as file:
        # VHD rounds sizes up to its geometry
        file.truncate(guest("vmware").stat().st_size)
    _compare_outside(guest("vmware"), result, [(r.offset, r.length) for r in record.disks[0].changed])
