"""Which disk goes to which device, and what is refused or told before anything is written."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from converters.image import describe, identity, open_disk
from converters.target_formats import Preallocation, TargetOptions
from drivers.facts import Disk
from p2v.cli import device_options
from p2v.core import events
from p2v.core.block_devices import BlockDevice
from p2v.core.disk import Codec
from p2v.core.errors import DeviceInUse, P2vError, UnfitDevice, Usage
from p2v.core.units import MIB
from p2v.device_targets import DeviceWish, check_devices, refuse_layout
from p2v.documents import Inspection, PlanDocument, SourceDisk
from p2v.machine import Machine, MachineDisk
from p2v.planning import disk_names, plan_found
from p2v.targets.hardware import TargetDisk
from tests.drivers.linux.guest import facts_of, files
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

SIZE = 16 * MIB


def parsed(*words: str) -> DeviceWish:
    parser = argparse.ArgumentParser()
    device_options.configure(parser)
    return device_options.devices_of(parser.parse_args(words))


def placed(*words: str, disks: int) -> list[str]:
    found = parsed(*words).placed(disk_names("vm", disks, "qcow2"))
    assert all(disk.is_device == (disk.format == "raw") for disk in found)
    return [str(disk.path) for disk in found]


def test_the_only_disk_needs_no_number_and_those_not_named_become_files() -> None:
    assert placed("--to-device", "/dev/vg/web1", disks=1) == ["/dev/vg/web1"]
    assert placed("--to-device", "1=/dev/vg/web1", disks=1) == ["/dev/vg/web1"]
    assert placed("--to-device", "3=/dev/c", "--to-device", "1=/dev/a", disks=3) == ["/dev/a", "vm-disk2.qcow2", "/dev/c"]
    assert placed(disks=2) == ["vm-disk1.qcow2", "vm-disk2.qcow2"]


def test_a_device_may_have_a_name_with_an_equals_sign() -> None:
    assert placed("--to-device", "/dev/disk/by-id/x=y", disks=1) == ["/dev/disk/by-id/x=y"]
    assert placed("--to-device", "1=/dev/disk/by-id/1=y", disks=1) == ["/dev/disk/by-id/1=y"]


def test_a_layout_of_files_is_refused_where_no_disk_becomes_one() -> None:
    two = disk_names("vm", 2, "qcow2")
    mixed = parsed("--to-device", "2=/dev/b").placed(two)
    devices = parsed("--to-device", "2=/dev/b", "--to-device", "1=/dev/a").placed(two)
    for layout in (TargetOptions(compression=Codec.ZSTD), TargetOptions(MIB), TargetOptions(preallocation=Preallocation.FALLOC)):
        refuse_layout(two, layout)
        refuse_layout(mixed, layout)
        with pytest.raises(Usage):
            refuse_layout(devices, layout)
    refuse_layout(devices, TargetOptions(shares=False))


@pytest.mark.parametrize(
    "words",
    [
        ("--to-device", "/dev/a"),
        ("--to-device", "0=/dev/a"),
        ("--to-device", "3=/dev/a"),
        ("--to-device", "1=/dev/a", "--to-device", "1=/dev/b"),
        ("--to-device", "1="),
        ("--to-device", ""),
        ("--overwrite-device",),
        ("--discard",),
    ],
)
def test_what_makes_no_sense_is_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(Usage):
        placed(*words, disks=2)


def document(*sources: Path, sector_bytes: int = 512, table: str = "mbr") -> PlanDocument:
    found = []
    for source in sources:
        with open_disk(source, "raw") as reader:
            image = dataclasses.replace(describe(reader), logical_sector_size=sector_bytes)
            found.append(SourceDisk(source, "raw", image, identity(reader)))
    facts = dataclasses.replace(facts_of(files()), disks=tuple(Disk(i, SIZE, table) for i in range(len(sources))))
    machine = Machine("vm", tuple(MachineDisk(source) for source in sources))
    return plan_found(machine, Inspection(tuple(found), facts))


def checked(made: PlanDocument, devices: Sequence[Path]) -> list[str]:
    """The remarks on devices that are taken."""
    said: list[str] = []
    disks = [TargetDisk(device, "raw", is_device=True) for device in devices]

    def report(event: events.Event) -> None:
        assert isinstance(event, events.Warned)
        said.append(event.message)

    assert [found.path for found in check_devices(made, disks, report).values()] == list(devices)
    return said


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.raw"
    with file.open("wb") as made:
        made.truncate(SIZE)
    return file


@contextmanager
def refused(error: type[P2vError], words: str, device_file: Path) -> Iterator[None]:
    """An error, and not a byte of the device's file changed."""
    before = device_file.read_bytes()
    with pytest.raises(error, match=words):
        yield
    assert device_file.read_bytes() == before


@NEEDS_LOOP_DEVICES
class TestDevices:
    def test_a_device_of_the_disks_size_is_taken_without_a_word(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path:
            assert checked(document(source), [path]) == []

    def test_a_larger_one_is_told_and_what_that_means_for_gpt(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE + MIB) as path:
            (said,) = checked(document(source), [path])
            assert "1.0 MiB larger" in said
            assert "GUID" not in said
            (said,) = checked(document(source, table="gpt"), [path])
            assert "sgdisk -e" in said

    def test_a_smaller_one_is_refused(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE - 512) as path:
            with refused(UnfitDevice, "512 less", tmp_path / "file"):
                checked(document(source), [path])

    def test_a_read_only_one_is_refused(self, tmp_path: Path, source: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(SIZE))
        with loop_device(tmp_path / "file", options=("--read-only",)) as path:
            with refused(UnfitDevice, "read-only", tmp_path / "file"):
                checked(document(source), [path])

    def test_sectors_of_4096_bytes_are_refused_unless_the_disk_has_them(self, tmp_path: Path, source: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(SIZE))
        with loop_device(tmp_path / "file", options=("--sector-size", "4096")) as path:
            with refused(UnfitDevice, "sectors of 4096", tmp_path / "file"):
                checked(document(source), [path])
            assert checked(document(source, sector_bytes=4096), [path]) == []

    def test_one_in_use_is_refused_with_its_users(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path:
            subprocess.run(["mkswap", path], check=True, capture_output=True)
            subprocess.run(["swapon", path], check=True, capture_output=True)
            try:
                with refused(DeviceInUse, "swap", tmp_path / "file"):
                    checked(document(source), [path])
            finally:
                subprocess.run(["swapoff", path], check=True)

    def test_one_device_by_two_names_is_refused(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path:
            (tmp_path / "link").symlink_to(path)
            with refused(Usage, "is the device of disk 1", tmp_path / "file"):
                checked(document(source, source), [path, tmp_path / "link"])

    def test_two_devices_over_one_file_are_refused(self, tmp_path: Path, source: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path, loop_device(tmp_path / "file") as twin:
            with refused(Usage, "stands on", tmp_path / "file"):
                checked(document(source, source), [path, twin])

    def test_the_sources_own_device_is_refused(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path:
            with refused(UnfitDevice, "source's disk", tmp_path / "file"):
                checked(document(path), [path])

    def test_a_device_over_the_sources_file_is_refused(self, source: Path) -> None:
        with loop_device(source) as path:
            with refused(UnfitDevice, "source's disk", source):
                checked(document(source), [path])
            # also further down
            with loop_device(path) as over:
                with refused(UnfitDevice, "source's disk", source):
                    checked(document(source), [over])

    def test_the_device_below_a_source_is_refused(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "file", SIZE) as path, loop_device(path) as over:
            with refused(UnfitDevice, "source's disk", tmp_path / "file"):
                checked(document(over), [path])


def test_a_name_that_may_mean_another_device_later_is_told(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(path: Path, *_: object) -> BlockDevice:
        return BlockDevice(path, "8:16", "sdb", SIZE, 512, read_only=False, identity="")

    monkeypatch.setattr("p2v.device_targets.look_at", found)
    monkeypatch.setattr("p2v.device_targets.stable_names", lambda _: (Path("/dev/disk/by-id/wwn-0x5000"),))
    (said,) = checked(document(source), [Path("/dev/sdb")])
    assert "/dev/disk/by-id/wwn-0x5000" in said
    assert checked(document(source), [Path("/dev/disk/by-id/wwn-0x5000")]) == []
