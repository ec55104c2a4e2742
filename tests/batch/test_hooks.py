"""Hooks of runs that are killed or stopped: none is cut off in the middle and then run again without being told so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2v.batch.end_hook import RunEnd, run_end_hook
from p2v.batch.hooks_past import boot_id, past_hooks, runs_data
from p2v.batch.jobs import Batch, Hook, JobEvent, State
from p2v.batch.marking import own_name
from p2v.batch.said_file import SaidFile
from p2v.batch.store import Store
from tests.batch.cluster.clusters import until
from tests.batch.fleets import Ran, batch, machine, remove_left, run, runs
from tests.descriptors import descriptors
from tests.processes import is_running

LONG = 600.0
# it tells what it got, says something all the while, and ends when it may
HOOK = """\
import json, os, signal, sys, time
folder, deed = sys.argv[1], sys.argv[2]
document = json.load(sys.stdin)
told = os.path.join(folder, "told")
def tell(what):
    with open(told, "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), **document}) + "\\n")
def asked(*_):
    tell("asked")
    if deed == "asked": sys.exit(1)
signal.signal(signal.SIGTERM, asked)
tell("began")
while not os.path.exists(os.path.join(folder, "go")):
    print("word " * 2000, file=sys.stderr, flush=True)
    time.sleep(0.02)
tell("ended")
"""
RUNNER = """\
import sys
from pathlib import Path
from p2v.batch.end_hook import RunEnd, run_end_hook
from p2v.batch.jobs import Hook
from p2v.batch.store import Store
from tests.batch import fleets
from tests.batch.test_hooks import wished
folder, when, deed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
made = wished(folder, when, deed)
if when == "end":
    with Store.create(made.store) as store:
        run_end_hook(made, made.end, RunEnd((), 1.0, 0), store, print)
else:
    fleets.run(made)
"""


def wished(folder: Path, when: str, deed: str = "") -> Batch:
    hook = Hook((sys.executable, "-ISc", HOOK, str(folder), deed), LONG)
    if when == "end":
        made = batch(folder, [])
        return Batch((), made.budget, made.store, made.manifest, end=hook)
    fields: dict[str, Any] = {when: hook}
    return batch(folder, [machine(folder, "a", **fields)])


def told(folder: Path, what: str = "") -> list[dict[str, Any]]:
    file = folder / "told"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [each for each in found if what in ("", each["what"])]


@contextmanager
def killed_run(folder: Path, when: str, deed: str = "") -> Iterator[int]:
    """A run of another process that was killed in the middle of a hook, whose number this is; it ends with the context."""
    argv = [sys.executable, "-c", RUNNER, str(folder), when, deed]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        until(lambda: told(folder, "began") or process.poll() is not None, "the beginning of a hook")
        with Store.open(folder / "jobs.p2v") as store:  # noted just after it began
            until(lambda: past_hooks(store, "" if when == "end" else "a")[when].runs, "the note of a hook")
        process.kill()
        process.wait()
        yield told(folder)[0]["pid"]
    finally:
        process.kill()
        process.wait()
        for each in told(folder):
            with suppress(ProcessLookupError):
                os.kill(each["pid"], signal.SIGKILL)
        remove_left(folder / "jobs.p2v")


def warnings(ran: Ran) -> list[str]:
    return [event.data["message"] for event in ran.told if event.kind == "warning" and event.job]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_hook_of_a_run_that_was_killed_comes_to_its_end_and_the_next_one_is_told_of_it(
    tmp_path: Path, when: str
) -> None:
    with killed_run(tmp_path, when) as pid:
        lines = len(told(tmp_path))

        def go(event: JobEvent, store: Store) -> None:
            if event.kind == "warning" and "still runs" in str(event.data["message"]):
                assert is_running(pid)
                (tmp_path / "go").touch()

        ran = run(wished(tmp_path, when), go)
    # the stand-in for p2v leaves no record by which an earlier result is known
    assert ran.job("a").state is (State.DONE if when == "before" else State.PARKED)
    assert lines == 1  # it was not asked to end, and could say what it likes
    first, ended, second, also = told(tmp_path)
    assert [each["what"] for each in (first, ended, second, also)] == ["began", "ended"] * 2
    assert first["pid"] == ended["pid"] == pid != second["pid"]
    assert (first["unfinished"], first["earlier"], first["attempt"]) == (False, None, 1)
    assert (second["unfinished"], second["earlier"]["end"], second["attempt"]) == (True, "unknown", 2)
    assert first["fence"] == second["earlier"]["fence"] == 1
    assert any("its end is not known; it is run again" in words for words in warnings(ran))


def test_its_own_limit_of_time_holds_though_its_run_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_run(tmp_path, "before") as pid:
        # by now it is over, and was not while its run lived, however long that was on a busy host
        later = SimpleNamespace(**vars(time) | {"time": lambda: time.time() + LONG})
        monkeypatch.setattr("p2v.batch.hooks_past.time", later)
        document: list[dict[str, Any]] = []

        def go(event: JobEvent, store: Store) -> None:
            if event.kind == "hook-began":
                assert not is_running(pid)
                document.extend(told(tmp_path))
                (tmp_path / "go").touch()

        ran = run(wished(tmp_path, "before"), go, grace=5.0)
    assert ran.job("a").state is State.DONE
    # it was asked first, and did not listen
    assert [each["what"] for each in document] == ["began", "asked"]


def test_one_that_has_ended_meanwhile_is_not_waited_for_and_the_next_is_told(tmp_path: Path) -> None:
    with killed_run(tmp_path, "before") as pid:
        (tmp_path / "go").touch()
        until(lambda: not is_running(pid), "the end of a hook")
        ran = run(wished(tmp_path, "before"))
    assert not any("still runs" in words for words in warnings(ran))
    assert [each["unfinished"] for each in told(tmp_path, "began")] == [False, True]


def stopped_in(folder: Path, when: str, deed: str = "", signals: int = 1, **changes: Any) -> Ran:
    """A run that gets a signal when its hook has begun; it may end when the run has said that it stops."""

    def stop(event: JobEvent, store: Store) -> None:
        if event.kind == "hook-began":
            (folder / "stop").touch()
        if event.kind == "stopping":
            (folder / "stopping").touch()
            if deed == "":
                (folder / "go").touch()

    made = wished(folder, when, deed)
    pid = os.getpid()
    # each signal when the one before it is known to have come: two that wait for a busy process are one
    watch = "import os,sys,time\nfor path in sys.argv[1:]:\n"
    watch += f"    while not os.path.exists(path): time.sleep(0.02)\n    os.kill({pid}, 15)\n"
    files = [str(folder / name) for name in ("told", "stopping")[:signals]]
    with subprocess.Popen([sys.executable, "-ISc", watch, *files]) as watcher:
        try:
            return run(made, stop, **changes)
        finally:
            watcher.kill()


def test_a_hook_before_comes_to_its_end_when_the_run_is_to_stop(tmp_path: Path) -> None:
    ran = stopped_in(tmp_path, "before", grace=LONG)
    assert (ran.outcome.signal, ran.job("a").state, runs(tmp_path, "a")) == (signal.SIGTERM, State.WAITING, 0)
    assert [each["what"] for each in told(tmp_path)] == ["began", "ended"]
    assert run(wished(tmp_path, "before")).job("a").state is State.DONE
    second = told(tmp_path, "began")[1]
    assert (second["unfinished"], second["earlier"]["end"]) == (False, "done")


def test_a_hook_after_that_ends_as_the_run_stops_is_not_run_twice(tmp_path: Path) -> None:
    ran = stopped_in(tmp_path, "after", grace=LONG)
    assert (ran.outcome.signal, ran.job("a").state) == (signal.SIGTERM, State.DONE)
    assert [each["what"] for each in told(tmp_path)] == ["began", "ended"]


def test_one_that_takes_too_long_then_is_asked_to_end_and_the_next_is_told_that_it_was_cut(tmp_path: Path) -> None:
    ran = stopped_in(tmp_path, "before", "asked", grace=3.0)
    assert (ran.outcome.signal, ran.job("a").state) == (signal.SIGTERM, State.WAITING)
    assert [each["what"] for each in told(tmp_path)] == ["began", "asked"]
    (tmp_path / "go").touch()
    assert run(wished(tmp_path, "before")).job("a").state is State.DONE
    second = told(tmp_path, "began")[1]
    assert (second["unfinished"], second["earlier"]["end"]) == (True, "cut")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    ran = stopped_in(tmp_path, "before", "deaf", signals=2, grace=LONG)
    assert ran.job("a").state is State.WAITING
    assert [each["what"] for each in told(tmp_path)] == ["began"]
    with Store.open(tmp_path / "jobs.p2v") as store:
        assert past_hooks(store, "a")["before"].end == "cut"


def test_who_loses_the_lease_leaves_the_hook_to_its_end_and_converts_nothing(tmp_path: Path) -> None:
    def take(event: JobEvent, store: Store) -> None:
        if event.kind == "hook-began":
            assert store.claim("a", "another", 1.0, time.time() + 3600) is not None
        if event.kind == "lease-lost":
            (tmp_path / "go").touch()
            store.cancel("a", time.time() + 2 * 3600)

    ran = run(wished(tmp_path, "before"), take, lease=0.5)
    assert [each["what"] for each in told(tmp_path)] == ["began", "ended"]
    assert (ran.job("a").state, runs(tmp_path, "a")) == (State.CANCELLED, 0)


def test_the_hook_of_the_whole_batch_is_waited_for_too(tmp_path: Path) -> None:
    with killed_run(tmp_path, "end") as pid:
        heard: list[JobEvent] = []

        def report(event: JobEvent) -> None:
            heard.append(event)
            if event.kind == "warning":
                assert is_running(pid)
                (tmp_path / "go").touch()

        made = wished(tmp_path, "end")
        assert made.end is not None
        with Store.create(made.store) as store:
            assert run_end_hook(made, made.end, RunEnd((), 1.0, 0), store, report)
    assert [each["what"] for each in told(tmp_path)] == ["began", "ended"] * 2
    assert [each["unfinished"] for each in told(tmp_path, "began")] == [False, True]
    assert [event.kind for event in heard] == ["warning", "hook"]


def test_another_process_with_its_number_is_not_taken_for_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "jobs.p2v") as store:
        ours = dict(runs_data("before", os.getpid()))
        others = ({"process": f"{os.getpid()}:1"}, {"boot": "another"}, {"process": "x:y"}, {"process": 7})
        for data in (ours, *(ours | each for each in others)):
            store.note("hook-began", {"when": "before", "attempt": 1, "seconds": 1.0}, time.time())
            store.note("hook-runs", data, time.time())
            past = past_hooks(store, "")["before"]
            assert past.runs == (data == {"when": "before", "process": own_name(), "boot": boot_id()})
            assert past.is_unfinished


def room_of(said: SaidFile) -> int:
    """Bytes that it takes."""
    return os.fstat(said.writer).st_blocks * 512


@pytest.mark.parametrize("makes_holes", [True, False])
def test_what_is_said_is_read_in_order_and_fills_no_disk(monkeypatch: pytest.MonkeyPatch, makes_holes: bool) -> None:
    if not makes_holes:
        monkeypatch.setattr("p2v.batch.said_file.punch_hole", lambda *_: False)
    said = SaidFile.made()
    try:
        heard = bytearray()
        for number in range(3000):
            os.write(said.writer, b"%08d" % number * 512)
            heard += said.read()
        while piece := said.read():
            heard += piece
        assert room_of(said) <= 5 << 20
        assert heard.endswith(b"00002999")
        numbers = [int(heard[at : at + 8]) for at in range(0, len(heard), 8)]
        assert numbers == sorted(numbers)
    finally:
        said.close()


def test_of_much_that_is_said_at_once_the_last_is_heard() -> None:
    """Which tells why it failed."""
    said = SaidFile.made()
    try:
        for _ in range(6):
            os.write(said.writer, b"word\n" * (1 << 20))
        os.write(said.writer, b"the reason\n")
        heard = b""
        while piece := said.read():
            heard += piece
        assert heard.endswith(b"word\nthe reason\n")
        assert room_of(said) <= 1 << 20
    finally:
        said.close()


@pytest.mark.parametrize("makes_holes", [True, False])
def test_what_is_said_while_it_is_read_is_heard(monkeypatch: pytest.MonkeyPatch, makes_holes: bool) -> None:
    """One that has said much ends with the reason, maybe just then."""
    if not makes_holes:
        monkeypatch.setattr("p2v.batch.said_file.punch_hole", lambda *_: False)
    said, real = SaidFile.made(), os.read

    def and_one_more_word(descriptor: int, count: int) -> bytes:
        monkeypatch.setattr(os, "read", real)
        piece = real(descriptor, count)
        os.write(said.writer, b"the reason\n")
        return piece

    try:
        os.write(said.writer, b"word\n" * (1 << 20))
        monkeypatch.setattr(os, "read", and_one_more_word)
        heard = b"".join(iter(said.read, b""))
        assert heard.endswith(b"word\nthe reason\n")
        os.write(said.writer, b"and more\n")
        assert said.read() == b"and more\n"
    finally:
        said.close()


def test_nothing_of_it_stays_open() -> None:
    before = descriptors()
    SaidFile.made().close()
    assert not descriptors() - before
