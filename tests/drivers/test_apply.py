"""Changes are made where the guest is as planned, skipped where it already is so, and refused otherwise, all or none."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.apply import NotWritten, apply_changes
from drivers.changes import (
    BootGeometry,
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    DiscardHibernation,
    EditBootSector,
    EditFile,
    EditHive,
    ExtendInitramfs,
    MakeSymlink,
    Member,
    WriteFile,
    summary,
)
from drivers.tree import FileType
from drivers.windows.edits import SetValue, ValueData
from drivers.windows.hive_edit import edit
from drivers.writable import GuestFull, Space, WritableGuest
from p2v.core.errors import PlanStale
from p2v.core.events import ChangeApplied, Event
from tests.drivers.memory_guest import ETC_LABEL, MIB, MemoryGuest, Node, file, folder, link
from tests.drivers.windows.hive_writer import own_hive
from tests.fixtures.hives import dword

WHY = "the test says so"
INITRAMFS = bytes(range(256)) * 8192 + b"tail"  # more than one piece
SUPPLEMENT = b"070701" + b"supplement" * 1000
INITRD = "/boot/initrd.img"
SUPPLEMENTS = {INITRD: SUPPLEMENT}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


WRITE = WriteFile("/etc/new/deep/p2v.conf", "caf\udce9 = 1\n", 0o600, WHY)
EDIT = EditFile("/etc/fstab", "/dev/sda1 /\n", "UUID=1 /\n", WHY)
DELETE = DeleteFile("/etc/old", sha256(b"old"), WHY)
LINK = MakeSymlink("/etc/units/a.service", "/dev/null", None, WHY)
RELINK = MakeSymlink("/etc/alias", "/new", "/old", WHY)
UNLINK = DeleteSymlink("/etc/wants", "/lib/tools.service", WHY)
LOADER = bytes(range(255)) * 9000  # more than one piece
COPY = CopyFile("/boot/loader.efi", len(LOADER), sha256(LOADER), "/boot/efi/EFI/BOOT/BOOTX64.EFI", 0o755, WHY)
CARRIED = Path(__file__).read_bytes()
CARRY = CarryFile(__file__, len(CARRIED), sha256(CARRIED), "/var/lib/p2v/agent.deb", 0o600, WHY)
HIVE = own_hive({"Control": {"AutoReboot": dword(1)}})
HIVE_EDITS = (SetValue("Control", "AutoReboot", 4, "00000000", ValueData(4, "01000000"), WHY),)
EDIT_HIVE = EditHive("/Windows/System32/config/SYSTEM", len(HIVE), sha256(HIVE), HIVE_EDITS, WHY)
DISCARD = DiscardHibernation("/C/hiberfil.sys", 100, WHY)
EDIT_BOOT = EditBootSector("/Windows/Boot/$Boot", BootGeometry(255, 2048), BootGeometry(64, 63), WHY)


def boot_sector(heads: int, hidden_sectors: int, name: bytes = b"NTFS    ") -> Node:
    """The file that NTFS has for its first sectors."""
    return file(b"\xeb\x52\x90" + name + bytes(15) + struct.pack("<HI", heads, hidden_sectors) + bytes(range(200)))


# bytes 1000 to 1499 of this file, as a file on a CD image stands in that
PART = CARRIED[1000:1500]
CARRY_PART = CarryFile(__file__, 500, sha256(PART), "/Windows/disk.sys", 0o600, WHY, Member("/viostor/disk.sys", 1000))
EXTEND = ExtendInitramfs(INITRD, len(INITRAMFS), sha256(INITRAMFS), "6.1", "/usr/lib/modules/6.1", (), "", "none", WHY)


@dataclass(frozen=True)
class Case:
    """A change with what it expects, what it leaves, and other things that may stand there (None: nothing)."""

    change: Change
    before: Node | None
    after: Node | None
    others: tuple[Node | None, ...]


OTHER = file("something else")
CASES: Mapping[str, Case] = {
    "write": Case(
        WRITE,
        None,
        file(b"caf\xe9 = 1\n", 0o600),
        (OTHER, file(b"caf\xe9 = 1\n", 0o644), file(b"caf\xe9 = 1\n", 0o600, uid=1000), folder(), link("/etc/fstab")),
    ),
    "edit": Case(
        EDIT, file(EDIT.before, 0o640, 1, 2), file(EDIT.after, 0o640, 1, 2), (None, OTHER, folder(), link("/x"))
    ),
    "copy": Case(
        COPY,
        None,
        file(LOADER, 0o755),
        (OTHER, folder(), link(COPY.source), file(LOADER[:-1]), file(LOADER[:-1] + b"X")),
    ),
    "carry": Case(
        CARRY,
        None,
        file(CARRIED, 0o600),
        (OTHER, folder(), link("/etc/fstab"), file(CARRIED[:-1], 0o600), file(CARRIED, 0o600, uid=1)),
    ),
    "carry-part": Case(
        CARRY_PART, None, file(PART, 0o600), (OTHER, folder(), link("/etc/fstab"), file(CARRIED, 0o600), file(PART, 0o600, uid=1))
    ),
    "delete": Case(DELETE, file("old"), None, (OTHER, folder(), link("/etc/fstab"))),
    "link": Case(LINK, None, link("/dev/null"), (OTHER, folder(), link("/dev/zero"))),
    "relink": Case(RELINK, link("/old"), link("/new"), (None, OTHER, folder(), link("/other"))),
    "unlink": Case(UNLINK, link("/lib/tools.service"), None, (OTHER, folder(), link("/other"))),
    "hive": Case(
        EDIT_HIVE,
        file(HIVE, 0o777),
        file(edit(HIVE, (), HIVE_EDITS), 0o777),
        (None, OTHER, folder(), link("/etc/fstab"), file(own_hive({"Control": {"AutoReboot": dword(2)}}))),
    ),
    "boot-sector": Case(
        EDIT_BOOT,
        boot_sector(255, 2048),
        boot_sector(64, 63),
        (
            None, OTHER, folder(), link("/etc/fstab"), file(b""), boot_sector(255, 63), boot_sector(64, 2048),
            boot_sector(255, 2048, b"-FVE-FS-"),
        ),
    ),
    "discard": Case(
        DISCARD,
        file(b"HIBR" + bytes(96)),
        None,
        (OTHER, folder(), link("/etc/fstab"), file(b"HIBR" + bytes(95)), file(b"wake" + bytes(96))),
    ),
    "extend": Case(
        EXTEND,
        file(INITRAMFS),
        file(INITRAMFS + SUPPLEMENT),
        (
            None,
            OTHER,
            folder(),
            link("/boot/x"),
            file(INITRAMFS[:-1] + b"X"),
            file(INITRAMFS[:-1] + b"X" + SUPPLEMENT),
            file(INITRAMFS + SUPPLEMENT[:-1] + b"X"),
            file(INITRAMFS + SUPPLEMENT[:-1]),
            file(INITRAMFS + SUPPLEMENT + SUPPLEMENT),
        ),
    ),
}
STALE = [(name, n) for name, case in CASES.items() for n in range(len(case.others))]


def guest_with(nodes: Mapping[str, Node | None]) -> MemoryGuest:
    """Fresh nodes, so that no test sees what another wrote; the folders the cases take for granted."""
    present = {path: copy.copy(node) for path, node in nodes.items() if node is not None}
    return MemoryGuest({"/etc": folder(), "/boot": folder(), COPY.source: file(LOADER), **present})


def guest_before() -> MemoryGuest:
    return guest_with({case.change.path: case.before for case in CASES.values()})


def seen(node: Node | None) -> tuple[FileType, bytes, int, int, int] | None:
    return None if node is None else (node.type, node.data, node.mode, node.uid, node.gid)


@pytest.mark.parametrize("source", [None, OTHER, folder(), link("/etc/fstab"), file(LOADER[:-1] + b"X")])
def test_a_copy_whose_source_is_another_is_stale(source: Node | None) -> None:
    guest = guest_with({COPY.source: source})
    if source is None:
        del guest.nodes[COPY.source]
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [COPY], {})
    assert caught.value.where == COPY.target
    assert guest.writes == []


@pytest.mark.parametrize("source", [None, b"", CARRIED[:-1], CARRIED + b"X", CARRIED[:-1] + b"X"])
def test_a_file_of_the_host_that_is_another_now_is_stale_and_nothing_is_written(
    source: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "agent.deb"
    if source is not None:
        path.write_bytes(source)
    guest = guest_before()
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [EDIT, dataclasses.replace(CARRY, source=str(path))], {})
    assert caught.value.where == str(path)
    assert guest.writes == []


@pytest.mark.parametrize("offset", [-1, 999, len(CARRIED) - 499, len(CARRIED) + 1, 1 << 62, 1 << 70])
def test_a_file_within_a_file_that_does_not_stand_there_is_stale(offset: int) -> None:
    guest = guest_before()
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [EDIT, dataclasses.replace(CARRY_PART, member=Member("/viostor/disk.sys", offset))], {})
    assert "/viostor/disk.sys" in caught.value.where
    assert guest.writes == []


@pytest.mark.parametrize("size", [-2, 1 << 60])
def test_no_more_of_the_host_is_read_than_may_be_carried(size: int) -> None:
    with pytest.raises(PlanStale):
        apply_changes(guest_before(), [dataclasses.replace(CARRY, source="/dev/zero", size=size)], {})


def test_a_carried_file_that_is_there_asks_nothing_of_the_host() -> None:
    guest = guest_with({CARRY.path: file(CARRIED, 0o600)})
    (applied,) = apply_changes(guest, [dataclasses.replace(CARRY, source="/gone")], {})
    assert applied.skipped


def test_a_copy_on_a_file_system_without_modes_and_owners_is_already_so() -> None:
    (applied,) = apply_changes(guest_with({COPY.target: file(LOADER, 0o700, 1, 1)}), [COPY], {})
    assert applied.skipped


def test_a_change_is_a_member_of_the_protocol() -> None:
    guest: WritableGuest = guest_before()
    assert guest.exists("/etc")


@pytest.mark.parametrize("name", CASES)
def test_as_expected_is_made(name: str) -> None:
    case = CASES[name]
    guest = guest_with({case.change.path: case.before})
    (applied,) = apply_changes(guest, [case.change], SUPPLEMENTS)
    assert not applied.skipped
    assert applied.summary == summary(case.change)
    assert seen(guest.nodes.get(case.change.path)) == seen(case.after)
    assert guest.synced == 1


@pytest.mark.parametrize("name", CASES)
def test_already_so_is_skipped_and_nothing_written(name: str) -> None:
    case = CASES[name]
    guest = guest_with({case.change.path: case.after})
    (applied,) = apply_changes(guest, [case.change], SUPPLEMENTS)
    assert applied.skipped
    assert guest.writes == []


@pytest.mark.parametrize(("name", "other"), STALE)
def test_anything_else_there_is_stale_and_nothing_written(name: str, other: int) -> None:
    case = CASES[name]
    guest = guest_with({case.change.path: case.others[other]})
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [case.change], SUPPLEMENTS)
    assert caught.value.where == case.change.path
    assert caught.value.expected
    assert caught.value.found
    assert guest.writes == []


def test_applying_a_whole_plan_twice_changes_nothing_the_second_time() -> None:
    changes = [case.change for case in CASES.values()]
    guest = guest_before()
    assert not any(applied.skipped for applied in apply_changes(guest, changes, SUPPLEMENTS))
    nodes, written = copy.deepcopy(guest.nodes), len(guest.writes)
    assert all(applied.skipped for applied in apply_changes(guest, changes, SUPPLEMENTS))
    assert guest.nodes == nodes
    assert len(guest.writes) == written


@pytest.mark.parametrize("stale", CASES)
def test_nothing_at_all_is_written_when_one_change_is_stale(stale: str) -> None:
    guest = guest_before()
    changes = [case.change for case in CASES.values()]
    path = CASES[stale].change.path
    guest.nodes[path] = folder()
    with pytest.raises(PlanStale):
        apply_changes(guest, changes, SUPPLEMENTS)
    assert guest.writes == []


@pytest.mark.parametrize("name", ["edit", "extend"])
def test_editing_and_extending_keep_the_inode_the_owner_and_the_label(name: str) -> None:
    case = CASES[name]
    assert case.before is not None
    labelled = copy.copy(case.before)
    labelled.label = b"system_u:object_r:special_t:s0\0"
    guest = guest_with({case.change.path: labelled})
    kept = (guest.nodes[case.change.path].inode, labelled.label, case.before.mode, case.before.uid, case.before.gid)
    apply_changes(guest, [case.change], SUPPLEMENTS)
    node = guest.nodes[case.change.path]
    assert (node.inode, node.label, node.mode, node.uid, node.gid) == kept


@pytest.mark.parametrize("change", [WRITE, LINK], ids=["write", "link"])
def test_missing_parents_are_made_for_everybody_to_enter(change: Change) -> None:
    guest = guest_with({})
    apply_changes(guest, [change], {})
    made = guest.nodes[change.path.rpartition("/")[0]]
    assert (made.type, made.mode, made.uid, made.gid) == (FileType.DIRECTORY, 0o755, 0, 0)


@pytest.mark.parametrize("change", [WRITE, LINK], ids=["write", "link"])
def test_new_files_and_folders_get_the_label_of_the_folder_they_are_in(change: Change) -> None:
    guest = guest_with({"/etc": folder(ETC_LABEL)})
    (applied,) = apply_changes(guest, [change], {})
    assert guest.nodes[change.path].label == ETC_LABEL
    assert guest.nodes[change.path.rpartition("/")[0]].label == ETC_LABEL
    assert "etc_t" in applied.note


@pytest.mark.parametrize("change", [WRITE, LINK], ids=["write", "link"])
def test_new_files_and_folders_get_the_labels_of_the_plan(change: Change) -> None:
    guest = guest_with({"/etc": folder(ETC_LABEL)})
    above = change.path.rpartition("/")[0]
    labels = {change.path: "u:r:file_t:s0", above: "u:r:folder_t:s0"}
    (applied,) = apply_changes(guest, [change], {}, labels=labels)
    assert guest.nodes[change.path].label == b"u:r:file_t:s0\0"
    assert guest.nodes[above].label == b"u:r:folder_t:s0\0"
    assert "file_t" in applied.note


def test_a_link_that_takes_another_ones_place_is_labelled() -> None:
    guest = guest_with({"/etc": folder(ETC_LABEL), RELINK.path: link("/old")})
    apply_changes(guest, [RELINK], {}, labels={RELINK.path: "u:r:link_t:s0"})
    assert guest.nodes[RELINK.path].label == b"u:r:link_t:s0\0"


def test_a_guest_without_labels_gets_none() -> None:
    guest = guest_with({})
    (applied,) = apply_changes(guest, [WRITE], {}, labels={WRITE.path: "u:r:file_t:s0"})
    assert guest.nodes[WRITE.path].label is None
    assert applied.note == ""


@pytest.mark.parametrize("name", CASES)
def test_a_link_among_the_parents_never_redirects_a_write(name: str) -> None:
    case = CASES[name]
    top = "/" + case.change.path.split("/")[1]
    guest = guest_with({case.change.path: case.before})
    guest.nodes[top] = link("/somewhere/else")
    with pytest.raises(PlanStale) as caught:
        apply_changes(guest, [case.change], SUPPLEMENTS)
    assert top in caught.value.expected
    assert guest.writes == []


@pytest.mark.parametrize("path", ["etc/fstab", "/etc/../fstab", "/etc//fstab", "/etc/./fstab", "/etc/fstab/", "/", ""])
def test_a_path_that_is_not_absolute_and_normal_is_a_bug_of_the_plan(path: str) -> None:
    guest = guest_before()
    with pytest.raises(ValueError, match="no absolute path"):
        apply_changes(guest, [WriteFile(path, "", 0o644, WHY)], {})
    assert guest.writes == []


def test_changes_of_one_path_build_on_each_other() -> None:
    edits: list[Change] = [EditFile("/etc/a", "1", "2", WHY), EditFile("/etc/a", "2", "3", WHY)]
    for start, skipped in (("1", [False, False]), ("2", [True, False]), ("3", [True, True])):
        guest = guest_with({"/etc/a": file(start)})
        assert [applied.skipped for applied in apply_changes(guest, edits, {})] == skipped
        assert guest.nodes["/etc/a"].data == b"3"


def test_a_file_makes_way_for_a_link() -> None:
    changes: list[Change] = [DELETE, MakeSymlink(DELETE.path, "/dev/null", None, WHY)]
    guest = guest_with({DELETE.path: file("old")})
    assert [applied.skipped for applied in apply_changes(guest, changes, {})] == [False, False]
    assert [applied.skipped for applied in apply_changes(guest, changes, {})] == [True, True]
    assert guest.readlink(DELETE.path) == "/dev/null"


def test_every_change_is_reported_in_order() -> None:
    events: list[Event] = []
    guest = guest_with({EDIT.path: file(EDIT.after)})
    apply_changes(guest, [WRITE, EDIT], {}, events.append)
    assert events == [ChangeApplied(summary(WRITE), False), ChangeApplied(summary(EDIT), True)]


def test_a_boot_sector_that_reads_back_differently_is_an_error() -> None:
    guest = guest_with({EDIT_BOOT.path: boot_sector(255, 2048)})
    guest.lose_appended = 3
    with pytest.raises(NotWritten):
        apply_changes(guest, [EDIT_BOOT], {})


def test_a_geometry_that_has_no_place_in_a_boot_sector_is_not_written() -> None:
    guest = guest_with({EDIT_BOOT.path: boot_sector(255, 2048)})
    for after in (BootGeometry(65536, 63), BootGeometry(64, -1), BootGeometry(64, 1 << 32)):
        with pytest.raises(NotWritten):
            apply_changes(guest, [dataclasses.replace(EDIT_BOOT, after=after)], {})
    assert guest.nodes[EDIT_BOOT.path].data == boot_sector(255, 2048).data


def test_an_initramfs_that_does_not_hold_what_was_appended_is_an_error() -> None:
    guest = guest_with({INITRD: file(INITRAMFS)})
    guest.lose_appended = 1
    with pytest.raises(NotWritten):
        apply_changes(guest, [EXTEND], SUPPLEMENTS)


def damage_first_bytes(data: bytes) -> bytes:
    return b"X" + data[1:]


def damage_last_bytes(data: bytes) -> bytes:
    return data[:-1] + b"X"


def add_bytes(data: bytes) -> bytes:
    return data + b"X"


@pytest.mark.parametrize("damage", [damage_first_bytes, damage_last_bytes, add_bytes])
def test_an_initramfs_is_read_back_whole_after_the_append(damage: Callable[[bytes], bytes]) -> None:
    @dataclass
    class Failing(MemoryGuest):
        def append(self, path: str, data: bytes) -> None:
            super().append(path, data)
            self.nodes[path].data = damage(self.nodes[path].data)

    guest = Failing({INITRD: file(INITRAMFS)})
    with pytest.raises(NotWritten):
        apply_changes(guest, [EXTEND], SUPPLEMENTS)


def test_a_supplement_that_nobody_built_is_a_bug() -> None:
    guest = guest_before()
    with pytest.raises(ValueError, match=INITRD):
        apply_changes(guest, [EDIT, EXTEND], {})
    assert guest.writes == []


def test_a_full_file_system_is_named_before_anything_is_written() -> None:
    guest = guest_before()
    guest.mounts["/boot"] = Space("/boot", len(SUPPLEMENT) - 1, None)
    with pytest.raises(GuestFull) as caught:
        apply_changes(guest, [WRITE, EXTEND], SUPPLEMENTS)
    assert caught.value.mountpoint == "/boot"
    assert caught.value.needed >= len(SUPPLEMENT)
    assert guest.writes == []


def test_a_file_system_without_inodes_left_is_full() -> None:
    guest = guest_before()
    guest.mounts["/"] = Space("/", 100 * MIB, 0)
    with pytest.raises(GuestFull):
        apply_changes(guest, [WRITE], {})
    assert guest.writes == []


def test_what_is_skipped_needs_no_space() -> None:
    guest = guest_with({INITRD: file(INITRAMFS + SUPPLEMENT)})
    guest.mounts["/"] = Space("/", 0, 0)
    (applied,) = apply_changes(guest, [EXTEND], SUPPLEMENTS)
    assert applied.skipped
