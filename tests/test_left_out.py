"""The choice of what is not copied, and finding it again for the proof."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from converters.allocation import runs, swap
from converters.image import open_disk
from converters.info import SourceIdentity
from drivers.facts import GuestFacts
from drivers.file_places import places_confined
from drivers.inspection import inspect_disks
from drivers.unneeded import unneeded_files
from p2v.core.events import silent
from p2v.core.units import KIB
from p2v.left_out import Wanted, left_out_records, select
from p2v.record import ConversionRecord, DiskRecord
from p2v.record.as_copied import sources_as_copied
from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, NEEDS_MOUNTS, needs
from tests.drivers.making import ROOT_UUID, SYSTEM, lay_files, make_disk, make_ext, patch
from tests.record.making import filled_record

FREE, SWAP, PAGES, ASLEEP = (
    "free blocks of ext2/3/4", "contents of swap files", "contents of page files", "contents of hiberfil.sys",
)  # fmt: skip
NOTHING_SAID = Wanted()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    part = make_ext(tmp_path / "part", 8 * MIB)
    return make_disk(tmp_path / "disk", 12 * MIB, "2048,16384\n", [(MIB, part)])


def facts_of(disk: Path) -> GuestFacts:
    with open_disk(disk, "raw") as reader:
        return inspect_disks([reader])


def record(disk: Path, wanted: Wanted = NOTHING_SAID) -> ConversionRecord:
    """What a conversion of a disk would tell of what it left out."""
    facts = facts_of(disk)
    with open_disk(disk, "raw") as reader:
        selection = select([reader], facts, silent, wanted)
    (left_out,) = selection.disks
    identity = SourceIdentity((), "raw", "", 12 * MIB, "", "")
    nothing = DiskRecord("disk", "vm.qcow2", 12 * MIB, 0, 0, 0, (), identity)
    made_of = replace(nothing, left_out=left_out_records(left_out), left_out_digest=left_out.digest())
    filled = filled_record()
    document = replace(filled.document, facts=facts)
    return replace(
        filled, document=document, disks=(made_of,), allocation=selection.volumes, unneeded=selection.files
    )


def amounts(record: ConversionRecord) -> dict[str, int]:
    return {each.kind: each.length for each in record.disks[0].left_out}


def test_the_proof_reads_the_source_as_it_was_copied(disk: Path) -> None:
    copied = record(disk)
    (kind,) = copied.disks[0].left_out
    assert kind.kind == "free blocks of ext2/3/4"
    patch(disk, 8 * MIB, b"\xaa" * MIB)
    with open_disk(disk, "raw") as reader:
        found = sources_as_copied([reader], copied)
        assert found.changed == ()
        assert found.views([reader])[0].pread(MIB, 8 * MIB) == bytes(MIB)


def test_a_source_in_which_other_blocks_are_free_is_told(disk: Path) -> None:
    copied = record(disk)
    patch(disk, MIB + 1024 + 0x3A, b"\0\0")
    patch(disk, 8 * MIB, b"\xaa" * MIB)
    with open_disk(disk, "raw") as reader:
        found = sources_as_copied([reader], copied)
        assert found.changed == (0,)
        assert found.views([reader])[0].pread(MIB, 8 * MIB) == b"\xaa" * MIB


def test_nothing_is_left_out_when_all_blocks_are_wanted(disk: Path) -> None:
    with open_disk(disk, "raw") as reader:
        chosen = select([reader], facts_of(disk), silent, Wanted(all_blocks=True))
        assert [left_out.total for left_out in chosen.disks] == [0]
        assert chosen.volumes == ()
        before = record(disk)
        whole = replace(before, disks=(replace(before.disks[0], left_out=(), left_out_digest=chosen.disks[0].digest()),))
        assert sources_as_copied([reader], whole).views([reader]) == (reader,)


# --- files that nobody needs --------------------------------------------------------------------------------------------


@pytest.fixture
def with_swap_file(tmp_path: Path) -> Path:
    """A Linux whose fstab names two swap files, one of which is something else."""
    fstab = f"UUID={ROOT_UUID} / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n/etc/letters none swap sw 0 0\n"
    files = lay_files(tmp_path / "files", {**SYSTEM, "/etc/fstab": fstab, "/etc/letters": "dear all, " * 30_000})
    (files / "swapfile").write_bytes(os.urandom(3 * MIB))
    made.run("mkswap", files / "swapfile")
    part = make_ext(tmp_path / "part", 24 * MIB, files, "-b", "4096")
    return make_disk(tmp_path / "disk", 32 * MIB, "2048,49152\n", [(MIB, part)])


def test_the_contents_of_a_swap_file_are_left_out_and_found_again(with_swap_file: Path) -> None:
    copied = record(with_swap_file)
    assert amounts(copied)[SWAP] == 3 * MIB - 64 * KIB
    told = {each.file.path: (each.left_out_bytes, each.why_whole) for each in copied.unneeded}
    assert told == {"/swapfile": (3 * MIB - 64 * KIB, ""), "/etc/letters": (0, "it has no header of a swap area")}
    with open_disk(with_swap_file, "raw") as reader:
        found = sources_as_copied([reader], copied)
        assert found.changed == ()
        (again,) = found.left_out
        assert again.by_kind() == amounts(copied)
        where = next(each for each in again if each.kind == SWAP)
        assert reader.pread(4096, where.offset) != bytes(4096)
        assert found.views([reader])[0].pread(4096, where.offset) == bytes(4096)


def test_a_record_that_calls_another_file_a_swap_file_is_not_believed(with_swap_file: Path) -> None:
    copied = record(with_swap_file)
    swap_file, letters = copied.unneeded
    forged = replace(copied, unneeded=(swap_file, replace(letters, why_whole="", left_out_bytes=300_000)))
    with open_disk(with_swap_file, "raw") as reader:
        (gone,) = sources_as_copied([reader], forged).left_out
        assert gone.by_kind() == amounts(copied)


def test_all_blocks_takes_swap_files_along(with_swap_file: Path) -> None:
    assert amounts(record(with_swap_file, Wanted(all_blocks=True))) == {}


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
def test_windows_files_are_left_out_and_its_hibernation_when_asked_for(tmp_path: Path) -> None:
    part = made.poisoned(tmp_path / "part", 40 * MIB)
    made.run("mkntfs", "-q", "-F", "-Q", part)
    with made.mounted_ntfs(part) as folder:
        for name in ("pagefile.sys", "hiberfil.sys"):
            (folder / name).write_bytes(bytes(4096) + os.urandom(4 * MIB))
            os.setxattr(folder / name, "system.ntfs_attrib_be", (0x26).to_bytes(4, "big"))
    disk = make_disk(tmp_path / "disk", 42 * MIB, "2048,81920,7\n", [(MIB, part)])
    size = 4 * MIB + 4096
    assert {**amounts(record(disk)), "free clusters of NTFS": 0} == {"free clusters of NTFS": 0, PAGES: size}
    both = record(disk, Wanted(skip_hibernation=True))
    assert amounts(both)[ASLEEP] == size - 64 * KIB
    with open_disk(disk, "raw") as reader:
        assert sources_as_copied([reader], both).changed == ()
    # a Windows that sleeps has all of its disk
    _sleep(disk)
    assert amounts(record(disk, Wanted(skip_hibernation=True))) == {}


def _sleep(disk: Path) -> None:
    facts = facts_of(disk)
    with open_disk(disk, "raw") as reader:
        places = places_confined(unneeded_files(facts, hibernation=True), facts, [reader])
    (hiberfil,) = (each for each in places if each.file.path == "/hiberfil.sys")
    patch(disk, hiberfil.segments[0].disk_offset, b"hibr")


def test_what_records_of_earlier_versions_rest_on_stays_as_it_is() -> None:
    """With other numbers other places are found, and the proof of a record made before fails.

    Who changes one has to keep the old ones for records of earlier versions (``ConversionRecord.suite_version``).
    """
    assert (runs.LEAST_RUN_BYTES, runs.RUNS_AT_MOST, swap.KEPT_BYTES) == (65536, 524288, 65536)
