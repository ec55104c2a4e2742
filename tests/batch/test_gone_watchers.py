"""Nobody need watch a run: its terminal may be closed, its log may stand on a full disk, its letters may be unknown there."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.manifest import read_batch
from p2v.batch.marking import marked_processes
from tests.batch.dos import dos_disk
from tests.own_terminal import take_terminal

P2V = (sys.executable, "-m", "p2v")
SECONDS = 120.0


def words_of(folder: Path, *words: str, **environment: str) -> dict[str, Any]:
    """How the program is started in a folder, from these sources."""
    sources = str(Path(__file__).parents[2])
    return {"args": [*P2V, *words], "cwd": folder, "env": {**os.environ, "PYTHONPATH": sources, **environment}}


def states(folder: Path) -> dict[str, str]:
    said = subprocess.run(**words_of(folder, "batch", "status", "--json"), check=True, capture_output=True).stdout
    return {each["name"]: each["state"] for each in json.loads(said)["machines"]}


def manifest(folder: Path, *machines: dict[str, Any]) -> Path:
    path = folder / "jobs.yaml"
    path.write_text(json.dumps({"schema": 1, "defaults": {"target": "out"}, "machines": machines}))
    return path


def test_a_run_whose_terminal_is_closed_stops_in_order_and_gives_its_leases_back(tmp_path: Path) -> None:
    hook = ["sh", "-c", "echo > began; exec sleep 1000"]
    path = manifest(tmp_path, {"name": "web", "source": str(dos_disk(tmp_path / "web.raw")), "before": hook})
    master, slave = pty.openpty()
    words = words_of(tmp_path, "batch", "run", TERM="xterm")
    run = subprocess.Popen(stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal, **words)
    try:
        os.close(slave)
        read_until(master, tmp_path / "began")
        assert (tmp_path / "began").exists()
        os.close(master)
        assert run.wait(SECONDS) == 128 + signal.SIGHUP
    finally:
        run.kill()
        run.wait()
    assert states(tmp_path) == {"web": "waiting"}
    store = read_batch(path).store
    assert not list(marked_processes(store))
    assert not list(store.parent.glob(f".{store.name}.run-*"))


def read_until(master: int, began: Path) -> None:
    """What is written is read, as by somebody who looks, until the hook has begun."""
    os.set_blocking(master, False)
    until = time.monotonic() + SECONDS
    while not began.exists() and time.monotonic() < until:
        try:
            os.read(master, 65536)
        except BlockingIOError:
            time.sleep(0.02)


@pytest.mark.parametrize("progress", ["plain", "json"])
def test_a_log_on_a_full_disk_hinders_no_conversion(tmp_path: Path, progress: str) -> None:
    machines = [{"name": name, "source": str(dos_disk(tmp_path / f"{name}.raw"))} for name in ("web", "db")]
    manifest(tmp_path, *machines)
    with open("/dev/full", "w") as full:
        words = words_of(tmp_path, "batch", "run", "--progress", progress)
        ran = subprocess.run(stdout=subprocess.PIPE, stderr=full, check=False, timeout=SECONDS, **words)
    assert ran.returncode == 0
    assert b"2 machines: 2 done" in ran.stdout
    assert states(tmp_path) == {"web": "done", "db": "done"}


def test_results_that_cannot_be_written_are_an_error_with_its_own_status(tmp_path: Path) -> None:
    manifest(tmp_path, {"name": "web", "source": "web.raw"})
    with open("/dev/full", "w") as full:
        words = words_of(tmp_path, "batch", "status")
        said = subprocess.run(stdout=full, stderr=subprocess.PIPE, check=False, timeout=SECONDS, **words)
    assert said.returncode == 73
    assert b"no room left" in said.stderr
    # of this folder, where there is room
    assert b"free" not in said.stderr.splitlines()[0]
    assert b"Traceback" not in said.stderr


def test_letters_that_the_locale_does_not_have_are_shown_as_escapes(tmp_path: Path) -> None:
    disk = dos_disk(tmp_path / "Müller.raw")
    words = words_of(tmp_path, "audit", str(disk), "--progress", "none", PYTHONIOENCODING="ascii")
    said = subprocess.run(capture_output=True, check=False, timeout=SECONDS, **words)
    assert (said.returncode, said.stderr) == (0, b"")
    assert b"M\\xfcller.raw" in said.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_manifest_is_utf_8_whatever_the_locale(tmp_path: Path, encoding: str) -> None:
    disk = dos_disk(tmp_path / "Müller.raw")
    words = words_of(tmp_path, "batch", "init", str(disk), PYTHONIOENCODING=encoding)
    said = subprocess.run(capture_output=True, check=False, timeout=SECONDS, **words)
    assert said.returncode == 0
    (tmp_path / "jobs.yaml").write_bytes(said.stdout)
    assert read_batch(tmp_path / "jobs.yaml").machines[0].sources == (disk,)
