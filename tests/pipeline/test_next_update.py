"""The guest's own next update keeps what was done: its update-initramfs and update-grub, run in the booted result."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.acceleration import acceleration
from p2v.core.run import SystemRunner, background
from p2v.record import ConversionRecord, load_record
from p2v.targets.hardware import TargetDisk
from p2v.targets.qemu import Wiring, qemu_arguments
from tests.fixtures import disk, packed
from tests.pipeline.running import p2v

_SECONDS = 1000.0
_UNIT = """[Unit]
Description=The update that this guest will run one day
After=local-fs.target

[Service]
Type=oneshot
ExecStart=/bin/sh /etc/p2v-test-update
StandardOutput=null
"""
_SCRIPT = """exec >/dev/ttyS0 2>&1
rm /etc/systemd/system/multi-user.target.wants/p2v-test-update.service
{ update-initramfs -u -k all && update-grub; }
echo "update ended with $?"
systemctl poweroff
"""
_UNIT_PATH = "/etc/systemd/system/p2v-test-update.service"


@pytest.mark.boots
@pytest.mark.timeout(1500)
def test_update_in_the_booted_result_still_boots_from_virtio(tmp_path: Path) -> None:
    ran = p2v("convert", packed("vmware", "raw"), "-o", tmp_path, "--name", "vmguest", "--format", "raw")
    assert ran.status == 0, ran.err
    record = load_record(tmp_path / "vmguest.json")
    image = tmp_path / "vmguest.img"
    appended = _initramfs(image)
    disk.edit(
        image,
        [
            disk.NewFile("/etc/p2v-test-update", _SCRIPT.encode()),
            disk.NewFile(_UNIT_PATH, _UNIT.encode()),
            disk.NewLink("/etc/systemd/system/multi-user.target.wants/p2v-test-update.service", _UNIT_PATH),
        ],
    )
    assert "update ended with 0" in _run_to_its_end(record, tmp_path)
    rebuilt = _initramfs(image)
    assert rebuilt["sha256"] != appended["sha256"], "the update did not write a new initramfs"
    assert {"virtio_pci", "virtio_blk", "virtio_scsi"} <= set(rebuilt["modules"])
    config = disk.read_file(image, "/boot/grub/grub.cfg").decode()
    kernels = re.findall(r"^\s*linux\s.*$", config, re.MULTILINE)
    assert kernels
    assert all("root=UUID=" in line and "/dev/sd" not in line for line in kernels)
    checked = p2v("verify", image, "--json", "--progress", "none")
    assert checked.status == 0, checked.err + checked.out
    assert json.loads(checked.out)["report"]["root_device"] == "/dev/vda1"


def _initramfs(image: Path) -> dict[str, list[str]]:
    ran = p2v("inspect", image, "--json")
    assert ran.status == 0, ran.err
    (kernel,) = json.loads(ran.out)["facts"]["kernels"]
    return dict(kernel["initramfs"])


def _run_to_its_end(record: ConversionRecord, folder: Path) -> str:
    """Boot the disk itself, writable, and wait until the guest switches itself off; returns what it said."""
    serial = folder / "serial.log"
    hardware = replace(record.hardware, disks=(TargetDisk(Path("vmguest.img"), "raw"),))
    wiring = Wiring(netdev="user,restrict=on", rest=("-display", "none", "-serial", f"file:{serial}", "-no-reboot"))
    argv = qemu_arguments(hardware, acceleration(SystemRunner()), wiring, folder)
    with background(argv, ends_with_us=True) as qemu:
        begun = time.monotonic()
        while qemu.running() and time.monotonic() - begun < _SECONDS:
            time.sleep(0.5)
        assert not qemu.running(), serial.read_text("utf-8", "replace")[-2000:]
    subprocess.run(["sync"], check=True)
    return serial.read_text("utf-8", "replace")
