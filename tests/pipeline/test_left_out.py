"""A guest full of deleted files: they do not travel, everything else does, and (`make matrix`) it boots."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from converters.allocation.unused import find_unused
from converters.image import open_disk
from p2v.core.units import KIB, MIB
from p2v.record import load_record
from tests.drivers.placing import swap_file
from tests.fixtures import guest
from tests.fixtures.disk import NewFile, edit, read_file
from tests.pipeline.running import p2v, proven, sha256

POISON = b"\xaa" * 4096
SWAP_BYTES = 64 * MIB
SWAP_FILES = "contents of swap files"


def poisoned(source: Path, copy: Path) -> int:
    """A copy of a raw disk with a swap file, and something in all that is free; how many bytes that is."""
    shutil.copy(source, copy)
    copy.chmod(stat.S_IRUSR | stat.S_IWUSR)
    fstab = read_file(copy, "/etc/fstab") + b"/swapfile none swap sw 0 0\n"
    swap = swap_file(copy.with_suffix(".swap"), SWAP_BYTES)
    edit(copy, [NewFile("/etc/fstab", fstab), NewFile("/swapfile", swap, 0o600)])
    with open_disk(copy, "raw") as reader:
        (left_out,) = find_unused([reader]).disks
    with copy.open("r+b") as file:
        for each in left_out:
            for at in range(each.offset, each.end, MIB):
                file.seek(at)
                file.write((POISON * (MIB // len(POISON)))[: min(MIB, each.end - at)])
    return left_out.total


def pages_of_poison(disk: Path) -> int:
    found = 0
    with open_disk(disk) as reader:
        for extent in reader.extents():
            for at in range(extent.offset, extent.offset if extent.zero else extent.end, MIB):
                piece = reader.pread(min(MIB, extent.end - at), at)
                found += sum(piece[start : start + 4096] == POISON for start in range(0, len(piece), 4096))
    return found


@pytest.mark.appliance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(False, id="converted"),
        # that a guest of which all of this stayed behind starts is seen in every other that is booted
        pytest.param(True, id="booted", marks=[pytest.mark.boots, pytest.mark.matrix]),
    ],
)
def test_deleted_files_do_not_travel_unless_asked_for(tmp_path: Path, boot: bool) -> None:
    source, out = tmp_path / "full.raw", tmp_path / "out"
    free = poisoned(guest("vmware"), source)
    before = sha256(source)
    ran = p2v("convert", source, "-o", out, "--name", "vm", *(["--verify"] if boot else []), "--progress", "none")
    assert ran.status == 0, ran.err
    record = load_record(out / "vm.json")
    (disk,) = record.disks
    amounts = {each.kind: each.length for each in disk.left_out}
    assert set(amounts) == {"free blocks of ext2/3/4", "contents of swap", SWAP_FILES}
    assert amounts.pop(SWAP_FILES) == SWAP_BYTES - 64 * KIB
    assert sum(amounts.values()) == free > 2048 * MIB
    assert disk.written_bytes < 3072 * MIB - free - SWAP_BYTES + MIB
    assert [volume.why_whole for volume in record.allocation] == ["", ""]
    assert "what was deleted in the guest is not in the result" in ran.out
    assert "/swapfile (disk 1, partition 1) is there, without its contents" in ran.out
    assert pages_of_poison(out / "vm.qcow2") == 0
    if boot:
        assert record.boot is not None
        assert record.boot.booted
        # it swaps to the file: what is kept of it is a swap area
        assert record.boot.report is not None
        assert record.boot.report.failed_units == ()
    proven(out / "vm.json")
    assert sha256(source) == before
    if boot:
        _everything_travels(source, out, free)


def _everything_travels(source: Path, out: Path, free: int) -> None:
    """By --all-blocks, which tests/pipeline/test_unreadable_sources.py asks of a smaller guest in every run."""
    shutil.rmtree(out)
    ran = p2v("convert", source, "-o", out, "--name", "vm", "--all-blocks", "--progress", "none")
    assert ran.status == 0, ran.err
    record = load_record(out / "vm.json")
    assert not record.disks[0].left_out
    assert "what was deleted" not in ran.out
    assert pages_of_poison(out / "vm.qcow2") * 4096 > free - 64 * MIB
