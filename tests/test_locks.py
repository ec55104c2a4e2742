"""Locks of targets and folders: one run at a time where the file system has locks, and a word where it has none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from p2v.cli.main import main
from p2v.core.errors import NotPermitted, P2vError, ReadFailed, TargetBusy
from p2v.core.workspace import locked, take_lock
from tests.pipeline.running import names
from tests.remembering_client import taken_away_before_its_lock


def without(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", tmp_path / "vm") as held:
        assert held
        with pytest.raises(TargetBusy), locked(tmp_path / "lock", tmp_path / "vm"):
            pass
    assert not names(tmp_path)


def test_what_a_dead_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("4711")
    with locked(tmp_path / "lock", tmp_path / "vm") as held:
        assert held
    assert not names(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_without_locks_nothing_is_held_and_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    without(monkeypatch, number)
    with locked(tmp_path / "lock", tmp_path / "vm") as held, locked(tmp_path / "lock", tmp_path / "vm") as other:
        assert not held
        assert not other
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, ReadFailed), (errno.EPERM, NotPermitted)], ids=["EIO", "EPERM"]
)
def test_a_lock_that_is_refused_is_an_error_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[P2vError]
) -> None:
    without(monkeypatch, number)
    with pytest.raises(kind, match="lock"), locked(tmp_path / "lock", tmp_path / "vm"):
        pass


def test_a_copy_to_a_folder_without_locks_is_made_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.img"
    source.write_bytes(b"disk" * 4096)
    without(monkeypatch, errno.ENOLCK)
    argv = ["disk", "convert", str(source), str(tmp_path / "copy.img"), "--input-format", "raw", "--progress", "plain"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert "no locks" in said.err
    assert (tmp_path / "copy.img").read_bytes() == source.read_bytes()
    assert names(tmp_path) == {"source.img", "copy.img"}


def test_the_lock_of_a_file_that_another_host_took_away_is_not_taken_for_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client remembers the name; the lock on the file that had it is free by then."""
    path = tmp_path / "lock"
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    taken_away_before_its_lock(path, monkeypatch)
    try:
        descriptor, is_locked = take_lock(path, tmp_path / "vm")
        assert is_locked
        assert os.path.samestat(os.fstat(descriptor), os.lstat(path))
        os.close(descriptor)
    finally:
        os.close(held)


def test_a_file_that_its_server_knows_no_more_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = fcntl.flock, []

    def stale_at_first(handle: int, operation: int) -> None:
        asked.append(handle)
        if len(asked) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", stale_at_first)
    descriptor, is_locked = take_lock(tmp_path / "lock", tmp_path / "vm")
    os.close(descriptor)
    assert is_locked
    assert len(asked) == 2
