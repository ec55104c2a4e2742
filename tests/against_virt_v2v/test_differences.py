"""The comparison itself: it finds what was changed, and the list neither hides anything nor keeps what is gone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.against_virt_v2v.contents import contents
from tests.against_virt_v2v.differences import (
    BOTH,
    OURS,
    THEIRS,
    Difference,
    Listed,
    as_table,
    differences,
    judged,
    listed,
)
from tests.against_virt_v2v.guests import roomy
from tests.against_virt_v2v.test_virt_v2v import CASES
from tests.fixtures.hives import dword, sz
from tests.fixtures.windows import named, windows_disks
from tests.fixtures.windows.records import MIB
from tests.windows_startup.editing import Edit, RemoveKey, Set
from tests.windows_startup.guests import Sample, sample
from tests.windows_startup.machine import machine

_PAGE = Path(__file__).parents[2] / "docs" / "windows-against-virt-v2v.md"
_SYSTEM = "ControlSet001\\Services\\disk"


def _list_of(folder: Path, *rows: str) -> tuple[Listed, ...]:
    path = folder / "list.toml"
    path.write_text("\n".join(f"[[difference]]\n{row}" for row in rows))
    return listed(path)


def _row(what: str, by: str = OURS, more: str = "") -> str:
    return f"title = 'a title'\nwhat = ['{what}']\nby = '{by}'\nreason = 'more'\nwhy = 'a reason'\n{more}"


@pytest.mark.parametrize("edit, name, value", [
    (Set(_SYSTEM, "Start", dword(4)), f"SYSTEM\\{_SYSTEM}: Start", "REG_DWORD 4"),
    (Set(f"{_SYSTEM}\\Own", "", sz("x")), f"SYSTEM\\{_SYSTEM}\\Own: (default)", "REG_SZ 'x\\x00'"),
    (RemoveKey(_SYSTEM), f"SYSTEM\\{_SYSTEM}", None),
])  # fmt: skip
def test_each_change_of_a_hive_is_found(edit: Edit, name: str, value: str | None) -> None:
    with sample("win7") as found:
        before = contents(found)
        after = contents(found.with_hive("SYSTEM", [edit]))
    changed = {each.what: each for each in differences(before, after, before)}
    assert changed[name].ours == value
    assert {each.by for each in changed.values()} == {OURS}
    assert all(each.what.startswith(f"SYSTEM\\{_SYSTEM}") for each in changed.values())
    assert {each.by for each in differences(before, before, after)} == {THEIRS}
    assert differences(before, after, after) == []


@pytest.mark.parametrize("files, name", [
    ({"windows/explorer.exe": b"another"}, "C:/Windows/explorer.exe"),
    ({"windows/system32/c_437.nls": bytes(512)}, "C:/Windows/system32/c_437.nls"),
    ({"windows/explorer.exe": None}, "C:/Windows/explorer.exe"),
    ({"windows/new.exe": b"new"}, "C:/Windows/new.exe"),
])  # fmt: skip
def test_each_change_of_a_file_is_found(files: Mapping[str, bytes | None], name: str) -> None:
    with sample("win7") as found:
        before, after = contents(found), contents(found.with_files(files))
    assert [each.what for each in differences(before, after, before)] == [name]


def test_boot_sectors_and_tables_of_partitions_are_looked_at() -> None:
    with sample("xp") as found:
        before = contents(found)
        heads = contents(found.with_bytes({found.system.offset + 26: b"\x40"}))
        active = contents(found.with_bytes({446: b"\0"}))
    assert [each.what for each in differences(before, heads, before)] == ["C: boot sector"]
    assert [each.what for each in differences(before, active, before)] == ["disk 1: partition table"]


def test_names_are_the_same_in_any_case() -> None:
    assert differences({}, {"C:/A": "1"}, {"c:/a": "1"}) == []
    (found,) = differences({"C:/A": "1"}, {"C:/a": "2"}, {"c:/A": "3"})
    assert (found.what, found.by) == ("C:/A", BOTH)


def test_what_is_on_no_row_is_told_and_rows_of_nothing_are_stale(tmp_path: Path) -> None:
    found = [Difference("SYSTEM\\A: x", None, "1", None), Difference("SYSTEM\\B", None, None, "1")]
    rows = _list_of(tmp_path, _row(r"SYSTEM\\A(: .*)?"), _row(r"SYSTEM\\C", THEIRS))
    verdict = judged(found, rows, "win7")
    assert verdict.unlisted == (found[1],)
    assert verdict.stale == (r"[virt-v2v] SYSTEM\\C",)


@pytest.mark.parametrize("row", [
    _row(r"SYSTEM\\A"), _row(r"SYSTEM\\A: .*", THEIRS), _row(r"SYSTEM\\A: x", OURS, "guests = ['xp']"),
])  # fmt: skip
def test_a_row_covers_whole_names_of_its_side_in_its_guests(row: str, tmp_path: Path) -> None:
    found = Difference("SYSTEM\\A: x", None, "1", None)
    assert judged([found], _list_of(tmp_path, row), "win7").unlisted == (found,)


def test_a_row_that_another_one_hides_is_stale(tmp_path: Path) -> None:
    rows = _list_of(tmp_path, _row(r"SYSTEM\\.*"), _row(r"SYSTEM\\A"))
    assert judged([Difference("SYSTEM\\A", None, "1", None)], rows, "win7").stale == (r"[ours] SYSTEM\\A",)


def test_a_row_is_not_looked_for_in_guests_that_it_is_not_of(tmp_path: Path) -> None:
    rows = _list_of(tmp_path, _row("a", OURS, "guests = ['xp']"), _row("b", OURS, "but_for = ['win7']"))
    assert judged([], rows, "win7").stale == ()
    assert judged([], rows, "xp").stale == ("[ours] a", "[ours] b")


@pytest.mark.parametrize("row", [
    _row("a", "nobody"), _row("a", OURS, "guess = 1"), _row("a").replace("'a'", ""), _row("a").replace("a reason", " "),
    _row("a").replace("'more'", "'?'"), _row("a", OURS, "guests = ['a']\nbut_for = ['b']"),
])  # fmt: skip
def test_a_row_that_says_too_little_is_refused(row: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be taken"):
        _list_of(tmp_path, row)


def test_the_list_speaks_of_guests_that_are_compared() -> None:
    known = {case.name for case in CASES}
    assert {name for row in listed() for name in (*row.guests, *row.but_for)} <= known


def test_the_page_for_people_has_the_list_as_it_is() -> None:
    assert as_table(listed()) in _PAGE.read_text("utf-8")


@pytest.mark.parametrize("name", ["xp", "win7", "win10"])
def test_roomy_guest_is_the_sample_on_a_larger_partition(name: str) -> None:
    guest = roomy(name)
    assert guest.layout.system.size_bytes - named(name).layout.system.size_bytes == 128 * MIB
    with machine(*windows_disks(guest)) as large, sample(name) as small:
        found = differences(contents(small), contents(Sample(guest, large)), contents(small))
        assert {each.what for each in found} <= {"disk 1: partition table", "C: boot sector"}
        assert Sample(guest, large).start(guest.machine.controller).stop is None
