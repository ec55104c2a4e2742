"""What is found below a path: machines, loose disks, inventories; nothing twice, nothing that is none of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2v.audit.gather import Subject, SubjectKind, gather
from p2v.core.errors import NoSource


def found(*paths: Path) -> set[tuple[str, SubjectKind]]:
    return {(each.path.name, each.kind) for each in gather(paths).subjects}


def test_a_folder_is_walked_for_descriptions_disks_and_inventories(tmp_path: Path) -> None:
    for name in (
        "web/web.vmx",
        "web/web.vmdk",
        "db/disk.qcow2",
        "old/disc.iso",
        "notes.txt",
        "fleet.xlsx",
        "b.qcow2.partial",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path) == {
        ("web.vmx", SubjectKind.DESCRIPTION),
        ("web.vmdk", SubjectKind.DISK),
        ("disk.qcow2", SubjectKind.DISK),
        ("fleet.xlsx", SubjectKind.INVENTORY),
    }


def test_what_is_named_is_taken_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "disc.iso").touch()
    assert gather([tmp_path / "disc.iso"]).subjects == (Subject(tmp_path / "disc.iso", SubjectKind.NAMED),)


def test_a_disk_named_beside_its_folder_is_looked_at_once_and_owed_an_answer(tmp_path: Path) -> None:
    (tmp_path / "disk.vhd").touch()
    subjects = gather([tmp_path, tmp_path / "disk.vhd"]).subjects
    assert [(each.path.name, each.certain) for each in subjects] == [("disk.vhd", True)]


def test_links_to_folders_are_not_followed_and_end_no_walk(tmp_path: Path) -> None:
    (tmp_path / "disk.vhd").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    assert found(tmp_path) == {("disk.vhd", SubjectKind.DISK)}


def test_pipes_and_dead_links_are_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.img")
    (tmp_path / "dead.img").symlink_to(tmp_path / "nowhere")
    assert gather([tmp_path]).subjects == ()


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoSource):
        gather([tmp_path / "absent.vmdk"])


def test_copies_of_a_machine_that_hyper_v_keeps_with_its_snapshots_are_not_machines(tmp_path: Path) -> None:
    for name in ("Virtual Machines/one.xml", "Snapshots/two.xml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert found(tmp_path) == {("one.xml", SubjectKind.DESCRIPTION)}


def test_a_loose_disk_under_two_names_is_looked_at_once_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "disk.vhd").touch()
    (tmp_path / "a.vhd").symlink_to("disk.vhd")
    found = gather([tmp_path])
    assert [each.path.name for each in found.subjects] == ["disk.vhd"]
    assert [(Path(each.path).name, "disk.vhd" in each.why) for each in found.left_aside] == [("a.vhd", True)]


def test_a_folder_that_cannot_be_listed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "disk.vhd").touch()
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    found = gather([tmp_path])
    assert [each.path.name for each in found.subjects] == ["disk.vhd"]
    assert [(each.path, each.why) for each in found.unread] == [(str(tmp_path / "shut"), "Permission denied")]
