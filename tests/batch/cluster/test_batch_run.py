"""A whole batch on a cluster: the runner, its store, and workers that go away."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch import steps
from p2v.batch.attempt import Attempt
from p2v.batch.children import Order
from p2v.batch.cluster import ClusterWish, open_engine
from p2v.batch.jobs import Batch, Budget, JobEvent, MachineJob, State
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.batch.store import Store
from p2v.record import load_record
from tests.batch.cluster.clusters import cluster, haiku_machine, processes_with
from tests.fixtures import packed

_BUDGET = Budget(copies=4, appliances=4, boots=4, jobs=4)
_SETTINGS = Settings(first_backoff=0.01, look=0.2, worker="test", host=None)


def _run(wished: Batch, engine: str, report: Callable[[JobEvent], None]) -> BatchOutcome:
    with Store.create(wished.store) as store, open_engine(ClusterWish(engine), wished.store) as starter:
        return run_batch(wished, store, report, starter=starter, settings=_SETTINGS)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("nanny", ["--no-nanny", "--nanny"], ids=["killed", "told to end"])
def test_a_batch_whose_worker_is_killed_in_the_middle_of_a_copy_ends_with_the_same_bytes_as_one_that_is_run_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nanny: str
) -> None:
    """Or told to end, as by the drain of a node: then it tells how its child has ended, which is no fault of the machine's."""
    machines = tuple(
        haiku_machine(tmp_path, name, megabytes) for name, megabytes in (("web", 16), ("db", 2), ("mail", 3))
    )
    (tmp_path / "bad.vmdk").write_bytes(b"KDMV" + bytes(4096))
    bad = MachineJob("bad", (tmp_path / "bad.vmdk",), tmp_path / "out")
    told: list[JobEvent] = []
    killed: list[int] = []
    order_of = steps.order_of

    def slow_at_first(attempt: Attempt) -> Order:
        order = order_of(attempt)
        slowly = ("--limit=1M",) if (order.name, order.fence) == ("web", 1) else ()
        return replace(order, argv=(*order.argv, *slowly))

    def report(event: JobEvent) -> None:
        told.append(event)
        if event.job == "web" and event.kind == "bytes-done" and not killed:
            worker = _parent(processes_with(f"{tmp_path}/web.img")[0])
            killed.append(_parent(worker) if nanny == "--nanny" else worker)
            os.kill(killed[0], signal.SIGTERM if nanny == "--nanny" else signal.SIGKILL)

    with monkeypatch.context() as patched, cluster(tmp_path) as running:
        patched.setattr(steps, "order_of", slow_at_first)
        running.scheduler()
        workers = [running.worker("convert=2", nanny=nanny), running.worker("convert=2", nanny=nanny)]
        wished = Batch((*machines, bad), _BUDGET, tmp_path / "jobs.p2v", tmp_path / "jobs.yaml")
        outcome = _run(wished, running.engine, report)
        assert killed[0] in [worker.process.pid for worker in workers]
    here = Batch(
        tuple(replace(machine, folder=tmp_path / "here") for machine in machines),
        _BUDGET,
        tmp_path / "here.p2v",
        tmp_path / "j",
    )
    with Store.create(here.store) as store:
        run_batch(here, store, lambda event: None, settings=_SETTINGS)

    jobs = {job.machine.name: job for job in outcome.jobs}
    states = {name: job.state for name, job in jobs.items()}
    assert states == dict.fromkeys(("web", "db", "mail"), State.DONE) | {"bad": State.PARKED}
    failure, web = jobs["bad"].failure, jobs["web"]
    assert failure is not None
    assert failure.exit_code == 65
    assert "bad.vmdk" in failure.message
    assert (web.fence, web.attempts) == (2, 2)
    assert [event.data["code"] for event in told if event.job == "web" and event.kind == "again"] == ["lost"]
    assert {job.host for job in jobs.values()} == {socket.gethostname()}
    workers_of_web = [event.data["worker"] for event in told if event.job == "web" and event.kind == "worker"]
    assert len(set(workers_of_web)) == len(workers_of_web) == 2
    results = {file.name for file in (tmp_path / "here").iterdir()}
    assert {file.name for file in (tmp_path / "out").iterdir()} == results
    for machine in machines:
        name = load_record(tmp_path / "out" / f"{machine.name}.json").disks[0].target
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert not processes_with(str(tmp_path))


@pytest.mark.appliance
@pytest.mark.matrix
def test_a_real_machine_converted_by_a_worker_is_what_it_is_converted_here(tmp_path: Path) -> None:
    source = tmp_path / "vmguest.vmdk"
    shutil.copy(packed("vmware", "vmdk-stream"), source)
    machines = tuple(
        MachineJob(name, (source,), tmp_path / name, options=("--checksum",), disk_format="raw")
        for name in ("here", "there")
    )
    batches = [
        Batch((machine,), _BUDGET, tmp_path / f"{machine.name}.p2v", tmp_path / "jobs.yaml") for machine in machines
    ]
    with Store.create(batches[0].store) as store:
        here = run_batch(batches[0], store, lambda event: None, settings=_SETTINGS)
    with cluster(tmp_path) as running:
        running.scheduler()
        running.worker()
        there = _run(batches[1], running.engine, lambda event: None)

    assert [outcome.jobs[0].state for outcome in (here, there)] == [State.DONE, State.DONE]
    records = [load_record(outcome.jobs[0].record) for outcome in (here, there) if outcome.jobs[0].record is not None]
    assert len(records) == 2
    contents = [record.disks[0].source_content for record in records]
    assert contents[0] == contents[1] is not None
    # of the results' bytes, the times that files were written at differ
    assert records[0].applied == records[1].applied
    assert records[0].applied
