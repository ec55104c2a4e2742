"""A batch on a cluster of which everything is killed at random: each machine is converted once, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.cluster import ClusterWish, open_engine
from p2v.batch.jobs import Batch, Budget, State
from p2v.batch.runner import Settings, run_batch
from p2v.batch.store import Store
from p2v.core.errors import ClusterGone
from p2v.core.fence import remove_fence
from p2v.core.units import MIB
from p2v.record import load_record
from tests.batch.cluster.clusters import Cluster, Program, cluster, haiku_machine, processes_with, until

_SECONDS = 60.0
_MACHINES = 12


def wished(folder: Path) -> Batch:
    """Machines that are each copied in some seconds; an attempt may fail as often as chaos wants."""
    machines = tuple(
        replace(haiku_machine(folder, f"m{n:02}", 3), options=("--limit=1M",), attempts=1000) for n in range(_MACHINES)
    )
    return Batch(machines, Budget(copies=4, appliances=4, boots=4, jobs=4), folder / "jobs.p2v", folder / "jobs.yaml")


def go_on(folder: str, engine: str) -> int:
    """One run of the batch, as a runner's process does it."""
    batch = wished(Path(folder))
    settings = Settings(lease=10.0, first_backoff=0.2, look=0.2, host=None)
    try:
        with Store.create(batch.store) as store, open_engine(ClusterWish(engine), batch.store) as starter:
            return run_batch(batch, store, lambda event: None, starter=starter, settings=settings).exit_code
    except ClusterGone as error:
        return error.exit_code


def _runner(folder: Path, engine: str) -> subprocess.Popen[bytes]:
    code = "import sys; from tests.batch.cluster.test_chaos import go_on; sys.exit(go_on(*sys.argv[1:]))"
    with (folder / "runner.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(folder), engine], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip


class _Chaos:
    """Kills one thing, and starts it again."""

    def __init__(self, folder: Path, running: Cluster, dice: random.Random) -> None:
        self.folder, self.running, self.dice = folder, running, dice
        wished(folder)
        self.scheduler = running.scheduler()
        self.workers: list[Program] = [running.worker("convert=2"), running.worker("convert=2")]
        self.runner = _runner(folder, running.engine)
        self.tally: dict[str, int] = {}

    def strike(self) -> None:
        what = self.dice.choice(("worker", "worker", "child", "child", "scheduler", "runner"))
        self.tally[what] = self.tally.get(what, 0) + 1
        if what == "worker":
            self.workers.pop(0).kill()
            self.workers.append(self.running.worker("convert=2"))
        elif what == "scheduler":
            self.scheduler.kill()
            for worker in self.workers:
                worker.process.wait()  # without a scheduler they end by themselves
            self.scheduler = self.running.scheduler()
            self.workers = [self.running.worker("convert=2") for _ in self.workers]
        elif what == "runner":
            os.killpg(self.runner.pid, signal.SIGKILL)
            self.runner.wait()
            self.runner = _runner(self.folder, self.running.engine)
        else:
            for pid in self.dice.sample(found := _children(self.folder), min(1, len(found))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.runner.pid, signal.SIGKILL)
        self.runner.wait()


@pytest.mark.matrix
def test_whatever_is_killed_each_machine_is_converted_once_and_nothing_is_left(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    with cluster(tmp_path) as running:
        chaos = _Chaos(tmp_path, running, random.Random(seed))
        try:
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline and chaos.runner.poll() is None:
                time.sleep(chaos.dice.uniform(1.0, 5.0))
                chaos.strike()
            print(chaos.tally)
            while (status := until(lambda: _ended(chaos.runner), "the runner's end")) != 1:
                assert status in (75 + 1, 128 + signal.SIGKILL + 1), (tmp_path / "runner.log").read_text()
                chaos.runner = _runner(tmp_path, running.engine)
        finally:
            chaos.end()
        until(lambda: not _children(tmp_path), "the end of all children")

    with Store.open(wished(tmp_path).store) as store:
        jobs = store.jobs()
        done = [event.job for event in store.events(limit=1_000_000) if event.kind == "done"]
    assert [job.state for job in jobs] == [State.DONE] * _MACHINES
    assert sorted(done) == [f"m{n:02}" for n in range(_MACHINES)]
    outputs = set()
    for job in jobs:
        record = load_record(job.machine.folder / f"{job.machine.name}.json")
        # of a runner that was killed just after it had noted the end; `p2v batch clean` does the same
        assert remove_fence(job.machine.folder, job.machine.name, job.fence)
        outputs |= {f"{job.machine.name}.json", *(output.name for output in record.outputs)}
        copy = job.machine.folder / record.disks[0].target
        assert copy.read_bytes()[MIB:] == job.machine.sources[0].read_bytes()[MIB:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == outputs


def _children(folder: Path) -> list[int]:
    """Conversions of this batch, and of no other that is run on this host."""
    return [pid for pid in processes_with(f"{folder}/out") if pid in processes_with("--fence=")]


def _ended(runner: subprocess.Popen[bytes]) -> int:
    """Its status and one, 0 while it runs."""
    status = runner.poll()
    return 0 if status is None else (status % 256) + 1
