"""Real conversions that are stopped (SIGSTOP) past their lease: another raises the fence; woken, they give no names.

A DOS is converted: nothing in it is rewritten, so that no appliance is needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2v.cli.main import main
from p2v.core.fence import fence_path, raise_fence, standing_fence
from p2v.record import load_record
from tests.drivers.making import MIB, make_disk
from tests.fixtures import packed
from tests.pipeline.running import SECONDS, Ran, names, p2v, proven, state

FINAL = {"vm.qcow2", "vm.xml", "vm.sh", "vm.json"}
# The conversion stops itself where it comes to this function the first time: a signal from outside might come too late.
STOPPING = """
import importlib, os, signal, sys
place, *argv = sys.argv[1:]
module, _, name = place.rpartition(".")
module = importlib.import_module(module)
real = getattr(module, name)
def stop(*args, **more):
    setattr(module, name, real)
    os.kill(os.getpid(), signal.SIGSTOP)
    return real(*args, **more)
setattr(module, name, stop)
from p2v.cli.main import main
raise SystemExit(main(argv))
"""
BEFORE_NAMING, NAMING = "p2v.conversion_job.fenced", "p2v.publishing.held_back"
# before it says its number, before it copies
EARLIER = ("p2v.migrate.raise_fence", "p2v.migrate.move")


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dos")
    system = folder / "fat"
    subprocess.run(["mkfs.fat", "-C", system, "8192"], check=True, stdout=subprocess.DEVNULL)
    for name in ("KERNEL.SYS", "COMMAND.COM"):
        (folder / name).write_bytes(b"x")
        subprocess.run(["mcopy", "-i", system, folder / name, f"::{name}"], check=True)
    return make_disk(folder / "dos.raw", 16 * MIB, "2048,16384,06,*\n", [(MIB, system)])


def words(source: Path, out: Path, fence: int) -> list[str]:
    return ["convert", str(source), "-o", str(out), "--name", "vm", "--fence", str(fence), "--progress", "json"]


@contextmanager
def stopped(place: str, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A conversion that has stopped itself; it is ended with the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, place, *argv],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.stderr is not None
            raise AssertionError(f"it ended: {process.stderr.read()}")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def woken(process: subprocess.Popen[str]) -> Ran:
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=SECONDS)
    return Ran(process.returncode, "", err)


def error(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran.err.splitlines()[-1])
    return found


@pytest.mark.parametrize("place", [BEFORE_NAMING, *(pytest.param(each, marks=pytest.mark.matrix) for each in EARLIER)])
def test_a_conversion_that_slept_past_its_lease_gives_no_names(dos: Path, tmp_path: Path, place: str) -> None:
    out, before = tmp_path / "out", state(dos)
    out.mkdir()
    with stopped(place, words(dos, out, 1)) as process:
        raise_fence(out, "vm", 2)
        ran = woken(process)
    assert ran.status == 75, ran.err
    assert error(ran)["code"] == "lease-lost"
    assert not names(out) & FINAL
    assert standing_fence(out, "vm") == 2
    ran = p2v(*words(dos, out, 2))
    assert ran.status == 0, ran.err
    assert names(out) - {fence_path(out, "vm").name} == FINAL
    proven(out / "vm.json")
    assert state(dos) == before


def test_one_that_slept_with_its_lease_goes_on(dos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with stopped(BEFORE_NAMING, words(dos, out, 3)) as process:
        ran = woken(process)
    assert ran.status == 0, ran.err
    assert load_record(out / "vm.json").outputs


def test_one_that_was_stopped_while_it_gave_names_gives_them_all(
    dos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A higher number does not come in between: its worker is told to try again, and finds a whole machine then."""
    out = tmp_path / "out"
    monkeypatch.setattr("p2v.core.fence.LOCK_SECONDS", 0.2)
    with stopped(NAMING, words(dos, out, 1)) as process:
        with pytest.raises(Exception, match="another run is writing it"):
            raise_fence(out, "vm", 2)
        ran = woken(process)
    assert ran.status == 0, ran.err
    assert names(out) - {fence_path(out, "vm").name} == FINAL
    again = p2v(*words(dos, out, 2))
    assert (again.status, error(again)["code"]) == (73, "target-exists")


def test_names_that_a_dead_run_was_giving_are_given_by_the_next_one_of_the_lease(dos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with stopped(NAMING, words(dos, out, 1)):
        pass  # it is killed when its record has its partial name
    assert not names(out) & FINAL
    assert "vm.json.partial" in names(out)
    raise_fence(out, "vm", 2)
    ran = p2v(*words(dos, out, 1))
    assert (ran.status, error(ran)["code"]) == (75, "lease-lost")
    assert not names(out) & FINAL
    ran = p2v(*words(dos, out, 2))
    assert ran.status == 0, ran.err
    assert names(out) - {fence_path(out, "vm").name} == FINAL


@pytest.mark.parametrize("more", [["--fence", "0"], ["--fence", "-1"], ["--fence", "1", "--in-place"]])
def test_what_makes_no_sense(dos: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(dos), "-o", str(tmp_path / "out"), *more, "--progress", "json"]) == 64
    assert "--fence" in capsys.readouterr().err
    assert not names(tmp_path)


def test_batches_say_it_and_not_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    assert "--fresh" in (said := capsys.readouterr().out)
    assert "--fence" not in said


@pytest.mark.appliance
@pytest.mark.matrix
def test_a_guest_that_is_rewritten(tmp_path: Path) -> None:
    source, out = packed("vmware", "vmdk-sparse"), tmp_path / "out"
    with stopped(BEFORE_NAMING, words(source, out, 1)) as process:
        raise_fence(out, "vm", 2)
        ran = woken(process)
    assert (ran.status, error(ran)["code"]) == (75, "lease-lost")
    assert not names(out) & FINAL
    ran = p2v(*words(source, out, 2))
    assert ran.status == 0, ran.err
    proven(out / "vm.json")
