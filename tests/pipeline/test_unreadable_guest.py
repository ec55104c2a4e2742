"""A guest whose disk has bad sectors in a file and in a folder: what is left of it is converted, told, and proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.image import open_disk
from drivers.layout import lay_out
from p2v.core.owners import OwnerKind
from p2v.record import load_record
from tests.drivers.making import run
from tests.faulty_files import NEEDS_FUSE, Faults, faulty_file
from tests.fixtures import guest
from tests.pipeline.running import p2v, proven

BLOCK = 4096


@NEEDS_FUSE
@pytest.mark.appliance
@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_a_damaged_guest_is_converted_with_losses_and_proven(tmp_path: Path) -> None:
    source = guest("vmware")
    with open_disk(source, "raw") as reader:
        root = next(part for part in lay_out([reader]).partitions if part.filesystem and part.filesystem.kind == "ext4")

    def place(path: str, number: int) -> int:
        blocks = run("debugfs", "-R", f"blocks {path}", f"{source}?offset={root.offset}").split()
        return root.offset + int(blocks[number]) * BLOCK

    file, folder = place("/usr/bin/perl", 10), place("/usr/share/doc", 0)
    with faulty_file(tmp_path, source, Faults(bad=((file, 512), (folder, BLOCK)))) as faulty:
        ran = p2v(
            "convert", faulty.path, "-o", tmp_path / "out", "--name", "vm", "--input-format", "raw", "--skip-bad-sectors",
            "--progress", "plain", seconds=900,
        )  # fmt: skip
        assert ran.status == 2, ran.err
        assert "is damaged" in ran.err
        assert "DAMAGED" in ran.out
        record = load_record(tmp_path / "out/vm.json")
        hits = {(each.offset, each.holds, each.name) for each in record.disks[0].unreadable}
        assert {(file, OwnerKind.FILE, "/usr/bin/perl"), (folder, OwnerKind.FOLDER, "/usr/share/doc")} <= hits
        proven(tmp_path / "out/vm.json")
