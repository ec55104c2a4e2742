"""Letters of disks and their numbers, both ways."""

from __future__ import annotations

from p2v.core.drive_letters import drive_index, drive_letters


def test_drive_letters_go_on_after_z() -> None:
    assert [drive_letters(i) for i in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


def test_letters_and_numbers_are_the_same_disks() -> None:
    assert [drive_index(drive_letters(index)) for index in range(800)] == list(range(800))
