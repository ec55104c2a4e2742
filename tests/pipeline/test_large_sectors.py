"""A guest whose disk has sectors of 4096 bytes: known as such from its image alone, converted, and started by UEFI."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from p2v.record import load_record
from tests.large_sectors import uefi_guest
from tests.loop_devices import NEEDS_LOOP_DEVICES
from tests.pipeline.running import p2v, proven, state

pytestmark = NEEDS_LOOP_DEVICES


def test_a_guest_on_large_sectors_is_planned_for_hardware_that_has_them(tmp_path: Path) -> None:
    image = uefi_guest(tmp_path)
    ran = p2v("plan", image, "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert document["facts"]["read_by"] == "host"
    assert document["facts"]["disks"][0]["sector_bytes"] == 4096
    assert {mount["mountpoint"] for mount in document["facts"]["mounts"]} >= {"/", "/boot/efi"}
    assert document["plan"]["blockers"] == []
    (disk,) = document["hardware"]["disks"]
    assert (disk["logical_sector_bytes"], disk["physical_sector_bytes"]) == (4096, 4096)
    shown = p2v("plan", image, "--firmware", "bios")
    assert "sectors of 4096 bytes: disk 1" in shown.out
    assert "a PC's BIOS starts from none such" in shown.out
    assert "4096 bytes, physical 4096" in p2v("inspect", image).out


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_a_guest_on_large_sectors_converts_and_boots(tmp_path: Path, disk_format: str) -> None:
    source = uefi_guest(tmp_path)
    before = state(source)
    out = tmp_path / "out"
    ran = p2v("convert", source, "-o", out, "--name", "vm", "--format", disk_format, "--verify", seconds=1800)
    assert ran.status == 0, ran.err
    record = load_record(out / "vm.json")
    assert record.boot is not None
    assert record.boot.booted
    assert record.boot.report is not None
    assert record.boot.report.root_device == "/dev/vda2"
    assert "logical_block_size=4096,physical_block_size=4096" in (out / "vm.sh").read_text()
    subprocess.run(["virt-xml-validate", out / "vm.xml", "domain"], check=True)
    proven(out / "vm.json")
    assert state(source) == before
