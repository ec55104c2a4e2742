"""A batch of real conversions: a guest is converted once, and what is none is parked with its bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, Budget, JobEvent, MachineJob, State
from p2v.batch.marking import left_folders, marked_processes
from p2v.batch.runner import run_batch
from p2v.batch.store import Store
from p2v.record import load_record
from tests.fixtures import packed
from tests.pipeline.running import proven


@pytest.mark.matrix
@pytest.mark.appliance
def test_a_batch_converts_a_guest_and_parks_what_is_none(tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.vmdk"
    hostile.write_bytes(b"KDMV" + bytes(range(256)) * 100)
    machines = (
        MachineJob("good", (packed("vmware", "vmdk-sparse"),), tmp_path / "out", options=("--checksum",)),
        MachineJob("bad", (hostile,), tmp_path / "out"),
        MachineJob("gone", (tmp_path / "none.vmdk",), tmp_path / "out"),
    )
    budget = Budget(copies=2, bytes_per_second=10**9)
    batch = Batch(machines, budget, tmp_path / "jobs.p2v", tmp_path / "jobs.yaml")
    told: list[JobEvent] = []
    with Store.create(batch.store) as store:
        outcome = run_batch(batch, store, told.append)
    good, bad, gone = outcome.jobs
    assert outcome.exit_code == 5, [event for event in told if event.kind in ("parked", "again")]

    assert (good.state, good.record) == (State.DONE, tmp_path / "out" / "good.json")
    assert good.bytes_copied == good.bytes_total > 0
    assert {"copy", "rewrite", "publish"} <= set(good.seconds)
    record = load_record(tmp_path / "out" / "good.json")
    assert record.document.machine.name == "good"
    proven(tmp_path / "out" / "good.json")

    assert [(job.state, job.attempts) for job in (bad, gone)] == [(State.PARKED, 1)] * 2
    assert gone.failure is not None
    assert gone.failure.code == "no-source"
    assert bad.failure is not None
    assert bad.failure.bundle is not None
    assert json.loads((bad.failure.bundle / "failure.json").read_text())["code"] == bad.failure.code

    assert {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")} == set()
    assert not list(tmp_path.glob("out/*.partial*"))
    assert not list(marked_processes(batch.store))
    assert not list(left_folders(batch.store))
