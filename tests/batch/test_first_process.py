"""A run that is the first process of its namespace, as the command of a container is: for it a signal that it does not take is
none, its end is the end of all that runs there, and numbers of processes begin anew with each run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.batch.cluster.batches import (
    NAMES,
    P2V,
    SLOW,
    Runner,
    assert_same,
    disks,
    manifest,
    python_path,
    run_here,
    runner,
)
from tests.batch.cluster.clusters import processes_with, until
from tests.batch.fleets import remove_left

_ENTER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="needs root and unshare (util-linux), to make namespaces of processes",
)


@contextmanager
def _contained(path: Path) -> Iterator[Runner]:
    with runner(["batch", "run", str(path)], path.parent, {**os.environ, "PYTHONPATH": python_path()}, _ENTER) as made:
        yield made


def _first_process(running: Runner) -> int:
    """The number that the run has outside."""
    (found,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return int(found)


def _copies(running: Runner) -> bool:
    return any(event["phase"] == "copy" and event["count"] for event in running.of(SLOW, "bytes-done"))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_container_that_is_ended_in_the_middle_of_a_copy_leaves_nothing_running_and_the_next_goes_on_at_once(
    tmp_path: Path, sent: signal.Signals
) -> None:
    disks(tmp_path)
    run_here(tmp_path)
    path = manifest(tmp_path, "there", limit="256K")
    with ExitStack() as stack:
        stack.callback(remove_left, tmp_path / "there.sqlite")
        _end_and_go_on(path, sent)
        # of what was killed, `clean` finds the rest
        clean = [*P2V, "batch", "clean", str(path), *(["--remove"] if sent is signal.SIGKILL else [])]
        subprocess.run(clean, check=True, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True)
    assert_same(tmp_path, "there")


def _end_and_go_on(path: Path, sent: signal.Signals) -> None:
    with _contained(path) as first:
        until(lambda: _copies(first), "a copy that goes on")
        os.kill(_first_process(first), sent)
        status, _ = first.end()
        # of one that was killed, unshare(1) says what it likes
        assert status == 143 if sent is signal.SIGTERM else status != 0, first.said()
        # a busy host may have begun it more than once; the next one tells into the same file
        fences = [event["fence"] for event in first.of(SLOW, "claimed")]
    assert not processes_with(f"{path.parent}/there")

    manifest(path.parent, "there")
    with _contained(path) as second:
        ended, machines = second.end()
        assert ended == 0, second.said()
    assert {machine["state"] for machine in machines.values()} == {"done"}
    assert set(machines) == set(NAMES)
    # what had been copied is gone on with, under a lease of its own
    assert [event["fence"] for event in second.of(SLOW, "claimed")] == [fences[-1] + 1]
