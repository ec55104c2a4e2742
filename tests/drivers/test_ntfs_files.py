"""Where Windows' page files and its hibernation stand, and which files of these names are not taken for them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.facts import GuestFacts, ReadBy
from drivers.file_places import places_confined
from drivers.layout import lay_out
from drivers.unneeded import Contents, unneeded_files
from p2v.core.errors import ReadFailed
from tests.converters.allocation import made
from tests.converters.allocation.made import MIB, NEEDS_MOUNTS, needs
from tests.drivers.making import make_disk
from tests.drivers.placing import contents, found, opened
from tests.drivers.raw_reader import RawReader

BEGIN = MIB
FILE_BYTES = 3 * MIB
ATTRIBUTES = "system.ntfs_attrib_be"
HIDDEN_SYSTEM = 0x26


def windows_files(folder: Path, attributes: int = HIDDEN_SYSTEM) -> dict[str, bytes]:
    found = {}
    for name in ("pagefile.sys", "swapfile.sys", "hiberfil.sys"):
        path = folder / name
        path.write_bytes(os.urandom(FILE_BYTES))
        os.setxattr(path, ATTRIBUTES, struct.pack(">I", attributes))
        found["/" + name] = path.read_bytes()
    return found


def ntfs_disk(folder: Path, fill: Callable[[Path], object], cluster: int = 4096, options: str = "") -> tuple[Path, GuestFacts]:
    part = made.poisoned(folder / "part", 48 * MIB)
    made.run("mkntfs", "-q", "-F", "-Q", "-c", str(cluster), part)
    with made.mounted_ntfs(part, options) as mounted:
        fill(mounted)
    disk = make_disk(folder / "disk", 50 * MIB, "2048,98304,7\n", [(BEGIN, part)])
    with opened(disk) as readers:
        layout = lay_out(readers)
    return disk, GuestFacts(ReadBy.HOST, layout.disks, layout.partitions)


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
@pytest.mark.parametrize("cluster", [512, 4096, 65536])
def test_page_files_are_found_and_hibernation_where_it_is_asked_for(tmp_path: Path, cluster: int) -> None:
    there: dict[str, bytes] = {}

    def fill(folder: Path) -> None:
        made.scatter(folder / "noise", seed=8, budget=8 * MIB)
        # a root whose names fill several blocks
        for number in range(200):
            (folder / f"a folder with a long name, the number of which is {number:05}").mkdir()
        there.update(windows_files(folder))

    disk, facts = ntfs_disk(tmp_path, fill, cluster)
    places = found(disk, facts)
    assert [each.file.path for each in places] == ["/pagefile.sys", "/swapfile.sys"]
    assert {each.file.contents for each in places} == {Contents.PAGE_FILE}
    assert {each.file.path: contents(disk, each) for each in found(disk, facts, hibernation=True)} == there


def _names(folder: Path) -> None:
    os.link(folder / "pagefile.sys", folder / "other")


def _plain_attributes(folder: Path) -> None:
    os.setxattr(folder / "pagefile.sys", ATTRIBUTES, struct.pack(">I", 0x20))


def _reparse(folder: Path) -> None:
    data = b"elsewhere\0"
    os.setxattr(folder / "pagefile.sys", "system.ntfs_reparse_data", struct.pack("<IHH", 0x80000019, len(data), 0) + data)


def _sparse(folder: Path) -> None:
    (folder / "pagefile.sys").unlink()
    with (folder / "pagefile.sys").open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(4 * MIB)
        file.write(os.urandom(MIB))
    os.setxattr(folder / "pagefile.sys", ATTRIBUTES, struct.pack(">I", HIDDEN_SYSTEM))


def _compressed(folder: Path) -> None:
    os.setxattr(folder, ATTRIBUTES, struct.pack(">I", 0x816))
    (folder / "pagefile.sys").unlink()
    (folder / "pagefile.sys").write_bytes(b"compress me " * 200_000)
    os.setxattr(folder / "pagefile.sys", ATTRIBUTES, struct.pack(">I", HIDDEN_SYSTEM | 0x800))


def _inline(folder: Path) -> None:
    (folder / "pagefile.sys").unlink()
    (folder / "pagefile.sys").write_bytes(b"few")
    os.setxattr(folder / "pagefile.sys", ATTRIBUTES, struct.pack(">I", HIDDEN_SYSTEM))


def _dump(folder: Path) -> None:
    with (folder / "pagefile.sys").open("r+b") as file:
        file.write(b"PAGEDU64")


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_names, "2 names"),
        (_plain_attributes, "Windows did not make it"),
        (_reparse, "reparse point"),
        (_sparse, "sparse"),
        (_compressed, "compressed"),
        (_inline, "a few bytes"),
        (_dump, "crash dump"),
    ],
)
def test_a_page_file_of_which_anything_is_odd_is_told_with_the_reason(
    tmp_path: Path, change: Callable[[Path], None], why: str
) -> None:
    def fill(folder: Path) -> None:
        windows_files(folder)
        change(folder)

    disk, facts = ntfs_disk(tmp_path, fill, options="compression")
    places = {each.file.path: each for each in found(disk, facts)}
    assert why in places["/pagefile.sys"].why_whole
    assert not places["/swapfile.sys"].why_whole


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
def test_files_of_these_names_elsewhere_than_in_the_root_are_nobodys(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "below").mkdir()
        windows_files(folder / "below")

    disk, facts = ntfs_disk(tmp_path, fill)
    assert found(disk, facts, hibernation=True) == ()


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
def test_an_ntfs_whose_bytes_are_others_here_and_there_ends_and_tells_no_more_than_the_file(tmp_path: Path) -> None:
    disk, facts = ntfs_disk(tmp_path, windows_files)
    size = facts.partitions[0].length
    table = next(iter(_records(disk)))
    for number in range(60):
        raw = bytearray(disk.read_bytes())
        # the records of the root and of the files, and the boot sector
        at = table + number * 37 % 4096 if number % 2 else BEGIN + number
        raw[at] ^= 0xFF
        broken = tmp_path / "broken"
        broken.write_bytes(raw)
        for places in found(broken, facts, hibernation=True):
            assert sum(segment.length for segment in places.segments) <= size
            assert all(s.disk_offset >= BEGIN and s.disk_offset + s.length <= BEGIN + size for s in places.segments)


class BadDisk(RawReader):
    """A disk of which the master file table cannot be read."""

    bad_from = BEGIN + 4096

    def pread(self, length: int, offset: int) -> bytes:
        if offset + length > self.bad_from:
            raise ReadFailed("disk", "Input/output error")
        return super().pread(length, offset)


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
def test_on_a_disk_that_cannot_be_read_nothing_is_told_and_nothing_ends(tmp_path: Path) -> None:
    disk, facts = ntfs_disk(tmp_path, windows_files)
    reader = BadDisk(disk)
    places = places_confined(unneeded_files(facts, hibernation=True), facts, [reader])
    reader.close()
    assert {each.why_whole for each in places} == {"a part of its disk cannot be read"}
    assert len(places) == 3


def _records(disk: Path) -> Iterator[int]:
    """Where the root's record stands."""
    raw = disk.read_bytes()
    cluster = struct.unpack_from("<Q", raw, BEGIN + 48)[0]
    yield BEGIN + cluster * 4096 + 5 * 1024
