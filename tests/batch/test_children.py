"""Children: what they say is heard and bounded whatever it is, and they end when they are to, with all that they started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.batch.children import Ended, Heard, LocalChild, LocalStarter, Order, event_of, run_to_end, wait_for
from p2v.batch.jobs import MachineJob
from p2v.batch.marking import left_folders, marked_processes
from tests.batch.fleets import remove_left
from tests.processes import is_running

PATIENCE = 60.0


@contextmanager
def started(folder: Path, code: str, grace: float = PATIENCE, stdout_bytes: int = 0) -> Iterator[LocalChild]:
    starter = LocalStarter(folder / "jobs.p2v", grace_seconds=grace)
    child = starter.run((sys.executable, "-ISc", code), "job", stdout_bytes=stdout_bytes)
    try:
        yield child
    finally:
        child.close()


def end_of(child: LocalChild) -> tuple[list[Heard], Ended]:
    heard: list[Heard] = []
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        wait_for([child], 1.0)
        ended = child.ended()
        heard += child.heard()
        if ended is not None:
            return heard, ended
    raise AssertionError("it did not end")


def wait_until_heard(child: LocalChild, name: str) -> Heard:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        wait_for([child], 1.0)
        for event in child.heard():
            if event["event"] == name:
                return event
    raise AssertionError(f"{name} was not said")


def ends(pid: int) -> bool:
    until = time.monotonic() + PATIENCE
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_running(pid)


def test_events_are_heard_in_order_and_the_rest_is_the_tail(tmp_path: Path) -> None:
    code = """if True:
        import sys
        print('{"event": "a"}', 'p2v: \\x1b[1mwords', '{"event": 3}', '[1]', '{"event": "b", "n": 1}', '{"event": "cut',
              sep="\\n", end="", file=sys.stderr)
        print("results")
        sys.exit(7)"""
    with started(tmp_path, code) as child:
        heard, ended = end_of(child)
    assert heard == [{"event": "a"}, {"event": "b", "n": 1}]
    assert (ended.exit_status, ended.lost, ended.stdout) == (7, "", "")
    assert ended.tail == 'p2v: \\x1b[1mwords\n{"event": 3}\n[1]\n{"event": "cut'


def test_a_signal_that_ended_it_is_told(tmp_path: Path) -> None:
    with started(tmp_path, "import os; os.kill(os.getpid(), 11)") as child:
        assert end_of(child)[1].exit_status == -signal.SIGSEGV


def test_one_that_writes_without_end_is_bounded_and_can_be_ended(tmp_path: Path) -> None:
    code = 'import os\nwhile True: os.write(2, b"x" * 65536); os.write(1, b"y" * 65536)'
    with started(tmp_path, code, grace=0.2, stdout_bytes=1000) as child:
        for _ in range(50):
            wait_for([child], PATIENCE)
            assert child.heard() == []
            assert child.ended() is None
        child.stop()
        _, ended = end_of(child)
    assert len(ended.tail) < 100_000
    assert ended.stdout == "y" * 1000


def test_a_line_that_is_too_long_is_left_out_and_the_next_one_is_heard(tmp_path: Path) -> None:
    code = """import sys; sys.stderr.write('{"event": "' + "x" * 5000000 + '"}\\n{"event": "b"}\\n')"""
    with started(tmp_path, code) as child:
        heard, _ = end_of(child)
    assert heard == [{"event": "b"}]


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"{}", b'{"event": null}', b"{" * 100_000, b'{"event": "\xff"}', b'"event"']
)
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert event_of(line) is None


def test_it_is_asked_to_end_and_killed_after_the_grace(tmp_path: Path) -> None:
    said = """print('{"event": "on"}', file=sys.stderr, flush=True)"""
    polite = f"import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); {said}; time.sleep(3600)"
    deaf = polite.replace("lambda *_: sys.exit(143)", "signal.SIG_IGN")
    for code, grace, status in ((polite, PATIENCE, 143), (deaf, 0.2, -signal.SIGKILL)):
        with started(tmp_path, code, grace) as child:
            wait_until_heard(child, "on")
            child.stop()
            assert end_of(child)[1].exit_status == status


def test_one_that_had_ended_when_it_was_asked_to_tells_how(tmp_path: Path) -> None:
    with started(tmp_path, "raise SystemExit(3)") as child:
        # its end is there to be seen, and nobody has looked
        assert select.select([child.fds()[0]], [], [], PATIENCE)[0]
        child.stop()
        assert end_of(child)[1].exit_status == 3


STRAY = """if True:
    import os, subprocess, sys, time
    stray = subprocess.Popen(["sleep", "3600"])
    print('{"event": "on", "pid": %d}' % stray.pid, file=sys.stderr, flush=True)
    """


@pytest.mark.parametrize("last", ["sys.exit(0)", "time.sleep(3600)"])
def test_what_it_started_in_its_group_ends_with_it_and_is_not_waited_for(tmp_path: Path, last: str) -> None:
    with started(tmp_path, STRAY + last) as child:
        stray = wait_until_heard(child, "on")["pid"]
        if last != "sys.exit(0)":
            child.stop(at_once=True)
        # the stray holds our pipe open
        end_of(child)
    assert ends(stray)
    assert not list(left_folders(tmp_path / "jobs.p2v"))


WHAT_IT_HAS = "[os.environ.get('P2V_BATCH_JOB'), sys.stdin.read(), sorted(os.listdir('/proc/self/fd'))]"


def test_it_has_marks_and_no_more(tmp_path: Path) -> None:
    with started(tmp_path, f"import os, sys; print({WHAT_IT_HAS})", stdout_bytes=1000) as child:
        _, ended = end_of(child)
    # the fourth is the listing's own
    assert ended.stdout == "['job', '', ['0', '1', '2', '3']]\n"


def test_a_hook_has_its_stdin_and_no_more(tmp_path: Path) -> None:
    argv = (sys.executable, "-ISc", f"import os, sys; print({WHAT_IT_HAS}, file=sys.stderr)")
    child = LocalStarter(tmp_path / "jobs.p2v").hook(argv, b"given")
    try:
        _, ended = end_of(child)
    finally:
        child.close()
    assert ended.tail == "[None, 'given', ['0', '1', '2', '3']]"


def test_closing_ends_it(tmp_path: Path) -> None:
    with started(tmp_path, "import time; time.sleep(3600)") as child:
        assert child.ended() is None
    assert not list(marked_processes(tmp_path / "jobs.p2v"))


PARENT = """\
import sys, time
from pathlib import Path
from p2v.batch.children import LocalStarter
child = LocalStarter(Path(sys.argv[1])).run(("sh", "-c", 'echo $$ > "$0"; sleep 3600', sys.argv[2]), "job")
time.sleep(3600)
"""


def test_it_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "jobs.p2v"), str(file)])
    try:
        until = time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        pid = int(file.read_text())
    finally:
        parent.kill()
        parent.wait()
    ended = ends(pid)
    # the shell's own child is not in our hands: its parent was asked to end, not killed
    for each in marked_processes(tmp_path / "jobs.p2v"):
        os.kill(each.pid, signal.SIGKILL)
    remove_left(tmp_path / "jobs.p2v")
    assert ended


def test_one_can_be_run_to_its_end_in_a_thread(tmp_path: Path) -> None:
    heard: list[Heard] = []
    code = 'import sys, time; print(\'{"event": "on"}\', file=sys.stderr, flush=True); time.sleep(3600)'
    starter = LocalStarter(tmp_path / "jobs.p2v", (sys.executable, "-ISc", code))
    order = Order("job", (), {}, 1, MachineJob("job", (), tmp_path))
    ended = run_to_end(starter, order, heard.append, lambda: bool(heard))
    assert (heard, ended.exit_status) == ([{"event": "on"}], -signal.SIGTERM)
