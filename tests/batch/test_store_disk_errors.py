"""The store's own disk gives errors while a run goes on: nothing that was noted is lost, the run waits or ends and says why, and
the next one goes on. A real SQLite, on a FUSE that refuses every change, and on an ext4 that the kernel makes read-only.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, JobEvent, State
from p2v.batch.marking import marked_processes
from p2v.batch.store import Store
from p2v.core.errors import P2vError
from p2v.core.units import MIB
from tests.batch.fleets import batch as of_machines
from tests.batch.fleets import machine, remove_left, run, runs
from tests.faulty_files import NEEDS_FUSE
from tests.faulty_folder import FaultyFolder, Trouble, faulty_folder
from tests.loop_devices import NEEDS_LOOP_DEVICES, mounted

ERRORS = [errno.EIO, errno.ENOSPC, errno.EROFS]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyFolder]:
    with faulty_folder(tmp_path) as made:
        yield made


def wished(folder: Path, place: Path) -> Batch:
    """One that is done, then one that hangs until it is ended."""
    machines = [machine(folder, "a", priority=2), machine(folder, "b", {"first": "hang"}, priority=1)]
    made = of_machines(folder, machines)
    return Batch(made.machines, made.budget, place / "jobs.p2v", made.manifest)


def events(place: Path) -> list[JobEvent]:
    """As they are on the disk, which works again; SQLite finds no damage."""
    connection = sqlite3.connect(place / "jobs.p2v")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    with Store.open(place / "jobs.p2v") as store:
        return list(store.every_event())


def begins_to_fail(fail: Callable[[], None], noted: list[JobEvent]) -> Callable[[JobEvent, Store], None]:
    """When the first is done and the second is under way the disk fails; ``noted``: what was in the store by then."""
    seen: set[str] = set()

    def when(event: JobEvent, store: Store) -> None:
        seen.add(f"{event.job} {event.kind}")
        if {"a done", "b phase-started"} <= seen and not noted:
            noted.extend(store.every_event())
            fail()

    return when


@NEEDS_FUSE
@pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode[number])
def test_a_run_ends_in_words_when_it_lasts_and_the_next_one_goes_on(
    tmp_path: Path, disk: FaultyFolder, number: int
) -> None:
    noted: list[JobEvent] = []
    made = wished(tmp_path, disk.place)
    with pytest.raises(P2vError) as raised:
        run(made, begins_to_fail(lambda: disk.set(Trouble(error=number)), noted), patience=0.5, lease=1.0)
    assert str(disk.place) in raised.value.sentence()
    assert raised.value.exit_code in (73, 74, 77)
    # what it had under way has ended with it
    assert not list(marked_processes(made.store))
    disk.set(Trouble())
    assert events(disk.place)[: len(noted)] == noted
    assert {event.kind for event in noted if event.job == "a"} >= {"claimed", "done"}
    ran = run(made)
    assert [ran.job(name).state for name in "ab"] == [State.DONE] * 2
    assert [runs(tmp_path, name) for name in "ab"] == [1, 2]
    after = events(disk.place)
    assert after[: len(noted)] == noted
    assert [event.number for event in after] == sorted({event.number for event in after})
    remove_left(made.store)


@NEEDS_FUSE
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=lambda number: errno.errorcode[number])
def test_a_run_waits_for_a_disk_that_works_again_and_loses_nothing(
    tmp_path: Path, disk: FaultyFolder, number: int
) -> None:
    noted: list[JobEvent] = []
    fails = begins_to_fail(lambda: disk.set(Trouble(error=number)), noted)
    warned: list[str] = []

    def when(event: JobEvent, store: Store) -> None:
        fails(event, store)
        if event.kind == "warning" and noted and not warned:
            warned.append(str(event.data["message"]))
            disk.set(Trouble())
            store.cancel("b", event.at)

    ran = run(wished(tmp_path, disk.place), when, patience=600.0, lease=1.0)
    assert [ran.job(name).state for name in "ab"] == [State.DONE, State.CANCELLED]
    assert str(disk.place) in warned[0]
    after = events(disk.place)
    assert after[: len(noted)] == noted
    assert after[-1].kind == "batch-ended"


@NEEDS_FUSE
@pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode[number])
def test_nothing_begins_where_the_store_cannot_be_written(tmp_path: Path, disk: FaultyFolder, number: int) -> None:
    made = wished(tmp_path, disk.place)
    disk.set(Trouble(error=number))
    with pytest.raises(P2vError) as raised:
        run(made, patience=0.5)
    assert str(disk.place) in raised.value.sentence()
    # nor where it can be opened, and no more
    disk.set(Trouble())
    Store.create(made.store).close()
    disk.set(Trouble(error=number))
    with pytest.raises(P2vError) as raised:
        run(made, patience=0.5)
    assert str(disk.place) in raised.value.sentence()
    assert [runs(tmp_path, name) for name in "ab"] == [0, 0]
    disk.set(Trouble())
    assert not [name for name in os.listdir(disk.place) if name.startswith(".jobs.p2v.run-")]


@NEEDS_LOOP_DEVICES
def test_a_file_system_that_the_kernel_makes_read_only_is_told_of_and_what_was_durable_is_there(tmp_path: Path) -> None:
    """An ext4 of which the journal is given up, as after an error of its disk."""
    image, place = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, timeout=60)
    noted: list[JobEvent] = []
    made = wished(tmp_path, place)

    def fail() -> None:
        subprocess.run(["mount", "-o", "remount,abort", str(place)], check=True, timeout=60)

    with mounted(image, place, "-o", "loop,errors=remount-ro"):
        with pytest.raises(P2vError) as raised:
            run(made, begins_to_fail(fail, noted), patience=0.5, lease=1.0)
        assert f"{made.store}: the store cannot be written: its file system is read-only" in raised.value.sentence()
        with pytest.raises(P2vError) as raised:
            run(made, patience=0.5)
        assert "read-only" in raised.value.sentence()
        assert not list(marked_processes(made.store))
    durable = [event for event in noted if event.kind in ("added", "claimed", "done")]
    assert {event.job for event in durable if event.kind == "claimed"} == {"a", "b"}
    with mounted(image, place, "-o", "loop"):
        there = events(place)
        assert [event for event in there if event.kind in ("added", "claimed", "done")] == durable
        ran = run(made)
        assert [ran.job(name).state for name in "ab"] == [State.DONE] * 2
        assert runs(tmp_path, "a") == 1
        remove_left(made.store)
