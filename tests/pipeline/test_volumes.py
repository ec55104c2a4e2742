"""Guests that only the appliance can read: encrypted, on Btrfs, striped. Inspected, rewritten on an overlay, read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.qemu_img import QemuImg
from drivers.appliance_launch import open_appliance
from drivers.appliance_tree import ApplianceTree
from drivers.appliance_values import ApplianceDisk
from drivers.caps import GuestCaps
from drivers.changes import Change, EditFile, WriteFile
from drivers.facts import GuestFacts, ReadBy
from drivers.keys import Key
from drivers.plan import GuestPlan
from drivers.rewrite import rewrite
from p2v.acceleration import acceleration
from p2v.core.acceleration import Acceleration
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.inspection import Reading, inspect
from p2v.machine import MachineDisk
from tests.drivers.volume_disks import PASSPHRASE, RELEASE, disks

pytestmark = pytest.mark.xdist_group("volume-disks")

KEYS = (Key("all", PASSPHRASE),)
CAPS = GuestCaps(("virtio-blk",), ("virtio",), "bios", "x86_64")


def accelerated() -> Acceleration:
    return acceleration(SystemRunner())


def inspected(machine: str, keys: tuple[Key, ...] = ()) -> GuestFacts:
    given = [MachineDisk(path, "raw") for path in disks(machine)]
    return inspect(given, Reading.AUTO, accelerated, silent, keys).facts


def rewritten(folder: Path, machine: str, facts: GuestFacts, changes: tuple[Change, ...]) -> list[ApplianceDisk]:
    overlays = []
    for number, path in enumerate(disks(machine)):
        overlay = folder / f"overlay{number}.qcow2"
        QemuImg(SystemRunner()).create_overlay(overlay, path, "raw", path.stat().st_size)
        overlays.append(ApplianceDisk(overlay, "qcow2", read_only=False))
    plan = GuestPlan(changes, (), (), CAPS)
    result = rewrite(overlays, facts, plan, lambda change, tree: b"", accelerated(), keys=KEYS)
    assert all(check.clean for check in (*result.checks_before, *result.checks_after))
    return overlays


def read_again(overlays: list[ApplianceDisk], facts: GuestFacts, *paths: str) -> list[bytes]:
    with open_appliance(overlays, accelerated()) as appliance:
        appliance.activate(facts.volumes, KEYS)
        appliance.mount(facts.mounts, read_only=True)
        tree = ApplianceTree(appliance)
        return [tree.read(path) for path in paths]


@pytest.mark.appliance
def test_lvm_in_luks_is_opened_with_a_key_and_rewritten(tmp_path: Path) -> None:
    facts = inspected("luks", KEYS)
    assert facts.read_by is ReadBy.APPLIANCE
    assert {mount.mountpoint: mount.volume for mount in facts.mounts} == {"/": "/dev/mapper/crypt-root", "/boot": ""}
    container = next(volume for volume in facts.volumes if volume.kind == "luks")
    assert "/dev/mapper/sda2_crypt" in container.aliases
    changes = (EditFile("/etc/os-release", RELEASE, RELEASE + "X=1\n", "test"), WriteFile("/boot/new", "n", 0o644, "test"))
    overlays = rewritten(tmp_path, "luks", facts, changes)
    assert read_again(overlays, facts, "/etc/os-release", "/boot/new") == [(RELEASE + "X=1\n").encode(), b"n"]
    assert PASSPHRASE not in repr(facts)


def test_without_a_key_an_encrypted_guest_is_no_system_and_says_what_is_wanted() -> None:
    def appliance() -> Acceleration:
        raise AssertionError("an appliance sees no more than the host")

    given = [MachineDisk(path, "raw") for path in disks("luks")]
    facts = inspect(given, Reading.AUTO, appliance, silent).facts
    assert facts.os is None
    assert any("--key" in note for note in facts.notes)


@pytest.mark.appliance
def test_a_root_in_a_btrfs_subvolume_is_found_beside_its_snapshot_and_rewritten(tmp_path: Path) -> None:
    facts = inspected("btrfs")
    assert facts.root is not None
    assert "subvol=@" in facts.root.options.split(",")
    assert [mount.mountpoint for mount in facts.mounts] == ["/", "/home"]
    overlays = rewritten(tmp_path, "btrfs", facts, (WriteFile("/home/new", "in home", 0o644, "test"),))
    assert read_again(overlays, facts, "/home/new", "/home/who") == [b"in home", b"home\n"]


@pytest.mark.matrix
def test_a_root_on_a_striped_volume_is_read_by_the_kernel(tmp_path: Path) -> None:
    facts = inspected("striped")
    assert facts.root is not None
    assert facts.root.volume == "/dev/mapper/str-root"
    overlays = rewritten(tmp_path, "striped", facts, (WriteFile("/etc/new", "n", 0o644, "test"),))
    assert read_again(overlays, facts, "/etc/new") == [b"n"]


def test_a_volume_that_lacks_a_disk_is_said_and_the_rest_is_read() -> None:
    facts = inspect([MachineDisk(disks("lvm")[0], "raw")], Reading.AUTO, accelerated, silent).facts
    assert facts.root is not None
    assert facts.root.volume == "/dev/mapper/sys-root"
    assert any(note.startswith("/var") and "missing" in note for note in facts.notes)
