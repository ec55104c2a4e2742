"""A machine's disk with bad sectors: in a file, in a folder, in free space. No appliance is needed: nothing is changed in a DOS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from converters.image import open_disk
from p2v.core.owners import OwnerKind
from p2v.record import load_record
from tests.converters.allocation.made import free_by_dumpe2fs
from tests.drivers.making import MIB, lay_files, make_disk, make_ext, run
from tests.faulty_files import NEEDS_FUSE, Faults, FaultyFile, faulty_file
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device
from tests.pipeline.running import names, p2v

pytestmark = NEEDS_FUSE

DATA_AT, DATA_BYTES = 16 * MIB, 40 * MIB
BLOCK = 4096


@dataclass(frozen=True)
class Sample:
    disk: Path
    file: int
    """Where a block of /home/report.bin is, in bytes of the disk."""
    folder: int
    """Of the folder /home/letters."""
    free: int


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    system = folder / "fat"
    subprocess.run(["mkfs.fat", "-C", system, "8192"], check=True, stdout=subprocess.DEVNULL)
    for name in ("KERNEL.SYS", "COMMAND.COM"):
        (folder / name).write_bytes(b"x")
        subprocess.run(["mcopy", "-i", system, folder / name, f"::{name}"], check=True)
    marked = b"".join(b"report %06d\n" % number for number in range(40_000))
    letters = {f"/home/letters/{number}": "dear\n" for number in range(50)}
    tree = lay_files(folder / "tree", {"/home/report.bin": marked, **letters})
    data = make_ext(folder / "data", DATA_BYTES, tree, "-b", str(BLOCK))
    disk = make_disk(folder / "dos.raw", 64 * MIB, "2048,16384,06,*\n32768,81920,83\n", [(MIB, system), (DATA_AT, data)])
    raw = disk.read_bytes()
    (block,) = run("debugfs", "-R", "blocks /home/letters", data).split()
    (free, length) = free_by_dumpe2fs(data)[-1]
    middle = (DATA_AT + free + length // 2) // BLOCK * BLOCK
    return Sample(disk, raw.index(b"report 020000") // BLOCK * BLOCK, DATA_AT + int(block) * BLOCK, middle)


@pytest.fixture
def source(tmp_path: Path, sample: Sample) -> Iterator[FaultyFile]:
    with faulty_file(tmp_path, sample.disk) as file:
        yield file


def convert(source: Path, out: Path, *words: str) -> tuple[int, str, str]:
    fixed = ("--name", "dos", "--format", "raw", "--input-format", "raw", "--progress", "none")
    ran = p2v("convert", source, "-o", out, *fixed, *words)
    return ran.status, ran.out, ran.err


def test_a_bad_sector_ends_the_run_with_its_place_and_the_file_it_hits(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    source.set(Faults(bad=((sample.file, 512),)))
    status, _, err = convert(source.path, tmp_path / "out")
    assert status == 74
    assert f"4096 bytes at byte {sample.file} " in err
    assert "/home/report.bin in disk 1, partition 2" in err
    assert "--skip-bad-sectors" in err
    assert names(tmp_path / "out") == {"dos.img.partial", "dos.img.partial.journal"}


def test_a_bad_sector_in_what_is_left_out_is_no_loss(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    source.set(Faults(bad=((sample.free, BLOCK),)))
    status, _, err = convert(source.path, tmp_path / "out", "--limit", "200M", "--ionice", "idle")
    assert status == 0, err
    assert load_record(tmp_path / "out/dos.json").disks[0].unreadable == ()


def test_what_was_lost_is_told_proven_and_nothing_else_is_lost(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    bad = ((sample.file, BLOCK), (sample.folder, BLOCK), (sample.free, BLOCK))
    source.set(Faults(bad=bad))
    out = tmp_path / "out"
    assert convert(source.path, out, "--all-blocks")[0] == 74
    status, said, err = convert(source.path, out, "--all-blocks", "--skip-bad-sectors", "--checksum")
    assert status == 2, err
    assert "4096 bytes" in said
    assert "/home/letters in disk 1, partition 2" in said
    record = load_record(out / "dos.json")
    (disk,) = record.disks
    assert [(each.offset, each.length, each.holds, each.name) for each in disk.unreadable] == sorted([
        (sample.file, BLOCK, OwnerKind.FILE, "/home/report.bin"),
        (sample.folder, BLOCK, OwnerKind.FOLDER, "/home/letters"),
        (sample.free, BLOCK, OwnerKind.FREE, "free blocks"),
    ])  # fmt: skip
    whole, made = sample.disk.read_bytes(), (out / "dos.img").read_bytes()
    different = {at for at in range(0, len(whole), BLOCK) if whole[at : at + BLOCK] != made[at : at + BLOCK]}
    # free space of this sample is zeroes as it is
    assert different == {sample.file, sample.folder}
    assert not any(made[sample.file : sample.file + BLOCK])
    assert disk.source_content == disk.result_content
    ran = p2v("record", "verify", out / "dos.json", "--files", "--require", "copied", "--progress", "none")
    assert ran.status == 0, ran.out + ran.err
    assert f"{3 * BLOCK} bytes that could not be read" in ran.out
    ran = p2v("prove", out / "dos.json", "--progress", "none")
    assert ran.status == 0, ran.out + ran.err
    assert "PROVEN" in ran.out.splitlines()[0]
    assert "could not be read" in ran.out
    ran = p2v("report", out / "dos.json")
    assert "NOT READABLE" in ran.out


def test_bad_free_space_that_was_asked_for_is_told_and_no_loss(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    source.set(Faults(bad=((sample.free, BLOCK),)))
    status, said, err = convert(source.path, tmp_path / "out", "--all-blocks", "--skip-bad-sectors")
    assert status == 0, err
    assert "free blocks of disk 1, partition 2 (no loss)" in said


def test_a_result_that_hides_more_than_what_was_lost_is_found(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    source.set(Faults(bad=((sample.file, BLOCK),)))
    out = tmp_path / "out"
    assert convert(source.path, out, "--skip-bad-sectors")[0] == 2
    with (out / "dos.img").open("r+b") as disk:
        disk.seek(sample.file + BLOCK)
        disk.write(bytes(BLOCK))
    ran = p2v("prove", out / "dos.json", "--progress", "none")
    assert ran.status == 1
    assert str(sample.file + BLOCK) in ran.out


@NEEDS_LOOP_DEVICES
def test_a_device_loses_its_bad_sectors_alone(tmp_path: Path, sample: Sample) -> None:
    sector = sample.file + 3 * 512
    with faulty_file(tmp_path, sample.disk, direct=True) as file, loop_device(file.path, options=("--read-only",)) as device:
        file.set(Faults(bad=((sector, 512),)))
        status, said, err = convert(device, tmp_path / "out", "--skip-bad-sectors")
    assert status == 2, err
    assert "/home/report.bin" in said
    (lost,) = load_record(tmp_path / "out/dos.json").disks[0].unreadable
    assert lost.offset <= sector < lost.offset + lost.length <= lost.offset + BLOCK


@NEEDS_LOOP_DEVICES
def test_a_device_whose_last_bytes_cannot_be_read_is_copied(tmp_path: Path, sample: Sample) -> None:
    end = sample.disk.stat().st_size - BLOCK
    with faulty_file(tmp_path, sample.disk, direct=True) as file, loop_device(file.path, options=("--read-only",)) as device:
        file.set(Faults(bad=((end, BLOCK),)))
        status, said, err = convert(device, tmp_path / "out", "--skip-bad-sectors")
    assert status == 2, err
    assert "outside of all partitions" in said


def test_a_copied_disk_alone_has_its_losses_told(tmp_path: Path, sample: Sample, source: FaultyFile) -> None:
    source.set(Faults(bad=((sample.file, BLOCK),)))
    words = ("--input-format", "raw", "--json", "--progress", "none", "--skip-bad-sectors")
    ran = p2v("disk", "convert", source.path, tmp_path / "made.qcow2", *words)
    assert ran.status == 2, ran.err
    assert json.loads(ran.out)["unreadable"] == [{"offset": sample.file, "length": BLOCK}]
    with open_disk(tmp_path / "made.qcow2") as disk:
        assert disk.pread(BLOCK, sample.file) == bytes(BLOCK)
        assert disk.pread(64, sample.file + BLOCK) == sample.disk.read_bytes()[sample.file + BLOCK :][:64]
