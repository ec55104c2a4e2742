"""A run of a part of a batch: of chosen machines, or until some time."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from p2v.batch.children import LocalStarter
from p2v.batch.estimate import Look
from p2v.batch.jobs import Budget, JobEvent, State
from p2v.batch.runner import BatchOutcome, run_batch
from p2v.batch.store import Store
from p2v.cli.batch.choosing import chosen, moment
from p2v.core.errors import Usage
from tests.batch.fleets import FAKE, QUICK, batch, machine, run, runs
from tests.batch.making import job
from tests.batch.making import machine as made

NOW = datetime(2030, 1, 31, 22, 15)


def states(outcome: BatchOutcome) -> str:
    return " ".join(each.state.value for each in outcome.jobs)


def test_of_the_chosen_waves_go_one_after_the_other_and_the_others_are_as_if_they_were_not_there(
    tmp_path: Path,
) -> None:
    machines = [
        machine(tmp_path, "a"), machine(tmp_path, "b", wave=1), machine(tmp_path, "c", wave=1), machine(tmp_path, "d", wave=2)
    ]  # fmt: skip
    wished = batch(tmp_path, machines)
    part = run(wished, chosen=frozenset("bd"))
    assert states(part.outcome) == "waiting done waiting done"
    assert part.outcome.exit_code == 0
    order = [(event.kind, event.job) for event in part.told if event.kind in ("claimed", "done")]
    assert order == [("claimed", "b"), ("done", "b"), ("claimed", "d"), ("done", "d")]
    assert run(wished).outcome.exit_code == 0
    assert [runs(tmp_path, name) for name in "abcd"] == [1, 1, 1, 1]


def test_what_others_run_takes_its_places_also_where_it_is_not_chosen(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a"), machine(tmp_path, "b")], Budget(copies=1, jobs=1))
    with Store.create(wished.store) as store:
        store.put(wished, time.time())
        until = time.time() + 1.5
        assert store.claim("a", "another", 1.5, time.time()) is not None
    begun: list[float] = []

    def note(event: JobEvent, _: Store) -> None:
        if event.kind == "claimed":
            begun.append(event.at)

    assert run(wished, note, chosen=frozenset("b")).job("b").state is State.DONE
    assert begun[0] >= until


def test_nothing_begins_when_it_is_late_and_what_is_under_way_goes_on(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a"), machine(tmp_path, "b")], Budget(copies=1, jobs=1))
    settings = replace(QUICK)
    told: list[JobEvent] = []

    def report(event: JobEvent) -> None:
        told.append(event)
        if event.kind == "claimed":
            # that time has come, however quick or slow this host is
            object.__setattr__(settings, "until", time.time())

    with Store.create(wished.store) as store:
        outcome = run_batch(wished, store, report, local=LocalStarter(wished.store, FAKE), settings=settings)
    assert states(outcome) == "done waiting"
    assert [event.data for event in told if event.kind == "late"] == [{"waiting": 1}]
    assert outcome.exit_code == 75


def test_a_run_that_begins_late_begins_nothing_and_ends(tmp_path: Path) -> None:
    ran = run(batch(tmp_path, [machine(tmp_path, "a")]), until=time.time() - 1)
    assert (states(ran.outcome), ran.outcome.exit_code, runs(tmp_path, "a")) == ("waiting", 75, 0)


def test_what_is_under_way_is_stopped_at_its_time_and_the_next_run_goes_on(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a", {"first": "hang"}), machine(tmp_path, "b", wave=1)])
    ran = run(wished, stop_at=time.time() + 3.0)
    assert (states(ran.outcome), ran.outcome.signal, ran.outcome.exit_code) == ("waiting waiting", 0, 75)
    assert [job.attempts for job in ran.outcome.jobs] == [0, 0]
    assert "stopping" in [event.kind for event in ran.told]
    assert run(wished).outcome.exit_code == 0


def test_who_watches_gets_how_all_stand_with_their_sizes(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a", {"seconds": 0.5}), machine(tmp_path, "b")])
    looks: list[Look] = []
    with Store.create(wished.store) as store:
        local = LocalStarter(wished.store, FAKE)
        run_batch(wished, store, lambda event: None, local=local, settings=QUICK, looked=looks.append)
        kept = store.terms()
    assert kept is not None
    assert set(kept.sizes) == {"a", "b"}
    assert all(size > 0 for size in kept.sizes.values())
    # who watches from elsewhere goes by the same
    assert looks[0].terms.sizes == kept.sizes
    assert looks[0].terms.budget == kept.budget == wished.budget
    assert looks[0].goes_on
    assert {each.machine.name for each in looks[0].jobs} == {"a", "b"}


@pytest.mark.parametrize(
    "text, when",
    [
        ("23:00", datetime(2030, 1, 31, 23)),
        ("22:15", datetime(2030, 2, 1, 22, 15)),
        ("6:00", datetime(2030, 2, 1, 6)),
        ("2030-02-03T06:00", datetime(2030, 2, 3, 6)),
        ("2030-02-03 06:30:10", datetime(2030, 2, 3, 6, 30, 10)),
    ],
)
def test_a_time_is_the_next_one_of_that_name(text: str, when: datetime) -> None:
    assert moment(text, NOW) == when.timestamp()


@pytest.mark.parametrize(
    "text", ["", "24:00", "6", "soon", "2030-01-31", "2030-01-31T22:15", "2001-01-01T00:00", "-1:00", "٦:٠٠"]
)
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        moment(text, NOW)


def names(only: list[str], wave: list[int]) -> list[str] | None:
    machines = [made("web1"), made("web2", wave=1), made("db", wave=1)]
    found = chosen(wish(only, wave), machines)
    return None if found is None else sorted(found)


def wish(only: list[str], wave: list[int]) -> argparse.Namespace:
    return argparse.Namespace(only=only, wave=wave, until=math.inf)


def test_machines_are_chosen_by_names_patterns_and_waves() -> None:
    assert names([], []) is None
    assert names(["web*"], []) == ["web1", "web2"]
    assert names(["db", "web1"], []) == ["db", "web1"]
    assert names([], [1]) == ["db", "web2"]
    assert names(["web?"], [1]) == ["web2"]
    for only, wave in ((["web"], []), ([], [2]), (["web1", "none"], []), (["web1"], [1])):
        with pytest.raises(Usage):
            names(only, wave)


def test_an_outcome_counts_the_chosen_alone() -> None:
    jobs = (job("a", State.DONE), job("b", State.PARKED), job("c"))
    assert BatchOutcome(jobs, 1.0).exit_code == 5
    assert BatchOutcome(jobs, 1.0, chosen=frozenset("a")).exit_code == 0
    assert BatchOutcome(jobs, 1.0, chosen=frozenset("ac")).exit_code == 75
