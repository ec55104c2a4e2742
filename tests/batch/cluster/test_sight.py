"""What a host sees of a job, and which workers are not asked again for a while."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.cluster import sight
from p2v.batch.cluster.blindness import EVERYTHING, Blindness, Missed, why_given_up
from p2v.batch.cluster.sight import ANOTHER, NOT_THERE, Here, seen_here, unseen
from p2v.batch.failures import may_help
from p2v.batch.jobs import MachineJob
from p2v.core.fence import standing_fence


def _machine(folder: Path) -> MachineJob:
    source = folder / "exports" / "web" / "web.vmdk"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.touch()
    return MachineJob("web", (source,), folder / "results")


def test_what_the_runner_s_host_has_looked_at_is_seen_by_who_sees_the_same_folder(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    assert seen_here(machine, 3) == Here(sources=True, fenced=True)
    assert standing_fence(machine.folder, "web") == 3
    assert unseen(machine, fenced=True) is None


def test_an_empty_folder_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    seen_here(machine, 3)
    machine.folder.rename(tmp_path / "unmounted")
    assert unseen(machine, fenced=True) == (machine.folder, NOT_THERE)
    machine.folder.mkdir()
    assert unseen(machine, fenced=True) == (machine.folder, ANOTHER)
    assert unseen(machine, fenced=False) is None


def test_of_a_source_that_is_not_there_the_uppermost_folder_is_named_that_is_missing(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.sources[0].unlink()
    assert unseen(machine, fenced=False) == (machine.sources[0], NOT_THERE)
    (tmp_path / "exports").rename(tmp_path / "unmounted")
    assert unseen(machine, fenced=False) == (tmp_path / "exports", NOT_THERE)
    assert seen_here(machine, 1) == Here(sources=False, fenced=True)


def test_the_folder_of_a_machine_that_one_host_has_is_left_to_that_host(tmp_path: Path) -> None:
    machine = replace(_machine(tmp_path), host="node1")
    assert seen_here(machine, 3) == Here(sources=True, fenced=False)
    assert not machine.folder.exists()


def test_where_no_fence_can_be_raised_none_is_looked_for(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.folder.write_text("a file")
    assert seen_here(machine, 3) == Here(sources=True, fenced=False)


def test_of_a_mount_that_does_not_answer_at_the_runner_s_host_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _machine(tmp_path)
    monkeypatch.setattr(sight, "_SECONDS", 0.2)
    monkeypatch.setattr(sight, "_is_there", lambda path: threading.Event().wait())
    assert seen_here(machine, 3) == Here(sources=True, fenced=False)


def test_a_mount_that_does_not_answer_is_left_to_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _machine(tmp_path)
    monkeypatch.setattr(sight, "_SECONDS", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(sight, "_is_there", lambda path: hangs.wait())
    try:
        assert unseen(machine, fenced=True) is None
    finally:
        hangs.set()


def test_a_worker_that_misses_a_folder_is_not_asked_for_what_is_below_it_until_a_mount_may_have_come() -> None:
    known = Blindness()
    below = MachineJob("a", (Path("/mnt/nas/a.vmdk"),), Path("/out"))
    into = MachineJob("b", (Path("/src/b.vmdk"),), Path("/mnt/nas/out"))
    beside = MachineJob("c", (Path("/mnt/nasty/c.vmdk"),), Path("/out"))
    known.note("w1", Missed(Path("/mnt/nas"), NOT_THERE), now=100.0)

    assert known.sighted(("w1", "w2"), below, 101.0) == known.sighted(("w1", "w2"), into, 101.0) == ("w2",)
    assert known.sighted(("w1", "w2"), beside, 101.0) == ("w1", "w2")
    missed = known.missed("w1", below, 101.0)
    assert missed is not None
    assert (missed.path, missed.why) == (Path("/mnt/nas"), NOT_THERE)
    assert known.sighted(("w1",), below, 200.0) == ("w1",)
    known.forget("w1")
    assert known.sighted(("w1",), below, 101.0) == ("w1",)


def test_what_a_worker_misses_is_bounded() -> None:
    known = Blindness()
    for number in range(10_000):
        known.note("w1", Missed(Path(f"/{number}"), NOT_THERE), now=1.0)
    last, first = (MachineJob("a", (Path(f"/{number}/x"),), Path("/out")) for number in (9_999, 0))
    assert known.sighted(("w1",), last, 2.0) == ()
    assert known.sighted(("w1",), first, 2.0) == ("w1",)


def test_why_a_machine_is_given_up_is_what_all_workers_said_and_whether_that_may_pass() -> None:
    unseen_there = Missed(Path("/mnt/nas"), f"/mnt/nas {NOT_THERE}")
    full = Missed(EVERYTHING, "its host cannot begin it (/tmp: No space left on device)")
    lacks = Missed(Path("/src/a.vmdk"), "qemu-img is not available", code="tool-missing", exit_code=69, hint="Install it.")
    here, there = Here(sources=True, fenced=True), Here(sources=False, fenced=False)

    def told(at: Here, *missed: Missed) -> tuple[str, int, bool, bool]:
        end = why_given_up({f"node{number}": each for number, each in enumerate(missed)}, at)
        assert all(f"at node{number} {each.why}" in end.message for number, each in enumerate(missed))
        return end.code, end.exit_code, end.may_pass, may_help(end.code, end.exit_code)

    assert told(here, unseen_there) == ("not-seen", 66, True, True)
    assert told(there, unseen_there) == ("no-source", 66, False, False)
    # also of a disk that the runner's host does not see: room may come
    assert told(there, full, unseen_there) == ("program-failed", 74, True, True)
    assert told(there, full, lacks) == ("program-failed", 74, True, True)
    assert told(here, lacks, lacks) == ("tool-missing", 69, False, False)
    assert told(here, lacks, unseen_there) == ("not-seen", 66, True, True)
