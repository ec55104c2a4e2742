"""The folder that results go to: made where there is none, and what is in its way is told of at once."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.batch.failures import may_help
from p2v.core import workspace
from p2v.core.errors import NoSpace, ReadFailed, TargetExists
from p2v.core.workspace import make_output_folder, remove_files, write_synced


def test_folders_are_made_outermost_first(tmp_path: Path) -> None:
    assert make_output_folder(tmp_path / "a" / "b") == (tmp_path / "a", tmp_path / "a" / "b")
    assert make_output_folder(tmp_path / "a" / "b") == ()


@pytest.mark.parametrize("way", ["file", "below a file", "link to nowhere", "device"])
def test_something_else_in_its_place_is_no_failure_that_passes(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link to nowhere").symlink_to(tmp_path / "none" / "here")
    folder = {"below a file": tmp_path / "file" / "out", "device": Path("/dev/null")}.get(way, tmp_path / way)
    with pytest.raises(TargetExists) as raised:
        make_output_folder(folder)
    assert raised.value.target == folder
    # a batch parks such a machine, and does not try it again and again
    assert not may_help(raised.value.code, raised.value.exit_code)
    assert (tmp_path / "file").read_text() == "mine"


def refusing(number: int, times: int) -> tuple[Callable[[Path], None], list[Path]]:
    """rmtree as an NFS client has it while somebody has a file of the folder open."""
    real, asked = shutil.rmtree, []

    def refuse(folder: Path) -> None:
        asked.append(folder)
        if len(asked) <= times:
            raise OSError(number, os.strerror(number), str(folder))
        real(folder)

    return refuse, asked


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EBUSY], ids=errno.errorcode.get)
def test_a_folder_goes_when_its_last_file_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refuse, asked = refusing(number, 2)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    (tmp_path / "work" / "below").mkdir(parents=True)
    remove_files([tmp_path / "work"])
    assert len(asked) == 3
    assert not (tmp_path / "work").exists()


def test_a_folder_whose_file_stays_open_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse, asked = refusing(errno.ENOTEMPTY, 1_000_000)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    monkeypatch.setattr(workspace, "_CLOSING_SECONDS", 1.0)
    (tmp_path / "work").mkdir()
    with pytest.raises(ReadFailed):
        remove_files([tmp_path / "work"])
    assert len(asked) > 1


def test_a_folder_that_may_not_go_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse, asked = refusing(errno.EIO, 1_000_000)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    (tmp_path / "work").mkdir()
    with pytest.raises(ReadFailed):
        remove_files([tmp_path / "work"])
    assert len(asked) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_what_is_refused_when_a_file_is_synced_is_told_of_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """NFS refuses nothing before; and of a quota the file system's free space tells nothing."""

    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(NoSpace) as caught:
        write_synced(tmp_path / "file", b"content")
    assert caught.value.needed == 7
    assert caught.value.free > 7
    # no sentence in which all that is needed is free
    assert "are needed" not in caught.value.sentence()
    assert ("quota" in caught.value.hint()) is (number == errno.EDQUOT)
