"""docs/cluster.md on Slurm, done as it says: workers that Slurm starts, one of which is cancelled in the middle of a copy."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.batch.cluster import pages
from tests.batch.cluster.batches import NAMES, SLOW, assert_same, disks, manifest, python_path, run_here, runner
from tests.batch.cluster.clusters import PATIENCE, processes_with, until
from tests.batch.cluster.slurm import Slurm, missing, slurm

LACKS = missing() or ("" if importlib.util.find_spec("dask_jobqueue") else "dask-jobqueue (docs/cluster.md)")
pytestmark = [pytest.mark.matrix, pytest.mark.skipif(bool(LACKS), reason=f"needs {LACKS}")]

_TLS = "/home/p2v/tls"


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
def _workers(environment: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program that asks Slurm for workers, and the scheduler's address that it printed."""
    with (folder / "workers.err").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, str(_page_program(folder))], cwd=folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert address.startswith("tls://"), (folder / "workers.err").read_text()
        yield program, address.removeprefix("tls://")
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def _slurm_job(folder: Path, worker: str) -> str:
    """The job that a worker is, by what it said when it began."""
    said = re.compile(rf"Start worker at: +{re.escape(worker)}\n")
    (log,) = [each for each in folder.glob("slurm-*.out") if said.search(each.read_text())]
    return log.stem.removeprefix("slurm-")


def _are_two(running: Slurm, other_than: frozenset[str] = frozenset()) -> bool:
    jobs = frozenset(running.running())
    return len(jobs) == 2 and jobs != other_than


def test_a_batch_on_slurm_of_which_a_job_is_cancelled_in_the_middle_of_a_copy_has_the_same_bytes_as_one_that_is_run_here(
    tmp_path: Path,
) -> None:
    disks(tmp_path)
    run_here(tmp_path)
    there = manifest(tmp_path, "there", limit="512K")
    (words,) = pages.commands("p2v batch run", "On Slurm")

    with slurm("convert") as running:
        environment = {**running.environment, "PYTHONPATH": python_path()}
        with _workers(environment, tmp_path) as (program, address):
            until(lambda: _are_two(running), "two jobs of Slurm that run")
            changes = {"jobs.yaml": str(there), "192.0.2.2:8786": address, _TLS: f"{tmp_path}/tls"}
            command = pages.replaced("\n".join(words[1:]), changes).split("\n")
            with runner(command, tmp_path, environment) as batch:
                worker = until(batch.copying_at, "a copy that goes on")
                before = frozenset(running.running())
                running.ask("scancel", _slurm_job(tmp_path, worker))
                status, machines = batch.end()
                assert status == 0, batch.said()
            until(lambda: _are_two(running, before), "a job in the place of the one that was cancelled")
            program.terminate()
            assert program.wait(PATIENCE) == 0
            until(lambda: not running.jobs(), "the end of the jobs whose program was ended")

    assert {name: machine["state"] for name, machine in machines.items()} == dict.fromkeys(NAMES, "done")
    assert machines[SLOW]["attempts"] == 2
    assert all(machine["host"] for machine in machines.values())
    workers = [event["worker"] for event in batch.of(SLOW, "worker")]
    assert len(set(workers)) == len(workers) == 2
    assert [event["code"] for event in batch.of(SLOW, "again")] == ["lost"]
    assert_same(tmp_path, "there")
    assert not processes_with(str(tmp_path))
