"""The newc reader and writer, against GNU cpio and against archives made to do harm."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.linux.cpio import TRAILER, BadArchive, ByteStream, NewEntry, read_entries, write_archive
from tests.drivers.linux.archives import gnu_cpio, unpack
from tests.drivers.memory_tree import Folder, Link, Node

LIMIT = 1 << 20


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read_all(data: bytes, piece_bytes: int = 1 << 16) -> list[tuple[str, int, bytes]]:
    stream = ByteStream(in_pieces(data, piece_bytes))
    return [(entry.name, entry.mode, entry.data(LIMIT)) for entry in read_entries(stream)]


def header(**fields: bytes) -> bytes:
    """One entry ``a`` with some header fields replaced (eight characters each)."""
    names = [
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "size",
        "major",
        "minor",
        "rmajor",
        "rminor",
        "name",
        "check",
    ]
    values = dict.fromkeys(names, b"00000000") | {"mode": b"000081A4", "name": b"00000002"} | fields
    return fields.get("magic", b"070701") + b"".join(values[name] for name in names) + b"a\0"


@pytest.mark.parametrize("piece_bytes", [1, 7, 512, 1 << 20])
def test_entries_of_gnu_cpio_are_read_whatever_the_pieces(tmp_path: Path, piece_bytes: int) -> None:
    files: dict[str, Node] = {
        "etc/hostname": "vmguest\n",
        "lib": Link("usr/lib"),
        "run": Folder(),
        "odd": b"12345",
        "é": b"",
    }
    found = {name: (mode, data) for name, mode, data in read_all(gnu_cpio(tmp_path / "root", files), piece_bytes)}
    assert set(found) == {".", "etc", "etc/hostname", "lib", "run", "odd", "é"}
    kind, permissions = stat.S_IFREG, stat.S_IMODE((tmp_path / "root/etc/hostname").stat().st_mode)
    assert found["etc/hostname"] == (kind | permissions, b"vmguest\n")
    assert found["lib"] == (stat.S_IFLNK | 0o777, b"usr/lib")
    assert stat.S_ISDIR(found["run"][0])
    assert found["odd"][1] == b"12345"


def test_gnu_cpio_unpacks_what_is_written(tmp_path: Path) -> None:
    entries = [
        NewEntry("usr", stat.S_IFDIR | 0o755),
        NewEntry("usr/five", stat.S_IFREG | 0o640, b"12345"),
        NewEntry("usr/link", stat.S_IFLNK | 0o777, b"five"),
    ]
    unpack(write_archive(entries), tmp_path / "out")
    assert (tmp_path / "out/usr/link").read_bytes() == b"12345"
    assert (tmp_path / "out/usr/link").is_symlink()
    assert stat.S_IMODE((tmp_path / "out/usr/five").stat().st_mode) == 0o640


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
_modes = st.sampled_from([stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777])
_entries = st.lists(st.builds(NewEntry, _names.filter(lambda name: name != TRAILER), _modes, st.binary(max_size=300)))


@settings(deadline=None)
@given(_entries, st.integers(1, 700))
def test_what_is_written_is_read_back(entries: list[NewEntry], piece_bytes: int) -> None:
    archive = write_archive(entries)
    assert len(archive) % 512 == 0
    assert archive == write_archive(entries)
    assert read_all(archive, piece_bytes) == [(entry.name, entry.mode, entry.data) for entry in entries]


def test_entries_that_nobody_reads_are_passed_over() -> None:
    archive = write_archive([NewEntry(name, stat.S_IFREG, bytes(997)) for name in "abc"])
    assert [entry.name for entry in read_entries(ByteStream(in_pieces(archive, 64)))] == ["a", "b", "c"]


def test_a_second_archive_is_read_by_a_second_call() -> None:
    first, second = (write_archive([NewEntry(name, stat.S_IFREG)]) for name in "ab")
    stream = ByteStream([first, bytes(1024), second, b"\x1f\x8b"])
    assert [entry.name for entry in read_entries(stream)] == ["a"]
    assert [entry.name for entry in read_entries(stream)] == ["b"]
    assert list(read_entries(stream)) == []
    assert stream.peek() == b"\x1f"


def test_an_entry_off_the_four_byte_boundary_is_refused_as_the_kernel_does() -> None:
    with pytest.raises(BadArchive):
        read_all(bytes(2) + header() + bytes(2))
    assert len(read_all(bytes(4) + header() + bytes(2))) == 1


def test_padding_is_passed_over_whatever_it_holds() -> None:
    assert [data for _, _, data in read_all(header(size=b"00000001") + b"1xyz" + header())] == [b"1", b""]


@pytest.mark.parametrize(
    "archive",
    [
        header(magic=b"070707"),
        header(name=b"00000000"),
        header(name=b"FFFFFFFF"),
        header(name=b"00001001"),
        header(name=b"-0000002"),
        header(size=b"+0000001"),
        header(size=b" 0000001"),
        header(size=b"0000_001"),
        header(size=b"0x000001"),
        header(size=b"FFFFFFFF"),
        header(size=b"00000008") + b"\0",
    ],
)
def test_a_header_that_lies_is_refused(archive: bytes) -> None:
    with pytest.raises(BadArchive):
        read_all(archive)


def test_the_unchanged_header_of_these_tests_is_sound() -> None:
    assert read_all(header()) == [("a", stat.S_IFREG | 0o644, b"")]


def test_an_archive_cut_off_anywhere_inside_an_entry_is_refused() -> None:
    archive = write_archive([NewEntry("name", stat.S_IFREG, b"x" * 50)])
    end_of_entry = 110 + 5 + 1 + 50  # header, name with its NUL, padding, data
    for length in range(1, end_of_entry):
        with pytest.raises(BadArchive):
            read_all(archive[:length])


def test_contents_longer_than_asked_for_are_refused() -> None:
    archive = write_archive([NewEntry("a", stat.S_IFREG, bytes(11))])
    entry = next(read_entries(ByteStream([archive])))
    with pytest.raises(BadArchive):
        entry.data(10)


@pytest.mark.parametrize("name", ["a\0b", "n" * 4096])
def test_a_name_that_no_kernel_takes_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        write_archive([NewEntry(name, stat.S_IFREG)])


def test_what_was_given_back_is_read_again() -> None:
    stream = ByteStream([b"abc", b"def"])
    assert stream.take(4) == b"abcd"
    stream.unread(b"cd")
    assert (stream.position, stream.take(4), stream.peek()) == (2, b"cdef", b"")
