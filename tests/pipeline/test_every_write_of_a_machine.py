"""Three disks of one machine, copied, committed and published: every operation killed and refused once, power cuts after them.

A guest is planned for that really is one, and three small disks are converted; what the appliance would do is done by a
stand-in for qemu-img, which writes given ranges into the targets as a commit does, each write an operation like all others.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from converters.image import describe, identity, open_disk
from converters.qemu_img import CheckResult
from drivers.rewrite import RewriteResult
from p2v import migrate, moving
from p2v.conversion_job import Request
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import BadTarget, P2vError, TargetExists
from p2v.core.events import silent
from p2v.core.io_errors import write_problem
from p2v.core.units import KIB, MIB
from p2v.device_targets import DeviceWish
from p2v.documents import PlanDocument, SourceDisk
from p2v.inspection import Reading
from p2v.left_out import Wanted
from p2v.machine import Machine, MachineDisk
from p2v.planning import plan_machine
from p2v.record import ChangedRange, load_record
from tests.converters.faulty_storage import Fate, Killed
from tests.faulty_host import Fault, FaultyHost, Kind, same_steps_every_time
from tests.fixtures import guest
from tests.loop_devices import loop_device, why_not
from tests.pipeline.running import names, state

TCG = Acceleration(Accelerator.TCG, "tests")
SIZE = 5 * MIB
# what the rewriting changes of each disk; of the third nothing
CHANGES: tuple[tuple[tuple[int, bytes], ...], ...] = (
    ((64 * KIB, b"\x07" * 4096), (4 * MIB, b"\x08" * 65536)),
    ((2 * MIB + 512, b"\x09" * 1024),),
    (),
)


@dataclass
class StandIn:
    """Of ``QemuImg``: overlays are empty files, and their contents are ``CHANGES``."""

    runner: Any

    def changed_ranges(self, overlay: Path) -> tuple[tuple[int, int], ...]:
        return tuple((offset, len(data)) for offset, data in self._changes(overlay))

    def rebase_unsafe(self, overlay: Path, backing: Path, backing_format: str) -> None:
        """Nothing to point anywhere."""

    def commit(self, overlay: Path, target: Path, target_format: str) -> None:
        """Every range in two writes, as QEMU is free to; it does not sync."""
        with open_disk(target, target_format) as reader:
            extents = list(reader.extents())
        handle = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            for offset, data in self._changes(overlay):
                extent = next(e for e in extents if e.offset <= offset and offset + len(data) <= e.end)
                assert extent.stored is not None
                at, half = extent.stored.offset + offset - extent.offset, len(data) // 2
                os.pwrite(handle, data[:half], at)
                os.pwrite(handle, data[half:], at + half)
        except OSError as error:
            raise write_problem(error, target) from error
        finally:
            os.close(handle)

    def check(self, image: Path, image_format: str) -> CheckResult:
        return CheckResult(0, 0, 0)

    @staticmethod
    def _changes(overlay: Path) -> tuple[tuple[int, bytes], ...]:
        return CHANGES[int(overlay.stem.removeprefix("overlay"))]


@contextmanager
def _served(document: PlanDocument, overlays: Sequence[Path], *rest: Any) -> Iterator[None]:
    for overlay in overlays:
        overlay.write_bytes(b"")
    yield


def _committed(overlay: Path, *rest: Any) -> tuple[ChangedRange, ...]:
    return tuple(
        ChangedRange(offset, len(data), after=hashlib.sha256(data).hexdigest()) for offset, data in StandIn._changes(overlay)
    )


@dataclass
class Bench:
    """The machine, its disks, and how it is converted."""

    folder: Path
    document: PlanDocument
    request: Request
    disks: tuple[Path, ...]
    devices: tuple[Path, ...] = ()
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.before = [state(path) for path in self.disks]
        self.expected = []
        for path, changes in zip(self.disks, CHANGES, strict=True):
            data = bytearray(path.read_bytes())
            for offset, new in changes:
                data[offset : offset + len(new)] = new
            self.expected.append(bytes(data))
        self.out = self.request.folder
        self.suffix = {"raw": "img", "qcow2": "qcow2"}[self.request.disk_format]
        files = {f"vm-disk{n}.{self.suffix}" for n in (1, 2, 3) if not (n == 2 and self.devices)}
        self.final = {*files, "vm.json", "vm.sh", "vm.xml"}

    def run(self) -> None:
        migrate.convert(self.document, self.request, lambda: TCG, silent)

    def faulty(self, **fault: object) -> tuple[FaultyHost, P2vError | None, bool]:
        """A conversion on a host with faults: how it failed, and whether it was killed."""
        self.out.mkdir(exist_ok=True)
        host = FaultyHost(self.out, self.devices, **fault)  # type: ignore[arg-type]
        failed, killed = None, False
        with pytest.MonkeyPatch.context() as patch:
            host.install(patch)
            try:
                self.run()
            except Killed:
                killed = True
            except P2vError as error:
                failed = error
        host.gone()
        return host, failed, killed

    def clear(self) -> None:
        for path in self.out.iterdir():
            if path.is_file():
                path.unlink()
        for device in self.devices:
            device.write_bytes(bytes(SIZE))

    def how_many(self) -> int:
        """How many results have their final names; the sources are as they were. With the record there, all are complete."""
        assert [state(path) for path in self.disks] == self.before
        there = names(self.out) & self.final
        if "vm.json" in there:
            self.complete()
        return len(there)

    def complete(self) -> None:
        """Everything is there, each disk is the source with the changes, and the record speaks of it."""
        assert names(self.out) >= self.final
        record = load_record(self.out / "vm.json")
        for disk, expected in zip(record.hardware.disks, self.expected, strict=True):
            path = disk.path if disk.is_device else self.out / disk.path
            with open_disk(path, disk.format) as reader:
                assert reader.pread(SIZE, 0) == expected

    def same_command_ends_it(self) -> None:
        left = names(self.out) - self.final - {".vm.p2v-lock"}
        if self.how_many() < len(self.final) or left:
            self.run()
            self.tally["ended by the next run"] += 1
        else:
            with pytest.raises(TargetExists):
                self.run()
        self.complete()
        assert names(self.out) - self.final <= {".vm.p2v-lock"}


def _planned() -> PlanDocument:
    return plan_machine(Machine("vm", (MachineDisk(guest("vmware"), "raw"),)), Reading.AUTO, lambda: TCG, silent)


@pytest.fixture(scope="module")
def planned() -> PlanDocument:
    return _planned()


def _source(path: Path) -> SourceDisk:
    with open_disk(path, "raw") as reader:
        return SourceDisk(path, "raw", describe(reader), identity(reader))


@pytest.fixture(params=["raw", "qcow2", pytest.param("device", marks=pytest.mark.skipif(bool(why_not()), reason=why_not()))])
def bench(
    planned: PlanDocument, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Three disks to files of one format, or the second of them to a block device."""
    monkeypatch.setattr(moving, "served_overlays", _served)
    monkeypatch.setattr(moving, "rewrite_overlays", lambda *rest, **keys: RewriteResult((), (), (), {}))
    monkeypatch.setattr(migrate, "QemuImg", StandIn)
    monkeypatch.setattr(migrate, "tool_versions", lambda arch: {})
    monkeypatch.setattr(moving, "committed_ranges", _committed)
    same_steps_every_time(monkeypatch, 0)
    disks = tuple(tmp_path / f"disk{number}.raw" for number in (1, 2, 3))
    for number, path in enumerate(disks):
        dice = random.Random(number)
        path.write_bytes(dice.randbytes(1 * MIB) + bytes(MIB) + dice.randbytes(SIZE - 2 * MIB))
    machine = replace(planned.machine, disks=tuple(MachineDisk(path, "raw") for path in disks))
    hardware = replace(planned.hardware, disks=(planned.hardware.disks[0],) * 3)
    document = replace(planned, machine=machine, sources=tuple(map(_source, disks)), hardware=hardware)
    is_device = request.param == "device"
    wanted = Request(tmp_path / "out", "raw" if is_device else str(request.param), threads=1, left_out=Wanted(all_blocks=True))
    with ExitStack() as stack:
        devices: tuple[Path, ...] = ()
        if is_device:
            devices = (stack.enter_context(loop_device(tmp_path / "device", SIZE)),)
            wanted = replace(wanted, devices=DeviceWish(((2, devices[0]),)))
        made = Bench(tmp_path, document, wanted, disks, devices)
        yield made
    print(f"\n{request.param}: {dict(made.tally)}")


def killed_everywhere(bench: Bench, stride: int, states: int) -> None:
    """Killed at every ``stride``-th operation, with ``states`` of what a power cut may leave."""
    host, failed, _ = bench.faulty()
    assert failed is None
    assert host.is_true()
    dice = random.Random(len(host.steps))
    for step in range(len(host.steps) % stride, len(host.steps), stride):
        bench.clear()
        host, _, killed = bench.faulty(kill_at=step)
        assert killed
        bench.tally["kill points"] += 1
        bench.tally["some have final names"] += 0 < bench.how_many() < len(bench.final)
        bench.same_command_ends_it()
        found = list(host.model.fates(step))
        for fates in [[Fate.LOST] * len(host.model.pending), *dice.sample(found, min(states, len(found)))][: states or 0]:
            bench.clear()
            host, _, _ = bench.faulty(kill_at=step)
            host.cut_power(fates)
            bench.tally["states after a power cut"] += 1
            bench.tally["some have final names"] += 0 < bench.how_many() < len(bench.final)
            bench.same_command_ends_it()


def test_killed_while_it_publishes_all_appear_or_none_and_the_next_run_ends_it(bench: Bench) -> None:
    """Every operation of the last part: the commits, the record, the names. Half a machine is there only until the next run."""
    host, _, _ = bench.faulty()
    total = len(host.steps)
    for step in range(total - 30, total):
        bench.clear()
        host, _, killed = bench.faulty(kill_at=step)
        assert killed
        bench.tally["kill points"] += 1
        bench.tally["some have final names"] += 0 < bench.how_many() < len(bench.final)
        pending, dice = host.model.pending, random.Random(step)
        if pending and pending[-1].names:
            # of names that were given the last one alone
            host.cut_power([Fate.LOST] * (len(pending) - 1) + [Fate.KEPT])
        else:
            host.cut_power([Fate.LOST if step % 2 else dice.choice(change.fates()) for change in pending])
        bench.tally["some have final names"] += 0 < bench.how_many() < len(bench.final)
        bench.same_command_ends_it()
    assert bench.tally["some have final names"] >= 4


def test_killed_at_operations_of_the_copies_the_next_run_ends_it(bench: Bench) -> None:
    killed_everywhere(bench, 9, 0)
    assert bench.tally["kill points"] >= 9


@pytest.mark.matrix
def test_killed_at_every_operation_and_every_power_cut(bench: Bench) -> None:
    killed_everywhere(bench, 1, 12)
    assert bench.tally["states after a power cut"] > 800


def refused_everywhere(bench: Bench, number: int, *, lasts: bool, stride: int, last: int = 0) -> None:
    host, _, _ = bench.faulty()
    steps = list(enumerate(host.steps))[-last:]
    for step, kind in steps[len(steps) % stride :: stride]:
        bench.clear()
        _, failed, _ = bench.faulty(fault=Fault(step, number, lasts))
        bench.tally["refusals"] += 1
        if failed is None:
            # a journal or a lock that cannot be removed, at the end
            assert kind in (Kind.NAME, Kind.SYNC), (step, kind)
            bench.same_command_ends_it()
            bench.tally["complete all the same"] += 1
            continue
        assert failed.code in ("no-space", "io", "permission"), failed
        assert str(bench.out) in failed.sentence() or any(str(path) in failed.sentence() for path in bench.devices), failed
        if not lasts:
            # what was renamed before the error is taken back
            assert bench.how_many() == 0, (step, kind)
        bench.same_command_ends_it()


@pytest.mark.parametrize("number", [errno.ENOSPC], ids=errno.errorcode.get)
def test_a_refusal_while_it_publishes_leaves_no_final_name(bench: Bench, number: int) -> None:
    """Of the second of three names, for one: those that were given are taken back."""
    refused_everywhere(bench, number, lasts=False, stride=1, last=14)
    assert bench.tally["refusals"] > 2 * bench.tally["complete all the same"]


@pytest.mark.matrix
@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_a_refusal_at_every_operation(bench: Bench, number: int, lasts: bool) -> None:
    refused_everywhere(bench, number, lasts=lasts, stride=1)
    assert bench.tally["refusals"] > 10 * bench.tally["complete all the same"]


def test_another_plans_half_machine_is_finished_not_left(bench: Bench) -> None:
    """Other wishes do not make half a machine a whole one: it is finished, and stands in the way as a whole one does."""
    host, _, _ = bench.faulty()
    for step in range(len(host.steps) - 12, len(host.steps)):
        bench.clear()
        bench.faulty(kill_at=step)
        if 0 < bench.how_many() < len(bench.final):
            break
    other = replace(bench.document, machine=replace(bench.document.machine, memory_bytes=bench.document.machine.memory_bytes * 2))
    with pytest.raises(P2vError) as caught:
        migrate.convert(other, bench.request, lambda: TCG, silent)
    assert caught.value.code == "target-exists"
    bench.complete()
    # and so does --fresh
    with pytest.raises(P2vError, match="exists"):
        migrate.convert(bench.document, replace(bench.request, fresh=True), lambda: TCG, silent)
    bench.complete()


def _flip(path: Path, disk_format: str, offset: int) -> None:
    """One bit of a disk, behind everybody's back."""
    with open_disk(path, disk_format) as reader:
        extent = next(e for e in reader.extents() if e.offset <= offset < e.end)
    at = offset if extent.stored is None else extent.stored.offset + offset - extent.offset
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 16,)))


@pytest.mark.parametrize("at", [100, 3 * MIB + 5, SIZE - 1, 64 * KIB + 4096, 2 * MIB + 512 + 7], ids=hex)
def test_a_bit_that_flips_between_the_copy_and_the_record_is_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """With --checksum anywhere; of the ranges that were committed (the last place) in any case. It is published by nobody."""
    bench.request = replace(bench.request, checksum=True)
    number = 1

    def flip(*rest: Any) -> None:
        path = bench.devices[0] if bench.devices else bench.out / f"vm-disk{number + 1}.{bench.suffix}.partial"
        _flip(path, "raw" if bench.devices else bench.request.disk_format, at)

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "copy_media", flip)
        with pytest.raises(BadTarget) as caught:
            bench.run()
        assert caught.value.exit_code == 70
        assert str(at if at != 2 * MIB + 512 + 7 else 2 * MIB + 512) in caught.value.problem
        assert bench.how_many() == 0
        if at == 2 * MIB + 512 + 7:
            bench.request = replace(bench.request, checksum=False)
            with pytest.raises(BadTarget):
                bench.run()
    # the next run reads what is there before it believes it; on a device, anybody may have written it
    if bench.devices:
        bench.request = replace(bench.request, devices=replace(bench.request.devices, overwrite=True))
    bench.same_command_ends_it()
    record = load_record(bench.out / "vm.json")
    assert [disk.source_content == disk.result_content for disk in record.disks] == [not changes for changes in CHANGES] or not (
        bench.request.checksum
    )


def test_a_resumed_disk_has_the_digests_of_one_that_was_not_interrupted(bench: Bench) -> None:
    bench.request = replace(bench.request, checksum=True)
    host, _, _ = bench.faulty()
    whole = load_record(bench.out / "vm.json")
    bench.clear()
    _, _, killed = bench.faulty(kill_at=len(host.steps) - 28)
    assert killed
    bench.run()
    record = load_record(bench.out / "vm.json")
    assert any(disk.resumed_bytes for disk in record.disks)
    for one, other in zip(whole.disks, record.disks, strict=True):
        assert (one.source_content, one.result_content, one.changed) == (other.source_content, other.result_content, other.changed)
