"""The published schema of a batch's plan is what `p2v batch plan --json` prints, of fleets of many shapes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import time as clock
from pathlib import Path
from typing import Any

import pytest

from p2v.audit.sizing.values import Measured
from p2v.batch.jobs import Budget, Failure, Share, Window
from p2v.batch.manifest import read_batch
from p2v.batch.plan_text import plan_json
from p2v.batch.planned import BatchPlan
from p2v.batch.store import Store
from p2v.preflight import Trouble
from tests.audit.small_machines import described, linux_disk
from tests.batch.fitting import Fitting, printed, strictly
from tests.batch.output_schemas import output
from tests.batch.test_outlook import machine, planned, rate
from tests.batch.test_planning import small_disk
from tests.record.filling import Filler

MANIFEST = """\
schema: 1
budget:
  storages: {out: {copies: 1, bytes-per-second: 64K}}
  hosts: {filer.example: {bytes-per-second: 100M}}
defaults: {target: out, reader: host, accel: tcg, compatible: true}
machines:
- {name: plain, source: small.img, window: "03:00-03:01", priority: 5}
- {name: web, source: web.vmx, window: "03:00-03:01", ip: "1:10.0.0.5/24"}
- {name: clone, source: web.vmx, wave: 1, ip: "1:10.0.0.5/24"}
- {name: two, source: [small.img, other.img], wave: 1}
- {name: two-disk1, source: small.img, wave: 2, to: kubevirt, window: "05:00-06:00"}
- {name: broken, source: broken.vmdk, wave: 2}
- {name: locked, source: small.img, keys: env:P2V_NO_SUCH_KEY, before: [./none]}
- {name: device, source: small.img, to-device: [/dev/null]}
- {name: far, source: none.img, host: far.example}
- {name: gone, source: small.img}
- {name: done, source: small.img}
"""


def fleet(folder: Path) -> Path:
    """The manifest of machines of all kinds, with what they need."""
    small_disk(folder / "small.img")
    small_disk(folder / "other.img")
    linux_disk(folder / "web.img")
    described(folder / "web.vmx", "web", "web.img")
    (folder / "broken.vmdk").write_bytes(b"KDMV" + bytes(60))
    (folder / "jobs.yaml").write_text(MANIFEST)
    (folder / "out").mkdir()
    return folder / "jobs.yaml"


def two_ended(manifest: Path) -> None:
    """Two machines of the fleet have come to an end."""
    batch = read_batch(manifest)
    with Store.create(batch.store) as store:
        store.put(batch, time.time())
        done, gone = (store.claim(name, "host:1", 60.0, time.time()) for name in ("done", "gone"))
        assert done is not None
        assert gone is not None
        store.finish(done, time.time(), record=Path("/srv/done.json"), seconds={"copy": 2.0}, verified=None)
        store.park(gone, Failure("bad-image", 65, "it is cut short"), time.time())


def told(manifest: Path, *words: str) -> str:
    """What `p2v batch plan --json` prints."""
    return printed("plan", str(manifest), "--json", "--progress", "none", *words, status=4)


def in_memory(folder: Path) -> dict[str, BatchPlan]:
    """Plans of what takes more than a test has: room, slow storages, nights."""
    window = Window(clock(22), clock(22, 10))
    long = machine(folder, "long", 100, window=window)
    unknown = machine(folder, "unknown", None, wave=1)
    blocked = machine(folder, "blocked", blockers=(Trouble("x", "y", "z"),))
    full = (long[0], replace(long[1], write_bytes=1 << 60))
    slow = Measured(str(folder), 4, None, None, ("/a.img",), ("too little room",))
    shares = Budget(copies=1, storages={folder: Share(copies=2)}, hosts={"filer": Share(bytes_per_second=10)})
    return {
        "nothing": planned(folder, blocked),
        "assumed": planned(folder, long, unknown),
        "later": planned(folder, long, machine(folder, "next", wave=3), stop_at=1.0),
        "full": planned(folder, full, budget=shares),
        "measured": planned(folder, long, measured=[rate(folder, 1e6, 2e6)]),
        "read as well": planned(
            folder, long, measured=[replace(rate(folder, 1e6, 2e6), read=rate(folder, 1, 2).write)]
        ),
        "not measured": planned(folder, long, measured=[slow]),
    }


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Real plans, by what they are of."""
    manifest = fleet(tmp_path_factory.mktemp("fleet"))
    made = {"new": told(manifest, "--begin", "2036-01-01T02:00", "--until", "2036-01-01T04:00")}
    two_ended(manifest)
    made["begun"] = told(manifest, "--only", "plain", "--only", "done", "--only", "broken")
    return made | {name: plan_json(plan) for name, plan in in_memory(tmp_path_factory.mktemp("in-memory")).items()}


def test_the_fleet_is_of_all_kinds(documents: Mapping[str, str]) -> None:
    new, begun = (strictly(documents[name]) for name in ("new", "begun"))
    machines = {each["name"]: each for each in new["machines"]}
    codes = {name: {each["code"] for each in found["blockers"]} for name, found in machines.items()}
    assert codes["two-disk1"] >= {"same-output"}
    assert codes["broken"] == {"bad-image"}
    assert codes["locked"] == {"no-key", "no-hook"}
    assert codes["device"] >= {"unfit-device"}
    assert {"fleet.mac-twice", "same-source"} <= {each["code"] for each in machines["clone"]["warnings"]}, machines[
        "clone"
    ]
    assert machines["far"]["left_alone"]
    assert new["summary"]["missing_keys"] == {"all:env:P2V_NO_SUCH_KEY": ["locked"]}
    assert [each["state"] for each in begun["machines"] if each["name"] in ("gone", "done")] == ["parked", "done"]
    assert sum(bool(each["left_alone"]) for each in begun["machines"]) == len(begun["machines"]) - 2


def test_every_plan_fits_the_schema_and_every_shape_in_it_is_that_of_one(documents: Mapping[str, str]) -> None:
    fitting = Fitting(output("batch-plan").published())
    for text in documents.values():
        fitting.take(text)
    # which a plan leaves out: they are harmless until both hang on one machine
    assert fitting.unseen() == ["Signs.disk_ids: a list with something"]


def test_a_plan_with_every_field_filled_fits() -> None:
    plan = Filler().value(BatchPlan)
    assert plan.outlook is not None
    moment = "2026-11-27T20:00+01:00"
    stretches = tuple(replace(each, begin=moment, end=moment) for each in plan.outlook.stretches)
    outlook = replace(plan.outlook, begin=moment, end=moment, stretches=stretches)
    Fitting(output("batch-plan").published()).take(plan_json(replace(plan, outlook=outlook)))


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda d: d.pop("machines"),
    lambda d: d.pop("summary"),
    lambda d: d.update(more=1),
    lambda d: d.update(schema=2),
    lambda d: d["summary"].pop("clear"),
    lambda d: d["summary"]["missing_keys"].update(key="web"),
    lambda d: d["machines"][0].update(more=1),
    lambda d: d["machines"][0].pop("takes_seconds"),
    lambda d: d["machines"][0].update(copy_bytes=-1),
    lambda d: d["machines"][0].update(state="lost"),
    lambda d: d["machines"][0].update(folder=None),
    lambda d: d["machines"][0]["blockers"].append("bad-image"),
    lambda d: d["outlook"]["seconds"].update(low="short"),
    lambda d: d["outlook"].update(end="tomorrow"),
    lambda d: d["outlook"]["stretches"][0].pop("wave"),
    lambda d: d["storages"][0].update(free_bytes=1.5),
)


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_what_is_no_plan_does_not_fit(number: int, documents: Mapping[str, str]) -> None:
    fitting = Fitting(output("batch-plan").published())
    data = copy.deepcopy(fitting.take(documents["new"]))
    EDITS[number](data)
    assert not fitting.fits(data)
