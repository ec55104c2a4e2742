"""The number in the folder of the results: who has a lower one gives no names."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from p2v.core import fence
from p2v.core.errors import LeaseLost, NotPermitted, ReadFailed, TargetBusy
from p2v.core.fence import fence_path, fenced, raise_fence, remove_fence, standing_fence
from tests.remembering_client import taken_away_before_its_lock


def entered(folder: Path, number: int) -> bool:
    try:
        with fenced(folder, "vm", number):
            return True
    except LeaseLost:
        return False


def test_only_the_highest_number_gives_names(tmp_path: Path) -> None:
    raise_fence(tmp_path, "vm", 9)
    assert entered(tmp_path, 9)
    raise_fence(tmp_path, "vm", 10)
    raise_fence(tmp_path, "vm", 10)  # a worker that begins again
    assert standing_fence(tmp_path, "vm") == 10
    assert not entered(tmp_path, 9)
    assert entered(tmp_path, 10)
    with pytest.raises(LeaseLost, match="lease 10 has come since") as raised:
        raise_fence(tmp_path, "vm", 9)
    assert (raised.value.exit_code, raised.value.code) == (75, "lease-lost")
    assert standing_fence(tmp_path, "vm") == 10


def test_machines_of_one_folder_do_not_know_each_other(tmp_path: Path) -> None:
    raise_fence(tmp_path, "vm", 5)
    raise_fence(tmp_path, "vm2", 1)
    assert entered(tmp_path, 5)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".vm.p2v-fence", ".vm2.p2v-fence"]


def test_no_number_comes_while_names_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "LOCK_SECONDS", 0.1)
    raise_fence(tmp_path, "vm", 1)
    with fenced(tmp_path, "vm", 1):
        with pytest.raises(TargetBusy):
            raise_fence(tmp_path, "vm", 2)
        with pytest.raises(TargetBusy):
            remove_fence(tmp_path, "vm", 1)
    assert standing_fence(tmp_path, "vm") == 1
    raise_fence(tmp_path, "vm", 2)


def test_a_number_waits_until_names_are_given(tmp_path: Path) -> None:
    raise_fence(tmp_path, "vm", 1)
    raising = threading.Thread(target=raise_fence, args=(tmp_path, "vm", 2))
    with fenced(tmp_path, "vm", 1):
        raising.start()
        assert standing_fence(tmp_path, "vm") == 1
    raising.join()
    assert standing_fence(tmp_path, "vm") == 2


def test_without_a_fence_nobody_gives_names(tmp_path: Path) -> None:
    assert not entered(tmp_path, 1)
    raise_fence(tmp_path, "vm", 1)
    assert remove_fence(tmp_path, "vm", 1)
    assert not entered(tmp_path, 1)
    assert standing_fence(tmp_path, "vm") is None
    assert not list(tmp_path.iterdir())


def test_a_fence_that_another_needs_stays(tmp_path: Path) -> None:
    raise_fence(tmp_path, "vm", 2)
    assert not remove_fence(tmp_path, "vm", 1)
    assert standing_fence(tmp_path, "vm") == 2
    assert remove_fence(tmp_path, "vm", 3)
    assert remove_fence(tmp_path, "vm", 3)  # there is none any more


def test_who_waited_for_a_fence_that_was_removed_makes_another(tmp_path: Path) -> None:
    """A lock on a removed file guards nothing."""
    raise_fence(tmp_path, "vm", 1)
    path = fence_path(tmp_path, "vm")
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    raising = threading.Thread(target=raise_fence, args=(tmp_path, "vm", 2))
    raising.start()
    path.unlink()
    os.close(held)
    raising.join()
    assert standing_fence(tmp_path, "vm") == 2


def test_a_host_that_went_down_while_the_file_was_made(tmp_path: Path) -> None:
    fence_path(tmp_path, "vm").touch()
    assert standing_fence(tmp_path, "vm") == 0
    raise_fence(tmp_path, "vm", 1)
    assert standing_fence(tmp_path, "vm") == 1


@pytest.mark.parametrize("content", [b"three", b"-1", b"1" * 21, b"1 2", "٣".encode()])
def test_a_file_that_is_no_fence_of_ours(tmp_path: Path, content: bytes) -> None:
    path = fence_path(tmp_path, "vm")
    path.write_bytes(content)
    with pytest.raises(ReadFailed, match="remove it"):
        raise_fence(tmp_path, "vm", 7)
    assert path.read_bytes() == content


@pytest.mark.parametrize("number", [0, -1, 10**20])
def test_what_is_no_number_of_a_lease(tmp_path: Path, number: int) -> None:
    with pytest.raises(ValueError, match="no number"):
        raise_fence(tmp_path, "vm", number)
    assert not list(tmp_path.iterdir())


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("words")
    fence_path(tmp_path, "vm").symlink_to(tmp_path / "precious")
    with pytest.raises(ReadFailed):
        raise_fence(tmp_path, "vm", 1)
    assert (tmp_path / "precious").read_text() == "words"


def test_without_locks_the_number_counts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    raise_fence(tmp_path, "vm", 2)
    assert not entered(tmp_path, 1)
    assert entered(tmp_path, 2)


def test_a_lock_that_is_refused_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(NotPermitted):
        raise_fence(tmp_path, "vm", 2)


def test_a_fence_that_another_host_took_away_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client remembers the name of the file that it locks; a number in a file without a name fences nobody."""
    raise_fence(tmp_path, "vm", 1)
    path = fence_path(tmp_path, "vm")
    taken_away_before_its_lock(path, monkeypatch)
    raise_fence(tmp_path, "vm", 2)
    assert int(path.read_text()) == 2
