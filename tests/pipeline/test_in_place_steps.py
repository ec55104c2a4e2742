"""A conversion in place without an appliance: what is written when, what a failure leaves, how the next run ends it.

Planned for a real guest, carried out on two small disks; what the appliance would do is done to the overlays by qemu-io.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from converters.claims import claimed_as
from converters.image import describe, identity, open_disk
from converters.storage import HostFile, HostStorage
from converters.undo import undo
from drivers.rewrite import RewriteResult
from p2v import inplace, rewriting, settling
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import (
    BadJournal,
    DiskInUse,
    Interrupted,
    NotCommitted,
    NotInPlace,
    PlanStale,
    ReadFailed,
    TargetExists,
)
from p2v.core.events import silent
from p2v.documents import PlanDocument, SourceDisk
from p2v.inplace import convert_in_place
from p2v.inspection import Reading, inspect
from p2v.machine import Machine, MachineDisk
from p2v.planning import plan_machine
from p2v.record import load_record, record_json
from p2v.settling import InPlaceRequest, settle
from p2v.verify import BootEvidence, Reason, Verdict
from tests.fixtures import guest, packed
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device
from tests.pipeline.running import names, p2v, state

MIB = 1024 * 1024
SIZE = 8 * MIB
TCG = Acceleration(Accelerator.TCG, "tests")
WRITES = (("write -P 7 1M 5000", "write -z 3M 64k"), ("write -P 9 4M 70000",))


class Killed(BaseException):
    """What nothing may catch."""


@dataclass
class Bench:
    """Two disks, the plan for them, and what they held."""

    folder: Path
    document: PlanDocument
    disks: tuple[Path, ...]
    old: tuple[bytes, ...]

    @property
    def request(self) -> InPlaceRequest:
        return InPlaceRequest(self.folder / "out")

    @property
    def journal(self) -> Path:
        return self.folder / "vm.undo"

    @property
    def new(self) -> tuple[bytes, ...]:
        first, second = map(bytearray, self.old)
        first[MIB : MIB + 5000] = b"\x07" * 5000
        first[3 * MIB : 3 * MIB + 65536] = bytes(65536)
        second[4 * MIB : 4 * MIB + 70000] = b"\x09" * 70000
        return bytes(first), bytes(second)

    def now(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self.disks)

    def convert(self, request: InPlaceRequest | None = None) -> Any:
        return convert_in_place(self.document, request or self.request, lambda: TCG, silent)

    def settle(self, request: InPlaceRequest | None = None) -> Any:
        return settle("vm", self.document.machine.disks, request or self.request, silent)

    def plan_again(self) -> None:
        """As each run does that is not given a plan."""
        self.document = replace(self.document, sources=tuple(_source(path) for path in self.disks))

    def undo(self) -> None:
        undo(HostStorage(), self.journal, claimed_as)


def _rewrite(document: PlanDocument, overlays: Sequence[Path], *rest: Any, **keys: Any) -> RewriteResult:
    for overlay, commands in zip(overlays, WRITES, strict=True):
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "qcow2", *words, str(overlay)], check=True, stdout=subprocess.DEVNULL)
    return RewriteResult((), (), (), {})


def _no_supplements(document: PlanDocument) -> AbstractContextManager[None]:
    return nullcontext()


@pytest.fixture(scope="module")
def planned() -> PlanDocument:
    machine = Machine("vm", (MachineDisk(guest("vmware"), "raw"),))
    return plan_machine(machine, Reading.AUTO, lambda: TCG, silent)


@pytest.fixture
def bench(planned: PlanDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(inplace, "rewrite_overlays", _rewrite)
    monkeypatch.setattr(rewriting, "building", _no_supplements)
    disks = tuple(tmp_path / f"disk{number}.raw" for number in (1, 2))
    for number, path in enumerate(disks):
        path.write_bytes(random.Random(number).randbytes(SIZE))
    machine = replace(planned.machine, disks=tuple(MachineDisk(path, "raw") for path in disks))
    sources = tuple(_source(path) for path in disks)
    hardware = replace(planned.hardware, disks=(planned.hardware.disks[0],) * 2)
    document = replace(planned, machine=machine, sources=sources, hardware=hardware)
    return Bench(tmp_path, document, disks, tuple(path.read_bytes() for path in disks))


def _source(path: Path) -> SourceDisk:
    with open_disk(path, "raw") as reader:
        return SourceDisk(path, "raw", describe(reader), identity(reader))


def test_both_disks_change_and_come_back(bench: Bench) -> None:
    record = bench.convert(replace(bench.request, checksum=True))
    assert bench.now() == bench.new
    assert names(bench.folder) == {"disk1.raw", "disk2.raw", "vm.undo", "out"}
    assert names(bench.folder / "out") == {"vm.json", "vm.sh", "vm.xml"}
    assert record.undo_journal == str(bench.journal)
    assert record_json(load_record(bench.folder / "out" / "vm.json")) == record_json(record)
    assert [disk.target for disk in record.disks] == [str(path) for path in bench.disks]
    assert all(disk.source_content != disk.result_content for disk in record.disks)
    assert str(bench.disks[1]) in (bench.folder / "out" / "vm.xml").read_text()
    # exactly what differs, in steps of 4 KiB
    for old, new, disk in zip(bench.old, bench.new, record.disks, strict=True):
        for at in range(0, SIZE, 4096):
            covered = any(r.offset <= at < r.offset + r.length for r in disk.changed)
            assert covered is (old[at : at + 4096] != new[at : at + 4096])
    with pytest.raises(PlanStale):
        bench.convert()
    bench.undo()
    assert bench.now() == bench.old


def test_a_guest_that_does_not_boot_is_not_written_unless_forced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    booted: list[tuple[bytes, ...]] = []

    def verify(hardware: Any, folder: Path, facts: Any, acceleration: Any, *, files: Any, **rest: Any) -> BootEvidence:
        booted.append(bench.now())
        assert [disk.format for disk in hardware.disks] == ["qcow2"] * 2
        # what is booted is what the disks would be
        done = subprocess.run(
            ["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 5000", str(hardware.disks[0].path)], check=False
        )
        assert done.returncode == 0
        files.screenshot.write_bytes(b"png")
        files.log.write_text("log")
        verdict = Verdict(Reason.KERNEL_PANIC, "the kernel panicked")
        return BootEvidence(verdict=verdict, accelerator=Accelerator.TCG, seconds=1.0, screenshot="x", log="y")

    monkeypatch.setattr(rewriting, "verify", verify)
    asked = replace(bench.request, boot_check=True)
    for _ in range(2):
        with pytest.raises(NotCommitted) as caught:
            bench.convert(asked)
        assert caught.value.exit_code == 3
        assert bench.now() == bench.old
        assert names(bench.folder) == {"disk1.raw", "disk2.raw", "out"}
        assert names(bench.folder / "out") == {"vm.failed.png", "vm.failed.log"}
    record = bench.convert(replace(asked, force=True))
    assert booted == [bench.old] * 3
    assert bench.now() == bench.new
    assert record.boot is not None
    assert not record.boot.booted


def test_nothing_to_change_leaves_no_journal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inplace, "rewrite_overlays", lambda *rest, **keys: RewriteResult((), (), (), {}))
    before = [path.stat().st_mtime_ns for path in bench.disks]
    record = bench.convert()
    assert record.undo_journal is None
    assert [path.stat().st_mtime_ns for path in bench.disks] == before
    assert names(bench.folder) == {"disk1.raw", "disk2.raw", "out"}


@pytest.mark.parametrize("point", range(0, 60, 4))
def test_killed_at_a_file_operation_the_same_command_ends_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    """Every fourth write or sync of a whole run, as a user meets it; every single one is in test_transaction.py."""
    count = 0

    def counted(name: str) -> None:
        real = getattr(HostFile, name)

        def operation(self: HostFile, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count > point:
                raise Killed
            return real(self, *arguments)

        monkeypatch.setattr(HostFile, name, operation)

    for name in ("pwrite", "sync", "truncate"):
        counted(name)
    killed = False
    try:
        bench.convert()
    except Killed:
        killed = True
    for name in ("pwrite", "sync", "truncate"):
        monkeypatch.setattr(HostFile, name, REAL[name])
    now = bench.now()
    if now not in (bench.old, bench.new):
        with pytest.raises(Interrupted):
            inspect(bench.document.machine.disks, Reading.AUTO, lambda: TCG, silent)
    record = bench.settle()
    if record is None and killed:
        assert bench.now() == bench.old
        assert names(bench.folder) <= {"disk1.raw", "disk2.raw", "out"}
        bench.plan_again()
        bench.convert()
    assert bench.now() == bench.new
    assert names(bench.folder) == {"disk1.raw", "disk2.raw", "vm.undo", "out"}
    assert names(bench.folder / "out") == {"vm.json", "vm.sh", "vm.xml"}
    assert bench.settle() is None
    bench.undo()
    assert bench.now() == bench.old


REAL = {name: getattr(HostFile, name) for name in ("pwrite", "sync", "truncate")}


def _killed_in_the_disks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(self: HostFile, data: bytes, offset: int) -> None:
        if self.path.resolve() == bench.disks[1].resolve():
            raise Killed
        REAL["pwrite"](self, data, offset)

    monkeypatch.setattr(HostFile, "pwrite", dying)
    with pytest.raises(Killed):
        bench.convert()
    monkeypatch.setattr(HostFile, "pwrite", REAL["pwrite"])
    assert bench.now() == (bench.new[0], bench.old[1])


def test_fresh_takes_an_interrupted_run_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _killed_in_the_disks(bench, monkeypatch)
    assert bench.settle(replace(bench.request, fresh=True)) is None
    assert bench.now() == bench.old
    assert not bench.journal.exists()


def test_undo_takes_an_interrupted_run_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _killed_in_the_disks(bench, monkeypatch)
    bench.undo()
    assert bench.now() == bench.old
    # the next run need not be told that the journal is of no use any more
    assert bench.settle() is None
    bench.plan_again()
    bench.convert()
    assert bench.now() == bench.new


def test_finished_by_another_disk_of_the_machine_and_from_another_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request = replace(bench.request, undo_journal=bench.folder / "elsewhere.undo")
    _killed_in_the_disks_with(bench, monkeypatch, request)
    # the journal's place is not said again: the note beside the disk says it
    assert bench.settle() is not None
    assert bench.now() == bench.new
    assert names(bench.folder) == {"disk1.raw", "disk2.raw", "elsewhere.undo", "out"}


def _killed_in_the_disks_with(bench: Bench, monkeypatch: pytest.MonkeyPatch, request: InPlaceRequest) -> None:
    real = bench.convert
    monkeypatch.setattr(bench, "convert", lambda: real(request))
    _killed_in_the_disks(bench, monkeypatch)


@NEEDS_LOOP_DEVICES
def test_block_devices_have_their_journal_in_the_folder_and_are_finished_by_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_device(bench.disks[0]) as first, loop_device(bench.disks[1]) as second:
        devices = (first, second)
        machine = replace(bench.document.machine, disks=tuple(MachineDisk(path, "raw") for path in devices))
        bench.document = replace(bench.document, machine=machine)
        bench.disks = devices
        bench.plan_again()
        _killed_in_the_disks(bench, monkeypatch)
        record = bench.settle()
        assert record is not None
        assert bench.now() == bench.new
        assert all(disk.is_device for disk in record.hardware.disks)
        assert str(first) in (bench.folder / "out" / "vm.xml").read_text()
        assert names(bench.folder / "out") == {"vm.json", "vm.sh", "vm.xml", "vm.undo"}
        undo(HostStorage(), bench.folder / "out" / "vm.undo", claimed_as)
        assert bench.now() == bench.old
        # nothing of p2v's stands among the devices
        assert not [entry for entry in first.parent.iterdir() if "p2v" in entry.name]


def test_a_journal_beside_the_disks_that_is_about_others_is_not_obeyed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _killed_in_the_disks(bench, monkeypatch)
    now = bench.now()
    with pytest.raises(BadJournal):
        settle("vm", bench.document.machine.disks[:1], bench.request, silent)
    assert bench.now() == now


def test_a_run_under_way_is_not_ended_by_another(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guest boots, the journal is prepared and nothing written: for a run that was killed there, it would go."""
    tried: list[str] = []

    def verify(*rest: Any, **more: Any) -> BootEvidence:
        assert bench.journal.exists()
        again = replace(bench.request, fresh=True)
        attempts: tuple[Callable[[], Any], ...] = (bench.settle, bench.convert, lambda: bench.settle(again))
        for attempt in attempts:
            with pytest.raises(DiskInUse):
                attempt()
            tried.append("refused")
        return BootEvidence(verdict=Verdict(Reason.BOOTED, "it came up"), accelerator=Accelerator.TCG, seconds=1.0)

    monkeypatch.setattr(rewriting, "verify", verify)
    bench.convert(replace(bench.request, boot_check=True))
    assert tried == ["refused"] * 3
    assert bench.now() == bench.new


def test_a_disk_that_fails_is_taken_back_and_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = False

    def failing(self: HostFile, data: bytes, offset: int) -> None:
        nonlocal failed
        if self.path == bench.disks[1].resolve() and not failed:
            failed = True
            raise ReadFailed(str(self.path), "cannot write")
        REAL["pwrite"](self, data, offset)

    monkeypatch.setattr(HostFile, "pwrite", failing)
    with pytest.raises(ReadFailed):
        bench.convert()
    assert bench.now() == bench.old
    assert names(bench.folder) <= {"disk1.raw", "disk2.raw", "out"}
    assert names(bench.folder / "out") == set()


def test_what_cannot_change_in_place_is_told_before_the_rewriting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*rest: Any, **keys: Any) -> RewriteResult:
        raise AssertionError("it was rewritten")

    monkeypatch.setattr(inplace, "rewrite_overlays", never)
    child = bench.folder / "child.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(bench.disks[0]), "-F", "raw", str(child)], check=True
    )
    with pytest.raises(NotInPlace) as caught:
        bench.convert()
    assert "child.qcow2" in caught.value.problem
    child.unlink()
    bench.journal.write_bytes(b"mine")
    with pytest.raises(TargetExists):
        bench.convert()
    assert bench.journal.read_bytes() == b"mine"
    assert names(bench.folder) == {"disk1.raw", "disk2.raw", "vm.undo"}


def test_an_image_that_has_all_its_bytes_compressed_is_refused_with_words(tmp_path: Path) -> None:
    before = state(packed("vmware", "vmdk-stream"))
    ran = p2v("convert", "--in-place", packed("vmware", "vmdk-stream"), "-o", tmp_path / "out")
    assert ran.status == 4, ran.err
    assert "none of its bytes are stored plainly" in ran.err
    assert "without --in-place" in ran.err
    assert state(packed("vmware", "vmdk-stream")) == before
    assert not (tmp_path / "out").exists()


def test_a_first_disk_with_nothing_in_it_is_no_obstacle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it can be written, and the journal stands beside the first disk that has anything."""
    empty = bench.folder / "empty.raw"
    with empty.open("wb") as file:
        file.truncate(SIZE)
    machine = bench.document.machine
    disks = (MachineDisk(empty, "raw"), *machine.disks)
    hardware = replace(bench.document.hardware, disks=(bench.document.hardware.disks[0],) * 3)
    bench.document = replace(
        bench.document,
        machine=replace(machine, disks=disks),
        sources=(_source(empty), *bench.document.sources),
        hardware=hardware,
    )
    monkeypatch.setattr(inplace, "rewrite_overlays", lambda document, overlays, *rest, **keys: _rewrite(document, overlays[1:]))
    assert bench.settle() is None
    bench.convert()
    assert bench.now() == bench.new
    bench.undo()
    assert bench.now() == bench.old


def test_a_lasting_name_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    (tmp_path / "link").symlink_to("disk")
    assert settling.lasting_name(tmp_path / "link") == tmp_path / "disk"
