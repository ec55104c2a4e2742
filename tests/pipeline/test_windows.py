"""Made-up Windows guests through the whole conversion: they start in the simulation, are proven, and nothing is left to do.

No Windows runs here: a start is walked by ``tests.windows_startup`` in what was left (docs/windows-simulation.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from converters.image import open_disk
from p2v.machine import DiskBus
from p2v.record import ConversionRecord, load_record
from tests.fixtures import virtio_win
from tests.fixtures.disk import copied
from tests.fixtures.windows import WindowsGuest, named, windows_disks
from tests.pipeline.running import Ran, names, p2v, proven, sha256, state
from tests.support_matrix_windows import note_converted
from tests.windows_startup import devices
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import Reader, machine


@dataclass(frozen=True)
class Row:
    """A guest and how it is converted; ``bus``: what it is to get; ``starts``: all that it has to start on afterwards."""

    name: str
    bus: DiskBus
    starts: tuple[devices.Device, ...]
    with_medium: bool = True
    options: tuple[str, ...] = ()

    @property
    def guest(self) -> WindowsGuest:
        return named(self.name)


_EVERYWHERE = (devices.VIRTIO_BLK, devices.VIRTIO_BLK_MODERN, devices.VIRTIO_SCSI, devices.VIRTIO_SCSI_MODERN, devices.AHCI)
_BLK, _SATA, _IDE = DiskBus.VIRTIO_BLK, DiskBus.SATA, DiskBus.IDE
_ROWS = (
    # UEFI, GPT, an EFI system partition in FAT, two disks, the second offline on another bus
    Row("data-offline", _BLK, _EVERYWHERE),
    Row("win10", _SATA, (devices.AHCI, devices.PIIX_IDE), with_medium=False),
    Row("win11-arm64", _BLK, (devices.VIRTIO_BLK_MODERN, devices.VIRTIO_SCSI_MODERN)),
    Row("2019", _BLK, (*_EVERYWHERE, devices.PIIX_IDE)),
    Row("xp", _BLK, (devices.VIRTIO_BLK, devices.PIIX_IDE)),
    Row("2003", _IDE, (devices.PIIX_IDE,), with_medium=False),
    Row("nt4-workstation", _IDE, (devices.PIIX_IDE,), with_medium=False),
    Row("win7", _BLK, (*_EVERYWHERE, devices.PIIX_IDE)),
    # a hive that was in use: what its log holds is put into it
    Row("dirty-hive", _BLK, _EVERYWHERE),
    Row("fast-started", _BLK, _EVERYWHERE, options=("--discard-hibernation",)),
    Row("hibernated-xp", _IDE, (devices.PIIX_IDE,), with_medium=False, options=("--discard-hibernation",)),
)  # fmt: skip


def _parameters() -> Iterator[object]:
    for row in _ROWS:
        marks = () if row is _ROWS[0] else (pytest.mark.matrix,)
        yield pytest.param(row, id=f"{row.name}{'' if row.with_medium else '-without-medium'}", marks=marks)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = virtio_win.startable(virtio_win.medium().files)
    folder = tmp_path_factory.mktemp("virtio-win")
    return virtio_win.write_iso(virtio_win.write_folder(files, folder / "cd"), folder / "virtio-win.iso")


@contextmanager
def started_from(guest: WindowsGuest, disks: tuple[Path, ...]) -> Iterator[Sample]:
    """The guest on a simulated machine with converted disks."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_disk(disk, disk.suffix[1:])) for disk in disks]
        yield Sample(guest, stack.enter_context(machine(*(cast(Reader, reader) for reader in readers))))


def convert(row: Row, medium: Path, out: Path, *disks: Path) -> Ran:
    """Convert a row's guest (or the disks that are given instead) as its name."""
    drivers = ("--virtio-win", medium) if row.with_medium else ()
    named_disks = disks or windows_disks(row.guest)
    return p2v("convert", *named_disks, "-o", out, "--name", "win", "--input-format", "qcow2" if disks else "raw", *drivers,
               *row.options)  # fmt: skip


def disks_of(record: ConversionRecord, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / disk.path for disk in record.document.hardware.disks)


@pytest.mark.appliance
@pytest.mark.parametrize("row", list(_parameters()))
def test_converted_guest_starts_in_the_simulation_is_proven_and_needs_nothing_more(row: Row, medium: Path, tmp_path: Path) -> None:
    sources = [state(disk) for disk in windows_disks(row.guest)]
    out = tmp_path / "out"
    ran = convert(row, medium, out)
    assert ran.status == 0, ran.err
    assert [state(disk) for disk in windows_disks(row.guest)] == sources
    record = load_record(out / "win.json")
    assert record.document.hardware.disk_bus is row.bus
    assert [change.skipped for change in record.applied] == [False] * len(record.document.plan.changes)
    checked = {check.kind for check in record.checks if check.checked}
    assert all(check.clean for check in record.checks)
    assert checked >= ({"vfat"} if row.guest.fat else {"ntfs"})
    with started_from(row.guest, disks_of(record, out)) as found:
        for controller in row.starts:
            moved = found.start(controller)
            assert moved.stop is None, moved
    proven(out / "win.json", "-o", tmp_path / "proof.json")
    note_converted(row.guest, record, row.starts, options=" ".join(row.options))

    options = ("--virtio-win", medium) if row.with_medium else ()
    again = p2v("plan", *disks_of(record, out), "--input-format", "qcow2", "--json", *options, "--name", "win")
    assert again.status == 0, again.err
    plan = json.loads(again.out)["plan"]
    assert plan["changes"] == []
    assert names(out) >= {"win.json", "win.xml"}


@pytest.mark.matrix
@pytest.mark.appliance
def test_in_place_and_undone_to_the_byte(medium: Path, tmp_path: Path) -> None:
    guest = named("2022-core")
    (source,) = windows_disks(guest)
    disk, out = tmp_path / "disk.raw", tmp_path / "out"
    copied(source, disk)
    disk.chmod(0o600)
    before = sha256(disk)
    ran = p2v("convert", "--in-place", disk, "-o", out, "--name", "win", "--input-format", "raw", "--virtio-win", medium)
    assert ran.status == 0, ran.err
    assert sha256(disk) != before
    with started_from(guest, (disk,)) as found:
        assert all(found.start(controller).stop is None for controller in _EVERYWHERE)
    proven(out / "win.json", "-o", tmp_path / "proof.json")
    ran = p2v("undo", tmp_path / "win.undo", "--full")
    assert ran.status == 0, ran.err
    assert sha256(disk) == before


def test_hibernated_guest_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    ran = p2v("convert", *windows_disks(named("fast-started")), "-o", tmp_path / "out", "--input-format", "raw")
    assert ran.status == 4
    assert "hibernated" in ran.err
    assert names(tmp_path / "out") == set()
    planned = p2v("plan", *windows_disks(named("fast-started")), "--input-format", "raw")
    assert planned.status == 4
    assert "shutdown /s /f /t 0" in planned.out
    assert "--discard-hibernation" in planned.out


@pytest.mark.parametrize("name, reason", [
    ("dirty-ntfs", "marked dirty"), ("bitlocker", "BitLocker"), ("dynamic", "dynamic disk"),
])  # fmt: skip
def test_guest_in_a_state_that_cannot_be_changed_is_refused_before_anything_is_made(
    name: str, reason: str, tmp_path: Path
) -> None:
    ran = p2v("convert", *windows_disks(named(name)), "-o", tmp_path / "out", "--input-format", "raw", "--discard-hibernation")
    assert ran.status in (4, 76), ran.err
    assert reason in ran.err
    assert names(tmp_path / "out") == set()
