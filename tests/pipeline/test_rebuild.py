"""``--rebuild-initramfs`` on a real Debian guest: its own update-initramfs runs in the appliance, and the result boots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2v.record import load_record
from tests.fixtures import packed
from tests.pipeline.running import p2v, proven

_SECONDS = 2400.0


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(2700)
def test_a_debian_guest_builds_its_initramfs_itself_and_boots_from_virtio(tmp_path: Path) -> None:
    source = packed("vmware", "vmdk-sparse")
    words = ["convert", source, "-o", tmp_path, "--name", "vm", "--rebuild-initramfs", "--verify"]
    ran = p2v(*words, seconds=_SECONDS)  # type: ignore[arg-type]
    assert ran.status == 0, ran.err
    proven(tmp_path / "vm.json")
    record = load_record(tmp_path / "vm.json")
    assert any(applied.summary.startswith("run /usr/sbin/update-initramfs") for applied in record.applied)
    assert record.boot is not None
    assert record.boot.booted
    assert record.boot.report is not None
    assert record.boot.report.root_device == "/dev/vda1"
    before, after = (_initramfs(disk) for disk in (source, tmp_path / "vm.qcow2"))
    assert before["sha256"] != after["sha256"]
    # built in one piece, not appended to
    assert len(after["members"]) == 1
    assert {"virtio_pci", "virtio_blk"} <= set(after["modules"])


def _initramfs(disk: Path) -> dict[str, list[str]]:
    ran = p2v("inspect", disk, "--json")
    assert ran.status == 0, ran.err
    (kernel,) = json.loads(ran.out)["facts"]["kernels"]
    return dict(kernel["initramfs"])
