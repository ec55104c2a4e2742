"""A runner that is killed again and again at any moment: at the end each machine is done or parked, once, and nothing is left."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.jobs import Budget, MachineJob, State
from p2v.batch.marking import left_folders, marked_processes
from p2v.batch.store import Store
from tests.batch.fleets import batch, machine, remove_left, run, runs
from tests.batch.test_runner import BAD, IO, KILL

RUNNER = """\
import sys
from pathlib import Path
from typing import Any
from tests.batch import fleets, test_random_kills
folder = Path(sys.argv[1])
fleets.run(fleets.batch(folder, test_random_kills.fleet(folder), test_random_kills.BUDGET), lease=1.0)
"""
BUDGET = Budget(copies=4, appliances=4, jobs=4)
KILLS = 12


def fleet(folder: Path) -> list[MachineJob]:
    wishes: dict[str, dict[str, Any]] = {
        "good": {"seconds": 0.2},
        "io": {"first": IO},
        "killed": {"first": KILL},
        "bad": {"always": BAD},
    }
    return [machine(folder, f"{kind}{number}", wishes[kind]) for number in range(15) for kind in wishes]


@pytest.mark.matrix
@pytest.mark.parametrize("seed", [1, 2])
def test_a_runner_is_killed_at_random(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.DEVNULL) as runner:
            # not waiting for anything: the moment is what is drawn
            time.sleep(draw.uniform(0.3, 2.5))
            runner.kill()
    wished = batch(tmp_path, fleet(tmp_path), BUDGET)
    ran = run(wished)

    for job in ran.outcome.jobs:
        name = job.machine.name
        made = (tmp_path / "out" / f"{name}.made").exists()
        # the stand-in makes no record: what one made that was killed as it ended is not taken for its own, and parks
        code = job.failure.code if job.failure is not None else ""
        ends = {
            State.DONE: ("", True),
            State.PARKED: (("bad-image", False) if name.startswith("bad") else ("target-exists", True)),
        }
        assert (code, made) == ends[job.state], job
        assert runs(tmp_path, name) <= job.fence
        with Store.open(wished.store) as store:
            assert [event.kind for event in store.events(job=name) if event.kind in ("done", "parked")] == [
                job.state.value
            ]
    assert any(job.fence > 1 for job in ran.outcome.jobs)
    assert not list(marked_processes(wished.store))
    # what killed runs left is what `p2v batch clean` finds; the last run left nothing of its own
    before = set(left_folders(wished.store))
    run(wished)
    assert set(left_folders(wished.store)) == before
    remove_left(wished.store)
