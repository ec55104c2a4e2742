"""The process that builds initramfs supplements: what it may do when what it parses takes it over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from drivers.changes import ExtendInitramfs
from drivers.facts import GuestFacts, ReadBy
from p2v.core.errors import ProgramFailed
from p2v.core.run import Completed
from p2v.supplements import Supplements
from tests.drivers.memory_tree import InMemoryTree
from tests.other_users import let_others_through
from tests.processes import is_running

CHANGE = ExtendInitramfs.__new__(ExtendInitramfs)

# What a builder tries that was taken over; each line says what came of it.
HOSTILE = """
import json, os, resource, socket, sys
from pathlib import Path
from drivers.workshop import confine
folder = Path(sys.argv[1])
confine(folder)
said = {"user": os.geteuid(), "groups": os.getgroups()}
def tried(name, function):
    try:
        function()
        said[name] = "done"
    except (OSError, MemoryError, ValueError) as error:
        said[name] = type(error).__name__
tried("read a private file", lambda: open("/etc/shadow").read())
tried("write beside", lambda: open(sys.argv[2], "w").write("x"))
tried("write in its folder", lambda: open("mine", "w").write("x"))
tried("become root", lambda: os.setuid(0))
tried("raise a limit", lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)))
tried("take memory", lambda: bytearray(3 << 30))
def connect():
    with socket.socket() as s:
        s.settimeout(2)
        s.connect(("127.0.0.1", int(sys.argv[3])))
tried("connect", connect)
print(json.dumps(said))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give privileges up")
def test_a_builder_that_was_taken_over_can_do_little(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    let_others_through(tmp_path)
    beside = tmp_path / "beside"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        argv = [sys.executable, "-c", HOSTILE, str(folder), str(beside), str(listener.getsockname()[1])]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["user"] == 65534
    assert said["groups"] == []
    assert said["write in its folder"] == "done"
    assert said["take memory"] == "MemoryError"
    for deed in ("read a private file", "write beside", "become root", "raise a limit", "connect"):
        assert said[deed] != "done", deed
    assert not beside.exists()


def test_a_builder_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    let_others_through(tmp_path)
    code = (
        "import subprocess, sys\n"
        "inner = 'import sys, time; from pathlib import Path; from drivers.workshop import confine; '"
        "        'confine(Path(sys.argv[1])); print(1, flush=True); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', inner, sys.argv[1]], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    with starter.stdout:
        builder = int(starter.stdout.readline())
    assert is_running(builder)
    starter.send_signal(signal.SIGKILL)
    starter.wait(60)
    deadline = time.monotonic() + 120
    while is_running(builder) and time.monotonic() < deadline:
        time.sleep(0.05)
    went_on = is_running(builder)
    if went_on:
        os.kill(builder, signal.SIGKILL)
    assert not went_on


def _supplements(folder: Path) -> Supplements:
    built: Future[Completed] = Future()
    built.set_result(Completed("", "", 0.0, 0))
    return Supplements((CHANGE,), GuestFacts(ReadBy.HOST, (), ()), folder, built)


def test_what_the_builder_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"archive")
    assert _supplements(tmp_path).get(CHANGE, InMemoryTree({})) == b"archive"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "nothing", "huge"])
def test_what_is_no_file_of_a_sensible_size_is_not_taken(tmp_path: Path, kind: str) -> None:
    left = tmp_path / "0"
    match kind:
        case "link":
            left.symlink_to("/etc/hostname")
        case "fifo":
            os.mkfifo(left)
        case "folder":
            left.mkdir()
        case "huge":
            left.touch()
            os.truncate(left, 600 << 20)
    with pytest.raises(ProgramFailed):
        _supplements(tmp_path).get(CHANGE, InMemoryTree({}))
