"""Guests converted where they stand: only the ranges the record names differ, the guest boots, and undo brings back every byte."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from converters.digest import digest_disk
from converters.image import open_disk
from converters.references import DiskSpec
from converters.undo_view import open_before
from p2v.record import load_record
from tests.fixtures import guest, guest_disks
from tests.pipeline.running import compare_outside, names, p2v, proven, sha256, state


def own_copy(source: Path, target: Path) -> Path:
    """A disk of the test's own, with the holes of the fixture's."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
    target.chmod(0o600)
    return target


@pytest.mark.appliance
def test_only_the_ranges_of_the_record_change_and_undo_brings_back_the_whole(tmp_path: Path) -> None:
    disk, out = own_copy(guest("vmware"), tmp_path / "disk.raw"), tmp_path / "out"
    before = sha256(disk)
    ran = p2v("convert", "--in-place", disk, "-o", out, "--name", "vm", "--checksum")
    assert ran.status == 0, ran.err
    assert f"p2v undo {tmp_path / 'vm.undo'}" in ran.out
    assert names(tmp_path) == {"disk.raw", "vm.undo", "out"}
    assert names(out) == {"vm.json", "vm.sh", "vm.xml"}
    assert (tmp_path / "vm.undo").stat().st_mode & 0o077 == 0
    record = load_record(out / "vm.json")
    assert len(record.applied) == len(record.document.plan.changes) > 0
    assert all(check.clean for check in record.checks)
    ranges = [(each.offset, each.length) for each in record.disks[0].changed]
    assert 0 < sum(length for _, length in ranges) < 64 * 1024 * 1024
    compare_outside(guest("vmware"), disk, ranges)
    assert sha256(disk) != before
    with open_before(DiskSpec(disk, "raw"), tmp_path / "vm.undo", 0) as view, open_disk(disk, "raw") as now:
        assert digest_disk(view) == record.disks[0].source_content
        assert digest_disk(now) == record.disks[0].result_content != record.disks[0].source_content
    # what was before is what the journal has
    proven(out / "vm.json", "-o", tmp_path / "proof.json")

    # somebody has started it meanwhile
    converted = state(disk)
    with disk.open("r+b"):
        assert p2v("undo", tmp_path / "vm.undo").status == 75
    assert state(disk) == converted
    ran = p2v("undo", tmp_path / "vm.undo", "--full")
    assert ran.status == 0, ran.err
    assert sha256(disk) == before
    assert ran.out.count(before) == 2
    assert "DIFFERENT" not in ran.out
    undone = state(disk)
    ran = p2v("undo", tmp_path / "vm.undo")
    assert (ran.status, "undone already" in ran.out) == (0, True)
    assert state(disk) == undone


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(1800)
def test_a_guest_on_two_mirrored_disks_boots_before_it_is_written_and_comes_back(tmp_path: Path) -> None:
    disks = [own_copy(disk, tmp_path / f"disk{number}.raw") for number, disk in enumerate(guest_disks("md"), 1)]
    before = [sha256(disk) for disk in disks]
    ran = p2v("convert", "--in-place", *disks, "-o", tmp_path / "out", "--name", "vm", "--verify")
    assert ran.status == 0, ran.err
    record = load_record(tmp_path / "out" / "vm.json")
    assert record.boot is not None
    assert record.boot.booted
    for disk, original, recorded in zip(disks, guest_disks("md"), record.disks, strict=True):
        # a mirror: what is written to one is written to the other
        assert recorded.changed
        compare_outside(original, disk, [(each.offset, each.length) for each in recorded.changed])
    # what was booted is what is on the disks now
    phases = [line.split(":")[0] for line in ran.err.splitlines() if ": done in" in line]
    assert phases.index("journal") < phases.index("boot") < phases.index("commit")
    ran = p2v("undo", tmp_path / "vm.undo")
    assert ran.status == 0, ran.err
    assert [sha256(disk) for disk in disks] == before
