"""Lists of names, and names that try to be lines of them."""

from __future__ import annotations

import os
import random

import pytest

from drivers.differences import CONTENTS, differences, to_read
from drivers.listing import BadListing, Entry, Listing, Place, Runs, parse_entries, parse_places


def _stat(path: bytes, mode: bytes = b"-rw-r--r--", inode: int = 12, device: int = 7, mtime: bytes = b"5.5") -> bytes:
    return b"%d %s 644 0 0 1 5 1.0 %s 3.0 %d/%s\0\0" % (inode, mode, mtime, device, path)


def test_names_have_everything_that_is_recorded_of_them() -> None:
    entries = parse_entries(
        _stat(b"", b"drwxr-xr-x", 2) + b"13 crw------- 600 1 2 1 0 -1.5 99999999999.0 3.0 7/dev/null\0\0"
        + b"14 lrwxrwxrwx 777 0 0 1 9 1.0 2.0 3.0 7/link\0target\nline\0" + _stat(b"mounted", b"drwxr-xr-x", 2, device=8),
        b"d\0cdev/null\0llink\0", b"1:3 ./dev/null\0", b"# file: ./dev/null\nuser.a=0x41\nuser.b=0x\n\n",
        b"    7 99         ----i---------e------- ./dev\n",
    )  # fmt: skip
    assert set(entries) == {"/", "/dev/null", "/link"}
    null = entries["/dev/null"]
    assert (null.type, null.mode, null.uid, null.gid, null.number) == ("c", 0o600, 1, 2, "1:3")
    assert (null.atime, null.mtime) == ("-1.5", "99999999999.0")
    assert null.attributes == (("user.a", "0x41"), ("user.b", "0x"))
    assert entries["/link"].target == "target\nline"


def test_a_folder_that_says_another_kind_is_told() -> None:
    entries = parse_entries(_stat(b"a") + _stat(b"b"), b"sa\0fb\0", b"", b"")
    assert (entries["/a"].shown, entries["/b"].shown) == ("s", "")


_ODD = [
    b"new\nline", b"-rf", b"*", b"back\\012slash", b"\xff\xfe", b"a\rb", b"# file: x", b" 0: 0..", b"a b", b"File size of x",
    b"\n\n", b"=",
]  # fmt: skip


@pytest.mark.parametrize("name", _ODD)
def test_no_name_poses_as_another_ones_attributes(name: bytes) -> None:
    """getfattr writes what could end a line, and backslashes, as octal numbers."""
    escaped = b"".join(b"\\%03o" % c if c in b"\n\r\\" else bytes([c]) for c in name)
    text = b"# file: ./" + escaped + b"\nuser.x=0x31\n\n# file: ./other\nuser.y=0x32\n\n"
    entries = parse_entries(_stat(name) + _stat(b"other", inode=13), b"", b"", text)
    assert entries["/" + os.fsdecode(name)].attributes == (("user.x", "0x31"),)
    assert entries["/other"].attributes == (("user.y", "0x32"),)


def test_flags_of_a_name_with_a_newline_stand_apart() -> None:
    evil = b"a\n    0 1 ----i--- ./passwd"
    flags = b"    0 1          -------- ./passwd\n\0" + evil + b"\0    3 2          -----a-- ./" + evil + b"\n\0gone\nx\0"
    entries = parse_entries(_stat(b"passwd") + _stat(evil, inode=13), b"", b"", b"", flags)
    assert (entries["/passwd"].flags, entries["/passwd"].project) == ("", "0")
    assert (entries["/" + os.fsdecode(evil)].flags, entries["/" + os.fsdecode(evil)].project) == ("a", "3")


@pytest.mark.parametrize(
    ("stats", "attributes", "flags"),
    [
        (b"12 -rw 644", b"", b""), (b"nonsense\0\0", b"", b""), (_stat(b"a") * 2, b"", b""), (_stat(b"a")[:-1], b"", b""),
        (_stat(b"a", mtime=b"x"), b"", b""), (_stat(b"a", inode=10**30), b"", b""), (_stat(b"a"), b"user.x=0x\n\n", b""),
        (_stat(b"a"), b"", b"nonsense\n"), (_stat(b"a"), b"", b"\0a\0"[:-1]), (_stat(b"a", b"?rw-r--r--"), b"", b""),
    ],
)  # fmt: skip
def test_what_no_list_says_is_refused(stats: bytes, attributes: bytes, flags: bytes) -> None:
    with pytest.raises(BadListing):
        parse_entries(stats, b"", b"", attributes, flags)


_HEAD = b"Filesystem type is: ef53\nFile size of ./%s is 8192 (2 blocks of 4096 bytes)\n"
_LINES = b" ext:     logical_offset:        physical_offset: length:   expected: flags:\n"


def _places(extents: bytes, name: bytes = b"a") -> dict[str, tuple[Place, ...]]:
    return parse_places(_HEAD % name + _LINES + extents + b"./" + name + b": 1 extent found\n")


def test_contents_stand_where_filefrag_says() -> None:
    extent = b"   0:        0..       1:       1000..      1001:      2:             last,eof\n"
    assert _places(extent) == {"/a": (Place(0, 1000 * 4096, 8192),)}
    assert _places(extent.replace(b"last", b"unwritten,last")) == {"/a": (Place(0, 1000 * 4096, 8192, True),)}
    for flag in (b"inline", b"encoded", b"not_aligned", b"delalloc", b"unknown_loc"):
        assert _places(extent.replace(b"last", flag)) == {}


def test_a_file_that_filefrag_gave_up_on_stands_nowhere_known() -> None:
    text = _HEAD % b"a" + b"./a: FIBMAP unsupported\n" + _HEAD % b"b" + _LINES + b"./b: 0 extents found\n"
    assert parse_places(text) == {"/b": ()}


@pytest.mark.parametrize(
    "extents",
    [b" 0: 0.. 1: 5.. 6: 9: last\n", b" nonsense\n", b" 0: 0.. 1: 5.. 6: 2\n", b" 0: %d.. 1: 5.. 6: 2: last\n" % 10**30],
)  # fmt: skip
def test_extents_that_contradict_themselves_are_refused(extents: bytes) -> None:
    with pytest.raises(BadListing):
        _places(extents)


def test_noise_is_refused_or_read_and_nothing_else() -> None:
    chance = random.Random(8)
    extent = b"   0:        0..       1:       1000..      1001:      2:             last,eof\n"
    good = _HEAD % b"a" + _LINES + extent + b"./a: 1 extent found\n"
    stats = _stat(b"a") + _stat(b"b/c", inode=13)
    read = refused = 0
    for _ in range(2000):
        for text, parse in ((good, parse_places), (stats, lambda t: parse_entries(t, b"", b"", b"", b""))):
            spoilt = bytearray(text)
            for _ in range(chance.randint(1, 4)):
                spoilt[chance.randrange(len(spoilt))] = chance.choice((0, 10, 32, 48, 57, 45, 58, 255, chance.randrange(256)))
            try:
                found = parse(bytes(spoilt))
            except BadListing:
                refused += 1
                continue
            read += 1
            assert all(path.startswith("/") for path in found)
    # noise that is never noticed, or always, would show nothing
    assert read > 100
    assert refused > 100


def _entry(path: str, inode: int = 12, size: int = 5, mtime: str = "1") -> Entry:
    return Entry(path, "f", 0o644, 0, 0, 1, size, inode, "1", mtime, "1")


def _listing(entry: Entry, *places: Place) -> Listing:
    return Listing({entry.path: entry}, {entry.path: places} if places else {})


_AT = Place(0, 8192, 4096)


@pytest.mark.parametrize(
    ("after", "touched", "is_read"),
    [
        (_listing(_entry("/a"), _AT), [], False), (_listing(_entry("/a"), _AT), [(12287, 1)], True),
        (_listing(_entry("/a"), _AT), [(12288, 512), (0, 8192)], False), (_listing(_entry("/a")), [], True),
        (_listing(_entry("/a"), Place(0, 8192, 4096, True)), [], True), (_listing(_entry("/a", size=6), _AT), [], True),
        (_listing(_entry("/a", mtime="2"), _AT), [], True), (_listing(_entry("/a", inode=13), _AT), [], True),
        (_listing(_entry("/a"), Place(0, 4096, 4096)), [], True), (_listing(_entry("/a"), _AT), None, True),
    ],
)  # fmt: skip
def test_only_a_file_whose_bytes_and_places_are_the_same_is_not_read(
    after: Listing, touched: list[tuple[int, int]] | None, is_read: bool
) -> None:
    runs = None if touched is None else Runs(touched)
    assert to_read(_listing(_entry("/a"), _AT), after, runs) == (("/a",) if is_read else ())


def test_a_file_that_is_in_one_of_them_only_or_empty_is_not_read() -> None:
    assert to_read(Listing({}), _listing(_entry("/a")), None) == ()
    assert to_read(_listing(_entry("/a", size=0)), _listing(_entry("/a", size=0)), None) == ()


def test_what_differs_is_told_field_by_field() -> None:
    found = list(differences(_listing(_entry("/a")), _listing(_entry("/a", inode=13, mtime="2")), ({"/a": "x"}, {"/a": "y"})))
    assert [each.what for each in found] == [("inode", "mtime", CONTENTS)]
    found = list(differences(_listing(_entry("/a")), _listing(_entry("/a", inode=13)), ({}, {}), same_inodes=False))
    assert found == []
