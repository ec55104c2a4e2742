"""The published schema of how a batch stands is what `status --json` and `run --json` print, at every stage of a night."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.estimate import Look
from p2v.batch.jobs import Batch, Failure, State
from p2v.batch.manifest import read_batch
from p2v.batch.order import Place
from p2v.batch.scheduling import Setting
from p2v.batch.status import BatchStatus, status_of
from p2v.batch.store import Store
from p2v.batch.terms import Terms
from p2v.core import jsonio
from tests.batch.fitting import Fitting, printed
from tests.batch.making import job
from tests.batch.output_schemas import output
from tests.record.filling import Filler

NAMES = ("new", "copying", "silent", "done", "booted", "dead", "parked", "again", "cancelled", "pinned")
FAILURE = Failure("io", 74, "disk1.vmdk: EIO", "Look at the mount.", may_help=True)
MIB = 1 << 20


def manifest(folder: Path) -> Path:
    """Of machines that are named after what becomes of them."""
    machines = [{"name": name, "source": f"{name}.img", "target": "out"} for name in NAMES]
    machines[-1]["host"] = "san1"
    (folder / "jobs.yaml").write_text(json.dumps({"schema": 1, "store": "s.sqlite", "machines": machines}))
    return folder / "jobs.yaml"


def night(store: Store, batch: Batch) -> None:
    """All that may become of a machine, as a run notes it."""
    now, hour = time.time(), 3600.0
    store.put(batch, now - 2 * hour)
    leases = {name: store.claim(name, "host:7", hour, now - 2 * hour * (name == "silent")) for name in NAMES[1:-1]}
    held = {name: lease for name, lease in leases.items() if lease is not None}
    store.event(held["copying"], "worker", {"worker": "tcp://10.0.0.7:4000", "host": "node7", "ahead": 0.0}, now)
    store.event(held["copying"], "phase-started", {"phase": "copy", "title": "", "total_bytes": 8 * MIB}, now)
    store.event(held["copying"], "bytes-done", {"phase": "copy", "count": MIB}, now)
    record = Path("/srv/kvm/done.json")
    store.finish(held["done"], now + 1, record=record, seconds={"copy": 1.5, "rewrite": 20.0}, verified=None)
    store.finish(held["booted"], now + 1, record=record, seconds={}, verified=True)
    store.park(held["dead"], replace(FAILURE, bundle=Path("/srv/failures/dead-1")), now + 1, record=record)
    store.park(held["parked"], FAILURE, now + 1)
    store.again(held["again"], FAILURE, now + 900.0, now + 1)
    store.cancel("cancelled", now)
    store.release(held["cancelled"], now + 1)
    places = {name: Place(("/dev/sda",), 8 * MIB) for name in NAMES}
    # nothing begins any more: what waits is for another run
    store.keep_terms(Terms(batch.budget, Setting(places, host=None), until=now))


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """How a batch stood, by when that was."""
    path = manifest(tmp_path_factory.mktemp("night"))

    def told() -> str:
        return printed("status", str(path), "--json")

    batch, made = read_batch(path), {"before": told()}
    with Store.create(batch.store) as store:
        made["nobody"] = told()
        store.put(batch, time.time())
        places = {name: Place(("/dev/sda",), 8 * MIB) for name in NAMES}
        store.keep_terms(Terms(batch.budget, Setting(places, host=None)))
        made["about to begin"] = told()
        night(store, batch)
        made["night"] = told()
        store.pause(time.time())
        made["paused"] = told()
    made["by the store"] = printed("status", str(batch.store), "--json")
    return made


def test_every_stage_fits_the_schema_and_every_shape_in_it_is_that_of_one(documents: Mapping[str, str]) -> None:
    fitting = Fitting(output("batch-status").published())
    for text in documents.values():
        fitting.take(text)
    assert fitting.unseen() == []


def test_the_stages_are_what_they_are_called(documents: Mapping[str, str]) -> None:
    data = json.loads(documents["night"])
    assert data["counts"] == {"waiting": 3, "running": 2, "done": 2, "parked": 2, "cancelled": 1}
    assert (data["verified"], data["left"]["running"]) == (1, True)
    assert data["left"]["later"] == ["new", "silent", "again", "pinned"]
    by_name = {each["name"]: each for each in data["machines"]}
    assert [name for name in NAMES if by_name[name]["expired"]] == ["silent"]
    assert (by_name["copying"]["bytes_copied"], by_name["copying"]["host"]) == (MIB, "node7")
    assert by_name["pinned"]["pinned_to"] == "san1"
    assert by_name["dead"]["failure"] == {
        "code": "io", "exit_code": 74, "message": "disk1.vmdk: EIO", "hint": "Look at the mount.", "may_help": True,
        "bundle": "/srv/failures/dead-1",
    }  # fmt: skip
    assert json.loads(documents["paused"])["seconds_left"] is None


def test_one_that_is_watched_is_a_line_each_time(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    with Store.create(read_batch(path).store) as store:
        store.put(read_batch(path), time.time())
        for name in NAMES:
            store.cancel(name, time.time())
    (line,) = printed("status", str(path), "--json", "--watch").splitlines()
    assert Fitting(output("batch-status").published()).take(line)["counts"]["cancelled"] == len(NAMES)


def test_every_state_and_every_field_fits() -> None:
    jobs = tuple(job(state.value, state) for state in State)
    for status in (status_of(Look(jobs), 4e9), status_of(Look(()), 0.5)):
        Fitting(output("batch-status").published()).take(json.dumps(jsonio.encode(jsonio.converter(), status)))
    filled = jsonio.encode(jsonio.converter(), replace(Filler().value(BatchStatus), schema=1))
    _with_moments(filled)
    Fitting(output("batch-status").published()).take(json.dumps(filled))


def _with_moments(data: dict[str, Any]) -> None:
    """A filler knows no moments."""
    data["at"] = "2026-11-27T05:00:00+00:00"
    data["machines"][0] |= dict.fromkeys(("not_before", "began", "ended"), data["at"])


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda d: d.pop("left"),
    lambda d: d.update(schema=2),
    lambda d: d.update(more=1),
    lambda d: d.update(at="yesterday"),
    lambda d: d.update(seconds_left=-1),
    lambda d: d["counts"].pop("done"),
    lambda d: d["counts"].update(lost=1),
    lambda d: d["left"].update(seconds=1.5),
    lambda d: d["machines"][0].update(state="lost"),
    lambda d: d["machines"][0].pop("host"),
    lambda d: d["machines"][0].update(began=5),
    lambda d: d["machines"][0].update(bytes_copied=-1),
    lambda d: d["machines"][3]["seconds"].update(copy="1.5"),
    lambda d: d["machines"][5]["failure"].pop("may_help"),
)


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_what_is_no_status_does_not_fit(number: int, documents: Mapping[str, str]) -> None:
    fitting = Fitting(output("batch-status").published())
    data = copy.deepcopy(fitting.take(documents["night"]))
    EDITS[number](data)
    assert not fitting.fits(data)


def test_an_annotation_says_more_than_its_type() -> None:
    seconds = output("batch-status").published()["$defs"]["MachineStatus"]["properties"]["seconds"]
    assert seconds["additionalProperties"] == {"type": "number", "minimum": 0}
