"""Which file, folder or structure stands in a range of a disk; the witnesses are the bytes themselves and the usual programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.image import open_disk
from converters.patched import sorted_apart
from drivers.confinement import Limits
from p2v.core.errors import BadSectors
from p2v.core.owners import OwnerKind, Wanted, joined, without
from p2v.core.units import KIB
from p2v.record import UnreadableRecord
from p2v.unreadable import explained, records_of
from tests.converters.allocation.made import mounted, needs
from tests.drivers import volume_disks
from tests.drivers.making import MIB, lay_files, make_disk, make_ext, patch, run, sized

LIMITS = Limits(seconds=60.0)
MARK = {name: os.urandom(16) for name in ("one", "two", "deep")}
FILES: dict[str, bytes] = {
    "/one.bin": MARK["one"] * (100 * KIB),
    "/some/two.bin": MARK["two"] * (60 * KIB),
    "/some/very/deep/three": MARK["deep"] * (20 * KIB),
} | {f"/many/file{number:03}": b"x" for number in range(200)}  # fmt: skip


def found(disk: Path, *ranges: tuple[int, int]) -> tuple[UnreadableRecord, ...]:
    with open_disk(disk, "raw") as reader:
        return records_of([reader], [ranges], LIMITS)[0]


def told(disk: Path, *ranges: tuple[int, int]) -> list[tuple[OwnerKind, str]]:
    return [(each.holds, each.name) for each in found(disk, *ranges)]


def place_of(disk: Path, mark: str, skip: int = 0) -> int:
    """A page that holds nothing but a mark."""
    page = MARK[mark] * 256
    raw, at = disk.read_bytes(), -4096
    for _ in range(skip + 1):
        at += 4096
        while raw[at : at + 4096] != page:
            at += 4096
            assert at < len(raw)
    return at


def ext(kind: str, *options: str) -> Callable[[Path], Path]:
    return lambda folder: make_ext(folder / "fs", 48 * MIB, lay_files(folder / "tree", FILES), "-t", kind, "-b", "4096", *options)


def xfs(folder: Path) -> Path:
    image = sized(folder / "fs", 320 * MIB)
    run("mkfs.xfs", "-q", image)
    with mounted(image, "xfs") as mount:
        lay_files(mount, FILES)
    return image


def fat(folder: Path) -> Path:
    image, tree = sized(folder / "fs", 48 * MIB), lay_files(folder / "tree", FILES)
    run("mkfs.vfat", "-F", "32", image)
    run("mcopy", "-s", "-i", image, *sorted(tree.iterdir()), "::")
    return image


def ntfs(folder: Path) -> Path:
    image, tree = sized(folder / "fs", 48 * MIB), lay_files(folder / "tree", FILES)
    run("mkntfs", "-q", "-F", image)
    # ntfscp makes no folders
    for name in ("one.bin", "some/two.bin"):
        run("ntfscp", "-q", "-f", image, tree / name, Path(name).name)
    return image


MAKERS = [
    pytest.param(ext("ext4"), id="ext4"),
    pytest.param(ext("ext3"), id="ext3"),
    pytest.param(ext("ext2"), id="ext2"),
    pytest.param(ext("ext4", "-O", "bigalloc", "-C", "16384"), id="ext4-bigalloc"),
    pytest.param(xfs, id="xfs", marks=[needs("mkfs.xfs"), pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]),
    pytest.param(fat, id="vfat", marks=needs("mkfs.vfat", "mcopy")),
    pytest.param(ntfs, id="ntfs", marks=needs("mkntfs", "ntfscp")),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_page_of_a_file_is_called_by_its_path(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    image = make(tmp_path)
    is_ntfs = make is ntfs
    for mark, path in (("one", "/one.bin"), ("two", "/two.bin" if is_ntfs else "/some/two.bin")):
        at = place_of(image, mark, skip=3)
        assert told(image, (at, 4096)) == [(OwnerKind.FILE, path)]
    if not is_ntfs:
        assert told(image, (place_of(image, "deep"), 512)) == [(OwnerKind.FILE, "/some/very/deep/three")]


@pytest.mark.parametrize("make", MAKERS)
def test_the_records_are_exactly_the_ranges(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    image = make(tmp_path)
    ranges = [(at, 12 * KIB) for at in range(0, image.stat().st_size, 5 * MIB + 4096)]
    records = found(image, *ranges)
    apart = sorted_apart([(each.offset, each.length) for each in records], image.stat().st_size)
    assert apart is not None
    left = list(ranges)
    for each in records:
        left = [part for one in left for part in without(one, (each.offset, each.length))]
    assert left == []
    assert sum(each.length for each in records) == 12 * KIB * len(ranges)


class TestExt:
    @pytest.fixture(scope="class")
    def image(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return ext("ext4")(tmp_path_factory.mktemp("ext"))

    def block(self, image: Path, question: str) -> int:
        return int(run("debugfs", "-R", question, image).split()[0]) * 4096

    def test_a_folder(self, image: Path) -> None:
        assert told(image, (self.block(image, "blocks /many"), 4096)) == [(OwnerKind.FOLDER, "/many")]

    def test_the_root_folder(self, image: Path) -> None:
        assert told(image, (self.block(image, "blocks /"), 4096)) == [(OwnerKind.FOLDER, "/")]

    def test_inodes_are_numbered(self, image: Path) -> None:
        # "Inode 13 is part of block group 0 / located at block 38, offset 0x0c00"
        words = run("debugfs", "-R", "imap <13>", image).replace(",", " ").split()
        at = int(words[words.index("block", 6) + 1]) * 4096 + int(words[-1], 16)
        assert told(image, (at, 256)) == [(OwnerKind.METADATA, "inode table (inode 13)")]

    def test_superblock_journal_and_free_blocks(self, image: Path) -> None:
        journal = self.block(image, "blocks <8>")
        assert told(image, (0, 4096), (journal, 4096)) == [(OwnerKind.METADATA, "superblock"), (OwnerKind.METADATA, "journal")]
        assert told(image, (47 * MIB, 64 * KIB)) == [(OwnerKind.FREE, "free blocks")]

    def test_a_range_over_several_is_told_in_parts(self, image: Path) -> None:
        one = place_of(image, "one")
        (first, *rest) = found(image, (one, 2 * MIB))
        assert (first.holds, first.name, first.offset) == (OwnerKind.FILE, "/one.bin", one)
        assert sum(each.length for each in (first, *rest)) == 2 * MIB
        assert "/some/two.bin" in {each.name for each in rest} | {first.name}

    def test_names_survive_the_loss_of_another_folder(self, image: Path, tmp_path: Path) -> None:
        damaged = Path(shutil.copy(image, tmp_path / "damaged"))
        patch(damaged, self.block(image, "blocks /many"), bytes(4096))
        at = place_of(damaged, "deep")
        assert told(damaged, (at, 4096)) == [(OwnerKind.FILE, "/some/very/deep/three")]

    def test_what_only_a_lost_folder_led_to_is_unknown(self, image: Path, tmp_path: Path) -> None:
        damaged = Path(shutil.copy(image, tmp_path / "damaged"))
        patch(damaged, self.block(image, "blocks /some"), bytes(4096))
        ((kind, name),) = told(damaged, (place_of(damaged, "deep"), 4096))
        assert kind is OwnerKind.UNKNOWN
        assert "no name leads to it" in name


class TestNtfs:
    @needs("mkntfs", "ntfscp")
    def test_its_own_files_are_metadata_and_free_clusters_are_free(self, tmp_path: Path) -> None:
        image = ntfs(tmp_path)
        assert told(image, (0, 512)) == [(OwnerKind.METADATA, "/$Boot")]
        assert told(image, (10 * MIB, 4096)) == [(OwnerKind.FREE, "free clusters")]


class TestDisks:
    @pytest.fixture(scope="class")
    def disk(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("disk")
        part = ext("ext4")(folder)
        script = "2048,98304,83\n106496,20480,82\n"
        return make_disk(folder / "disk", 64 * MIB, script, [(MIB, part)])

    def test_the_partition_is_named(self, disk: Path) -> None:
        at = place_of(disk, "two")
        (record,) = found(disk, (at, 512))
        assert (record.place, record.name, record.offset, record.length) == ("disk 1, partition 1", "/some/two.bin", at, 512)
        assert record.said == "/some/two.bin in disk 1, partition 1"

    def test_what_is_in_no_partition_is_outside(self, disk: Path) -> None:
        assert [kind for kind, _ in told(disk, (0, 512), (63 * MIB, 512))] == [OwnerKind.OUTSIDE] * 2

    def test_where_nothing_is_known_it_is_said_so(self, disk: Path) -> None:
        ((kind, name),) = told(disk, (53 * MIB, 512))
        assert (kind, name) == (OwnerKind.UNKNOWN, "nothing known is there")

    def test_an_error_is_explained_by_the_file_it_hits(self, disk: Path) -> None:
        at = place_of(disk, "one")
        error = BadSectors("disk", "Input/output error", at, 512, disk=0, at=at, known=((at, 512),))
        with open_disk(disk, "raw") as reader:
            assert explained(error, [reader]).holds == ("/one.bin in disk 1, partition 1",)

    def test_a_reader_that_crashes_leaves_it_unknown(self, disk: Path) -> None:
        with open_disk(disk, "raw") as reader:
            ((record,),) = records_of([reader], [[(MIB, 512)]], Limits(result_bytes=8))
        assert record.holds is OwnerKind.UNKNOWN
        assert (record.offset, record.length) == (MIB, 512)


def test_what_several_have_is_told_of_each_and_the_rest_once() -> None:
    wanted = Wanted([(0, 100)])
    assert wanted.claim(10, 20, OwnerKind.FILE, "a")
    assert wanted.claim(20, 20, OwnerKind.FILE, "b")
    assert not wanted.claim(200, 20, OwnerKind.FILE, "c")
    rest = wanted.rest(OwnerKind.UNKNOWN, "?")
    assert [(each.offset, each.length, each.name) for each in rest] == [(0, 10, "?"), (10, 20, "a"), (20, 20, "b"), (40, 60, "?")]
    assert joined(rest) == rest


@pytest.mark.appliance
def test_a_file_in_a_logical_volume_is_found_by_the_volumes_map() -> None:
    first, second = volume_disks.disks("lvm")
    with open_disk(first, "raw") as one, open_disk(second, "raw") as other:
        begin = volume_disks.BIG[:4096]
        hits = [
            (number, at)
            for number, disk in enumerate((one, other))
            for at in range(0, disk.virtual_size, 4096)
            if disk.pread(4096, at) == begin
        ]
        lost = [[(at, 512) for disk, at in hits if disk == number][:3] for number in range(2)]
        found = [record for disk in records_of([one, other], lost, LIMITS) for record in disk]
    assert found
    assert {record.holds for record in found} == {OwnerKind.FILE}
    assert all(record.place.startswith("/dev/mapper/") for record in found)
