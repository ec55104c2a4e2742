"""The folder in which libguestfs has its sockets is noted while it is launched, for a batch that cleans up after a kill."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.appliance_sockets import noted_sockets, socket_folders
from p2v.batch.marking import marked_environment, noted_folders


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="libguestfs", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def noted(sockets: Path) -> set[Path]:
    return set(noted_folders(sockets))


def test_a_socket_folder_is_noted_as_soon_as_it_is_used_and_goes_with_the_batchs_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with marked_environment(tmp_path / "store", "web") as marks:
        sockets = Path(marks["P2V_SOCKETS"])
        monkeypatch.setenv("P2V_SOCKETS", str(sockets))
        with socket.socket(socket.AF_UNIX) as listening, noted_sockets():
            assert folder not in socket_folders()
            listening.bind(str(folder / "guestfsd.sock"))
            listening.listen()
            deadline = time.monotonic() + 60
            # before the launch has ended
            while folder not in noted(sockets) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert folder in noted(sockets)
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_that_has_the_name_of_one_that_was_noted_is_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with marked_environment(tmp_path / "store", "web") as marks:
        sockets = Path(marks["P2V_SOCKETS"])
        facts = folder.stat()
        note = f"{facts.st_dev} {facts.st_ino + 1} {folder}\n{facts.st_dev} {facts.st_ino}\nnonsense\n\n{folder}\n"
        (sockets / "elsewhere").write_text(note)
        assert noted(sockets) == set()
        (sockets / "elsewhere").write_text(f"{facts.st_dev} {facts.st_ino} {folder}\n")
        assert noted(sockets) == {folder}
        (sockets / "elsewhere").unlink()


def test_without_a_batch_nothing_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2V_SOCKETS", raising=False)
    before = set(os.listdir("/tmp"))
    with socket.socket(socket.AF_UNIX) as listening, noted_sockets():
        listening.bind(str(folder / "guestfsd.sock"))
    assert {path.name for path in folder.iterdir()} == {"guestfsd.sock"}
    assert not {name for name in set(os.listdir("/tmp")) - before if name == "elsewhere"}
