"""What an attempt converted whose end nobody heard is taken as it is: never made twice, and never taken for another's."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, MachineJob, State
from p2v.batch.kinds import WORKER
from p2v.batch.mounts import Mounts
from p2v.batch.places import place_of, places_of
from p2v.batch.results import Result, result_since
from p2v.batch.store import Store
from p2v.documents import plan_digest
from p2v.record import record_json
from tests.batch.fleets import batch, machine, run, runs
from tests.record.making import conversion
from tests.remembering_client import Remembering

BEGAN = "2024-02-29T20:00:00Z"
AT = float(calendar.timegm(time.strptime(BEGAN, "%Y-%m-%dT%H:%M:%SZ")))


def converted(folder: Path, name: str, began: str = BEGAN) -> MachineJob:
    """A machine with a whole result that was begun at a time."""
    made = conversion(folder)
    record = made.loaded()
    document = replace(record.document, machine=replace(record.document.machine, name=name))
    record = replace(record, document=document, plan_digest=plan_digest(document), started=began, boot=None)
    (folder / f"{name}.json").write_text(record_json(record))
    return MachineJob(name, (made.source,), folder)


def test_a_whole_result_that_was_begun_since_is_found(tmp_path: Path) -> None:
    job = converted(tmp_path, "a")
    assert result_since(job, AT) == Result(tmp_path / "a.json", None)
    # times of records are whole seconds
    assert result_since(job, AT + 0.9) is not None


def test_one_that_was_begun_before_is_another_ones(tmp_path: Path) -> None:
    assert result_since(converted(tmp_path, "a"), AT + 1) is None


def a_record_of_another_machine(job: MachineJob) -> MachineJob:
    os.rename(job.folder / "a.json", job.folder / "b.json")
    return replace(job, name="b")


def a_file_that_is_gone(job: MachineJob) -> MachineJob:
    (job.folder / "vm.raw").unlink()
    return job


def a_file_that_is_cut(job: MachineJob) -> MachineJob:
    os.truncate(job.folder / "vm.raw", 1000)
    return job


def a_record_that_was_changed(job: MachineJob) -> MachineJob:
    path = job.folder / "a.json"
    path.write_text(path.read_text().replace("vm.raw", "wm.raw"))
    return job


def no_record(job: MachineJob) -> MachineJob:
    return replace(job, folder=job.folder / "nowhere")


@pytest.mark.parametrize(
    "change",
    [a_record_of_another_machine, a_file_that_is_gone, a_file_that_is_cut, a_record_that_was_changed, no_record],
)
def test_what_is_not_whole_is_no_result(change: Callable[[MachineJob], MachineJob], tmp_path: Path) -> None:
    assert result_since(change(converted(tmp_path, "a")), AT) is None


def one_that_is_converted(folder: Path) -> tuple[MachineJob, Batch]:
    """A batch of one machine whose results stand there, of which its store knows nothing."""
    job = machine(folder, "a")
    job.folder.mkdir()
    converted(job.folder, "a")
    return job, batch(folder, [job])


def test_a_run_takes_the_result_of_one_that_died_before_it_noted_it(tmp_path: Path) -> None:
    job, wished = one_that_is_converted(tmp_path)
    with Store.create(wished.store) as store:
        store.put(wished)
        assert store.claim("a", "dead", 1.0, AT) is not None
    ran = run(wished)
    assert (ran.job("a").state, ran.job("a").record, runs(tmp_path, "a")) == (State.DONE, job.folder / "a.json", 0)


@pytest.mark.parametrize(("ahead", "is_taken"), [(-45.0, True), (0.0, False), (45.0, False), ("-45", False)])
def test_the_result_of_a_host_whose_clock_is_behind_is_not_taken_for_an_older_one(
    tmp_path: Path, ahead: object, is_taken: bool
) -> None:
    """Its record says that it began 40 seconds before the runner gave it the job."""
    _, wished = one_that_is_converted(tmp_path)
    with Store.create(wished.store) as store:
        store.put(wished)
        lease = store.claim("a", "dead", 1.0, AT + 40)
        assert lease is not None
        store.event(lease, WORKER, {"worker": "tls://w", "host": "node2", "ahead": ahead}, AT + 40)
    ran = run(wished)
    assert runs(tmp_path, "a") == (0 if is_taken else 1)
    assert ran.job("a").host == ("node2" if is_taken else "")


def test_a_first_attempt_takes_nothing_that_it_finds(tmp_path: Path) -> None:
    job = machine(tmp_path, "a")
    job.folder.mkdir()
    converted(job.folder, "a", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)))
    assert runs(tmp_path, "a") == 0
    run(batch(tmp_path, [job]))
    assert runs(tmp_path, "a") == 1


def test_where_bytes_come_from_and_go_to_is_known_by_the_host(tmp_path: Path) -> None:
    disk = tmp_path / "vm" / "disk.vmdk"
    disk.parent.mkdir()
    disk.write_bytes(os.urandom(8 << 20))
    described = tmp_path / "vm" / "vm.vmx"
    described.write_text("memsize = 1")
    device = os.stat(tmp_path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    for source in (disk, described, disk.parent):
        place = place_of(MachineJob("a", (source,), tmp_path / "not yet" / "there"), Mounts.of())
        assert place.storages == (name,)
        assert 8 << 20 <= place.size < 9 << 20
    gone = place_of(MachineJob("a", (Path("/nowhere/at/all"),), tmp_path), Mounts.of())
    assert gone.size == 0
    many = [MachineJob(str(number), (disk,), tmp_path) for number in range(120)]
    assert places_of(many).by_name["119"] == place_of(many[119], Mounts.of())


def test_a_result_that_another_host_has_just_made_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client that looked a moment ago remembers that there was none."""
    made = tmp_path / "made"
    made.mkdir()
    job = replace(converted(made, "a"), folder=tmp_path / "out")
    job.folder.mkdir()
    Remembering(job.folder).install(monkeypatch)
    assert result_since(job, AT) is None
    for path in made.iterdir():
        os.rename(path, job.folder / path.name)
    assert result_since(job, AT) is not None
