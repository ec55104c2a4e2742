"""A planned change of a registry hive: made, skipped, refused; shown, kept as JSON, and told in a proof."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from drivers import apply, plan_text
from drivers.apply import NotWritten, apply_changes
from drivers.caps import GuestCaps
from drivers.changes import EditHive, WriteFile, summary
from drivers.facts import Mount
from drivers.listing import Entry, Listing
from drivers.plan import GuestPlan, PlanOptions
from drivers.planned import Accounting, outcomes
from drivers.planning import plan_guest
from drivers.walk import Walk, WalkedFileSystem
from drivers.windows import crash_control
from drivers.windows.contribution import WindowsContribution, joined
from drivers.windows.edits import AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.facts import SYSTEM, HiveLog
from drivers.windows.hive_contents import subtree_digest
from drivers.windows.hive_edit import Patch, edit, holds_confined, patched, problems_confined
from drivers.windows.reg_text import reg_diff
from drivers.windows.regf import Hive
from p2v.core import jsonio
from p2v.core.errors import PlanStale
from p2v.documents import document_converter
from p2v.proof.hives import edited_hives
from tests.drivers.memory_guest import MemoryGuest, file
from tests.drivers.windows.guest_disk import ntfs_disk, software_tree, system_tree, windows_files
from tests.drivers.windows.hive_writer import log_entry, new_log, own_hive, pages_that_differ, with_sequences
from tests.drivers.windows.test_reading import facts_of, read
from tests.fixtures.hives import dword, expand_sz, make_hive, multi_sz, seal, sz

PATH = "/Windows/System32/config/SYSTEM"
_CRASH = "ControlSet001\\Control\\CrashControl"
_TREE = {_CRASH: {"AutoReboot": dword(1), "Other": sz("x")}, "ControlSet001\\Services\\old": {"Start": dword(0)}}
HIVE = own_hive(_TREE)
_OLD = Hive(HIVE).key("ControlSet001\\Services\\old")
assert _OLD is not None
EDITS: tuple[HiveEdit, ...] = (
    SetValue(_CRASH, "AutoReboot", 4, "00000000", ValueData(4, "01000000"), "so that the stop code stays"),
    DeleteValue(_CRASH, "Other", ValueData(1, sz("x").data.hex()), "not wanted"),
    AddKey("ControlSet001\\Services\\viostor", "a driver"),
    SetValue("ControlSet001\\Services\\viostor", "ImagePath", 2, expand_sz("system32\\v.sys").data.hex(), None, "its file"),
    DeleteKey("ControlSet001\\Services\\old", subtree_digest(_OLD), "gone"),
)


def change_of(data: bytes = HIVE, edits: tuple[HiveEdit, ...] = EDITS, logs: Sequence[tuple[str, bytes]] = ()) -> EditHive:
    """A change for a hive at its usual place."""
    parts = tuple(HiveLog(path, len(part), hashlib.sha256(part).hexdigest()) for path, part in logs)
    return EditHive(PATH, len(data), hashlib.sha256(data).hexdigest(), edits, "a test", parts)


def guest_with(data: bytes, **logs: bytes) -> MemoryGuest:
    """A guest with a hive and its logs."""
    return MemoryGuest({PATH: file(data), **{f"{PATH}.{name}": file(log) for name, log in logs.items()}})


def contents(guest: MemoryGuest) -> bytes:
    """The hive as it is in the guest."""
    return guest.nodes[PATH].data


def test_edits_are_made_in_place_and_only_what_differs_is_written() -> None:
    guest = guest_with(HIVE)
    inode = guest.nodes[PATH].inode
    (applied,) = apply_changes(guest, [change_of()], {})
    assert not applied.skipped
    hive = Hive(contents(guest))
    key = hive.key(_CRASH)
    assert key is not None
    assert [(value.name, value.number()) for value in key.values()] == [("AutoReboot", 0)]
    assert hive.key("ControlSet001\\Services\\viostor") is not None
    assert hive.key("ControlSet001\\Services\\old") is None
    assert guest.nodes[PATH].inode == inode
    assert {write.split()[0] for write in guest.writes} == {"patch"}


def test_applied_twice_nothing_changes() -> None:
    guest = guest_with(HIVE)
    apply_changes(guest, [change_of()], {})
    once = contents(guest)
    guest.writes.clear()
    (applied,) = apply_changes(guest, [change_of()], {})
    assert applied.skipped
    assert contents(guest) == once
    assert guest.writes == []


_ANOTHER = own_hive({_CRASH: {"AutoReboot": dword(7)}})


@pytest.mark.parametrize("other", [_ANOTHER, b"", b"no hive at all", HIVE[:-4096], HIVE + b"\0"])
def test_another_hive_makes_the_plan_stale(other: bytes) -> None:
    guest = guest_with(other)
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [change_of(), WriteFile("/new", "x", 0o644, "t")], {})
    assert PATH in caught.value.sentence()
    assert guest.writes == []
    with pytest.raises(PlanStale):
        apply_changes(MemoryGuest({"/Windows/System32/config/x": file("")}), [change_of()], {})


def test_a_dirty_hive_that_has_the_edits_is_not_taken_for_edited() -> None:
    after = edit(HIVE, (), EDITS)
    guest = guest_with(with_sequences(after, 9, 8))
    with pytest.raises(PlanStale):
        apply_changes(guest, [change_of()], {})


def _dirty() -> tuple[bytes, bytes]:
    newer = own_hive({**_TREE, _CRASH: {**_TREE[_CRASH], "Late": dword(5)}})
    hive = with_sequences(HIVE, 9, 8)
    log = log_entry(pages_that_differ(HIVE, newer), sequence=8, bins_bytes=len(newer) - 4096)
    return hive, new_log(hive, [log], sequence=8)


def test_what_the_logs_hold_is_put_into_the_hive_first() -> None:
    hive, log = _dirty()
    newer = own_hive({**_TREE, _CRASH: {**_TREE[_CRASH], "Late": dword(5)}})
    old = Hive(newer).key("ControlSet001\\Services\\old")
    assert old is not None
    edits = (*EDITS[:4], DeleteKey("ControlSet001\\Services\\old", subtree_digest(old), "gone"))
    change = change_of(hive, edits, [(f"{PATH}.LOG1", log), (f"{PATH}.LOG2", b"")])
    guest = guest_with(hive, LOG1=log, LOG2=b"")
    apply_changes(guest, [change], {})
    key = Hive(contents(guest)).key(_CRASH)
    assert key is not None
    assert [value.name for value in key.values()] == ["AutoReboot", "Late"]
    primary, secondary = struct.unpack_from("<II", contents(guest), 4)
    # clean, and beyond every entry: the logs stay, and Windows does not look at them
    assert primary == secondary > 9
    assert guest.nodes[f"{PATH}.LOG1"].data == log
    (again,) = apply_changes(guest, [change], {})
    assert again.skipped


def test_other_logs_than_planned_make_the_plan_stale() -> None:
    hive, log = _dirty()
    change = change_of(hive, EDITS[:1], [(f"{PATH}.LOG1", log)])
    for guest in (guest_with(hive, LOG1=log + b"\0"), guest_with(hive)):
        with pytest.raises(PlanStale):
            apply_changes(guest, [change], {})
        assert guest.writes == []


def test_a_hive_that_cannot_be_edited_is_left_as_it_is() -> None:
    # as a plan for it could not have been made: the value is another one than in the file of this digest
    wrong = replace(cast(SetValue, EDITS[0]), before=ValueData(4, "07000000"))
    guest = guest_with(HIVE)
    with pytest.raises(NotWritten) as caught:
        apply_changes(guest, [change_of(edits=(wrong,))], {})
    assert "not as planned" in caught.value.problem
    assert guest.writes == []


def test_what_the_first_child_made_wrong_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: object) -> tuple[Patch, ...]:
        made = edit(HIVE, (), (*EDITS, SetValue(_CRASH, "Unplanned", 4, "00000000", None, "t")))
        return (Patch(0, made),)

    monkeypatch.setattr(apply, "edit_confined", other)
    guest = guest_with(HIVE)
    with pytest.raises(NotWritten) as caught:
        apply_changes(guest, [change_of()], {})
    assert "nobody planned" in caught.value.problem
    assert guest.writes == []


def test_another_base_block_is_noticed() -> None:
    after = bytearray(edit(HIVE, (), EDITS))
    assert problems_confined(HIVE, (), bytes(after), EDITS) == ()
    after[144] ^= 1
    seal(after)
    assert problems_confined(HIVE, (), bytes(after), EDITS) == ("its base block is another one",)


def test_a_guest_that_loses_what_is_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = guest_with(HIVE)
    monkeypatch.setattr(guest, "patch", lambda *_: None)
    with pytest.raises(NotWritten, match="reads back"):
        apply_changes(guest, [change_of()], {})


def test_two_edits_of_one_target_are_a_bug_of_the_plan() -> None:
    twice = (EDITS[0], replace(cast(SetValue, EDITS[0]), key=_CRASH.upper(), data="02000000"))
    with pytest.raises(ValueError, match="two edits"):
        apply_changes(guest_with(HIVE), [change_of(edits=twice)], {})


def test_a_hostile_hive_ends_in_words() -> None:
    spoilt = bytearray(HIVE)
    spoilt[4096 + 32 : 4096 + 36] = b"\xff\xff\xff\x7f"
    assert not holds_confined(bytes(spoilt), EDITS)
    assert problems_confined(HIVE, (), bytes(spoilt), EDITS)
    guest = guest_with(bytes(spoilt))
    with pytest.raises(NotWritten):
        apply_changes(guest, [change_of(bytes(spoilt))], {})
    assert guest.writes == []


def test_patches_may_make_a_file_longer() -> None:
    assert patched(b"abcd", [Patch(2, b"XYZ"), Patch(7, b"!")]) == b"abXYZ\0\0!"


# --- shown, kept, proven -------------------------------------------------------------------------------------------------


def _plan(*changes: EditHive) -> GuestPlan:
    return GuestPlan(changes, (), (), GuestCaps(("sata",), ("e1000",), "bios", "x86_64"))


def test_a_plan_shows_edits_like_a_reg_file() -> None:
    lines = plan_text.render(_plan(change_of())).splitlines()
    shown = [line.strip() for line in lines[3:]]
    for line in (
        "[ControlSet001\\Control\\CrashControl]", '-"AutoReboot"=dword:00000001', '+"AutoReboot"=dword:00000000', '-"Other"="x"',
        "; so that the stop code stays", "+[ControlSet001\\Services\\viostor]", '+"ImagePath"=expand_sz:"system32\\v.sys"',
    ):  # fmt: skip
        assert line in shown, line
    assert any(line.startswith("-[ControlSet001\\Services\\old]") for line in shown)
    assert summary(change_of()) == f"change 2 keys and 3 values of the registry in {PATH}"


@pytest.mark.parametrize(
    "value, shown",
    [(multi_sz("a", "b"), 'multi_sz:"a","b"'), (sz("a\nb\x1b[31m"), '"a\\x0ab\\x1b[31m"'), (dword(255), "dword:000000ff")],
)
def test_values_are_shown_so_that_a_terminal_is_safe(value: Any, shown: str) -> None:
    edits = (SetValue("A", "", value.type, value.data.hex(), None, "t"),)
    assert f"+@={shown}" in plan_text.render(_plan(change_of(edits=edits)))


def test_a_reason_stands_once_below_all_that_it_is_the_reason_of() -> None:
    edits: list[HiveEdit] = [AddKey("A", "one"), SetValue("A", "x", 4, "01000000", None, "one")]
    edits.append(SetValue("B", "y", 4, "02000000", None, "two"))
    again = SetValue("B", "z", 4, "03000000", None, "one")
    assert list(reg_diff([*edits, again])) == [
        "+[A]", '+"x"=dword:00000001', " ; one",
        " [B]", '+"y"=dword:00000002', " ; two", '+"z"=dword:00000003', " ; one",
    ]  # fmt: skip


def test_bytes_that_are_no_text_are_shown_as_bytes() -> None:
    edits = (SetValue("A", "n", 1, "610000", None, "t"), SetValue("A", "b", 3, "00" * 100, None, "t"))
    text = plan_text.render(_plan(change_of(edits=edits)))
    assert '+"n"=hex(1):61,00,00' in text
    assert '+"b"=hex:00,' in text
    assert "(100 bytes)" in text


@pytest.mark.parametrize("kind, data", [(1, "no hexadecimal"), (-1, "00"), (1 << 32, "00"), (1, "0")])
def test_a_plan_of_nonsense_is_shown_and_refused(kind: int, data: str) -> None:
    change = change_of(edits=(SetValue(_CRASH, "New", kind, data, None, "t"),))
    assert "no data" in plan_text.render(_plan(change))
    guest = guest_with(HIVE)
    with pytest.raises(NotWritten, match="no data"):
        apply_changes(guest, [change], {})
    assert guest.writes == []


def test_a_plan_survives_json() -> None:
    plan = _plan(change_of(logs=[(f"{PATH}.LOG1", b"log")]))
    assert jsonio.decode(document_converter(), jsonio.encode(document_converter(), plan), GuestPlan) == plan




@dataclass
class _FakeWalk:
    files: dict[str, bytes]

    def read(self, _: object, path: str, offset: int, length: int) -> bytes:
        return self.files[path][offset : offset + length]


def test_a_proof_compares_keys_and_values_with_the_edits() -> None:
    after = edit(HIVE, (), EDITS)
    other = edit(after, (), (SetValue(_CRASH, "Unplanned", 4, "00000000", None, "t"),))
    walked = cast("Sequence[WalkedFileSystem]", (None, None))
    for found, expected in ((after, 0), (other, 1), (HIVE, len(EDITS))):
        listings = (_any_listing(HIVE), _any_listing(found))
        planned = outcomes([change_of()], listings[0], {})
        walks = cast("tuple[Walk, Walk]", (_FakeWalk({PATH: HIVE}), _FakeWalk({PATH: found})))
        hives = edited_hives(walks, walked, planned, listings, Mount("/", 0, 1))
        assert len(hives.problems) == expected
        assert hives.stands == ({PATH} if not expected else set())
    assert any("AutoReboot" in why for why in planned.of[PATH].why)


def _any_listing(data: bytes) -> Listing:
    class _Entry:
        type, size = "f", len(data)

    return Listing({PATH: cast(Entry, _Entry())}, {})


def test_a_difference_that_an_edit_explains_is_one_of_contents() -> None:
    planned = outcomes([change_of()], Listing({}, {}), {})
    assert planned.of[PATH].edits == change_of()
    accounting = Accounting(planned, Listing({}, {}), Listing({}, {}), {}, edited=frozenset({PATH}))
    assert accounting.account(()).unexplained == ()
    accounting = Accounting(planned, Listing({}, {}), Listing({}, {}), {})
    assert [each.path for each in accounting.account(()).unexplained] == [PATH]


# --- planning ------------------------------------------------------------------------------------------------------------


def _windows(**values: Any) -> Any:
    tree = system_tree(current=1, sets=(1, 2, 3))
    tree = {**tree, "Select": {**tree["Select"], "LastKnownGood": dword(2)}, **values}
    return read(windows_files(system=make_hive(tree), software=make_hive(software_tree(), name="SOFTWARE"))).facts


def test_a_stop_stays_on_the_screen_in_every_control_set_that_can_be_started() -> None:
    windows = _windows()
    edits = crash_control.contribute(windows).edits[SYSTEM]
    assert [edit.key for edit in edits] == [f"ControlSet00{n}\\Control\\CrashControl" for n in (1, 2)]
    quiet = _windows(**{f"ControlSet00{n}\\Control\\CrashControl": {"AutoReboot": dword(0)} for n in (1, 2)})
    assert crash_control.contribute(quiet).edits[SYSTEM] == ()


def test_planners_that_disagree_are_a_bug_and_those_that_agree_are_one() -> None:
    one = WindowsContribution({SYSTEM: EDITS[:1]})
    same = WindowsContribution({SYSTEM: (replace(cast(SetValue, EDITS[0]), why="another reason"),)})
    other = WindowsContribution({SYSTEM: (replace(cast(SetValue, EDITS[0]), data="02000000"),)})
    assert joined((one, same)).edits == {SYSTEM: EDITS[:1]}
    with pytest.raises(ValueError, match="two planners"):
        joined((one, other))


def test_the_second_plan_has_nothing_to_change(tmp_path: Path) -> None:
    files = windows_files()
    facts = facts_of(ntfs_disk(tmp_path / "first.img", files))
    (change,) = plan_guest(facts, PlanOptions()).changes
    assert isinstance(change, EditHive)
    assert change.path == PATH
    guest = MemoryGuest({path: file(data) for path, data in files.items()})
    apply_changes(guest, [change], {})
    again = facts_of(ntfs_disk(tmp_path / "second.img", {path: guest.nodes[path].data for path in files}))
    assert plan_guest(again, PlanOptions()).changes == ()
