"""Results on a disk that a worker's host alone has: what the runner's host comes to know of them, and what it believes."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.children import Ended, Order
from p2v.batch.cluster import ClusterWish, kept, open_engine
from p2v.batch.cluster.handing import converted_before, handed_over
from p2v.batch.cluster.kept import keep, records_folder
from p2v.batch.cluster.messages import Piece, Task
from p2v.batch.jobs import MachineJob, Verify
from p2v.batch.kinds import FOUND
from p2v.batch.report.pictures import boot_of
from p2v.batch.results import record_path
from p2v.core.acceleration import Accelerator
from p2v.core.fence import raise_fence, standing_fence
from p2v.record import load_record, record_json
from p2v.verify import BootEvidence, Reason, Verdict
from tests.batch.cluster.batches import P2V, python_path
from tests.batch.cluster.clusters import Cluster, Heard, cluster, finished, haiku_machine
from tests.batch.report.samples import png

pytestmark = pytest.mark.xdist_group("cluster")


def _evidence(screenshot: str | None = "web.boot.png", log: str | None = "web.boot.log") -> BootEvidence:
    verdict = Verdict(Reason.BOOTED, "it came up", ("login:",))
    return BootEvidence(verdict, Accelerator.KVM, 31.5, screenshot=screenshot, log=log)


def _convert(machine: MachineJob, fence: int, since: float | None = None) -> Order:
    words = (
        "convert",
        str(machine.sources[0]),
        "--output",
        str(machine.folder),
        "--name",
        machine.name,
        "--format",
        "raw",
    )
    argv = (*words, f"--fence={fence}", "--progress=json", "--json")
    return Order(machine.name, argv, {}, fence, machine, since=since)


def _converted(machine: MachineJob) -> Path:
    """Convert it here; its record."""
    environment = {**os.environ, "PYTHONPATH": python_path()}
    subprocess.run([*P2V, *_convert(machine, 1).argv], check=True, env=environment, capture_output=True)
    return record_path(machine)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real conversion's record, of a machine ``web``."""
    machine = haiku_machine(tmp_path_factory.mktemp("machines"), "web", 1)
    return _converted(machine).read_bytes()


def _with_boot(record: bytes, folder: Path, evidence: BootEvidence) -> bytes:
    path = folder / "made.json"
    path.write_bytes(record)
    made = record_json(replace(load_record(path), boot=evidence)).encode()
    path.unlink()
    return made


def _machine(folder: Path) -> MachineJob:
    return MachineJob("web", (folder / "web.img",), folder / "out", host="elsewhere", disk_format="raw")


def test_what_was_handed_over_is_read_as_what_stands_beside_results(record: bytes, tmp_path: Path) -> None:
    whole = _with_boot(record, tmp_path, _evidence())
    pieces = {Piece.RECORD: whole, Piece.SCREENSHOT: png(320, 200), Piece.LOG: b"login: "}

    path, why = keep(tmp_path / "jobs.sqlite", _machine(tmp_path), 3, pieces)

    assert why == ""
    assert path == records_folder(tmp_path / "jobs.sqlite") / "web-3" / "record.json"
    assert path.read_bytes() == whole
    boot = boot_of(path)
    assert boot is not None
    assert boot.picture is not None
    assert (boot.reason, boot.picture.width, boot.picture.path) == ("booted", 320, path.parent / "web.boot.png")
    assert (path.parent / "web.boot.log").read_bytes() == b"login: "
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_of_a_machine_the_last_record_alone_is_kept(record: bytes, tmp_path: Path) -> None:
    store, machine = tmp_path / "jobs.sqlite", _machine(tmp_path)
    for name, fence in (("web", 1), ("web", 2)):
        assert keep(store, replace(machine, name=name), fence, {Piece.RECORD: record})[1] == ""
    (records_folder(store) / "web-2-7").mkdir()  # of a machine "web-2"
    (records_folder(store) / ".web-3.new").mkdir()  # its runner died just then

    keep(store, machine, 9, {Piece.RECORD: record})

    assert sorted(path.name for path in records_folder(store).iterdir()) == ["web-2-7", "web-9"]


def test_where_the_very_record_stands_beside_the_results_nothing_is_kept(record: bytes, tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.folder.mkdir()
    record_path(machine).write_bytes(record)

    assert keep(tmp_path / "jobs.sqlite", machine, 1, {Piece.RECORD: record}) == (record_path(machine), "")
    assert not records_folder(tmp_path / "jobs.sqlite").exists()

    # another one of that name is somebody else's
    record_path(machine).write_bytes(b"{}")
    path, _ = keep(tmp_path / "jobs.sqlite", machine, 1, {Piece.RECORD: record})
    assert path is not None
    assert path != record_path(machine)


@pytest.mark.parametrize(
    "name", ["../../escaped.png", "/tmp/escaped.png", ".hidden", "record.json", "a\nb.png", "x" * 300, ""]
)
def test_no_name_that_a_record_gives_leads_anywhere_else(record: bytes, tmp_path: Path, name: str) -> None:
    whole = _with_boot(record, tmp_path, _evidence(name, name))
    pieces = {Piece.RECORD: whole, Piece.SCREENSHOT: png(), Piece.LOG: b"log"}
    before = set(tmp_path.rglob("*"))

    path, _ = keep(tmp_path / "jobs.sqlite", _machine(tmp_path), 1, pieces)

    assert path is not None
    assert path.read_bytes() == whole
    new = set(tmp_path.rglob("*")) - before
    assert new == {path, path.parent, path.parent.parent}


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b'{"schema": 2, "digest": "x"}', b"\xff\xfe"])
def test_what_is_no_whole_record_is_not_kept(tmp_path: Path, data: bytes) -> None:
    path, why = keep(tmp_path / "jobs.sqlite", _machine(tmp_path), 1, {Piece.RECORD: data})

    assert path is None
    assert why
    assert list(records_folder(tmp_path / "jobs.sqlite").iterdir()) == []


def test_a_record_that_was_changed_or_is_of_another_machine_is_not_kept(record: bytes, tmp_path: Path) -> None:
    store, machine = tmp_path / "jobs.sqlite", _machine(tmp_path)
    changed = record.replace(b'"cpus"', b'"cpuz"', 1)
    assert changed != record

    assert keep(store, machine, 1, {Piece.RECORD: changed})[0] is None
    path, why = keep(store, replace(machine, name="db"), 1, {Piece.RECORD: record})
    assert (path, "another machine" in why) == (None, True)


def test_what_is_no_picture_and_a_log_without_its_beginning_are_not_taken_for_the_evidence(
    record: bytes, tmp_path: Path
) -> None:
    whole = _with_boot(record, tmp_path, _evidence())
    pieces = {Piece.RECORD: whole, Piece.SCREENSHOT: b"<svg>", Piece.LOG: b"x" * Piece.LOG.most_bytes}

    path, _ = keep(tmp_path / "jobs.sqlite", _machine(tmp_path), 1, pieces)

    assert path is not None
    assert sorted(each.name for each in path.parent.iterdir()) == ["record.json", "web.boot.log.end"]


def _task(machine: MachineJob, since: float | None = None, fence: int = 2, *, fenced: bool = False) -> Task:
    order = Order(machine.name, ("convert",), {}, fence, machine, since=since)
    return Task("k", "t", order, machine.folder / "jobs.sqlite", fenced=fenced)


def test_a_worker_hands_over_bounded_pieces_and_takes_its_fence_away(record: bytes, tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.folder.mkdir()
    whole = _with_boot(record, tmp_path, _evidence())
    record_path(machine).write_bytes(whole)
    (machine.folder / "web.boot.png").write_bytes(png())
    (machine.folder / "web.boot.log").write_bytes(b"x" * Piece.LOG.most_bytes + b"login: ")
    raise_fence(machine.folder, "web", 2)

    assert list(handed_over(_task(machine), Ended(1, "", 0.0))) == []
    assert list(handed_over(_task(machine, fenced=True), Ended(0, "", 0.0))) == []
    assert standing_fence(machine.folder, "web") == 2
    found = {each.piece: each.data for each in handed_over(_task(machine), Ended(0, "", 0.0))}

    assert found[Piece.RECORD] == whole
    assert found[Piece.SCREENSHOT] == png()
    assert len(found[Piece.LOG]) == Piece.LOG.most_bytes
    assert found[Piece.LOG].endswith(b"xlogin: ")
    assert standing_fence(machine.folder, "web") is None


def test_a_fence_that_a_later_attempt_has_raised_stays(record: bytes, tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.folder.mkdir()
    record_path(machine).write_bytes(record)
    raise_fence(machine.folder, "web", 3)

    assert [each.piece for each in handed_over(_task(machine), Ended(0, "", 0.0))] == [Piece.RECORD]
    assert standing_fence(machine.folder, "web") == 3


def test_pipes_and_links_in_the_place_of_evidence_are_not_read(record: bytes, tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    machine.folder.mkdir()
    record_path(machine).write_bytes(_with_boot(record, tmp_path, _evidence()))
    os.mkfifo(machine.folder / "web.boot.png")
    (machine.folder / "web.boot.log").symlink_to("/etc/passwd")

    found = {each.piece: each.data for each in handed_over(_task(machine), Ended(0, "", 0.0))}
    assert (found[Piece.SCREENSHOT], found[Piece.LOG]) == (b"", b"")


def test_what_an_earlier_attempt_converted_is_found_where_it_is_and_only_when_it_is_whole(tmp_path: Path) -> None:
    machine = replace(haiku_machine(tmp_path, "web", 1), host="elsewhere")
    _converted(machine)

    assert converted_before(_task(machine, since=0.0)) == Ended(0, "", 0.0)
    assert converted_before(_task(machine)) is None  # the first attempt
    assert converted_before(_task(machine, since=0.0, fenced=True)) is None  # the runner's host has looked
    assert converted_before(_task(replace(machine, verify=Verify.BOOT), since=0.0)) is None
    assert converted_before(_task(machine, since=4e9)) is None
    (machine.folder / load_record(record_path(machine)).disks[0].target).write_bytes(b"short")
    assert converted_before(_task(machine, since=0.0)) is None


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        made.scheduler()
        made.worker("convert=1")
        yield made


def test_the_record_comes_with_the_end_and_the_next_attempt_finds_the_result_instead_of_converting_again(
    running: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(haiku_machine(tmp_path, "web", 1), host=socket.gethostname())
    store = tmp_path / "jobs.sqlite"
    # as where this host does not see the folder
    monkeypatch.setattr(kept, "record_path", lambda machine: tmp_path / "none")
    with open_engine(ClusterWish(running.engine), store) as engine:
        first = finished(engine.start(_convert(machine, 1)))
        made = {path.name: path.stat().st_mtime_ns for path in machine.folder.iterdir()}
        heard: Heard = []
        # the runner died before it noted that, and claims the machine anew
        second = finished(engine.start(_convert(machine, 2, since=0.0)), heard)

    for ended, fence in ((first, 1), (second, 2)):
        assert ended.exit_status == 0
        assert ended.record == records_folder(store) / f"web-{fence}" / "record.json"
    assert second.record is not None
    assert load_record(second.record) == load_record(record_path(machine))
    assert FOUND in [event["message"] for event in heard if event["event"] == "warning"]
    assert not [event for event in heard if event.get("phase") == "copy"]
    assert {path.name: path.stat().st_mtime_ns for path in machine.folder.iterdir()} == made


def test_a_record_that_cannot_be_kept_is_told_of_and_the_machine_is_converted_all_the_same(
    running: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(haiku_machine(tmp_path, "web", 1), host=socket.gethostname())
    monkeypatch.setattr(kept, "record_path", lambda machine: tmp_path / "none")
    (tmp_path / "jobs-records").write_text("a file in the place of the folder")
    heard: Heard = []
    with open_engine(ClusterWish(running.engine), tmp_path / "jobs.sqlite") as engine:
        ended = finished(engine.start(_convert(machine, 1)), heard)

    assert (ended.exit_status, ended.record) == (0, None)
    (words,) = [event["message"] for event in heard if "no record" in str(event.get("message"))]
    assert str(machine.folder) in words
