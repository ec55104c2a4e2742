"""CD images read as trees: every way to long names against what another program wrote, and images that lie."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.tree import FileType
from drivers.windows.iso9660 import IsoTree
from p2v.core.errors import BadImage
from tests.drivers.raw_reader import RawReader
from tests.fixtures.virtio_win import write_folder, write_iso

FILES = {
    "/NetKVM/2k22/amd64/netkvm.sys": os.urandom(70_000),
    "/NetKVM/2k22/amd64/A rather long name with blanks, and a dot.in it.txt": b"text",
    "/NetKVM/2k22/amd64/empty": b"",
    "/viostor/w8.1/x86/viostor.inf": b"[Version]",
    **{f"/many/file{number:03d}.dat": b"%d" % number for number in range(300)},
}
JOLIET, ROCK_RIDGE, ENHANCED = ("--norock", "-J"), ("-r",), ("--norock", "-iso-level", "4")
SECTOR = 2048


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(FILES, tmp_path_factory.mktemp("cd"))


@pytest.fixture(scope="module")
def image(folder: Path) -> bytes:
    return write_iso(folder, folder.parent / "plain.iso", *JOLIET).read_bytes()


def tree_of(path: Path) -> IsoTree:
    return IsoTree(RawReader(path))


def written(tmp_path: Path, data: bytes) -> IsoTree:
    path = tmp_path / "image.iso"
    path.write_bytes(data)
    return tree_of(path)


def all_files(tree: IsoTree, folder: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in tree.list(folder or "/"):
        path = f"{folder}/{name}"
        found |= all_files(tree, path) if tree.lstat(path).type is FileType.DIRECTORY else {path: tree.read(path)}
    return found


@pytest.mark.parametrize("options", [JOLIET, ROCK_RIDGE, ENHANCED, ("-J", "-r"), ("-r", "-iso-level", "4")])
def test_every_way_to_long_names_gives_the_same_tree(options: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    tree = tree_of(write_iso(folder, tmp_path / "image.iso", *options, label="virtio-win-0.1.240"))
    assert all_files(tree) == FILES
    assert tree.label == "virtio-win-0.1.240"


def test_the_shortest_names_are_upper_case_without_version(folder: Path, tmp_path: Path) -> None:
    tree = tree_of(write_iso(folder, tmp_path / "image.iso", "--norock", "-iso-level", "1"))
    assert tree.read("/VIOSTOR/W8.1/X86/VIOSTOR.INF") == b"[Version]"


def test_ranges_and_bounds_of_files(image: bytes, tmp_path: Path) -> None:
    tree = written(tmp_path, image)
    path = "/NetKVM/2k22/amd64/netkvm.sys"
    assert tree.read_range(path, 100, 69_950) == FILES[path][69_950:]
    assert tree.read_range(path, 100, 80_000) == b""
    with pytest.raises(ValueError, match="70000"):
        tree.read(path, 69_999)
    with pytest.raises(FileNotFoundError):
        tree.read("/netkvm/2k22/amd64/netkvm.sys")
    assert not tree.exists("/NetKVM/2k19")


def test_where_a_file_stands_is_where_its_bytes_are(image: bytes, tmp_path: Path) -> None:
    path = "/NetKVM/2k22/amd64/netkvm.sys"
    ((offset, size),) = written(tmp_path, image).file(path).extents
    assert image[offset : offset + size] == FILES[path]


@pytest.mark.parametrize("data", [b"", b"x" * 40_000, b"\0" * (17 * SECTOR)])
def test_what_is_no_cd_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no image of a CD"):
        written(tmp_path, data)


def test_an_image_that_was_cut_off_is_refused(image: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=f"has {len(image) // 2} bytes of"):
        written(tmp_path, image[: len(image) // 2])


def descriptor(image: bytes) -> int:
    """Where Joliet's descriptor stands."""
    return next(at for at in range(16 * SECTOR, 24 * SECTOR, SECTOR) if image[at] == 2)


def patched(image: bytes, at: int, data: bytes) -> bytes:
    return image[:at] + data + image[at + len(data) :]


def root_folder(image: bytes) -> int:
    return int(struct.unpack_from("<I", image, descriptor(image) + 156 + 2)[0]) * SECTOR


def first_child(image: bytes) -> int:
    """Where the record of the root's first file or folder stands."""
    at = root_folder(image)
    at += image[at]
    return at + image[at]


def test_a_folder_within_itself_is_refused(image: bytes, tmp_path: Path) -> None:
    own = image[root_folder(image) + 2 : root_folder(image) + 6]
    with pytest.raises(BadImage, match="twice"):
        written(tmp_path, patched(image, first_child(image) + 2, own))


@pytest.mark.parametrize(
    "offset, data, problem",
    [
        (2, struct.pack("<I", 0xFFFFFFFF), "past its end"),
        (10, struct.pack("<I", 0xFFFFFFFF), "folder of 4294967295"),
        (26, b"\1", "damaged folder"),
        (32, b"\xff", "damaged folder"),
        (0, b"\x05", "damaged folder"),
    ],
)
def test_records_that_lie_are_refused(offset: int, data: bytes, problem: str, image: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=problem):
        written(tmp_path, patched(image, first_child(image) + offset, data))


def test_names_that_lead_elsewhere_are_left_out(image: bytes, tmp_path: Path) -> None:
    at = first_child(image) + 33
    tree = written(tmp_path, patched(image, at, "../../".encode("utf-16-be")))
    assert tree.list("/") == ("many", "viostor")


def test_files_past_the_end_are_an_error_when_read(image: bytes, tmp_path: Path) -> None:
    name = "viostor.inf".encode("utf-16-be")
    at = image.index(name) - 33
    tree = written(tmp_path, patched(image, at + 2, struct.pack("<I", 0x00FFFFFF)))
    with pytest.raises(BadImage, match="past its end"):
        tree.read("/viostor/w8.1/x86/viostor.inf")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_damaged_images_are_refused_or_read_and_never_crash(data: st.DataObject, image: bytes, tmp_path: Path) -> None:
    at = data.draw(st.sampled_from([descriptor(image), root_folder(image), first_child(image)])) + data.draw(st.integers(0, 200))
    junk = data.draw(st.binary(min_size=1, max_size=16))
    with contextlib.suppress(BadImage, ValueError):
        all_files(written(tmp_path, patched(image, at, junk)))
