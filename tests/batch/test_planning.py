"""Plans of batches: every machine's blockers, what machines do to each other, room and time; and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.audit.side_by_side import Bounds
from p2v.audit.sizing.measure import Bounds as MeasureBounds
from p2v.audit.sizing.values import Measured, Rate
from p2v.batch.jobs import Batch, Budget, MachineJob
from p2v.batch.measuring import with_time
from p2v.batch.plan_text import plan_json, plan_text
from p2v.batch.planned import BatchPlan, MachinePlan, Planned, Planner
from p2v.batch.planning import plan_batch, planned_together
from p2v.batch.store_host import network_file_system
from p2v.cli.planned_jobs import planner
from p2v.core.errors import BadImage, NoSpace, Usage
from p2v.core.units import GIB, KIB, MIB
from p2v.preflight import Trouble
from tests.audit.small_machines import described, linux_disk
from tests.batch.manifests import read
from tests.drivers.making import make_disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linux_disk(tmp_path_factory.mktemp("disks") / "tiny.img")


def small_disk(path: Path) -> Path:
    """A disk of a system that is known, and converted as it is: nothing is in its way."""
    make_disk(path, 4 * MIB, "label: dos\nlabel-id: 0x12345678\nstart=2048, type=eb, bootable\n")
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"\x55" * MIB)
    return path


HEAD = "schema: 1\ndefaults: {target: out, reader: host, accel: tcg, compatible: true}\nmachines:\n"


def planned(folder: Path, text: str, **more: object) -> BatchPlan:
    return plan_batch(read(folder, HEAD + text), planner(), at_once=2, **more)  # type: ignore[arg-type]


def codes(plan: MachinePlan) -> set[str]:
    return {each.code for each in plan.blockers}


def by_name(plan: BatchPlan) -> dict[str, MachinePlan]:
    return {each.name: each for each in plan.machines}


def test_each_machine_is_planned_with_its_options_and_nothing_is_written(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "a.img")
    shutil.copy(disk, tmp_path / "b.vmdk.img")
    described(tmp_path / "b.vmx", "anything", "b.vmdk.img")
    (tmp_path / "c.img").write_bytes(b"KDMV" + bytes(60))
    small_disk(tmp_path / "e.img")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    text = "- {name: a, source: a.img}\n- {name: b, source: b.vmx, format: raw}\n- {name: c, source: c.img}\n"
    text += "- {name: d, source: d}\n- {name: e, source: e.img}\n"
    plan = planned(tmp_path, text)
    found = by_name(plan)
    assert "Debian" in found["a"].system
    assert (found["a"].disks, found["a"].virtual_bytes) == (1, 16 * MIB)
    # what its file systems call free is not copied
    assert 0 < (found["a"].copy_bytes or 0) < 8 * MIB
    assert found["a"].write_bytes == found["a"].copy_bytes
    assert {"a.qcow2", "a.json"} <= set(found["a"].outputs)
    assert {"b.img", "b.json"} <= set(found["b"].outputs)
    assert [each.name for each in plan.planned if each.name in "cd" and each.is_blocked] == ["c", "d"]
    assert codes(found["d"]) == {"no-source"}
    assert not found["e"].is_blocked
    # of a file system that nobody knows all is copied that is not zeroes, the partition table too
    assert found["e"].copy_bytes == found["e"].write_bytes == MIB + 64 * KIB
    assert {path.name for path in tmp_path.iterdir()} == {*before, "jobs.yaml"}


def test_all_that_stops_a_machine_is_told_at_once(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.json").write_text("{}")
    text = "- {name: a, source: a.img, before: [./none], to-device: [/dev/null]}\n"
    text += "- {name: b, source: a.img, keys: env:P2V_NO_SUCH_KEY}\n- {name: c, source: a.img, map: {lan: user}}\n"
    text += "- {name: d, source: a.img, target: a.img/x}\n"
    found = by_name(planned(tmp_path, text))
    assert {"no-hook", "unfit-device", "target-exists"} <= codes(found["a"])
    assert codes(found["b"]) == {"usage"}
    assert codes(found["c"]) == {"usage"}
    assert "no-folder" in codes(found["d"])


def test_what_has_ended_or_another_host_alone_can_reach_is_left_alone(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    text = "- {name: a, source: a.img}\n- {name: b, source: none, host: far}\n- {name: c, source: a.img, host: near}\n"
    found = by_name(planned(tmp_path, text, ended={"a"}, here={"near"}))
    assert [bool(found[name].left_alone) for name in "abc"] == [True, True, False]
    assert not any(each.is_blocked for each in found.values())


def test_one_that_crashes_costs_its_own_plan(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    real = planner()

    def plan(machine: MachineJob) -> Planned:
        if machine.name == "dies":
            os._exit(9)
        if machine.name == "raises":
            raise ValueError("no error of ours")
        if machine.name == "says":
            raise BadImage(Path("a.img"), "a\x1b[31m\nline of a guest")
        return real(machine)

    text = HEAD + "".join(f"- {{name: {name}, source: a.img}}\n" for name in ("dies", "raises", "says", "fine"))
    found = by_name(plan_batch(read(tmp_path, text), plan, at_once=4))
    assert {name: codes(each) for name, each in found.items()} == {
        "dies": {"planning-failed"},
        "raises": {"planning-failed"},
        "says": {"bad-image"},
        "fine": set(),
    }
    assert all(each.message.isprintable() for each in found["says"].blockers)


def test_one_that_hangs_is_cut_off(tmp_path: Path) -> None:
    def plan(machine: MachineJob) -> Planned:
        time.sleep(3600)
        raise AssertionError

    text = HEAD + "- {name: hangs, source: a.img}\n"
    (found,) = plan_batch(read(tmp_path, text), plan, bounds=Bounds(seconds=0.5)).machines
    assert codes(found) == {"took-too-long"}


def test_two_machines_must_not_make_one_file(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    small_disk(tmp_path / "b.img")
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "out").mkdir()
    text = "- {name: web, source: [a.img, b.img]}\n- {name: web-disk1, source: b.img, target: link}\n"
    found = by_name(planned(tmp_path, text))
    assert "same-output" not in codes(found["web"])
    assert codes(found["web-disk1"]) == {"same-output"}
    assert "web (line 4)" in found["web-disk1"].blockers[0].message
    assert "same-source" in {each.code for each in found["web-disk1"].warnings}


def machine(name: str, **more: object) -> MachinePlan:
    made = MachinePlan(
        name, 1, 0, Path("/"), copy_bytes=GIB, write_bytes=GIB, virtual_bytes=2 * GIB, outputs=(f"{name}.qcow2",)
    )
    return replace(made, **more)  # type: ignore[arg-type]


def batch(folder: Path, **budget: object) -> Batch:
    return Batch((), Budget(**budget), folder / "jobs.sqlite", folder / "jobs.yaml")  # type: ignore[arg-type]


def together(folder: Path, *plans: MachinePlan, measured: tuple[Measured, ...] = (), **budget: object) -> BatchPlan:
    return planned_together(batch(folder, **budget), [replace(each, folder=folder) for each in plans], measured)


def test_a_result_must_not_take_the_place_of_a_source(tmp_path: Path) -> None:
    source = str(tmp_path / "a.qcow2")
    plan = together(tmp_path, machine("a"), machine("b", sources=(source,)))
    assert codes(plan.machines[0]) == {"output-is-source"}
    assert "b (line 1)" in plan.machines[0].blockers[0].message


def test_a_device_takes_one_machine_and_no_source(tmp_path: Path) -> None:
    plans = (machine("a", devices=("/dev/x",)), machine("b", devices=("/dev/x",)), machine("c", sources=("/dev/x",)))
    plan = together(tmp_path, *plans)
    assert [codes(each) for each in plan.machines] == [{"output-is-source"}, {"same-device", "output-is-source"}, set()]


def test_room_is_counted_for_each_storage_of_what_is_not_blocked(tmp_path: Path) -> None:
    blocked = machine("c", blockers=(Trouble("x", "y"),))
    plan = together(
        tmp_path, machine("a"), machine("b", write_bytes=None), blocked, machine("d", left_alone="ended"), jobs=4
    )
    (storage,) = plan.storages
    assert (storage.machines, storage.needed_bytes, storage.unknown, storage.work_bytes) == (2, GIB, 1, 512 * MIB)
    assert plan.copy_bytes == 2 * GIB
    assert "unknown-size" in {each.code for each in plan.warnings}
    assert not plan.is_clear


def test_too_little_room_for_all_together_is_trouble(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    plan = together(tmp_path, *(machine(str(n), write_bytes=free // 2) for n in range(3)))
    assert [each.code for each in plan.troubles] == ["no-space"]
    assert not plan.blocked
    assert not plan.is_clear
    assert together(tmp_path, machine("a", write_bytes=0), jobs=1).troubles == () or free < 256 * MIB


def measured(folder: Path, low: float, high: float) -> Measured:
    return Measured(str(folder), 4, Rate((low + high) / 2, low, high, 5), None)


def test_time_comes_of_measured_rates_and_waves_add_up(tmp_path: Path) -> None:
    plans = [machine("a", copy_bytes=1000), machine("b", copy_bytes=500), machine("c", copy_bytes=500, wave=1)]
    plan = together(tmp_path, *plans, measured=(measured(tmp_path, 10.0, 20.0),))
    assert plan.time.seconds is not None
    assert (plan.time.seconds.low, plan.time.seconds.high) == (100.0, 200.0)


def test_time_is_not_made_up(tmp_path: Path) -> None:
    assert together(tmp_path, machine("a")).time.seconds is None
    limited = together(tmp_path, machine("a", copy_bytes=1000), bytes_per_second=10).time
    assert limited.seconds is not None
    assert (limited.seconds.low, limited.seconds.high) == (100.0, None)
    rates = (measured(tmp_path, 10.0, 20.0),)
    both = together(tmp_path, machine("a", copy_bytes=1000), bytes_per_second=15, measured=rates).time
    assert both.seconds is not None
    assert (both.seconds.low, both.seconds.high) == (1000 / 15, 100.0)
    unknown = together(tmp_path, machine("a", copy_bytes=None), measured=rates).time
    assert unknown.seconds is not None
    assert unknown.seconds.high is None


def test_storages_are_measured_where_the_results_will_stand(tmp_path: Path) -> None:
    def measure(folder: Path, disks: Sequence[Path], bounds: MeasureBounds) -> Measured:
        assert (folder, list(disks), bounds.streams) == (tmp_path, [Path("/srv/a.img")], 3)
        return measured(folder, 10.0, 20.0)

    plans = [machine("a", copy_bytes=1000, sources=("/srv/a.img",)), machine("b", left_alone="ended", sources=("/b",))]
    made = [replace(each, folder=tmp_path / "not/there/yet") for each in plans]
    before = planned_together(batch(tmp_path, copies=3), made)
    after = with_time(batch(tmp_path, copies=3), before, measure)
    assert after.time.seconds is not None
    assert (after.time.seconds.low, after.time.seconds.high) == (50.0, 100.0)


def test_a_storage_that_cannot_be_measured_is_a_warning(tmp_path: Path) -> None:
    def measure(folder: Path, disks: Sequence[Path], bounds: MeasureBounds) -> Measured:
        raise NoSpace(folder, 2, 1)

    plan = with_time(batch(tmp_path), together(tmp_path, machine("a")), measure)
    assert plan.time.seconds is None
    assert [each.code for each in plan.warnings] == ["not-measured"]
    assert plan.is_clear


def test_a_store_on_a_network_is_told_of(tmp_path: Path) -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"30 22 0:50 / {tmp_path}/a\\040b rw,relatime shared:1 - nfs4 host:/x rw\n"
        f"31 22 0:51 / {tmp_path}/a\\040b/c rw - xfs /dev/sdb rw\n"
        f"32 22 0:52 / {tmp_path} rw - tmpfs none rw\n"
        "broken line\n"
    )
    assert network_file_system(tmp_path, mounts) == ""
    assert network_file_system(tmp_path / "a b", mounts) == "nfs4"
    assert network_file_system(tmp_path / "a b/d", mounts) == "nfs4"
    assert network_file_system(tmp_path / "a b/c/d", mounts) == ""
    assert network_file_system(tmp_path / "a bc", mounts) == ""


def test_the_text_has_what_is_in_the_way_once_and_first(tmp_path: Path) -> None:
    trouble = Trouble("guest.unknown", "nobody knows its system", "Say --compatible.")
    plans = [
        machine(f"m{n}", blockers=(trouble,) if n % 2 else (), warnings=(Trouble("w", f"of {n}"),)) for n in range(1000)
    ]
    plan = together(tmp_path, *plans, machine("z", left_alone="it has ended"))
    text = plan_text(plan)
    assert text.count("nobody knows its system") == 1
    assert "m1 (line 1), m3" in text
    assert "and 494 more: guest.unknown" in text
    assert text.index("Blocked:") < text.index("Warnings:") < text.index("Machines:")
    assert len(text.splitlines()) < 120
    assert len(plan_text(plan, everything=True).splitlines()) > 1000
    assert max(map(len, text.splitlines())) < 200


def test_one_reason_in_many_words_is_shown_by_one_of_them_and_on_demand_by_all(tmp_path: Path) -> None:
    plans = [machine(f"m{n}", blockers=(Trouble("target-exists", f"/out/m{n} is there"),)) for n in range(100)]
    plan = together(tmp_path, *plans)
    assert plan_text(plan).count("is there") == 1
    assert "and 94 more: target-exists\n      for one: /out/m0 is there" in plan_text(plan)
    assert plan_text(plan, everything=True).count("is there") == 100
    assert plan_text(together(tmp_path, *plans[:3])).count("is there") == 3


def test_where_nothing_is_left_to_do_no_size_is_told(tmp_path: Path) -> None:
    text = plan_text(together(tmp_path, machine("a", left_alone="ended already")))
    assert "To copy" not in text
    assert "a: ended already" in text


def test_the_json_has_the_sums(tmp_path: Path) -> None:
    data = json.loads(plan_json(together(tmp_path, machine("a"), machine("b", blockers=(Trouble("x", "y"),)))))
    assert data["summary"] == {"copy_bytes": GIB, "copy_unknown": 0, "blocked": ["b"], "clear": False}
    assert data["machines"][1]["blockers"] == [{"code": "x", "message": "y", "hint": ""}]


def test_senseless_numbers_are_refused(tmp_path: Path) -> None:
    def never(machine: MachineJob) -> Planned:
        raise AssertionError

    plan: Planner = never
    with pytest.raises(Usage):
        plan_batch(batch(tmp_path), plan, at_once=0)


def test_a_plan_says_what_to_do_next(tmp_path: Path) -> None:
    ready, blocked = machine("a" * 50), machine("b", blockers=(Trouble("target-exists", "/out/b is there"),))
    assert plan_text(together(tmp_path, ready)).splitlines()[-1].startswith("Nothing is in the way: `p2v batch run`")
    assert "…" in plan_text(together(tmp_path, ready))
    assert "parks those that are blocked" in plan_text(together(tmp_path, ready, blocked)).splitlines()[-1]
    assert "batch run" not in plan_text(together(tmp_path, blocked))
    assert "--measure finds out" in plan_text(together(tmp_path, ready))
