"""Whatever is killed, stopped and filled up: each machine ends once, as it must, and nothing is left.

The long rows are for ``P2V_CHAOS_SECONDS`` (300) each; ``P2V_CHAOS_SEED`` and ``P2V_CHAOS_MACHINES`` fix what is
drawn or reckoned otherwise, and ``P2V_CHAOS_TALLY`` names a folder that tallies are written to as JSON.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from p2v.batch.jobs import State
from p2v.batch.store import Store
from tests.batch.chaos.machines import Fleet
from tests.batch.chaos.storages import missing, storages
from tests.batch.chaos.strikes import Chaos
from tests.batch.chaos.struck import ENDS, Dask, Runs, store_of
from tests.batch.chaos.verdict import Verdict, mounts_below, table
from tests.batch.cluster.clusters import cluster, until
from tests.pipeline.running import sha256

_SECONDS = float(os.environ.get("P2V_CHAOS_SECONDS", "300"))
_MACHINES = int(os.environ.get("P2V_CHAOS_MACHINES", "0")) or max(40, min(200, int(_SECONDS / 4)))
_FEW, _FEW_STRIKES = 10, 7
_ENDING_SECONDS = 1800.0

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@contextmanager
def chaos(folder: Path, seed: int, machines: int, *, on_dask: bool = False) -> Iterator[tuple[Chaos, Verdict]]:
    """Everything built, nothing struck yet; at the end all that was started has gone."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    (folder / "tmp").mkdir()
    with ExitStack() as stack:
        places = stack.enter_context(storages(folder))
        fleet = Fleet(folder, places, dice)
        fleet.build(machines)
        jobs = fleet.manifest(folder / "jobs.yaml")
        before = {each.source: sha256(each.source) for each in fleet.made if each.source.exists()}
        dask = Dask(stack.enter_context(cluster(folder))) if on_dask else None
        runs = Runs(folder, jobs, dask.running.engine if dask is not None else "")
        stack.callback(runs.end)
        made = Chaos(folder, fleet.made, places, runs, dice, dask)
        # before anything else goes: what hangs could not be ended
        stack.callback(made.calm)
        yield made, Verdict(made, before)


def run(
    folder: Path, seed: int, machines: int, goes_on: Callable[[Chaos, float], bool], *, on_dask: bool = False
) -> None:
    """Strike as long as it goes on, let the batch come to its end, and judge."""
    began = time.monotonic()
    with chaos(folder, seed, machines, on_dask=on_dask) as (made, verdict):
        hung = mounts_below(folder)
        made.runs.start()
        until(store_of(made.runs.jobs).exists, "the store")
        started = time.monotonic()
        while goes_on(made, time.monotonic() - started):
            made.wait(made.dice.uniform(0.5, 3.0))
            made.wait_for_work()
            made.strike()
            if any(status in ENDS for status in made.runs.ended()) and not made.runs.alive:
                break
            if not made.runs.alive:
                made.runs.start()  # its cluster was gone
        made.wait(0.0)
        made.calm()
        _come_to_the_end(made)
        verdict.all()
        assert mounts_below(folder) == hung
        told = verdict.told(seed, "dask" if on_dask else "local", time.monotonic() - began)
        print(table(told))
        if (place := os.environ.get("P2V_CHAOS_TALLY")) is not None:
            Path(place, f"{told['engine']}-{seed}.json").write_text(json.dumps(told, indent=1))
    # the kernel detaches a loop device a moment after its file system has gone
    until(lambda: not mounts_below(folder), "the end of all that was mounted")


def _come_to_the_end(made: Chaos) -> None:
    """The same command is given until a run has come to its end."""
    deadline = time.monotonic() + _ENDING_SECONDS
    _hurry(made)
    # what was tried anew after the last run's end
    made.runs.start()
    while True:
        over = made.runs.ended()
        if not made.runs.alive:
            if any(status in ENDS for status in over):
                return
            made.runs.start()
        assert time.monotonic() < deadline, f"no end of the batch:\n{made.runs.said()}"
        time.sleep(0.2)


def _hurry(made: Chaos) -> None:
    """Storms are over: what they let wait for minutes need not wait for them."""
    with Store.open(store_of(made.runs.jobs)) as store:
        for job in store.jobs():
            if job.state is State.WAITING and job.not_before > time.time():
                made.retry(job.machine.name)


def _seed() -> int:
    return int(os.environ.get("P2V_CHAOS_SEED", "0")) or random.randrange(1, 1_000_000)


def test_a_few_machines_are_struck_a_few_times(tmp_path: Path) -> None:
    run(tmp_path, _seed(), _FEW, lambda made, seconds: sum(made.tally.values()) < _FEW_STRIKES)


@pytest.mark.matrix
@pytest.mark.timeout(_SECONDS * 4 + 1800)
@pytest.mark.parametrize("on_dask", [False, True], ids=["local", "dask"])
def test_many_machines_are_struck_for_minutes(tmp_path: Path, *, on_dask: bool) -> None:
    run(tmp_path, _seed(), _MACHINES, lambda made, seconds: seconds < _SECONDS, on_dask=on_dask)
