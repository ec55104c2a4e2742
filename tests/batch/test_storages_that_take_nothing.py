"""Storages that answer whatever is asked and take nothing that is written: frozen ones, and such whose writes hang.

Real conversions, onto a real ext4 that is frozen, and onto a FUSE whose writes wait.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, Budget, JobEvent, MachineJob, State
from p2v.batch.looking import Quiet, Silences, silence
from p2v.batch.runner import Settings, run_batch
from p2v.batch.store import Store
from p2v.batch.trial import trial_path, try_to_write
from p2v.core.units import MIB
from tests.batch.chaos.storages import missing, small
from tests.batch.cluster.clusters import until
from tests.batch.dos import dos_disk
from tests.batch.fleets import Ran
from tests.faulty_files import NEEDS_FUSE
from tests.faulty_folder import Trouble, faulty_folder

NEEDS_FREEZING = pytest.mark.skipif(bool(missing()), reason=missing())
ANSWER, LONG = 2.0, 120.0
Storage = Callable[[Path], AbstractContextManager[tuple[Path, Callable[[], None], Callable[[], None]]]]


@contextmanager
def frozen(folder: Path) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    with small(folder) as storage:
        yield storage.place, storage.freeze, storage.thaw


@contextmanager
def hung(folder: Path) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    with faulty_folder(folder) as storage:
        yield storage.place, lambda: storage.set(Trouble(hangs=True)), lambda: storage.set(Trouble())


KINDS = [pytest.param(frozen, marks=NEEDS_FREEZING), pytest.param(hung, marks=NEEDS_FUSE)]


def run(wished: Batch, when: Callable[[JobEvent, Store], None]) -> Ran:
    told: list[JobEvent] = []
    settings = Settings(first_backoff=0.2, look=0.2, answer=ANSWER, silent=2 * LONG, worker="test", host="here")
    with Store.create(wished.store) as store, Store.open(wished.store) as other:

        def report(event: JobEvent) -> None:
            told.append(event)
            when(event, other)

        return Ran(run_batch(wished, store, report, settings=settings), told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_that_hangs_there_gives_its_place_back_and_all_go_on_when_it_takes_things_again(
    tmp_path: Path, kind: Storage
) -> None:
    """With one place for copies and one machine at a time, another is converted while the first hangs; a third one of that storage
    is not begun, and neither loses an attempt."""
    source = dos_disk(tmp_path / "in" / "first.raw", random.Random(1).randbytes(10 * MIB), 16 * MIB)
    before = {path: path.stat() for path in (source, source.parent)}
    with kind(tmp_path) as (place, hang, go_on):
        target = place / "out"
        target.mkdir()
        machines = (
            MachineJob("first", (source,), target, options=("--limit=1M",), attempts=1, priority=9),
            MachineJob("near", (dos_disk(tmp_path / "near.raw"),), tmp_path / "out", priority=5),
            MachineJob("late", (dos_disk(tmp_path / "late.raw"),), target, attempts=1),
        )
        budget = Budget(copies=1, appliances=1, jobs=1)
        wished = Batch(machines, budget, tmp_path / "jobs.p2v", tmp_path / "jobs.yaml")
        told: list[str] = []

        def when(event: JobEvent, store: Store) -> None:
            told.append(f"{event.job} {event.kind}")
            if told[-1] == "first bytes-done" and told.count(told[-1]) == 1:
                hang()
            if event.kind == "again" and "took nothing" in str(event.data["message"]):
                told.append("late took nothing")  # on a busy host a look may not come as far as that at first
            if "near done" in told and "late took nothing" in told:
                go_on()

        ran = run(wished, when)
        # where files have names, one that was killed in the middle leaves its own, which `clean` knows
        assert {each for each in os.listdir(target) if each.startswith(".")} <= {trial_path(target, "first").name}
    assert [(ran.job(name).state, ran.job(name).fence) for name in ("first", "near")] == [(State.DONE, 1)] * 2
    assert ran.job("late").state is State.DONE
    assert told.index("first warning") < told.index("near claimed") < told.index("near done") < told.index("first done")
    again = [event.data for event in ran.told if event.kind == "again"]
    assert {data["code"] for data in again} == {"storage-silent"}
    assert any("took nothing" in data["message"] for data in again)
    assert all(str(target) in data["message"] for data in again if "took nothing" in data["message"])
    # what was read of the sources has not changed their folder
    assert all(path.stat().st_mtime_ns == found.st_mtime_ns for path, found in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_says_that_nothing_was_taken_and_the_next_one_that_it_is_again(tmp_path: Path, kind: Storage) -> None:
    with kind(tmp_path) as (place, hang, go_on):
        machine = MachineJob("one", (tmp_path / "in" / "one",), place)
        silences = Silences.of([machine], ANSWER)
        hang()
        try:
            look = silences.look(machine, None, at_sources=True, seconds=ANSWER)
            until(lambda: look.ended() is not None, "the end of a look")
            assert look.is_silent
            assert f"{place} took nothing" in silence(look).message
        finally:
            go_on()
        until(lambda: not silences.is_known(machine), "the end of what hung")
        again = silences.look(machine, None, at_sources=True, seconds=LONG)
        until(lambda: again.ended() is not None, "an answer")
        assert not again.is_silent
        assert not trial_path(place, "one").exists()


@NEEDS_FREEZING
def test_one_look_hangs_on_a_frozen_file_system_for_all_machines_there(tmp_path: Path) -> None:
    """Not even a kill ends it: were each machine asked for anew, such processes would pile up."""
    with small(tmp_path) as storage:
        one, other = (MachineJob(name, (tmp_path / "in" / name,), storage.place) for name in ("one", "other"))
        far = MachineJob("far", (tmp_path / "in" / "far",), tmp_path / "out")
        silences, quiet = Silences.of([one, other, far], ANSWER), Quiet()
        storage.freeze()
        look = silences.look(one, None, at_sources=True, seconds=ANSWER)
        until(lambda: look.ended() is not None, "the end of a look")
        assert look.is_stuck
        assert silences.look(other, None, at_sources=True, seconds=ANSWER) is look
        # a conversion there that is silent hangs, and nobody is asked
        assert quiet.hangs(other, LONG, silences)
        assert not silences.is_known(far)
        storage.thaw()
        until(lambda: not silences.is_known(other), "the end of its process")
        assert not look.is_stuck
        assert not quiet.hangs(other, 0.0, silences)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where anything was opened to be written; what threads do that other tests left is elsewhere."""
    opened, real = [], os.open

    def note(path: Path, flags: int, mode: int = 0o777, **rest: int) -> int:
        if Path(path).is_relative_to(tmp_path):
            opened.append(Path(path))
        return real(path, flags, mode, **rest)

    monkeypatch.setattr("p2v.batch.trial.os.open", note)
    return opened


def test_nothing_is_left_of_what_was_written(tmp_path: Path, written: list[Path]) -> None:
    try_to_write(tmp_path, "web", [tmp_path / "in" / "web.raw"])
    assert written == [tmp_path]
    assert os.listdir(tmp_path) == []


def test_where_files_have_names_it_loses_its_own_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, real_write, there = os.open, os.pwrite, []

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real_open(path, flags, mode)

    def write(descriptor: int, data: object, offset: int) -> int:
        there.append(os.listdir(tmp_path))
        return real_write(descriptor, data, offset)  # type: ignore[arg-type]

    monkeypatch.setattr("p2v.batch.trial.os.open", refuse)
    monkeypatch.setattr("p2v.batch.trial.os.pwrite", write)
    # of one that was killed
    trial_path(tmp_path, "web").touch()
    try_to_write(tmp_path, "web", [])
    assert there[-1] == []
    assert os.listdir(tmp_path) == []
    # where the folder will be made first, nothing gets a name
    count = len(there)
    try_to_write(tmp_path / "not yet", "web", [])
    assert (len(there), os.listdir(tmp_path)) == (count, [])


def test_nothing_is_written_where_a_source_is_by_whatever_name(tmp_path: Path, written: list[Path]) -> None:
    exports, package = tmp_path / "exports", tmp_path / "exports" / "web"
    package.mkdir(parents=True)
    (package / "web.vmdk").touch()
    (tmp_path / "link").symlink_to(exports)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "web.vmdk").symlink_to(package / "web.vmdk")
    source = package / "web.vmdk"
    written.clear()
    for folder, sources in (
        (package, [source]),
        (tmp_path / "link" / "web", [source]),
        (package, [tmp_path / "link" / "web" / "web.vmdk"]),
        (package, [tmp_path / "far" / "web.vmdk"]),
        (tmp_path / "far", [tmp_path / "far" / "web.vmdk"]),
        (package / "results", [source]),  # not there yet
        (package, [exports]),  # a source that is a folder
        (exports, [exports]),
    ):
        before = exports.stat().st_mtime_ns, package.stat().st_mtime_ns
        try_to_write(folder, "web", sources)
        assert (exports.stat().st_mtime_ns, package.stat().st_mtime_ns) == before
    # nor where another machine's is
    try_to_write(
        package, "db", [tmp_path / "in" / "db.raw"], Silences.of([MachineJob("web", (source,), tmp_path)], 1.0).kept
    )
    assert written == []
    # they would be, but for that
    try_to_write(package, "db", [tmp_path / "in" / "db.raw"])
    assert written == [package]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_an_error_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    refused: list[str] = []
    for name in ("open", "pwrite"):

        def refuse(*_: object, name: str = name) -> int:
            refused.append(name)
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(f"p2v.batch.trial.os.{name}", refuse)
        try_to_write(tmp_path, "web", [])
        monkeypatch.undo()
    assert set(refused) == {"open", "pwrite"}
    assert not list(tmp_path.iterdir())
