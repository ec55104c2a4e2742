"""The real appliance reads a Windows guest as the host does, and edits its registry on NTFS in place."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.appliance_launch import open_appliance
from drivers.appliance_reading import facts_by_appliance
from drivers.appliance_tree import ApplianceTree
from drivers.appliance_values import ApplianceDisk
from drivers.changes import EditHive, ExtendInitramfs, WriteFile
from drivers.facts import ReadBy
from drivers.inspection import inspect_disks
from drivers.layout import lay_out
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.rewrite import rewrite
from drivers.windows.edits import AddKey, SetValue
from drivers.windows.facts import SYSTEM
from drivers.windows.regf import Hive
from p2v.core.acceleration import Acceleration, Accelerator
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows.guest_disk import mounted, ntfs_disk, system_tree, windows_files
from tests.drivers.windows.hive_writer import own_hive
from tests.fixtures.disk import copied
from tests.fixtures.hives import sz
from tests.fixtures.windows import named, windows_disks
from tests.windows_startup.devices import seabios_heads
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import machine
from tests.windows_startup.startup import start
from tests.windows_startup.verdict import Reason, Startup

_TCG = Acceleration(Accelerator.TCG, "in a test")
_PATH = "Windows/System32/config/SYSTEM"
_START = 2048 * 512
_ACCESS_LIST = "system.ntfs_acl"


def _partition(disk: Path, folder: Path) -> Path:
    part = folder / f"{disk.stem}.part"
    part.write_bytes(disk.read_bytes()[_START:])
    return part


def _system(disk: Path, folder: Path) -> tuple[bytes, bytes, int]:
    """The hive, its access list and its inode."""
    part = _partition(disk, folder)
    with mounted(part) as root:
        path = root / _PATH
        found = path.read_bytes(), os.getxattr(path, _ACCESS_LIST), path.stat().st_ino
    part.unlink()
    return found


def _only_administrators_write(disk: Path, folder: Path, *paths: str) -> None:
    """What ntfs-3g makes of access lists: owner's rights for administrators and the system, the last three for everybody."""
    part = _partition(disk, folder)
    with mounted(part, "permissions") as root:
        for path in paths:
            found = (root / path).stat()
            assert (found.st_uid, found.st_gid, found.st_mode & 0o022) == (0, 0, 0), path
    part.unlink()


@pytest.mark.appliance
def test_the_registry_is_edited_on_ntfs_in_place(tmp_path: Path) -> None:
    disk = ntfs_disk(tmp_path / "disk.img", windows_files(system=own_hive(system_tree(sets=(1, 2)))))
    before = _system(disk, tmp_path)
    reader = RawReader(disk)
    facts = inspect_disks([reader])
    reader.close()
    made = plan_guest(facts, PlanOptions())
    (change,) = made.changes
    assert isinstance(change, EditHive)
    # so much that the file has to grow
    service = "ControlSet001\\Services\\viostor"
    values = tuple(SetValue(service, f"v{n}", 1, sz("x" * 300).data.hex(), None, "t") for n in range(20))
    longer = replace(change, edits=(*change.edits, AddKey(service, "t"), *values))
    new = WriteFile("/Windows/p2v/first/steps.txt", "x\r\n", 0o644, "t")
    plan = replace(made, blockers=(), changes=(longer, new))

    def none(_: ExtendInitramfs, tree: ApplianceTree) -> bytes:
        raise AssertionError(tree)

    result = rewrite([ApplianceDisk(disk, "raw", read_only=False)], facts, plan, none, _TCG)
    assert [each.skipped for each in result.applied] == [False, False]
    _only_administrators_write(disk, tmp_path, "Windows/p2v/first/steps.txt", "Windows/p2v/first", "Windows/p2v")
    after = _system(disk, tmp_path)
    assert after[1:] == before[1:]
    assert len(after[0]) > len(before[0])
    hive = Hive(after[0])
    for number in (1, 2):
        key = hive.key(f"ControlSet00{number}\\Control\\CrashControl")
        assert key is not None
        assert [value.number() for value in key.values()] == [0]
    key = hive.key(service)
    assert key is not None
    assert len(list(key.values())) == 20
    again = RawReader(disk)
    facts_after = inspect_disks([again])
    again.close()
    assert facts_after.windows is not None
    assert facts_after.windows.registry[SYSTEM].state == "clean"
    assert facts_after.windows.dirty == ""
    assert plan_guest(facts_after, PlanOptions()).changes == ()


def _lost(name: str, folder: Path) -> Path:
    """A copy of a sample that does not start: another signature, no loader for a firmware without entries; XP as it is."""
    disk = folder / f"{name}.raw"
    copied(windows_disks(named(name))[0], disk)
    if name == "win10":
        esp = f"{disk}@@{1024 * 1024}"
        subprocess.run(["mdel", "-i", esp, "::/EFI/Boot/bootx64.efi"], check=True)
    elif name != "xp":
        with disk.open("r+b") as file:
            file.seek(440)
            file.write(b"\x0d\xf0\xad\x0b")
    return disk


@pytest.mark.matrix
@pytest.mark.appliance
@pytest.mark.parametrize("name, reason, path", [
    ("2016", Reason.ENTRY_DEVICE, "/Windows/Boot/Boot/BCD"),
    ("win10", Reason.NO_EFI_LOADER, "/Windows/Boot/EFI/Boot/bootx64.efi"),
    ("xp", Reason.GEOMETRY, "/$Boot"),
])  # fmt: skip
def test_the_partition_that_starts_windows_is_rewritten_in_its_place(
    name: str, reason: Reason, path: str, tmp_path: Path
) -> None:
    disk, guest = _lost(name, tmp_path), named(name)

    def started() -> Startup:
        with machine(disk) as found:
            heads = seabios_heads(found.disks[0].reader.virtual_size)
            return start(found, replace(Sample(guest, found).at_home, heads=heads))

    assert started().reason is reason
    reader = RawReader(disk)
    facts = inspect_disks([reader])
    reader.close()
    plan = replace(plan_guest(facts, PlanOptions()), blockers=())
    assert path in [change.path for change in plan.changes]

    def none(_: ExtendInitramfs, tree: ApplianceTree) -> bytes:
        raise AssertionError(tree)

    result = rewrite([ApplianceDisk(disk, "raw", read_only=False)], facts, plan, none, _TCG)
    assert [each.skipped for each in result.applied] == [False] * len(plan.changes)
    after = started()
    assert (after.stop, after.doubts) == (None, ())
    # what is shown at that place is in the way of nothing that stands there
    with machine(disk) as found:
        volume = found.volume(Sample(guest, found).system)
        assert path == "/$Boot" or volume.read("Windows/Boot/EFI/bootmgfw.efi")
        assert path == "/$Boot" or volume.read(path) is None
    again = RawReader(disk)
    assert plan_guest(inspect_disks([again]), PlanOptions()).changes == ()
    again.close()


def _bitmap_at(volume: bytes) -> int:
    """Where the clusters' bitmap of a small NTFS begins: the first run of record 6 of its table (Microsoft, "NTFS")."""
    sector_bytes, per_cluster = struct.unpack_from("<HB", volume, 11)
    cluster_bytes = int(sector_bytes) * int(per_cluster)
    record = int(struct.unpack_from("<Q", volume, 48)[0]) * cluster_bytes + 6 * 1024
    at = record + struct.unpack_from("<H", volume, record + 20)[0]
    while struct.unpack_from("<I", volume, at)[0] != 0x80:
        at += struct.unpack_from("<I", volume, at + 4)[0]
    run = at + struct.unpack_from("<H", volume, at + 32)[0]
    lengths, places = volume[run] & 15, volume[run] >> 4
    return int.from_bytes(volume[run + 1 + lengths : run + 1 + lengths + places], "little") * cluster_bytes


def _with_bitmap(disk: Path, byte: int) -> None:
    """Say of eight clusters that are free that they are taken (0xff), or of eight that are taken the other way round (0)."""
    part = disk.read_bytes()[_START:]
    with disk.open("r+b") as file:
        file.seek(_START + _bitmap_at(part) + (len(part) // 4096 // 8 - 100 if byte else 0))
        file.write(bytes([byte]))


@pytest.mark.matrix
@pytest.mark.appliance
def test_ntfs_is_checked_cluster_by_cluster_and_a_full_one_is_no_damaged_one(tmp_path: Path) -> None:
    sound, full, taken, free = (ntfs_disk(tmp_path / f"{name}.img", windows_files()) for name in ("sound", "full", "taken", "free"))
    _with_bitmap(taken, 0xFF)
    _with_bitmap(free, 0)
    part = _partition(full, tmp_path)
    with mounted(part) as root:
        for piece in (65536, 512):
            with contextlib.suppress(OSError), (root / f"fill{piece}").open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * piece)
    with full.open("r+b") as file:
        file.seek(_START)
        file.write(part.read_bytes())
    disks = [ApplianceDisk(disk, "raw", read_only=True) for disk in (sound, full, taken, free)]
    with open_appliance(disks, _TCG) as appliance:
        found = [appliance.check_filesystem(f"/dev/sd{letter}1", "ntfs") for letter in "abcd"]
    assert [(check.checked, check.clean) for check in found] == [(True, True), (True, True), (True, False), (True, False)]
    assert "Volume is full" in found[1].output
    assert all("inconsistent" in check.output for check in found[2:])


@pytest.mark.matrix
@pytest.mark.appliance
@pytest.mark.parametrize("name", ["", "win10"])
def test_an_appliance_reads_the_same_facts_as_the_host(name: str, tmp_path: Path) -> None:
    """Of one partition, and of one that another one starts."""
    disk = windows_disks(named(name))[0] if name else ntfs_disk(tmp_path / "disk.img", windows_files())
    reader = RawReader(disk)
    by_host = inspect_disks([reader])
    with open_appliance([ApplianceDisk(disk, "raw", read_only=True)], _TCG) as appliance:
        by_appliance = facts_by_appliance(appliance, lay_out([reader]), "asked for")
    reader.close()
    assert by_appliance.read_by is ReadBy.APPLIANCE
    assert by_appliance.windows == by_host.windows
    assert (by_appliance.os, by_appliance.root, by_appliance.mounts) == (by_host.os, by_host.root, by_host.mounts)
