"""A batch of machines of a DOS, run by ``p2v batch run`` as a program: here, and at a cluster; and what both came to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2v.core.units import MIB
from p2v.record import load_record
from tests.batch.cluster.clusters import PATIENCE
from tests.batch.dos import dos_disk

NAMES = ("files1", "files2", "web")
SLOW = NAMES[-1]
"""The machine whose copy is given a limit."""
P2V = (sys.executable, "-m", "p2v")


def python_path() -> str:
    """For programs that run the sources under test."""
    return os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])


def disks(folder: Path) -> None:
    """The machines' disks."""
    for name in NAMES:
        dos_disk(folder / "exports" / f"{name}.raw", random.Random(name).randbytes(6 * MIB), 16 * MIB)


def manifest(folder: Path, name: str, limit: str = "", hosts: Mapping[str, str] | None = None, **rest: Any) -> Path:
    """A batch whose results go to a folder of its name. ``hosts``: that machines are pinned to; ``rest``: of all machines."""
    machines: list[dict[str, Any]] = [{"name": each, "source": f"exports/{each}.raw", **rest} for each in NAMES]
    for machine in machines:
        if machine["name"] in (hosts or {}):
            machine["host"] = (hosts or {})[machine["name"]]
    if limit:
        machines[-1]["limit"] = limit
    path = folder / f"{name}.yaml"
    document = {
        "schema": 1,
        "store": f"{name}.sqlite",
        "defaults": {"target": name, "format": "raw"},
        "machines": machines,
    }
    path.write_text(json.dumps(document))
    return path


def run_here(folder: Path) -> None:
    """The same machines without a cluster, into ``here``."""
    path = manifest(folder, "here")
    command = [*P2V, "batch", "run", str(path), "--progress", "none"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True)


@contextmanager
def runner(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], enter: Sequence[str] = ()
) -> Iterator[Runner]:
    """``p2v batch run ...`` while it runs; it is ended with the context. ``enter``: what a command begins with that runs there."""
    log = folder / "runner.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*enter, *P2V, *command, "--progress", "json", "--json"], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    try:
        yield Runner(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Runner:
    """One that runs, and what it tells."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Of what was started: where the command enters somewhere first, of that."""
        return self._process.pid

    def events(self) -> list[dict[str, Any]]:
        """What it told so far."""
        lines = [line for line in self._log.read_bytes().split(b"\n")[:-1] if line.startswith(b"{")]
        return [json.loads(line) for line in lines]

    def of(self, job: str, kind: str) -> list[dict[str, Any]]:
        """What it told of a machine, of one kind."""
        return [event for event in self.events() if event["event"] == kind and event.get("job") == job]

    def copying_at(self) -> str:
        """The address of the worker at which the slow machine's copy goes on; empty: it does not yet."""
        moved = [event for event in self.of(SLOW, "bytes-done") if event["phase"] == "copy" and event["count"]]
        return str(self.of(SLOW, "worker")[-1]["worker"]) if moved else ""

    def stop(self) -> None:
        """It does nothing any more, and does not know."""
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Its exit status, and how each machine stands in the document that it prints."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        machines = json.loads(out)["machines"] if out else []
        return self._process.returncode, {machine["name"]: machine for machine in machines}

    def said(self) -> str:
        """All that it told, for who looks into a failure."""
        return self._log.read_text()


def assert_same(folder: Path, name: str) -> None:
    """All results in a batch's folder are those that a run here had, and the disks' bytes."""
    assert {path.name for path in (folder / name).iterdir()} == {path.name for path in (folder / "here").iterdir()}
    for each in NAMES:
        target = load_record(folder / name / f"{each}.json").disks[0].target
        assert (folder / name / target).read_bytes() == (folder / "here" / target).read_bytes()
        assert (folder / name / target).read_bytes() == (folder / "exports" / f"{each}.raw").read_bytes()
