"""A guest converted onto a block device full of something else, interrupted, gone on with (and booted from it by make matrix)."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from converters.image import open_disk
from p2v.core.units import MIB
from p2v.record import load_record
from tests.fixtures import guest, packed
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device
from tests.pipeline.running import kill_when, names, p2v, programs_with, proven, state


def _copied(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "phase-finished" and event["phase"] == "copy")


def _compare_outside(source: Path, device: Path, ranges: list[tuple[int, int]]) -> None:
    """Assert that a device begins with a raw disk, but for some ranges (offset, length)."""
    size, position = source.stat().st_size, 0
    with source.open("rb") as one, device.open("rb") as other:
        for offset, length in [*sorted(ranges), (size, 0)]:
            while position < offset:
                step = min(offset - position, 1 << 22)
                assert one.read(step) == other.read(step), f"bytes differ between {position} and {position + step}"
                position += step
            position = offset + length
            one.seek(position)
            other.seek(position)


@NEEDS_LOOP_DEVICES
@pytest.mark.appliance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(False, id="converted"),
        # its bytes are the source's but for the plan in either row; a guest that starts with them is in test_convert.py
        pytest.param(True, id="booted", marks=[pytest.mark.boots, pytest.mark.matrix]),
    ],
)
def test_a_guest_is_converted_onto_a_device(tmp_path: Path, boot: bool) -> None:
    more = ("--verify", "--checksum") if boot else ("--checksum",)
    source, out = packed("vmware", "vmdk-sparse"), tmp_path / "out"
    before = state(source)
    with open_disk(source) as reader:
        size = reader.virtual_size
    with loop_device(tmp_path / "file", size + 3 * MIB) as device:
        _fill(device, size + 3 * MIB)
        words: list[str | Path] = ["convert", source, "-o", out, "--name", "vm", "--to-device", device]
        ran = p2v(*words, "--progress", "none")
        assert ran.status == 73, ran.err
        assert "not empty" in ran.err
        assert not out.exists()
        assert kill_when([*words, "--overwrite-device"], _copied, signal.SIGKILL)
        assert programs_with(str(tmp_path)) == []
        assert not names(out) & {"vm.xml", "vm.sh", "vm.json"}
        # what is on it is known to be ours: that it may be lost need not be said again
        ran = p2v(*words, *more, "--progress", "plain")
        assert ran.status == 0, ran.err
        assert "3.0 MiB larger" in ran.err
        _look_at_the_result(out, device)
        if boot:
            _look_at_the_boot(out)
        assert state(source) == before
        again = p2v("report", out / "vm.json")
        assert again.status == 0
        assert f"Written to {device}" in again.out
        _finish_what_was_left([*words, *more], out, device)
    assert programs_with(str(tmp_path)) == []


def _fill(device: Path, size: int) -> None:
    """Something at the ends and at places in between, where the disk is zero as well."""
    with device.open("r+b") as file:
        for at in (0, *range(100 * MIB, size, 400 * MIB), size - MIB):
            file.seek(at)
            file.write(b"\xff" * MIB)


def _look_at_the_result(out: Path, device: Path) -> None:
    assert names(out) - {"vm.png", "vm.boot.log"} == {"vm.xml", "vm.sh", "vm.json"}
    record = load_record(out / "vm.json")
    proven(out / "vm.json", "-o", out.parent / "proof.json")
    (disk,) = record.disks
    assert disk.target == str(device)
    assert record.hardware.disks[0].is_device
    assert disk.resumed_bytes > 100 * MIB
    assert disk.source_content != disk.result_content
    assert {output.name for output in record.outputs} == names(out) - {"vm.json"}
    _compare_outside(guest("vmware"), device, [(r.offset, r.length) for r in disk.changed])
    subprocess.run(["virt-xml-validate", out / "vm.xml", "domain"], check=True)
    block = ET.parse(out / "vm.xml").find("devices/disk")
    assert block is not None
    assert block.get("type") == "block"


def _look_at_the_boot(out: Path) -> None:
    assert {"vm.png", "vm.boot.log"} < names(out)
    boot = load_record(out / "vm.json").boot
    assert boot is not None
    assert boot.booted
    assert boot.report is not None
    assert boot.report.root_device == "/dev/vda1"


def _finish_what_was_left(words: list[str | Path], out: Path, device: Path) -> None:
    """As a run leaves it that was killed between its renames: it is finished, and is in the way of one to another device."""
    wanted = names(out)
    for name in ("vm.xml", "vm.json"):
        (out / name).rename(out / f"{name}.partial")
    ran = p2v(*words, "--progress", "json")
    assert ran.status == 0, ran.err
    assert '"copy"' not in ran.err
    assert names(out) == wanted
    (out / "vm.json").rename(out / "vm.json.partial")
    with loop_device(out.parent / "other", 4096 * MIB) as other:
        elsewhere = [other if word == device else word for word in words]
        ran = p2v(*elsewhere, "--progress", "none")
        assert ran.status == 73, ran.err
        assert not any(other.open("rb").read(MIB))
    assert names(out) == wanted
    assert load_record(out / "vm.json").disks[0].target == str(device)
