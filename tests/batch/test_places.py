"""Where machines' bytes are is asked side by side: a mount that does not answer holds up its own machines, and nobody else's."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, JobEvent, MachineJob, Share, State
from p2v.batch.mounts import Mounts
from p2v.batch.order import Place
from p2v.batch.places import PlacesLook, place_of, places_of
from p2v.batch.scheduling import Setting, choose
from p2v.batch.store import Store
from p2v.batch.terms import Terms
from tests.batch.chaos.storages import Server, missing, served
from tests.batch.fleets import batch, machine, run
from tests.batch.making import job

NEEDS_SERVERS = pytest.mark.skipif(bool(missing()), reason=missing())
HOUR = 3600.0


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Server]:
    """The server of ``far``."""
    # nobody has asked for it: what was told a moment ago, the kernel answers
    (tmp_path / "far.real" / "deep").mkdir(parents=True)
    with served(tmp_path / "far.real", tmp_path / "far") as server:
        yield server


@NEEDS_SERVERS
def test_a_run_begins_with_what_is_told_and_the_others_come_when_theirs_is(tmp_path: Path, far: Server) -> None:
    """For an hour, had it to wait for them."""
    machines = [machine(tmp_path / "far", "late"), *(machine(tmp_path, f"m{number}") for number in range(60))]
    budget = Budget(copies=8, appliances=8, jobs=8, storages={tmp_path / "far": Share(copies=1)})
    far.stop()
    told: list[str] = []

    def when(event: JobEvent, store: Store) -> None:
        told.append(f"{event.job} {event.kind}")
        if told[-1].endswith(" done") and sum(each.endswith(" done") for each in told) == 60:
            assert "late claimed" not in told
            far.go_on()

    ran = run(batch(tmp_path, machines, budget), when, sight=HOUR)
    assert {each.state for each in ran.outcome.jobs} == {State.DONE}
    assert ran.outcome.seconds < HOUR
    with Store.open(tmp_path / "jobs.p2v") as store:
        kept = store.terms()
        assert kept is not None
        assert set(kept.sizes) == {each.name for each in machines}


def test_what_a_run_goes_by_is_kept_when_it_looks_and_not_for_each_word_about_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ten thousand machines, of which two hundred words tell, a run would do little else."""
    kept: list[set[str]] = []
    keep = Store.keep_terms

    def note(store: Store, terms: Terms) -> None:
        kept.append(set(terms.sizes))
        keep(store, terms)

    monkeypatch.setattr(Store, "keep_terms", note)
    monkeypatch.setattr("p2v.batch.places._TOGETHER", 1)
    monkeypatch.setattr("p2v.batch.places._AT_ONCE", 1)
    monkeypatch.setattr("p2v.batch.runner._SIGHT_SECONDS", 0.0)
    machines = [machine(tmp_path, f"m{number}") for number in range(12)]
    ran = run(batch(tmp_path, machines, Budget(copies=12, appliances=12, jobs=12)), look=HOUR)
    assert {each.state for each in ran.outcome.jobs} == {State.DONE}
    # as it begins, at its only look, and at its end
    assert len(kept) <= 3
    assert kept[-1] == {each.name for each in machines}


@NEEDS_SERVERS
def test_one_of_which_nothing_is_told_in_time_is_begun_without(tmp_path: Path, far: Server) -> None:
    late = machine(tmp_path / "far", "late")
    far.stop()

    def when(event: JobEvent, store: Store) -> None:
        if (event.kind, event.job) == ("again", "late"):
            assert event.data["code"] == "storage-silent"
            far.go_on()

    ran = run(batch(tmp_path, [late]), when, sight=0.5, answer=0.5)
    assert ran.job("late").state is State.DONE
    assert "again" in ran.kinds("late")


@NEEDS_SERVERS
def test_a_dead_mount_costs_nobody_else_what_is_known_of_them(tmp_path: Path, far: Server) -> None:
    near = [machine(tmp_path, f"m{number}") for number in range(3)]
    expected = {each.name: place_of(each, Mounts.of()) for each in near}
    silent = [machine(tmp_path / "far", f"f{number}") for number in range(120)]
    far.stop()
    asked = [near[0], *silent[:60], near[1], *silent[60:], near[2]]
    for seconds in (2.0, 15.0):
        began = time.monotonic()
        found = places_of(asked, [tmp_path, tmp_path / "far" / "deep"], seconds=seconds)
        # three parts of fifty, and each is given up with the first one
        assert time.monotonic() - began < 20 * seconds + 30
        known = {name: place for name, place in found.by_name.items() if place != Place()}
        if known == expected and found.devices[tmp_path]:
            break  # a busy host may take longer to tell of those, too
    assert known == expected
    assert found.devices[tmp_path / "far" / "deep"] == ()
    assert found.devices[tmp_path] != ()


@NEEDS_SERVERS
def test_machines_wait_for_the_name_of_their_storage_as_for_their_own_place(tmp_path: Path, far: Server) -> None:
    """Its limits would not hold for them otherwise; others need not."""
    job_there = MachineJob("there", (tmp_path / "near" / "a.raw",), tmp_path / "far" / "out")
    look = PlacesLook([job_there, machine(tmp_path, "near")], [], HOUR)
    look.wait()
    assert look.unseen == frozenset()
    look.close()
    far.stop()
    look = PlacesLook([machine(tmp_path, "near"), job_there], [tmp_path / "far" / "deep"], HOUR)
    try:
        while "near" in look.unseen:
            look.wait(0.1)
        assert look.unseen == {"there"}
        assert look.fds()
        far.go_on()
        look.wait()
        assert look.unseen == frozenset()
        assert set(look.found.devices[tmp_path / "far" / "deep"]) < set(look.found.by_name["there"].storages)
    finally:
        look.close()


def test_who_is_not_seen_yet_does_not_begin() -> None:
    jobs = [job("a"), job("b")]
    noon = datetime.time(12)
    assert choose(jobs, {}, Budget(), 1.0, noon, Setting(unseen={"a"})) == ("b",)


def test_where_a_path_is_mounted_is_told_by_its_words() -> None:
    mounts = Mounts({"/": ("ext4", "a"), "/srv": ("nfs", "b:/"), "/srv/deep/er": ("ext4", "c")})
    asked = ("/srv/x/y", "/srv", "/srvx", "/srv/deep/er/z", "/srv/deep", "/srv/../etc")
    assert [mounts.point_of(Path(each)) for each in asked] == ["/srv", "/srv", "/", "/srv/deep/er", "/srv", "/"]
