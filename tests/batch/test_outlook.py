"""How a plan's night would go: by waves and windows, with where the times come from, in words and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest

from p2v.audit.sizing.values import Measured, Rate
from p2v.batch.jobs import Batch, Budget, Job, MachineJob, Share, State, Verify, Window
from p2v.batch.outlook import TOO_LONG, Start, with_outlook
from p2v.batch.places import Places
from p2v.batch.plan_text import plan_json, plan_text
from p2v.batch.planned import BatchPlan, MachinePlan, Outlook
from p2v.batch.planning import planned_together
from p2v.batch.preflight import NO_KEY
from p2v.batch.share_plans import places_for
from p2v.cli.main import main
from p2v.core.units import GIB, MIB
from p2v.preflight import Trouble
from tests.batch.test_planning import HEAD, small_disk

BEGIN = datetime(2026, 11, 27, 20, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
HUNDRED = 100 * MIB
"""Bytes a second that are assumed of a copy."""


def machine(folder: Path, name: str, gib: float | None = 1, **more: Any) -> tuple[MachineJob, MachinePlan]:
    """A machine and its plan."""
    of_plan = {key: more.pop(key) for key in ("blockers", "missing_keys", "left_alone", "rewritten") if key in more}
    job = MachineJob(name, (folder / f"{name}.img",), folder, line=7, **more)
    size = None if gib is None else int(gib * GIB)
    plan = MachinePlan(name, 7, job.wave, folder, copy_bytes=size, write_bytes=0, virtual_bytes=GIB, **of_plan)
    return job, plan


def planned(
    folder: Path,
    *machines: tuple[MachineJob, MachinePlan],
    measured: Sequence[Measured] = (),
    budget: Budget | None = None,
    **start: Any,
) -> BatchPlan:
    jobs, plans = zip(*machines, strict=True)
    batch = Batch(jobs, budget or Budget(copies=1), folder / "jobs.sqlite", folder / "jobs.yaml")
    plan = replace(planned_together(batch, plans, measured), measured=tuple(measured))
    return with_outlook(batch, plan, places_for(batch), Start(BEGIN, zone=UTC, **start))


def outlook(plan: BatchPlan) -> Outlook:
    assert plan.outlook is not None
    return plan.outlook


def rate(folder: Path, low: float, high: float) -> Measured:
    return Measured(str(folder), 4, Rate((low + high) / 2, low, high, 5), None)


def warned(plan: BatchPlan, code: str) -> dict[str, str]:
    return {each.name: trouble.message for each in plan.machines for trouble in each.warnings if trouble.code == code}


def test_what_is_assumed_is_said_and_what_comes_of_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, machine(tmp_path, "a", 100), machine(tmp_path, "b", 100, verify=Verify.BOOT))
    found = outlook(plan)
    assert found.seconds.low == found.seconds.high == pytest.approx(200 * GIB / HUNDRED, rel=0.05)
    assert len(found.assumed) == 3
    assert found.measured == ""
    text = plan_text(plan)
    assert "assumed: 100.0 MiB a second for a copy" in text
    assert "Time: about 34 min, from Fri 20:00 until Fri 20:34" in text
    # of machines that nobody boots, nothing is assumed of boots
    assert len(outlook(planned(tmp_path, machine(tmp_path, "a"))).assumed) == 2


def test_machines_that_stay_as_they_are_wait_for_no_appliance(tmp_path: Path) -> None:
    names = [f"old{number}" for number in range(90)]
    budget = Budget(copies=10, appliances=1, jobs=20)
    plan = planned(tmp_path, *(machine(tmp_path, name, 0.1, rewritten=False) for name in names), budget=budget)
    # ten at a time, four seconds each, and not twenty seconds one after the other
    assert outlook(plan).seconds.high == pytest.approx(9 * 4, rel=0.2)
    assert not any("rewrite" in words for words in outlook(plan).assumed)
    assert [each.takes_seconds for each in plan.machines] == pytest.approx([4] * 90, rel=0.2)
    mixed = [machine(tmp_path, name, 0.1, rewritten=name in names[:30]) for name in names]
    plan = planned(tmp_path, *mixed, budget=budget)
    assert outlook(plan).seconds.high == pytest.approx(30 * 20, rel=0.1)
    assert any("rewrite" in words for words in outlook(plan).assumed)


def test_measured_rates_give_the_slowest_and_the_quickest_that_it_may_be(tmp_path: Path) -> None:
    machines = [machine(tmp_path, name, 100) for name in "abcd"]
    plan = planned(tmp_path, *machines, measured=[rate(tmp_path, 50 * MIB, 200 * MIB)], budget=Budget(copies=2))
    found = outlook(plan)
    # however many copy at a time, the storage has what it has
    assert found.seconds.low == pytest.approx(400 * GIB / (200 * MIB), rel=0.1)
    assert found.seconds.high == pytest.approx(400 * GIB / (50 * MIB), rel=0.1)
    assert "measured" in found.measured
    assert not any("copy" in words for words in found.assumed)
    assert " at the latest" in plan_text(plan)
    limited = planned(
        tmp_path, *machines, measured=[rate(tmp_path, 50 * MIB, 200 * MIB)], budget=Budget(bytes_per_second=20 * MIB)
    )
    assert outlook(limited).seconds.low == pytest.approx(400 * GIB / (20 * MIB), rel=0.1)
    # of a storage of which only reading was measured nobody knows: then nothing comes from there
    read = Measured(str(tmp_path), 4, None, Rate(HUNDRED, HUNDRED, HUNDRED, 5))
    half = outlook(planned(tmp_path, *machines, measured=[read]))
    assert half.measured == ""
    assert any("copy" in words for words in half.assumed)


def test_what_a_batch_has_shown_goes_before_what_is_assumed(tmp_path: Path) -> None:
    job, plan = machine(tmp_path, "d", left_alone="converted already")
    seconds = {"copy": 1000.0}
    ended = Job(job, State.DONE, began=BEGIN - 5000, ended=BEGIN - 4000, seconds=seconds)
    plan_ = planned(tmp_path, (job, plan), machine(tmp_path, "a", 10), jobs=[ended], sizes={"d": 10 * GIB})
    found = outlook(plan_)
    assert found.seconds.low == pytest.approx(1000, rel=0.15)
    assert found.measured == "as 1 of this batch took"
    assert found.assumed == ()


def test_each_wave_of_each_night_has_its_line(tmp_path: Path) -> None:
    night = Window(time(22), time(23))
    machines = [machine(tmp_path, f"a{n}", 100, window=night) for n in range(6)]
    machines += [machine(tmp_path, "w", 10, wave=1)]
    plan = planned(tmp_path, *machines)
    found = outlook(plan)
    # 17 minutes and a half each: four begin in the hour, the others the next night, and wave 1 after them
    assert [(each.wave, each.machines) for each in found.stretches] == [(0, 4), (0, 2), (1, 1)]
    assert [each.begin[:16] for each in found.stretches[:2]] == ["2026-11-27T22:00", "2026-11-28T22:00"]
    assert found.stretches[0].copy_bytes == 400 * GIB
    assert found.idle_seconds > 20 * HOUR
    assert found.late == ("a3",)
    text = plan_text(plan)
    assert "Fri 22:00 - 23:" in text
    assert "1 machine goes on after its window has closed" in text
    assert "of it waiting for windows of time" in text


def test_a_machine_that_is_longer_than_its_window_is_told_of(tmp_path: Path) -> None:
    short = Window(time(22), time(2))
    plan = planned(
        tmp_path,
        machine(tmp_path, "web-3", 5 * HOUR * HUNDRED / GIB, window=short),
        machine(tmp_path, "web-4", 1, window=short),
    )
    assert warned(plan, TOO_LONG) == {"web-3": "it takes about 5 h 00 min, and its window (22:00-02:00) has 4 h 00 min"}
    text = plan_text(plan)
    assert "web-3 (line 7): it takes about 5 h 00 min, and its window (22:00-02:00) has 4 h 00 min" in text
    # once, and not among the warnings again
    assert text.count("its window (22:00-02:00)") == 1
    # by day it is as long; and one whose window is open now is asked about all of that window
    late = planned(tmp_path, machine(tmp_path, "web-4", 3 * HOUR * HUNDRED / GIB, window=Window(time(19), time(23))))
    assert not warned(late, TOO_LONG)
    never = planned(tmp_path, machine(tmp_path, "web-5", 1, window=Window(time(3), time(3))))
    assert warned(never, TOO_LONG) == {"web-5": "it takes 23.0 s, and its window (03:00-03:00) does not open"}


def test_a_limit_makes_a_machine_longer_than_its_window(tmp_path: Path) -> None:
    one = machine(tmp_path, "a", 100, window=Window(time(22), time(23)))
    assert not warned(planned(tmp_path, one), TOO_LONG)
    assert warned(planned(tmp_path, one, budget=Budget(bytes_per_second=10 * MIB)), TOO_LONG)
    slow = machine(tmp_path, "a", 100, window=Window(time(22), time(23)), options=("--limit=10M",))
    assert warned(planned(tmp_path, slow), TOO_LONG)


def test_what_a_run_leaves_is_told_of_beforehand(tmp_path: Path) -> None:
    machines = [machine(tmp_path, f"m{n}", 100) for n in range(6)]
    stopped = planned(tmp_path, *machines, stop_at=BEGIN + HOUR)
    assert len(outlook(stopped).later) == 3
    assert outlook(stopped).seconds.low == pytest.approx(HOUR)
    assert "3 machines wait for another run: " in plan_text(stopped)
    assert len(outlook(planned(tmp_path, *machines, until=BEGIN + HOUR)).later) == 2
    assert outlook(planned(tmp_path, *machines)).later == ()


def test_blocked_machines_take_no_time_and_where_nothing_is_known_nothing_is_said(tmp_path: Path) -> None:
    blocked = machine(tmp_path, "b", 1000, blockers=(Trouble("x", "y"),))
    assert outlook(planned(tmp_path, machine(tmp_path, "a", 1), blocked)).seconds.low < 60
    assert planned(tmp_path, machine(tmp_path, "a", None)).outlook is None
    assert planned(tmp_path, blocked).outlook is None


def test_keys_that_are_missing_are_told_once_with_their_machines(tmp_path: Path) -> None:
    def locked(name: str) -> tuple[MachineJob, MachinePlan]:
        trouble = Trouble(NO_KEY, "keys: the environment has no PASS", "Put it there.")
        return machine(tmp_path, name, blockers=(trouble,), missing_keys=("all:env:PASS",))

    plan = planned(tmp_path, machine(tmp_path, "a"), *(locked(f"l{n}") for n in range(40)))
    text = plan_text(plan)
    assert text.count("the environment has no PASS") == 1
    assert "all:env:PASS: l0 (line 7), l1 (line 7)" in text
    assert "and 34 more" in text
    assert len(json.loads(plan_json(plan))["summary"]["missing_keys"]["all:env:PASS"]) == 40


def test_the_room_that_is_left_or_missing_is_said(tmp_path: Path) -> None:
    job, plan = machine(tmp_path, "a")
    assert "are free: leaves " in plan_text(planned(tmp_path, (job, plan)))
    full = planned(tmp_path, (job, replace(plan, write_bytes=1 << 60)))
    assert "NOT ENOUGH: " in plan_text(full)
    assert "are missing" in plan_text(full)


def test_a_plan_of_a_thousand_machines_is_read_in_a_terminal(tmp_path: Path) -> None:
    machines = [machine(tmp_path, f"m{n}", 50, wave=n % 5, window=Window(time(22), time(22, 10))) for n in range(1000)]
    lines = plan_text(planned(tmp_path, *machines, budget=Budget(copies=100, jobs=100))).splitlines()
    assert len(lines) < 120
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 120


def test_the_document_has_all_of_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, machine(tmp_path, "a", 100, window=Window(time(22), time(22, 10))))
    data = json.loads(plan_json(plan))
    found = data["outlook"]
    assert found["begin"] == "2026-11-27T20:00+00:00"
    assert found["stretches"][0]["begin"] == "2026-11-27T22:00+00:00"
    assert found["seconds"]["low"] > 2 * HOUR
    assert data["machines"][0]["takes_seconds"] == pytest.approx(100 * GIB / HUNDRED, rel=0.05)
    assert data["machines"][0]["warnings"][0]["code"] == TOO_LONG
    assert not any(isinstance(value, float) and math.isinf(value) for value in found.values())


def test_the_command_tells_of_the_run_that_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small_disk(tmp_path / "a.img")
    text = "- {name: a, source: a.img, window: 03:00-04:00}\n- {name: b, source: a.img, new-identity: true}\n"
    (tmp_path / "jobs.yaml").write_text(HEAD + text)
    monkeypatch.chdir(tmp_path)

    def told(*words: str) -> Any:
        capfd.readouterr()
        assert main(["batch", "plan", "--json", "--progress", "none", *words]) == 0
        return json.loads(capfd.readouterr().out)

    assert told("--begin", "01:00")["outlook"]["idle_seconds"] == pytest.approx(2 * HOUR, abs=120)
    assert told("--begin", "01:00")["outlook"]["begin"][11:16] == "01:00"
    late = told("--begin", "2036-01-01T01:00", "--until", "2036-01-01T02:00")
    assert late["outlook"]["later"] == ["a"]
    alone = told("--only", "b")
    assert [bool(each["left_alone"]) for each in alone["machines"]] == [True, False]


def test_where_the_bytes_are_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_disk(tmp_path / "a.img")
    text = "- {name: a, source: a.img}\nbudget: {bytes-per-second: 100M}\n"
    (tmp_path / "jobs.yaml").write_text(HEAD + text)
    monkeypatch.chdir(tmp_path)
    looks = []

    def places_of(*asked: Any) -> Places:
        looks.append(asked)
        return Places({}, {})

    monkeypatch.setattr("p2v.batch.share_plans.places_of", places_of)
    assert main(["batch", "plan", "--measure", "--json", "--progress", "none"]) == 0
    assert len(looks) == 1


def test_a_storage_with_its_own_rate_is_gone_by(tmp_path: Path) -> None:
    budget = Budget(copies=1, storages={tmp_path: Share(bytes_per_second=MIB)})
    found = outlook(planned(tmp_path, machine(tmp_path, "a", 1), budget=budget))
    assert found.seconds.low == pytest.approx(1024, rel=0.15)
