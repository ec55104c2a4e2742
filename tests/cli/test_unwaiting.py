"""A stream whose reader stops reading holds up nobody, and loses nothing that was worth its room."""

from __future__ import annotations

import io
import json
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from p2v.cli import unwaiting
from p2v.cli.unwaiting import Unwaiting
from tests.batch.dos import dos_disk
from tests.own_terminal import take_terminal

SECONDS = 120.0
STOP, GO_ON = b"\x13", b"\x11"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    ours, theirs = os.pipe()
    with open(ours, "rb"), open(theirs, "w") as stream:
        yield ours, stream


def over(stream: TextIO) -> Unwaiting:
    found = Unwaiting.over(stream)
    assert found is not None
    return found


def said(stream: Unwaiting, *pieces: str) -> None:
    for piece in pieces:
        stream.write(piece)
        stream.flush()


def read_all(fd: int, into: list[bytes]) -> threading.Thread:
    def read() -> None:
        while piece := os.read(fd, 65536):
            into.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_what_a_full_pipe_does_not_take_comes_in_its_order_when_it_is_read(pipe: tuple[int, TextIO]) -> None:
    ours, theirs = pipe
    stream = over(theirs)
    lines = [f"line {number}, ä\n" * 100 for number in range(200)]
    said(stream, *lines)
    assert stream.is_behind
    heard: list[bytes] = []
    reader = read_all(ours, heard)
    stream.settle()
    assert not stream.is_behind
    stream.close()
    theirs.close()
    reader.join(SECONDS)
    assert b"".join(heard).decode() == "".join(lines)


def test_of_too_much_the_oldest_pieces_go_and_how_many_is_said(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwaiting, "KEPT_BYTES_AT_MOST", 10_000)
    ours, theirs = pipe
    stream = Unwaiting.over(theirs, lambda lost: f"<{lost} lost>\n")
    assert stream is not None
    lines = [f"{number:04}" + "x" * 995 + "\n" for number in range(300)]
    said(stream, *lines)
    heard: list[bytes] = []
    reader = read_all(ours, heard)
    stream.settle()
    said(stream, "end\n")
    stream.settle()
    stream.close()
    theirs.close()
    reader.join(SECONDS)
    found = b"".join(heard).decode().splitlines(keepends=True)
    (told,) = [line for line in found if line.startswith("<")]
    at = found.index(told)
    lost = len(lines) - (len(found) - 2)
    assert told == f"<{lost} lost>\n"
    assert lost > 0
    # whole lines: all up to the ones that went, and all after them
    assert found[:at] == lines[:at]
    assert found[at + 1 :] == [*lines[at + lost :], "end\n"]
    assert 5 <= len(found[at + 1 :]) <= 12


def test_flags_of_what_was_handed_over_stay_as_they_are(pipe: tuple[int, TextIO]) -> None:
    _, theirs = pipe
    stream = over(theirs)
    said(stream, "x" * 1_000_000)
    assert stream.is_behind
    assert os.get_blocking(theirs.fileno())
    stream.close()


def test_a_terminal_that_was_stopped_holds_up_nobody() -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        stream = over(terminal)
        said(stream, "before\n")
        termios.tcflow(slave, termios.TCOOFF)
        said(stream, "meanwhile\n", "and this\n")
        assert stream.is_behind
        assert stream.isatty()
        termios.tcflow(slave, termios.TCOON)
        stream.settle()
        heard = b""
        while heard.count(b"\n") < 3:
            heard += os.read(master, 100)
        assert heard.replace(b"\r", b"") == b"before\nmeanwhile\nand this\n"
        stream.close()
    os.close(master)


def test_a_socket_is_written_without_waiting_too() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.dup(theirs.fileno()), "w") as file:
        stream = over(file)
        said(stream, "x" * 5_000_000, "end")
        assert stream.is_behind
        heard: list[bytes] = []
        reader = read_all(ours.fileno(), heard)
        stream.settle()
        stream.close()
        theirs.shutdown(socket.SHUT_WR)
        reader.join(SECONDS)
        assert b"".join(heard) == b"x" * 5_000_000 + b"end"


def test_nobody_waits_for_files_nor_for_what_has_none(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        assert Unwaiting.over(file) is None
    assert Unwaiting.over(io.StringIO()) is None


def test_letters_are_written_as_the_other_stream_does(pipe: tuple[int, TextIO]) -> None:
    ours, _ = pipe
    with open(pipe[1].fileno(), "w", encoding="ascii", errors="backslashreplace", closefd=False) as theirs:
        said(over(theirs), "ä\n")
    assert os.read(ours, 100) == b"\\xe4\n"


def test_a_reader_that_has_gone_is_an_error_once_and_leaves_nothing(pipe: tuple[int, TextIO]) -> None:
    ours, theirs = pipe
    stream = over(theirs)
    said(stream, "x" * 100_000)
    os.close(ours)
    with pytest.raises(BrokenPipeError):
        said(stream, "more")
    assert not stream.is_behind
    stream.close()
    # the fixture closes it, which has to be one
    os.dup2(os.open(os.devnull, os.O_RDONLY), ours)


class Terminal:
    """A program on a terminal of its own, which is stopped and goes on as by Ctrl-S and Ctrl-Q."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
        self.run = subprocess.Popen(
            [sys.executable, "-m", "p2v", *words], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.seen: list[bytes] = []

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def read(self) -> None:
        """What is there until it has ended."""
        try:
            while piece := os.read(self.master, 65536):
                self.seen.append(piece)
        except OSError:
            pass  # nobody has the terminal open any more

    def close(self) -> None:
        self.run.kill()
        self.run.wait()
        os.close(self.master)


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[Any]:
    made: list[Terminal] = []

    def start(*words: str) -> Terminal:
        made.append(Terminal(tmp_path, *words))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.mark.parametrize("progress", ["bars", "plain"])
def test_a_copy_goes_on_while_its_terminal_stands_still(on_terminal: Any, tmp_path: Path, progress: str) -> None:
    source, target = dos_disk(tmp_path / "disk.raw"), tmp_path / "copy.raw"
    terminal = on_terminal("disk", "convert", str(source), str(target), "--progress", progress)
    terminal.press(STOP)
    until = time.monotonic() + SECONDS
    while not target.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert target.read_bytes() == source.read_bytes()
    assert terminal.run.poll() is None, "what it has to say is not lost: it waits to say it"
    terminal.press(GO_ON)
    terminal.read()
    assert terminal.run.wait(SECONDS) == 0
    assert b"copy" in b"".join(terminal.seen)


@pytest.mark.parametrize("progress", ["bars", "plain", "json"])
def test_a_batch_goes_on_while_its_terminal_stands_still(on_terminal: Any, tmp_path: Path, progress: str) -> None:
    machines = [{"name": name, "source": str(dos_disk(tmp_path / f"{name}.raw"))} for name in ("web", "db", "mail")]
    (tmp_path / "jobs.yaml").write_text(json.dumps({"schema": 1, "defaults": {"target": "out"}, "machines": machines}))
    terminal = on_terminal("batch", "run", "--progress", progress)
    terminal.press(STOP)
    records = {tmp_path / "out" / f"{each['name']}.json" for each in machines}
    until = time.monotonic() + SECONDS
    while not all(record.exists() for record in records) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(record.exists() for record in records)
    terminal.press(GO_ON)
    terminal.read()
    assert terminal.run.wait(SECONDS) == 0
    assert b"3 machines: 3 done" in b"".join(terminal.seen)
    # a line of each, or its bar, however late
    assert all(each["name"].encode() in b"".join(terminal.seen) for each in machines)
