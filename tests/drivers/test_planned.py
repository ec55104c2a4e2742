"""Differences held against a plan: what each change may leave behind, and what it may not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from drivers.access_lists import ACCESS_LIST, DEFAULT_LIST, inherited
from drivers.changes import Change, CopyFile, DeleteFile, DeleteSymlink, EditFile, MakeSymlink, WriteFile
from drivers.differences import differences
from drivers.listing import Entry, Listing
from drivers.planned import Accounting, Fate, outcomes
from drivers.subvolumes import subvolume_problems


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file(path: str, **fields: Any) -> Entry:
    return replace(Entry(path, "f", 0o644, 0, 0, 1, 3, int(_sha256(path)[:6], 16), "1", "1", "1"), **fields)


def _folder(path: str, **fields: Any) -> Entry:
    return _file(path, **{"type": "d", "mode": 0o755, "links": 2, "size": 1024, **fields})


def _link(path: str, target: str, **fields: Any) -> Entry:
    return _file(path, **{"type": "l", "mode": 0o777, "target": target, **fields})


def _listing(*entries: Entry) -> Listing:
    return Listing({entry.path: entry for entry in entries})


_BEFORE = (_folder("/"), _folder("/etc"), _file("/etc/fstab"), _link("/etc/link", "old"), _file("/etc/gone"))


def _told(
    change: Change | tuple[Change, ...], after: Mapping[str, Entry | None], contents: Mapping[str, str] | None = None,
    before: tuple[Entry, ...] = _BEFORE, labels: Mapping[str, str] | None = None, *, has_owners: bool = True,
    are_read: bool = True,
) -> set[str]:
    """Paths of what is not explained when some entries became others (None: are gone). ``contents``: of files after."""
    old = _listing(*before)
    new = Listing({path: e for path, e in {**old.entries, **after}.items() if e is not None})
    changes = change if isinstance(change, tuple) else (change,)
    digests = {path: _sha256(text) for path, text in (contents or {}).items()}
    planned = outcomes(changes, old, labels or {})
    was = {path: "as it was" for path in digests if path in old.entries and are_read}
    found = list(differences(old, new, (was, {p: d for p, d in digests.items() if p in was})))
    account = Accounting(planned, old, new, digests, has_owners=has_owners).account(found)
    return {each.path for each in account.unexplained}


_LATER: dict[str, Any] = {"mtime": "9", "ctime": "9"}
_ETC = _folder("/etc", **_LATER)
_WRITE = WriteFile("/etc/new", "new", 0o600, "why")
_NEW = _file("/etc/new", mode=0o600)
_EDIT = EditFile("/etc/fstab", "old", "new", "why")


def test_a_new_file_is_explained_with_its_folders_times() -> None:
    assert not _told(_WRITE, {"/etc/new": _NEW, "/etc": _ETC}, {"/etc/new": "new"})


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0o644}, {"uid": 1}, {"gid": 1}, {"links": 2}, {"type": "p"}, {"flags": "i"}, {"project": "7"}, {"shown": "s"},
        {"attributes": (("user.x", "0x"),)}, {"attributes": (("security.selinux", "0x41"),)},
    ],
)  # fmt: skip
def test_a_new_file_has_nothing_that_was_not_planned(fields: dict[str, Any]) -> None:
    assert _told(_WRITE, {"/etc/new": replace(_NEW, **fields), "/etc": _ETC}, {"/etc/new": "new"}) == {"/etc/new"}


def test_a_file_system_without_owners_gives_its_own() -> None:
    odd = replace(_NEW, mode=0o755)
    assert not _told(_WRITE, {"/etc/new": odd, "/etc": _ETC}, {"/etc/new": "new"}, has_owners=False)
    assert _told(_WRITE, {"/etc/new": odd, "/etc": _ETC}, {"/etc/new": "evil"}, has_owners=False) == {"/etc/new"}


def test_a_new_file_gets_the_flags_and_the_project_that_its_folder_hands_on() -> None:
    before = (_folder("/"), _folder("/etc", flags="CPa", project="7"))
    after = {"/etc/new": replace(_NEW, flags="C", project="7"), "/etc": replace(before[1], **_LATER)}
    assert not _told(_WRITE, after, {"/etc/new": "new"}, before)
    after["/etc/new"] = replace(_NEW, flags="a", project="7")
    assert _told(_WRITE, after, {"/etc/new": "new"}, before) == {"/etc/new"}


def test_a_planned_file_that_is_missing_or_other_is_told() -> None:
    assert _told(_WRITE, {}) == {"/etc/new"}
    assert _told(_WRITE, {"/etc/new": _NEW, "/etc": _ETC}, {"/etc/new": "other"}) == {"/etc/new"}


def test_what_was_so_already_may_not_differ() -> None:
    """The change had nothing to do there."""
    before = (*_BEFORE, _NEW)
    assert not _told(_WRITE, {}, {"/etc/new": "new"}, before, are_read=False)
    variants: tuple[dict[str, Any], ...] = ({"mtime": "9"}, {"inode": 7777}, {"uid": 1})
    for fields in variants:
        assert _told(_WRITE, {"/etc/new": replace(_NEW, **fields)}, None, before) == {"/etc/new"}
    link = MakeSymlink("/etc/link", "old", "older", "why")
    assert not _told(link, {})
    assert _told(link, {"/etc/link": _link("/etc/link", "old", inode=7777)}) == {"/etc/link"}
    assert _told(DeleteFile("/etc/never", "", "why"), {"/etc": _ETC}) == {"/etc"}


def test_an_edited_file_has_new_contents_and_times_and_nothing_else() -> None:
    written = _file("/etc/fstab", **_LATER)
    assert not _told(_EDIT, {"/etc/fstab": written}, {"/etc/fstab": "new"})
    assert _told(_EDIT, {"/etc/fstab": written}, {"/etc/fstab": "evil"}) == {"/etc/fstab"}
    odd: tuple[dict[str, Any], ...] = (
        {"inode": 7777}, {"mode": 0o666}, {"atime": "9"}, {"links": 2}, {"attributes": (("user.x", "0x"),)},
    )  # fmt: skip
    for fields in odd:
        assert _told(_EDIT, {"/etc/fstab": replace(written, **fields)}, {"/etc/fstab": "new"}) == {"/etc/fstab"}
    assert _told(_EDIT, {"/etc/fstab": None, "/etc": _ETC}) == {"/etc/fstab", "/etc"}


def test_all_names_of_an_edited_file_change() -> None:
    before = (*_BEFORE[:2], _file("/etc/fstab", links=2, inode=50), _file("/etc/same", links=2, inode=50))
    after: dict[str, Entry | None] = {e.path: replace(e, **_LATER) for e in before[2:]}
    assert not _told(_EDIT, after, {"/etc/fstab": "new", "/etc/same": "new"}, before)
    after["/etc/same"] = replace(before[3], **_LATER, mode=0o600)
    assert _told(_EDIT, after, {"/etc/fstab": "new", "/etc/same": "new"}, before) == {"/etc/same"}


def test_the_other_name_of_a_deleted_file_has_one_name_less_and_the_same_contents() -> None:
    before = (*_BEFORE[:2], _file("/etc/gone", links=2, inode=50), _file("/etc/same", links=2, inode=50))
    delete = DeleteFile("/etc/gone", "", "why")
    after: dict[str, Entry | None] = {"/etc/gone": None, "/etc": _ETC, "/etc/same": replace(before[3], links=1, ctime="9")}
    assert not _told(delete, after, None, before)
    assert _told(delete, after, {"/etc/same": "evil"}, before) == {"/etc/same"}


@pytest.mark.parametrize(
    "change", [DeleteFile("/etc/gone", "", "why"), DeleteSymlink("/etc/gone", "x", "why")]
)
def test_what_was_to_go_is_gone(change: Change) -> None:
    assert not _told(change, {"/etc/gone": None, "/etc": _ETC})
    assert _told(change, {}) == {"/etc/gone"}
    assert _told(change, {"/etc/gone": None, "/etc/link": None, "/etc": _ETC}) == {"/etc/link"}


def test_a_link_takes_the_place_of_another() -> None:
    change = MakeSymlink("/etc/link", "new", "old", "why")
    made = _link("/etc/link", "new", inode=7777)
    assert not _told(change, {"/etc/link": made, "/etc": _ETC})
    assert _told(change, {"/etc/link": _link("/etc/link", "evil", inode=7777), "/etc": _ETC}) == {"/etc/link"}
    assert "/etc/link" in _told(MakeSymlink("/etc/link", "new", None, "why"), {"/etc/link": made, "/etc": _ETC})


def test_missing_folders_are_part_of_a_change() -> None:
    change = MakeSymlink("/etc/a/b", "x", None, "why")
    etc = _folder("/etc", links=3, **_LATER)
    after: dict[str, Entry | None] = {"/etc/a": _folder("/etc/a"), "/etc/a/b": _link("/etc/a/b", "x"), "/etc": etc}
    assert not _told(change, after)
    assert _told(change, {**after, "/etc": replace(etc, links=4)}) == {"/etc"}
    assert _told(change, {**after, "/etc/a": _folder("/etc/a", mode=0o777)}) == {"/etc/a"}
    # a link in place of the folder: what is planned below it is not there
    assert _told(change, {"/etc/a": _link("/etc/a", "evil"), "/etc": etc}) >= {"/etc/a", "/etc/a/b"}


def test_a_file_deleted_and_written_anew_is_new() -> None:
    changes = (DeleteFile("/etc/gone", "", "why"), WriteFile("/etc/gone", "new", 0o600, "why"))
    after = {"/etc/gone": _file("/etc/gone", inode=7777, mode=0o600), "/etc": _ETC}
    assert not _told(changes, after, {"/etc/gone": "new"})
    found = outcomes(changes, _listing(*_BEFORE), {}).of["/etc/gone"]
    assert (found.fate, found.replaces, len(found.why)) == (Fate.FILE, True, 2)


def test_changes_of_one_path_add_up() -> None:
    changes = (_WRITE, EditFile("/etc/new", "new", "newer", "why"), CopyFile("/x", 1, "sha", "/etc/copy", 0o755, "why"))
    found = outcomes(changes, _listing(*_BEFORE), {}).of
    assert (found["/etc/new"].fate, found["/etc/new"].sha256, found["/etc/new"].mode) == (Fate.FILE, _sha256("newer"), 0o600)
    assert (found["/etc/copy"].sha256, found["/etc/copy"].mode) == ("sha", 0o755)


@pytest.mark.parametrize(("labels", "label"), [({}, "of_folder"), ({"/etc/new": "of_policy"}, "of_policy")])
def test_labels_are_the_policys_or_the_folders(labels: dict[str, str], label: str) -> None:
    def labelled(entry: Entry, text: str) -> Entry:
        return replace(entry, attributes=(("security.selinux", "0x" + text.encode().hex() + "00"),))

    before = (_folder("/"), labelled(_folder("/etc"), "of_folder"))
    etc = replace(before[1], **_LATER)
    assert not _told(_WRITE, {"/etc/new": labelled(_NEW, label), "/etc": etc}, {"/etc/new": "new"}, before, labels)
    for odd in (labelled(_NEW, "evil"), _NEW):
        assert _told(_WRITE, {"/etc/new": odd, "/etc": etc}, {"/etc/new": "new"}, before, labels) == {"/etc/new"}


# owner rwx, user 1000 rwx, group r-x, mask rwx, others r-x
_DEFAULT = "0x0200000001000700ffffffff02000700e803000004000500ffffffff10000700ffffffff20000500ffffffff"
# the same after chmod 0640
_ACCESS = "0x0200000001000600ffffffff02000700e803000004000500ffffffff10000400ffffffff20000000ffffffff"


def test_a_default_access_list_is_handed_on_as_the_kernel_does() -> None:
    assert inherited(_DEFAULT, 0o640, is_folder=False) == {ACCESS_LIST: _ACCESS}
    assert inherited(_DEFAULT, 0o640, is_folder=True) == {ACCESS_LIST: _ACCESS, DEFAULT_LIST: _DEFAULT}
    minimal = "0x0200000001000700ffffffff04000500ffffffff20000500ffffffff"
    assert inherited(minimal, 0o640, is_folder=False) == {}


@pytest.mark.parametrize("bad", ["", "0x", "0x01000000", "0x02000000ff", "text"])
def test_a_default_access_list_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"none|hexadecimal"):
        inherited(bad, 0o640, is_folder=False)


@pytest.mark.parametrize(
    ("attributes", "is_told"),
    [
        (((ACCESS_LIST, _ACCESS),), False), ((), True), (((ACCESS_LIST, _ACCESS.replace("e803", "e903")),), True),
        (((ACCESS_LIST, _ACCESS), (DEFAULT_LIST, _DEFAULT)), True),
        (((ACCESS_LIST, _ACCESS), ("trusted.SGI_ACL_FILE", "0x")), False),
        (((ACCESS_LIST, _ACCESS), ("user.x", "0x")), True),
    ],
)  # fmt: skip
def test_a_new_file_has_the_access_list_that_its_folder_hands_on(attributes: tuple[tuple[str, str], ...], is_told: bool) -> None:
    before = (_folder("/"), _folder("/etc", attributes=((DEFAULT_LIST, _DEFAULT),)))
    after = {"/etc/new": replace(_NEW, mode=0o640, attributes=attributes), "/etc": replace(before[1], **_LATER)}
    change = replace(_WRITE, mode=0o640)
    assert _told(change, after, {"/etc/new": "new"}, before) == ({"/etc/new"} if is_told else set())


_OTHERS = [
    "ID 5 (FS_TREE)", "ID 256 gen 7 parent 5 top level 5 uuid u path @", "ID 257 gen 7 parent 5 top level 5 uuid v path @home",
]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "line", "word"),
    [
        (1, "ID 256 gen 9 parent 5 top level 5 uuid u path @", ""),
        (2, "ID 257 gen 9 parent 5 top level 5 uuid v path @home", "@home"),
        (2, "ID 257 gen 7 parent 5 top level 5 uuid w path @home", "another"),
        (0, "ID 257 gen 7 top level 5 path @home", "default"),
        (2, "ID 300 gen 7 parent 5 top level 5 uuid v path evil", "evil"), (2, "", "gone"),
    ],
)  # fmt: skip
def test_a_subvolume_that_nothing_was_planned_in_is_of_the_same_generation(at: int, line: str, word: str) -> None:
    after = [*_OTHERS]
    after[at] = line
    told = list(subvolume_problems(_OTHERS, list(filter(None, after)), 256, ["subvol=@"]))
    assert any(word in problem for problem in told) if word else not told
    assert not list(subvolume_problems(_OTHERS, _OTHERS, 256, []))


@pytest.mark.parametrize("option", ["subvol=@home", "subvol=/@home", "subvolid=257"])
def test_a_subvolume_that_the_plan_writes_to_may_be_of_a_later_one(option: str) -> None:
    after = [*_OTHERS[:2], _OTHERS[2].replace("gen 7", "gen 9")]
    assert not list(subvolume_problems(_OTHERS, after, 256, ["subvol=@", option]))
