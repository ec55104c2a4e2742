"""Files that the caller says are not worth copying: what is believed of that."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from converters.allocation.findings import FileFinding, Unused
from converters.allocation.known_files import KnownFile
from converters.allocation.unused import find_unused
from converters.allocation.volume import Place
from converters.image import open_disk
from p2v.core.units import KIB, MIB
from tests.converters.allocation import made
from tests.drivers import volume_disks
from tests.drivers.making import make_disk, make_ext, patch

SIZE = 2 * MIB
SWAP, PAGES = "contents of swap files", "contents of page files"


@pytest.fixture(scope="module")
def ext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system with a file of a known place: the only bytes in it that are 0x55."""
    folder = tmp_path_factory.mktemp("ext")
    (folder / "files").mkdir()
    (folder / "files" / "swapfile").write_bytes(b"\x55" * SIZE)
    made.run("mkswap", "-L", "pages", folder / "files" / "swapfile")
    return make_ext(folder / "ext", 8 * MIB, folder / "files", "-b", "4096")


@pytest.fixture
def disk(tmp_path: Path, ext: Path) -> Path:
    return make_disk(tmp_path / "disk", 24 * MIB, "2048,16384\n18432,16384\n", [(MIB, ext), (9 * MIB, ext)])


def places(ext: Path, begin: int, disk: int = 0) -> tuple[Place, ...]:
    """Where debugfs says that the file stands, whose few extents are in its inode."""
    found: list[Place] = []
    for block in map(int, made.run("debugfs", "-R", "blocks /swapfile", ext).split()):
        at = begin + block * 4 * KIB
        last = found.pop() if found and found[-1].end == at else Place(disk, at, 0)
        found.append(Place(disk, last.offset, last.length + 4 * KIB))
    assert sum(place.length for place in found) == SIZE
    return tuple(found)


def unused(disks: Sequence[Path], *known: KnownFile) -> Unused:
    readers = [open_disk(disk, "raw") for disk in disks]
    try:
        return find_unused(readers, known)
    finally:
        for reader in readers:
            reader.close()


def swap(where: tuple[Place, ...]) -> KnownFile:
    return KnownFile(SWAP, where, is_swap=True)


def test_of_a_swap_file_all_but_its_begin_is_left_out(disk: Path, ext: Path) -> None:
    where = places(ext, MIB)
    found = unused([disk], swap(where))
    assert found.files == (FileFinding(SIZE - 64 * KIB),)
    assert found.disks[0].by_kind()[SWAP] == SIZE - 64 * KIB
    left = [each for each in found.disks[0] if each.kind == SWAP]
    assert left[0].offset == where[0].offset + 64 * KIB
    assert left[-1].end == where[-1].end


def test_of_another_file_as_much_is_kept_as_is_asked_for(disk: Path, ext: Path) -> None:
    where = places(ext, MIB)
    whole, head = KnownFile(PAGES, where), KnownFile("hibernation", places(ext, 9 * MIB), kept_bytes=MIB)
    found = unused([disk], whole, head)
    assert found.files == (FileFinding(SIZE), FileFinding(SIZE - MIB))
    kinds = found.disks[0].by_kind()
    assert (kinds[PAGES], kinds["hibernation"]) == (SIZE, SIZE - MIB)


def _is_free(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    return (Place(0, MIB + 7 * MIB, 512 * KIB),)


def _sleeps(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    patch(disk, where[0].offset + 4086, b"S1SUSPEND\0")
    return where


def _no_header(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    patch(disk, where[0].offset + 4086, bytes(10))
    return where


def _too_long(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    patch(disk, where[0].offset + 1024 + 4, struct.pack("<I", SIZE // 4096))
    return where


def _dirty(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    patch(disk, MIB + 1024 + 0x60, struct.pack("<I", 0x2C6))
    return where


def _outside(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    return (Place(0, 512, MIB),)


def _over_the_end(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    return (*where, Place(0, 9 * MIB - KIB, MIB))


def _no_disk(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    return (Place(7, MIB, MIB),)


def _nowhere(disk: Path, where: tuple[Place, ...]) -> tuple[Place, ...]:
    return ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_sleeps, "a suspended machine"),
        (_no_header, "no header"),
        (_too_long, "in a place of"),
        (_dirty, "copied whole"),
        (_outside, "copied whole"),
        (_over_the_end, "copied whole"),
        (_no_disk, "copied whole"),
        (_nowhere, "no header"),
    ],
)
def test_a_swap_file_of_which_anything_is_odd_travels(disk: Path, ext: Path, change: object, why: str) -> None:
    before = unused([disk])
    where = change(disk, places(ext, MIB))  # type: ignore[operator]
    found = unused([disk], swap(where))
    assert why in found.files[0].why_whole
    assert SWAP not in found.disks[0].by_kind()
    if change is not _dirty:
        assert list(found.disks[0]) == list(before.disks[0])


def test_a_file_in_bytes_that_its_file_system_calls_free_is_not_believed(disk: Path, ext: Path) -> None:
    found = unused([disk], KnownFile(PAGES, _is_free(disk, ())))
    assert "calls a part of it free" in found.files[0].why_whole
    assert PAGES not in found.disks[0].by_kind()


def test_a_file_in_two_file_systems_is_not_believed(disk: Path, ext: Path) -> None:
    found = unused([disk], KnownFile(PAGES, (*places(ext, MIB), *places(ext, 9 * MIB))))
    assert "several file systems" in found.files[0].why_whole


def test_of_a_mirror_both_halves_are_left_out() -> None:
    disks = volume_disks.disks("mirror")
    free = unused(disks)
    assert {volume.why_whole for volume in free.volumes} == {""}
    # somewhere in the file system that is taken: behind its begin
    first = next(iter(free.disks[0])).offset - 128 * KIB
    found = unused(disks, KnownFile(PAGES, (Place(0, first, 128 * KIB),)))
    assert found.files == (FileFinding(128 * KIB),)
    assert [gone.by_kind().get(PAGES) for gone in found.disks] == [128 * KIB] * 2
    other = next(each for each in found.disks[1] if each.kind == PAGES)
    again = unused(disks, KnownFile(PAGES, (Place(1, other.offset, other.length),)))
    assert [list(gone) for gone in again.disks] == [list(gone) for gone in found.disks]
