"""Plans of batches: every machine's blockers, what machines do to each other, room and time; and nothing is written."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.changes import WriteFile
from drivers.plan import GuestProgram
from p2v.audit.side_by_side import Bounds
from p2v.audit.sizing.measure import Bounds as MeasureBounds
from p2v.audit.sizing.values import Measured, Rate
from p2v.batch.copy_time import copy_time
from p2v.batch.jobs import Batch, Budget, MachineJob, Share, State
from p2v.batch.lanes import server_lane
from p2v.batch.measuring import with_time
from p2v.batch.mounts import Mounts, server_name
from p2v.batch.order import Place
from p2v.batch.places import Places, place_of
from p2v.batch.plan_text import plan_json, plan_text
from p2v.batch.planned import BatchPlan, MachinePlan, Planned, Planner
from p2v.batch.planning import plan_batch, planned_together
from p2v.batch.storages import storages_of
from p2v.batch.store_host import network_file_system
from p2v.cli.planned_jobs import planner
from p2v.consistency import LiveSource, Way
from p2v.core.errors import BadImage, NoSpace, Usage
from p2v.core.events import silent
from p2v.core.turns import appliance_turn
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
    assert not found["e"].rewritten
    # of a file system that nobody knows all is copied that is not zeroes, the partition table too
    assert found["e"].copy_bytes == found["e"].write_bytes == MIB + 64 * KIB
    assert {path.name for path in tmp_path.iterdir()} == {*before, "jobs.yaml"}


def test_it_is_told_whether_an_appliance_will_be_started(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    batch = read(tmp_path, HEAD + "- {name: a, source: a.img}\n")
    plan = planner()

    def rewritten(**changed: object) -> bool:
        def changing(machine: MachineJob) -> Planned:
            found = plan(machine)
            document = replace(found.document, **changed)  # type: ignore[arg-type]
            return replace(found, document=document)

        (made,) = plan_batch(batch, changing).machines
        return made.rewritten

    guest = plan(batch.machines[0]).document.plan
    assert not rewritten()
    assert rewritten(plan=replace(guest, changes=(WriteFile("/etc/motd", "moved\n", 0o644, "for this test"),)))
    assert rewritten(plan=replace(guest, programs=(GuestProgram(("true",), "nothing", "for this test"),)))
    # file systems that were written to meanwhile are looked after, whatever is planned
    assert rewritten(live=(LiveSource(0, "8:0", 4 * MIB, Way.FREEZE, ("somebody",)),))


def test_all_that_stops_a_machine_is_told_at_once(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.json").write_text("{}")
    text = "- {name: a, source: a.img, before: [./none], to-device: [/dev/null]}\n"
    text += "- {name: b, source: a.img, keys: env:P2V_NO_SUCH_KEY}\n- {name: c, source: a.img, map: {lan: user}}\n"
    text += "- {name: d, source: a.img, target: a.img/x}\n"
    found = by_name(planned(tmp_path, text))
    assert {"no-hook", "unfit-device", "target-exists"} <= codes(found["a"])
    assert codes(found["b"]) == {"no-key"}
    assert found["b"].missing_keys == ("all:env:P2V_NO_SUCH_KEY",)
    # and it is planned all the same: what else is in the way is told at once
    assert found["b"].copy_bytes
    assert codes(found["c"]) == {"usage"}
    assert "no-folder" in codes(found["d"])
    (folder,) = [each for each in found["d"].blockers if each.code == "no-folder"]
    assert folder.message.count(str(tmp_path / "a.img")) == 2  # which folder was meant, and what stands in its way
    (itself,) = by_name(planned(tmp_path, "- {name: e, source: a.img, target: a.img}\n"))["e"].blockers
    assert itself.message == f"{tmp_path}/a.img: is no folder"


def test_what_has_ended_or_another_host_alone_can_reach_is_left_alone(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    text = "- {name: a, source: a.img}\n- {name: b, source: none, host: far}\n- {name: c, source: a.img, host: near}\n"
    text += "- {name: p, source: a.img}\n- {name: x, source: a.img}\n- {name: w, source: a.img}\n"
    states = {"a": State.DONE, "p": State.PARKED, "x": State.CANCELLED, "w": State.WAITING}
    plan = planned(tmp_path, text, states=states, here={"near"})
    found = by_name(plan)
    assert [bool(found[name].left_alone) for name in "abcpxw"] == [True, True, False, True, True, False]
    assert not any(each.is_blocked for each in found.values())
    text = plan_text(plan)
    # only what is done counts as converted; of the others is told what may be done
    assert "2 can be converted, 1 converted already, 1 parked, 1 cancelled, 1 left alone" in text
    assert "p: parked" in text
    assert "x: cancelled" in text
    assert text.count("p2v batch retry NAME") == 2
    assert [each["state"] for each in json.loads(plan_json(plan))["machines"]] == [
        "done", None, None, "parked", "cancelled", None,
    ]  # fmt: skip


def test_no_more_appliances_are_started_than_the_budget_has(tmp_path: Path) -> None:
    """However many machines are planned at the same time: four of them, each of which wants an appliance."""
    log = tmp_path / "log"

    def plan(machine: MachineJob) -> Planned:
        with appliance_turn(silent):
            with log.open("a") as file:
                file.write("+")
            time.sleep(0.3)
            with log.open("a") as file:
                file.write("-")
        raise BadImage(Path("a.img"), "seen")

    text = "budget: {appliances: 2}\n" + HEAD + "".join(f"- {{name: m{n}, source: a.img}}\n" for n in range(6))
    found = plan_batch(read(tmp_path, text), plan, at_once=6).machines
    assert {code for each in found for code in codes(each)} == {"bad-image"}
    running = list(itertools.accumulate(1 if step == "+" else -1 for step in log.read_text()))
    assert len(running) == 12
    assert max(running) <= 2


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
    summed = {"copy_bytes": GIB, "copy_unknown": 0, "blocked": ["b"], "missing_keys": {}, "clear": False}
    assert data["summary"] == summed
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


def test_advice_that_names_options_says_how_a_manifest_has_them(tmp_path: Path) -> None:
    # the plan's own option is none of them
    assert "key in the manifest" not in plan_text(together(tmp_path, machine("a")))
    advised = machine("b", warnings=(Trouble("source.network", "it was on 'VM'", "Say --map 'VM'=NETWORK."),))
    assert "`map: {" in plan_text(together(tmp_path, machine("a"), advised))


def test_shares_of_the_budget_are_shown_and_what_counts_for_nothing_is_told(tmp_path: Path) -> None:
    small_disk(tmp_path / "a.img")
    (tmp_path / "other").mkdir()
    text = f"""\
schema: 1
budget:
  storages: {{{tmp_path}: {{copies: 1, bytes-per-second: 1M}}, other: {{copies: 2}}, gone: {{copies: 1}}}}
  hosts: {{filer: {{bytes-per-second: 2M}}}}
defaults: {{target: out, reader: host, accel: tcg, compatible: true}}
machines:
- {{name: a, source: a.img}}
"""
    plan = plan_batch(read(tmp_path, text), planner(), at_once=1)
    here, other, gone, filer = plan.shares
    assert (here.path, here.machines, here.copy_bytes) == (tmp_path, 1, MIB + 64 * KIB)
    assert (other.machines, gone.machines, filer.machines) == (1, 0, 0)
    assert {each.code for each in plan.warnings} >= {"no-such-storage", "same-storage", "unused-host"}
    assert plan.is_clear
    shown = " ".join(plan_text(plan).split())
    assert f"{tmp_path}: 1 copy at a time, 1.0 MiB a second together; 1 machine, 1.1 MiB to copy" in shown
    assert "server filer: 2.0 MiB a second together; 0 machines" in shown
    # its target's limit is what the least time comes of
    assert plan.time.seconds is not None
    assert plan.time.seconds.low == (MIB + 64 * KIB) / MIB


def test_the_least_time_is_that_of_the_slowest_that_bytes_come_from_or_go_to(tmp_path: Path) -> None:
    budget = Budget(bytes_per_second=100, hosts={"filer": Share(bytes_per_second=10)})
    found = Places({name: Place((server_lane("filer"),), 0) for name in "ab"}, {})
    plans = [replace(machine(name, copy_bytes=1000), folder=tmp_path) for name in "abc"]
    wished = Batch((), budget, tmp_path / "jobs.sqlite", tmp_path / "jobs.yaml")
    time = copy_time(wished, plans, storages_of(wished, plans), (), found)
    assert time.seconds is not None
    # 2000 bytes come from the server at 10 a second; all 3000 go to the target at 100
    assert time.seconds.low == 200.0


def test_a_server_is_known_by_the_source_of_its_mount(tmp_path: Path) -> None:
    mounts = Mounts.of(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"30 22 0:50 / {tmp_path}/one rw shared:1 - nfs4 Filer.example:/x rw\n"
        f"31 22 0:51 / {tmp_path}/two\\040b rw - cifs //filer.example/share rw\n"
    )
    (tmp_path / "link").symlink_to(tmp_path / "one")
    of = [place_of(MachineJob("a", (tmp_path / where / "a.img",), Path("/")), mounts).storages for where in ("link", "two b", "")]
    lane = server_lane("filer.example")
    assert [lane in each for each in of] == [True, True, False]


@pytest.mark.parametrize(
    ("kind", "source", "name"),
    [
        ("nfs4", "filer:/vol/x", "filer"),
        ("nfs", "[fe80::1%eth0]:/x", "fe80::1%eth0"),
        ("cifs", "//server/share", "server"),
        ("smb3", "//user@server/share", "server"),
        ("fuse.sshfs", "root@esx1:/vmfs", "esx1"),
        ("fuse.sshfs", "esx1:", "esx1"),
        ("9p", "share", ""),
        ("nfs4", ":/x", ""),
        ("nfs4", "", ""),
    ],
)
def test_the_servers_name_is_what_stands_before_its_path(kind: str, source: str, name: str) -> None:
    assert server_name(kind, source) == name
