"""What a crash left on disks that workers' hosts alone have: shown and removed as at this host, and nothing else of theirs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.cleaning import Left, LeftKind, Removed, left_behind, remove
from p2v.batch.cluster.own_disks import facts_of, look_there, remove_there
from p2v.batch.cluster.placing import WorkerSeen
from p2v.batch.cluster.visiting import Unanswered, Visit
from p2v.batch.jobs import Batch, Budget, Job, State
from p2v.batch.leftovers import own_disks
from p2v.batch.marking import marked_environment
from p2v.batch.store import Store
from p2v.cli.main import main
from p2v.core.fence import raise_fence, standing_fence
from p2v.core.marks import this_host
from tests.batch.making import job, machine
from tests.batch.test_cleaning import NOW, OF_A_COPY, OF_A_RUN, OTHERS, SHOWN, FakeStore, crashed, names, there

RECORD = "web.json.partial"


@dataclass
class Played:
    """Hosts of a cluster, played by this process, with a disk that the runner's host does not see. ``silent``: give no answer;
    ``said``: an answer in the place of the true one.
    """

    silent: frozenset[str] = frozenset()
    said: Any = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(
        self, worker: str, seconds: float, function: Callable[..., Awaitable[Any]], words: Sequence[Any]
    ) -> Any:
        self.asked.append((worker, function.__name__))
        if worker in self.silent:
            raise Unanswered("no answer in 1 s")

        async def answer() -> Any:
            return await function(*words)

        return asyncio.run(answer()) if self.said is None else self.said


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return crashed(tmp_path / "results")


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's host has no such folder."""
    monkeypatch.setattr("p2v.batch.cluster.visiting.facts_of", lambda folder: None)


def worker(host: str, number: int = 1, **rest: Any) -> WorkerSeen:
    return WorkerSeen(f"tcp://127.0.0.1:{number}", hostname=host, **rest)


NODE = worker("node1")


def pinned(folder: Path, state: State = State.WAITING, name: str = "web", **rest: Any) -> Job:
    return Job(machine(name, folder, host="node1"), state, fence=3, **rest)


def visit(tmp_path: Path, ask: Played, *workers: WorkerSeen) -> Visit:
    return Visit(tmp_path / "batch.sqlite", workers or (NODE,), ask)


def left_of(made: Visit, *jobs: Job) -> tuple[Left, ...]:
    return tuple(made.left({"node1": [each for each in jobs if each.machine.host]}, jobs, NOW))


def removed(made: Visit, store: FakeStore, left: Sequence[Left], **rest: bool) -> list[Removed]:
    return list(remove(store, left, NOW, elsewhere=made.remove, **rest))


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_at_a_host_the_same_is_left_and_kept_as_here_with_its_name(
    tmp_path: Path, results: Path, state: State, is_complete: bool
) -> None:
    raise_fence(results, "web", 3)
    if is_complete:
        (results / RECORD).write_text("{}")
    known = pinned(results, state, worker="gone", lease_until=NOW - 1)
    made = visit(tmp_path, Played())

    found = left_of(made, known)

    here = [
        each
        for each in left_behind(tmp_path / "batch.sqlite", FakeStore({"web": known}), NOW)
        if each.kind.value == "file"
    ]
    assert len(here) >= len(SHOWN)
    assert [replace(each, host="") for each in found] == here
    assert {each.host for each in found} == {"node1"}
    assert made.unasked == {}


def test_what_is_left_goes_what_is_kept_stays_and_everything_goes_when_that_is_said(
    tmp_path: Path, results: Path
) -> None:
    store = FakeStore({"web": pinned(results)})
    made = visit(tmp_path, Played())
    left = left_of(made, *store.jobs())
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}
    assert (names(left, kept=False), names(left, kept=True)) == (SHOWN, set(OF_A_COPY))

    assert [each.refused for each in removed(made, store, left)] == [""] * len(SHOWN)
    assert there(results) == {*OF_A_COPY, *OTHERS}
    removed(made, store, left, everything=True)
    assert there(results) == set(OTHERS)


def test_a_record_without_its_name_and_the_fence_go_with_a_machine_that_is_done(tmp_path: Path, results: Path) -> None:
    (results / RECORD).write_text("{}")
    raise_fence(results, "web", 3)
    store = FakeStore({"web": pinned(results, State.DONE)})
    made = visit(tmp_path, Played())

    assert {each.refused for each in removed(made, store, left_of(made, *store.jobs()))} == {""}
    assert there(results) == set(OTHERS)


def test_nothing_of_a_machine_whose_lease_lives_is_left_by_the_clock_of_the_runners_host(
    tmp_path: Path, results: Path
) -> None:
    running = pinned(results, State.RUNNING, worker="here", lease_until=NOW + 1)
    assert left_of(visit(tmp_path, Played()), running) == ()


def test_a_run_that_began_since_it_was_shown_loses_nothing(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results)})
    made = visit(tmp_path, Played())
    left = left_of(made, *store.jobs())
    store.claim("web", "new", 60.0, NOW)

    assert {each.refused for each in removed(made, store, left, everything=True)} == {"its machine is being converted"}
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}


def test_a_conversion_that_holds_its_lock_loses_nothing_whatever_the_store_says(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results)})
    made = visit(tmp_path, Played())
    left = left_of(made, *store.jobs())
    with (results / ".web.p2v-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert left_of(visit(tmp_path, Played()), *store.jobs()) == ()
        assert {each.refused for each in removed(made, store, left, everything=True)} == {
            "its machine is being converted"
        }
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}


def test_nothing_is_left_of_a_machine_of_which_a_process_lives_there(tmp_path: Path, results: Path) -> None:
    with marked_environment(tmp_path / "batch.sqlite", "web") as marks:
        child = subprocess.Popen(["sleep", "600"], env=dict(os.environ) | dict(marks))
        try:
            made = visit(tmp_path, Played())
            assert left_of(made, pinned(results)) == ()
            assert "web" in made.unasked["node1"]
            assert made.saw_part("node1")
            # of one whose lease lives that is as it is to be
            made = visit(tmp_path, Played())
            assert left_of(made, pinned(results, State.RUNNING, lease_until=NOW + 1)) == ()
            assert made.unasked == {}
        finally:
            child.kill()
            child.wait()
    assert names(left_of(visit(tmp_path, Played()), pinned(results)), kept=False) == SHOWN


def test_words_that_come_late_remove_nothing_of_an_attempt_that_began_since(tmp_path: Path, results: Path) -> None:
    """The store that they stand on had number 3."""
    raise_fence(results, "web", 4)
    store = FakeStore({"web": pinned(results, State.CANCELLED)})
    made = visit(tmp_path, Played())

    gone = removed(made, store, left_of(made, *store.jobs()))

    assert len(gone) == len(SHOWN) + len(OF_A_COPY) + 1
    # but a lock that nobody holds: who looks takes it, and removes it again
    assert [each.left.said for each in gone if not each.refused] == [f"lock file {results / '.web.p2v-lock'}"]
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS, ".web.p2v-fence"} - {".web.p2v-lock"}
    assert standing_fence(results, "web") == 4


def test_a_folder_that_both_hosts_see_is_left_to_this_one(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2v.batch.cluster.visiting.facts_of", facts_of)
    made = visit(tmp_path, Played())
    assert left_of(made, pinned(results)) == ()
    assert made.unasked == {}


def test_of_a_folder_machines_of_other_hosts_are_not_looked_at_and_lend_no_names(tmp_path: Path, results: Path) -> None:
    """``web-disk2`` is a machine of its own: what begins like that is none of ``web``'s."""
    (results / "web-disk2.qcow2.partial").write_text("x")
    other = job("web-disk2", State.CANCELLED, results)
    store = FakeStore({"web": pinned(results, State.CANCELLED), "web-disk2": other})
    made = visit(tmp_path, Played())

    left = left_of(made, *store.jobs())

    assert names(left, kept=False) == {*SHOWN, *OF_A_COPY}
    removed(made, store, left)
    assert there(results) == {*OTHERS, "web-disk2.qcow2.partial"}
    # not even when it is said so
    words = (str(results), "web-disk2.qcow2.partial", ["web", "web-disk2"], "web", "cancelled", 3, False)
    assert asyncio.run(remove_there(*words)) == ""
    assert (results / "web-disk2.qcow2.partial").exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "web.qcow2", "web.json", "../secret", "/etc/passwd", "", ".", "other.qcow2.partial"]
)
def test_no_words_remove_what_no_conversion_of_the_machine_makes_on_its_way(
    tmp_path: Path, results: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("x")
    before = there(results)
    asyncio.run(remove_there(str(results), name, ["web"], "web", "cancelled", 3, False))
    assert there(results) == before
    assert (tmp_path / "secret").exists()


def test_links_are_not_followed(tmp_path: Path, results: Path) -> None:
    """In the place of a file, of a work folder, and within one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    store = FakeStore({"web": pinned(results, State.CANCELLED)})
    made = visit(tmp_path, Played())
    (results / "web.partial.work" / "link").symlink_to(outside)
    left = left_of(made, *store.jobs())
    (results / "web.xml.partial").unlink()
    (results / "web.xml.partial").symlink_to(outside / "precious")
    (results / "web.json.partial").symlink_to(outside / "precious")
    assert "web.json.partial" not in names(left_of(made, *store.jobs()), kept=False)

    removed(made, store, left)

    assert (outside / "precious").read_text() == "x"
    assert not (results / "web.partial.work").exists()
    assert (results / "web.xml.partial").is_symlink()


def test_a_link_in_the_place_of_the_lock_is_not_opened(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results, State.CANCELLED)})
    made = visit(tmp_path, Played())
    left = [each for each in left_of(made, *store.jobs()) if "p2v-lock" not in each.said]
    (results / ".web.p2v-lock").unlink()
    (results / ".web.p2v-lock").symlink_to(tmp_path / "made")

    assert all(each.refused for each in removed(made, store, left))
    assert not (tmp_path / "made").exists()


FOREIGN: tuple[object, ...] = (
    {"busy": [], "locked": [], "files": [["../../etc/passwd", "unfinished copy", "web", 1]]},
    {"busy": [], "locked": [], "files": [["web.qcow2", "unfinished copy", "web", 1]]},
    {"busy": [], "locked": [], "files": [["web.qcow2.partial", "lock file", "web", 1]]},
    {"busy": [], "locked": [], "files": [["web.qcow2.partial", "unfinished copy", "web", -1]]},
    {"busy": [], "locked": [], "files": [["other.qcow2.partial", "unfinished copy", "other", 1]]},
    {"busy": [], "locked": [], "files": [["web.qcow2.partial", "unfinished copy", "web"]]},
    {"busy": [], "locked": [], "files": "all"},
    {"busy": [], "errno": "13"},
    {"busy": [], "errno": 2**80},
    {"files": [], "locked": []},
    "nothing",
    17,
)


@pytest.mark.parametrize("answer", FOREIGN, ids=str)
def test_what_is_no_answer_shows_nothing_and_is_told(tmp_path: Path, results: Path, answer: object) -> None:
    made = visit(tmp_path, Played(said=answer))
    assert left_of(made, pinned(results)) == ()
    assert list(made.unasked) == ["node1"]


def test_a_folder_that_does_not_answer_there_is_shown_and_stays(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results)})
    made = visit(tmp_path, Played())
    made.ask = lambda worker, seconds, function, words: None
    left = left_of(made, *store.jobs())
    assert [(each.kind, each.host, each.path) for each in left] == [(LeftKind.SILENT, "node1", results)]
    assert str(results) in made.unasked["node1"]
    assert all(each.refused for each in removed(made, store, left))


def test_a_folder_that_may_not_be_read_there_is_told_with_its_host(tmp_path: Path, results: Path) -> None:
    made = visit(tmp_path, Played(said={"busy": [], "errno": 13}))
    assert left_of(made, pinned(results)) == ()
    assert str(results) in made.unasked["node1"]


def test_a_host_that_is_not_there_or_cannot_be_used_is_told_and_others_are_seen(tmp_path: Path, results: Path) -> None:
    ask = Played()
    made = visit(tmp_path, ask, NODE, worker("node2", 2, problem="tcp://127.0.0.1:2 has version 0 of p2v"))
    jobs = [pinned(results)]

    found = tuple(made.left({"node1": jobs, "node2": jobs, "node3": jobs}, jobs, NOW))

    assert {each.host for each in found} == {"node1"}
    assert made.unasked.keys() == {"node2", "node3"}
    assert "version 0" in made.unasked["node2"]
    assert {address for address, _ in ask.asked} == {NODE.address}


def test_of_a_worker_that_does_not_say_whose_it_is_is_told_why(tmp_path: Path, results: Path) -> None:
    silent = worker("", problem="tcp://127.0.0.1:1: does not answer")
    made = visit(tmp_path, Played(), silent)
    assert left_of(made, pinned(results)) == ()
    assert silent.problem in made.unasked["node1"]


def test_of_a_hosts_workers_any_will_do_and_removals_go_to_the_one_that_answers(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results)})
    ask = Played(silent=frozenset([NODE.address]))
    made = visit(tmp_path, ask, NODE, worker("node1", 2))
    left = left_of(made, *store.jobs())
    assert names(left, kept=False) == SHOWN
    removed(made, store, left)
    assert {address for address, function in ask.asked if function == "remove_there"} == {"tcp://127.0.0.1:2"}
    assert there(results) == {*OF_A_COPY, *OTHERS}

    alone = visit(tmp_path, Played(silent=frozenset([NODE.address])))
    assert left_of(alone, *store.jobs()) == ()
    assert list(alone.unasked) == ["node1"]


def test_a_host_that_went_away_since_it_was_shown_has_it_still(tmp_path: Path, results: Path) -> None:
    store = FakeStore({"web": pinned(results)})
    ask = Played()
    made = visit(tmp_path, ask)
    left = left_of(made, *store.jobs())
    ask.silent = frozenset([NODE.address])
    assert all("does not answer" in each.refused for each in removed(made, store, left))
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}


def test_one_host_by_two_names_is_asked_once(tmp_path: Path, results: Path) -> None:
    jobs = [pinned(results)]
    made = visit(tmp_path, Played(), replace(NODE, name="fast"))
    found = tuple(made.left({"node1": jobs, "fast": jobs, "127.0.0.1": jobs}, jobs, NOW))
    assert len(found) == len(SHOWN) + len(OF_A_COPY)


def test_hosts_with_own_disks_are_those_of_pinned_machines_that_had_an_attempt_there(tmp_path: Path) -> None:
    here = this_host().name
    wished = {"a": "node1", "b": "", "c": "node1", "d": here, "e": "node3.example", "f": "node4"}
    machines = tuple(machine(name, tmp_path, host=host) for name, host in wished.items())
    path = tmp_path / "batch.sqlite"
    with Store.create(path) as store:
        store.put(Batch(machines, Budget(), path, path))
        for name, host in {"a": "node2", "b": "node2", "d": here, "e": ""}.items():
            lease = store.claim(name, f"{here}:1", 60.0, time.time())
            assert lease is not None
            if host:
                store.event(lease, "worker", {"worker": "tls://10.0.0.7:1", "host": host}, time.time())
        found: Mapping[str, tuple[Job, ...]] = own_disks(store, store.jobs())
    # "a" was at node2 before the manifest named another; of "e" nothing was heard since it was taken
    assert {host: [each.machine.name for each in jobs] for host, jobs in found.items()} == {
        "node1": ["a"],
        "node2": ["a"],
        "node3.example": ["e"],
    }


def test_a_host_without_the_store_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What may be removed stands there alone."""
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text("schema: 1\ndefaults: {target: out}\nmachines: [{name: a, source: a.raw}]\n")
    assert main(["batch", "clean", str(manifest), "--engine", "dask://127.0.0.1:1"]) == 64
    assert "store" in capsys.readouterr().err


def test_a_look_at_a_folder_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    found = asyncio.run(look_there(str(tmp_path / "batch.sqlite"), str(tmp_path / "never"), ["web"], None))
    assert found == {"busy": [], "files": [], "locked": []}
