"""What a batch marks as its own is found again, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.marking import (
    folder_prefix,
    left_folders,
    marked_environment,
    marked_processes,
    own_name,
    started_at,
)
from p2v.core.workspace import socket_folder

WORKER = """\
import subprocess, sys, time, os
from pathlib import Path
from p2v.batch.marking import marked_environment
with marked_environment(Path(sys.argv[1]), "web 1") as marks:
    child = subprocess.Popen(["sleep", "600"], env=dict(os.environ) | dict(marks), start_new_session=True)
    print(child.pid, marks["TMPDIR"], flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "batch.sqlite"


@pytest.fixture
def killed(store: Path) -> Iterator[tuple[int, Path]]:
    """The child and the temporary folder of a runner that was killed."""
    runner = subprocess.Popen([sys.executable, "-c", WORKER, str(store)], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    pid, folder = runner.stdout.readline().split()
    runner.kill()
    runner.wait()
    runner.stdout.close()
    yield int(pid), Path(folder)
    os.kill(int(pid), signal.SIGKILL)
    for left in left_folders(store):
        left.rmdir()


def test_a_child_of_a_killed_runner_is_found_with_its_job(store: Path, killed: tuple[int, Path]) -> None:
    (found,) = marked_processes(store)
    assert (found.pid, found.job, found.command) == (killed[0], "web 1", ("sleep", "600"))
    assert not found.has_runner


def test_no_other_batch_finds_it(tmp_path: Path, killed: tuple[int, Path]) -> None:
    other = tmp_path / "other.sqlite"
    assert not list(marked_processes(other))
    assert not list(left_folders(other))


def test_folders_of_a_killed_runner_are_left_and_those_of_a_living_one_are_in_use(
    store: Path, killed: tuple[int, Path]
) -> None:
    with marked_environment(store, "db") as marks:
        left = list(left_folders(store))
        assert killed[1] in left
        assert Path(marks["TMPDIR"]) not in left
        assert Path(marks["P2V_SOCKETS"]) not in left
    assert not Path(marks["TMPDIR"]).exists()


def test_a_child_of_a_living_runner_has_one(store: Path) -> None:
    with marked_environment(store, "db") as marks:
        child = subprocess.Popen(["sleep", "600"], env=dict(os.environ) | dict(marks))
        try:
            (found,) = marked_processes(store)
            assert found.has_runner
            assert found.runner == own_name()
        finally:
            child.kill()
            child.wait()


def test_sockets_of_a_child_are_made_in_its_folder_which_has_a_short_path(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with marked_environment(store, "db") as marks:
        monkeypatch.setenv("P2V_SOCKETS", marks["P2V_SOCKETS"])
        with socket_folder() as sockets:
            assert sockets.parent == Path(marks["P2V_SOCKETS"])
            assert len(str(sockets)) < 60
        # a child that is left a variable of a run long gone goes on without
        monkeypatch.setenv("P2V_SOCKETS", marks["P2V_SOCKETS"] + "gone")
        with socket_folder() as sockets:
            assert sockets.parent == Path("/tmp")


def test_what_only_looks_like_a_folder_of_the_batch_is_none(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    (place / f"{folder_prefix(store)}file").touch()
    (place / f"{folder_prefix(store)}link").symlink_to(tmp_path)
    (place / "p2v-batch-other").mkdir()
    assert not list(left_folders(store))


def test_an_ended_process_has_not_started() -> None:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 60
    while started_at(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    # nobody has looked at its status yet
    assert started_at(child.pid) == 0
    child.wait()
