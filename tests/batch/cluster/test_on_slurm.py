"""docs/cluster.md on Slurm, done as it says: workers that Slurm starts, one of which is cancelled in the middle of a copy."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2v.core.units import MIB
from p2v.record import load_record
from tests.batch.cluster import pages
from tests.batch.cluster.clusters import PATIENCE, processes_with, until
from tests.batch.cluster.slurm import Slurm, missing, slurm
from tests.batch.dos import dos_disk

LACKS = missing() or ("" if importlib.util.find_spec("dask_jobqueue") else "dask-jobqueue (docs/cluster.md)")
pytestmark = [pytest.mark.matrix, pytest.mark.skipif(bool(LACKS), reason=f"needs {LACKS}")]

_TLS = "/home/p2v/tls"
_NAMES = ("files1", "files2", "web")


def _environment(slurm: Slurm) -> dict[str, str]:
    return {**slurm.environment, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}


def _page_program(folder: Path) -> Path:
    """The page's, for two jobs, at any port."""
    (folder / "tls").mkdir()
    for command in pages.authority_commands():
        subprocess.run(command, cwd=folder / "tls", check=True, stdin=subprocess.DEVNULL, capture_output=True)
    changes = {_TLS: f"{folder}/tls", '"port": 8786': '"port": 0', "_jobs=8": "_jobs=2"}
    program = folder / pages.commands("python", "On Slurm")[0][1]
    program.write_text(pages.replaced(pages.block("python"), changes), "utf-8")
    return program


@contextmanager
def _workers(slurm: Slurm, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program that asks Slurm for workers, and the scheduler's address that it printed."""
    with (folder / "workers.err").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, str(_page_program(folder))], cwd=folder, env=_environment(slurm), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert address.startswith("tls://"), (folder / "workers.err").read_text()
        yield program, address
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def _manifest(folder: Path, name: str, limit: str) -> Path:
    """Three machines; the copy of one takes long where there is a limit."""
    machines = [{"name": each, "source": f"exports/{each}.raw"} for each in _NAMES]
    if limit:
        machines[-1]["limit"] = limit
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({"schema": 1, "defaults": {"target": name, "format": "raw"}, "machines": machines}))
    return path


def _events(log: Path) -> list[dict[str, Any]]:
    lines = [line for line in log.read_bytes().split(b"\n")[:-1] if line.startswith(b"{")]
    return [json.loads(line) for line in lines]


def _slurm_job(folder: Path, worker: str) -> str:
    """The job that a worker is, by what it said when it began."""
    found = [
        each
        for each in folder.glob("slurm-*.out")
        if re.search(rf"Start worker at: +{re.escape(worker)}\n", each.read_text())
    ]
    (log,) = found
    return log.stem.removeprefix("slurm-")


def test_a_batch_on_slurm_of_which_a_job_is_cancelled_in_the_middle_of_a_copy_has_the_same_bytes_as_one_that_is_run_here(
    tmp_path: Path,
) -> None:
    for name in _NAMES:
        dos_disk(tmp_path / "exports" / f"{name}.raw", random.Random(name).randbytes(6 * MIB), 16 * MIB)
    here, there = _manifest(tmp_path, "here", ""), _manifest(tmp_path, "there", "512K")
    p2v = (sys.executable, "-m", "p2v")
    local = [*p2v, "batch", "run", str(here), "--progress", "none"]
    subprocess.run(local, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)

    with slurm("convert") as running, _workers(running, tmp_path) as (program, address):
        until(lambda: len(running.running()) == 2, "two jobs of Slurm that run")
        (words,) = pages.commands("p2v batch run", "On Slurm")
        changes = {"jobs.yaml": str(there), "192.0.2.2:8786": address.removeprefix("tls://"), _TLS: f"{tmp_path}/tls"}
        command = pages.replaced("\n".join(words[1:]), changes).split("\n")
        log = tmp_path / "runner.log"
        with log.open("wb") as stderr:
            runner = subprocess.Popen(
                [*p2v, *command, "--progress", "json", "--json"], env=_environment(running), cwd=tmp_path,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
            )  # fmt: skip
        try:
            cancelled = until(lambda: _copying_at(log, "web"), "a copy that goes on")
            before = set(running.running())
            running.ask("scancel", _slurm_job(tmp_path, cancelled))
            out, _ = runner.communicate(timeout=PATIENCE)
        finally:
            if runner.poll() is None:
                os.killpg(runner.pid, signal.SIGKILL)
                runner.communicate()
        assert runner.returncode == 0, log.read_text()
        # another job comes in the place of the cancelled one
        until(lambda: len(running.running()) == 2 and set(running.running()) != before, "a job in the other's place")
        program.terminate()
        assert program.wait(PATIENCE) == 0
        until(lambda: not running.jobs(), "the end of the jobs whose program was ended")

    _same(tmp_path, json.loads(out), _events(log))
    assert not processes_with(str(tmp_path))


def _copying_at(log: Path, name: str) -> str:
    """The worker at which a machine's copy goes on."""
    events = [event for event in _events(log) if event["job"] == name]
    if not any(event["event"] == "bytes-done" and event["phase"] == "copy" and event["count"] for event in events):
        return ""
    return str(next(event["worker"] for event in events if event["event"] == "worker"))


def _same(folder: Path, document: dict[str, Any], events: list[dict[str, Any]]) -> None:
    machines = {machine["name"]: machine for machine in document["machines"]}
    assert {name: machine["state"] for name, machine in machines.items()} == dict.fromkeys(_NAMES, "done")
    assert machines["web"]["attempts"] == 2
    assert all(machine["host"] for machine in machines.values())
    workers = [event["worker"] for event in events if event["event"] == "worker" and event["job"] == "web"]
    assert len(set(workers)) == len(workers) == 2
    assert [event["code"] for event in events if event["event"] == "again" and event["job"] == "web"] == ["lost"]
    assert _results(folder / "there") == _results(folder / "here")
    for name in _NAMES:
        target = load_record(folder / "there" / f"{name}.json").disks[0].target
        assert (folder / "there" / target).read_bytes() == (folder / "here" / target).read_bytes()
        assert (folder / "there" / target).read_bytes() == (folder / "exports" / f"{name}.raw").read_bytes()


def _results(folder: Path) -> set[str]:
    """What stands there of machines; the batch's own files are named after its manifest."""
    return {path.name for path in folder.iterdir() if ".batch.sqlite" not in path.name}
