"""The choice of what is not copied, and finding it again for the proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from converters.image import open_disk
from converters.info import SourceIdentity
from p2v.core.events import silent
from p2v.left_out import left_out_records, select
from p2v.record import DiskRecord
from p2v.record.as_copied import sources_as_copied
from tests.converters.allocation.made import MIB
from tests.drivers.making import make_disk, make_ext, patch


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    part = make_ext(tmp_path / "part", 8 * MIB)
    return make_disk(tmp_path / "disk", 12 * MIB, "2048,16384\n", [(MIB, part)])


def record(disk: Path) -> DiskRecord:
    with open_disk(disk, "raw") as reader:
        (left_out,) = select([reader], silent, all_blocks=False).disks
    identity = SourceIdentity((), "raw", "", 12 * MIB, "", "")
    nothing = DiskRecord("disk", "vm.qcow2", 12 * MIB, 0, 0, 0, (), identity)
    return replace(nothing, left_out=left_out_records(left_out), left_out_digest=left_out.digest())


def test_the_proof_reads_the_source_as_it_was_copied(disk: Path) -> None:
    made = record(disk)
    (kind,) = made.left_out
    assert kind.kind == "free blocks of ext2/3/4"
    patch(disk, 8 * MIB, b"\xaa" * MIB)
    with open_disk(disk, "raw") as reader:
        found = sources_as_copied([reader], [made])
        assert found.changed == ()
        assert found.views([reader])[0].pread(MIB, 8 * MIB) == bytes(MIB)


def test_a_source_in_which_other_blocks_are_free_is_told(disk: Path) -> None:
    made = record(disk)
    patch(disk, MIB + 1024 + 0x3A, b"\0\0")
    patch(disk, 8 * MIB, b"\xaa" * MIB)
    with open_disk(disk, "raw") as reader:
        found = sources_as_copied([reader], [made])
        assert found.changed == (0,)
        assert found.views([reader])[0].pread(MIB, 8 * MIB) == b"\xaa" * MIB


def test_nothing_is_left_out_when_all_blocks_are_wanted(disk: Path) -> None:
    with open_disk(disk, "raw") as reader:
        chosen = select([reader], silent, all_blocks=True)
        assert [left_out.total for left_out in chosen.disks] == [0]
        assert chosen.volumes == ()
        whole = replace(record(disk), left_out=(), left_out_digest=chosen.disks[0].digest())
        assert sources_as_copied([reader], [whole]).views([reader]) == (reader,)
