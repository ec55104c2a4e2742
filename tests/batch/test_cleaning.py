"""What a crash left is shown and removed: all of it, and nothing that is used, wanted or somebody else's."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from p2v.batch.cleaning import Left, LeftKind, left_behind, not_yet, remove
from p2v.batch.job_files import JobFile, job_files
from p2v.batch.jobs import Job, State
from p2v.batch.marking import left_folders, marked_environment
from p2v.batch.store import Lease
from p2v.core.fence import raise_fence, standing_fence
from tests.batch.making import job
from tests.processes import is_running

NOW = 5000.0
OF_A_RUN = (".web.p2v-lock", ".web.p2v-trial", "web.partial.work/overlay", "web.xml.partial")
SHOWN = {".web.p2v-lock", ".web.p2v-trial", "web.partial.work", "web.xml.partial"}
OF_A_COPY = ("web.qcow2.partial", "web.qcow2.partial.journal")
OTHERS = ("web.qcow2", "web.json", "notes.txt", "other.qcow2.partial", ".other.p2v-lock")


@dataclass
class FakeStore:
    """A store in memory, as far as cleaning asks."""

    known: dict[str, Job] = field(default_factory=dict)
    paused: bool = False
    told: frozenset[str] = frozenset()

    def bundles(self) -> frozenset[str]:
        return self.told

    def jobs(self) -> tuple[Job, ...]:
        return tuple(self.known.values())

    def job(self, name: str) -> Job:
        return self.known[name]

    def claim(self, name: str, worker: str, seconds: float, now: float) -> Lease | None:
        found = self.known[name]
        if self.paused or (found.state is State.RUNNING and found.lease_until > now) or found.state.is_end:
            return None
        taken = replace(found, state=State.RUNNING, fence=found.fence + 1, worker=worker, lease_until=now + seconds)
        self.known[name] = taken
        return Lease(taken, taken.fence, worker, taken.lease_until)

    def release(self, lease: Lease, now: float) -> Job:
        self.known[lease.job.machine.name] = replace(lease.job, state=State.WAITING, worker="", lease_until=0.0)
        return self.known[lease.job.machine.name]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield tmp_path / "batch.sqlite"
    for folder in left_folders(tmp_path / "batch.sqlite"):
        shutil.rmtree(folder)


def crashed(folder: Path) -> Path:
    """A folder of results with what a conversion of ``web`` left that was killed, and what is others'."""
    for name in (*OF_A_RUN, *OF_A_COPY, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return crashed(tmp_path / "results")


def store_with(results: Path, state: State, **rest: object) -> FakeStore:
    known = replace(job("web", state, results), fence=3, **rest)  # type: ignore[arg-type]
    return FakeStore({"web": known})


def names(left: tuple[Left, ...], *, kept: bool) -> set[str]:
    return {each.path.name for each in left if each.path is not None and bool(each.kept) is kept}


def there(results: Path) -> set[str]:
    return {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}


def test_of_a_machine_that_waits_the_copy_is_kept_and_the_rest_goes(path: Path, results: Path) -> None:
    store = store_with(results, State.WAITING)
    left = left_behind(path, store, NOW)
    assert names(left, kept=False) == SHOWN
    assert names(left, kept=True) == set(OF_A_COPY)
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}
    assert all(not each.refused for each in remove(store, left, NOW))
    assert there(results) == {*OF_A_COPY, *OTHERS}
    assert names(left_behind(path, store, NOW), kept=False) == set()
    list(remove(store, left, NOW, everything=True))
    assert there(results) == set(OTHERS)


@pytest.mark.parametrize("state", [State.PARKED, State.CANCELLED, State.DONE])
def test_of_a_machine_that_has_ended_nothing_is_kept(path: Path, results: Path, state: State) -> None:
    store = store_with(results, state)
    list(remove(store, left_behind(path, store, NOW), NOW))
    assert there(results) == set(OTHERS)


@pytest.mark.parametrize("state", [State.PARKED, State.WAITING])
def test_results_that_lack_only_their_names_are_kept(path: Path, results: Path, state: State) -> None:
    (results / "web.json.partial").write_text("{}")
    store = store_with(results, state)
    list(remove(store, left_behind(path, store, NOW), NOW))
    assert there(results) == {"web.json.partial", "web.xml.partial", *OF_A_COPY, *OTHERS}


def test_a_record_of_a_machine_that_is_done_names_nothing_that_is_still_to_come(path: Path, results: Path) -> None:
    (results / "web.json.partial").write_text("{}")
    store = store_with(results, State.DONE)
    list(remove(store, left_behind(path, store, NOW), NOW))
    assert there(results) == set(OTHERS)


def test_a_lease_that_has_run_out_is_taken_back_and_its_fence_is_raised(path: Path, results: Path) -> None:
    store = store_with(results, State.RUNNING, worker="gone", lease_until=NOW - 1)
    left = left_behind(path, store, NOW)
    assert [each.machine for each in left if each.kind is LeftKind.LEASE] == ["web"]
    list(remove(store, left, NOW))
    assert (store.known["web"].state, store.known["web"].fence) == (State.WAITING, 4)
    assert there(results) == {*OF_A_COPY, *OTHERS, ".web.p2v-fence"}


def test_a_fence_stays_while_its_machine_goes_on_and_goes_with_its_end(path: Path, results: Path) -> None:
    raise_fence(results, "web", 3)
    store = store_with(results, State.WAITING)
    assert ".web.p2v-fence" not in names(left_behind(path, store, NOW), kept=False) | names(
        left_behind(path, store, NOW), kept=True
    )
    store = store_with(results, State.PARKED)
    list(remove(store, left_behind(path, store, NOW), NOW))
    assert there(results) == set(OTHERS)


def test_a_failure_bundle_that_no_event_leads_to_goes_and_others_stay(path: Path, results: Path) -> None:
    bundles = path.with_name("batch-failures")
    for name in ("web-2", "web-3", "web-9", "other-1", "web-x"):
        (bundles / name).mkdir(parents=True)
        (bundles / name / "failure.json").touch()
    store = store_with(results, State.RUNNING, worker="here", lease_until=NOW + 1)
    store.told = frozenset({"web-2"})
    # number 3 is being filled
    assert left_behind(path, store, NOW) == ()
    store.known["web"] = replace(store.known["web"], state=State.PARKED)
    left = [each for each in left_behind(path, store, NOW) if each.kind is LeftKind.BUNDLE]
    assert [(each.machine, each.path) for each in left] == [("web", bundles / "web-3")]
    assert all(not each.refused for each in remove(store, left, NOW))
    assert {each.name for each in bundles.iterdir()} == {"web-2", "web-9", "other-1", "web-x"}


def test_a_lease_of_a_machine_whose_folder_was_never_made_is_taken_back(path: Path, tmp_path: Path) -> None:
    store = store_with(tmp_path / "never", State.RUNNING, worker="gone", lease_until=NOW - 1)
    assert [each.refused for each in remove(store, left_behind(path, store, NOW), NOW)] == [""]
    assert store.known["web"].state is State.WAITING


def test_a_folder_that_does_not_answer_is_told_of_and_the_rest_is_seen(
    path: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_with(results, State.WAITING)
    store.known["far"] = job("far", State.WAITING, tmp_path / "far")

    def waiting(folder: Path, machines: Collection[str]) -> Iterator[JobFile]:
        while folder.name == "far":
            time.sleep(0.01)
        return job_files(folder, machines)

    monkeypatch.setattr("p2v.batch.cleaning.job_files", waiting)
    for seconds in (0.5, 5.0, 50.0):
        # on a busy host an answer that comes at once may take longer, too
        monkeypatch.setattr("p2v.batch.cleaning._ANSWER_SECONDS", seconds)
        left = left_behind(path, store, NOW)
        silents = [each for each in left if each.kind is LeftKind.SILENT]
        if len(silents) == 1:
            break
    (silent,) = silents
    assert silent.path == tmp_path / "far"
    (refused,) = [each for each in remove(store, left, NOW) if each.refused]
    assert refused.left == silent
    assert there(results) == {*OF_A_COPY, *OTHERS}


def test_the_fence_of_a_batch_that_came_later_stays(path: Path, results: Path) -> None:
    raise_fence(results, "web", 9)
    store = store_with(results, State.PARKED)
    (refused,) = [each for each in remove(store, left_behind(path, store, NOW), NOW) if each.refused]
    assert "another batch" in refused.refused
    assert standing_fence(results, "web") == 9


def test_a_paused_batch_gives_no_leases_and_says_so(path: Path, results: Path) -> None:
    store = store_with(results, State.RUNNING, worker="gone", lease_until=NOW - 1)
    store.paused = True
    (refused,) = [each for each in remove(store, left_behind(path, store, NOW), NOW) if each.refused]
    assert refused.left.kind is LeftKind.LEASE
    assert "paused" in refused.refused


def test_nothing_of_a_machine_whose_lease_holds_is_left(path: Path, results: Path) -> None:
    store = store_with(results, State.RUNNING, worker="here", lease_until=NOW + 1)
    assert left_behind(path, store, NOW) == ()


def test_a_run_of_this_host_that_has_died_is_told_of_before_its_lease_runs_out() -> None:
    here = socket.gethostname()
    ended = subprocess.Popen(["true"])
    ended.wait()
    workers = {f"{here}:{ended.pid}": True, f"{here}:{os.getpid()}": False, f"other:{ended.pid}": False, "anything": False}
    for worker, told in workers.items():
        running = replace(job("web", State.RUNNING), worker=worker, lease_until=NOW + 9)
        assert bool(not_yet([running], NOW)) is told
        assert not not_yet([replace(running, state=State.DONE), replace(running, lease_until=NOW)], NOW)


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_run_that_holds_its_lock_loses_nothing_whatever_the_store_says(path: Path, results: Path) -> None:
    store = store_with(results, State.WAITING)
    with held(results / ".web.p2v-lock"):
        assert left_behind(path, store, NOW) == ()
    left = left_behind(path, store, NOW)
    with held(results / ".web.p2v-lock"):
        removed = list(remove(store, left, NOW, everything=True))
    assert {each.refused for each in removed} == {"its machine is being converted"}
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}


def test_a_run_that_began_since_it_was_shown_loses_nothing(path: Path, results: Path) -> None:
    store = store_with(results, State.WAITING)
    left = left_behind(path, store, NOW)
    store.claim("web", "new", 60.0, NOW)
    assert {each.refused for each in remove(store, left, NOW)} == {"its machine is being converted"}
    assert there(results) == {*OF_A_RUN, *OF_A_COPY, *OTHERS}


RUNNER = """\
import subprocess, sys, time, os
from pathlib import Path
from p2v.batch.marking import marked_environment
with marked_environment(Path(sys.argv[1]), "web") as marks:
    child = subprocess.Popen(["sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 1; done'],
        env=dict(os.environ) | dict(marks), start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, marks["TMPDIR"], flush=True)
    time.sleep(600)
"""


@contextmanager
def killed_runner(path: Path) -> Iterator[tuple[int, Path]]:
    """A stray child that takes no SIGTERM, and the temporary folder of its runner, which was killed."""
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(path)], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    pid, folder = runner.stdout.readline().split()
    runner.kill()
    runner.wait()
    runner.stdout.close()
    try:
        yield int(pid), Path(folder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)


def test_a_stray_child_is_ended_and_what_it_held_is_seen_then(
    path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2v.batch.cleaning._GRACE_SECONDS", 0.2)
    store = store_with(results, State.WAITING)
    with killed_runner(path) as (pid, folder):
        left = left_behind(path, store, NOW)
        kinds = {each.kind for each in left}
        # a machine that a process still works on is not looked at
        assert kinds == {LeftKind.PROCESS, LeftKind.FOLDER}
        assert pid in {each.process.pid for each in left if each.process is not None}
        assert all(not each.refused for each in remove(store, left, NOW))
        assert not is_running(pid)
        assert not folder.exists()
    assert names(left_behind(path, store, NOW), kept=False) == SHOWN


def test_children_and_folders_of_a_runner_that_lives_are_not_left(path: Path, results: Path) -> None:
    store = store_with(results, State.WAITING)
    with marked_environment(path, "web") as marks:
        child = subprocess.Popen(["sleep", "600"], env=dict(os.environ) | dict(marks))
        try:
            assert left_behind(path, store, NOW) == ()
        finally:
            child.kill()
            child.wait()
    assert names(left_behind(path, store, NOW), kept=False) == SHOWN


def test_a_number_that_went_to_another_process_ends_nobody(path: Path, results: Path) -> None:
    store = store_with(results, State.WAITING)
    with killed_runner(path) as (pid, _):
        (left,) = [
            each for each in left_behind(path, store, NOW) if each.process is not None and each.process.pid == pid
        ]
        assert left.process is not None
        other = replace(left, process=replace(left.process, started=left.process.started + 1))
        list(remove(store, [other], NOW))
        assert is_running(pid)


def test_a_folder_that_is_not_there_holds_nothing(path: Path, tmp_path: Path) -> None:
    assert left_behind(path, store_with(tmp_path / "never", State.WAITING), NOW) == ()
