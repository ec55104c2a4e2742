"""Device names of the source: which partition they stand for, and by what name that lasts."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy
from drivers.linux.devices import DeviceNames, Use

A1 = Partition(0, 1, 0, 1, "83", partuuid="aaaaaaaa-01", filesystem=FileSystem("ext4", "uuid-a1"))
A2 = Partition(0, 2, 0, 1, "82", partuuid="aaaaaaaa-02", filesystem=FileSystem("swap", "uuid-a2"))
B1 = Partition(1, 1, 0, 1, "83", partuuid="bbbbbbbb-01", filesystem=FileSystem("xfs", "uuid-b1"))
C0 = Partition(2, 0, 0, 1, "", filesystem=FileSystem("ext4", "uuid-c"))
THREE = DeviceNames(3, (A1, A2, B1, C0), A1)
ONE = DeviceNames(1, (A1, A2), A1)


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("/dev/sda1", "UUID=uuid-a1"), ("/dev/hda2", "UUID=uuid-a2"), ("/dev/vdb1", "UUID=uuid-b1"),
        ("/dev/xvdb1", "UUID=uuid-b1"), ("/dev/sdc", "UUID=uuid-c"), ("/dev/nvme0n1p1", "UUID=uuid-a1"),
        ("/dev/nvme1n1p1", "UUID=uuid-b1"), ("/dev/nvme0n2p1", "UUID=uuid-b1"), ("/dev/cciss/c0d0p2", "UUID=uuid-a2"),
    ],
)  # fmt: skip
def test_disks_are_found_by_their_order(name: str, stable: str) -> None:
    found = THREE.resolve(name)
    assert found is not None
    assert found.stable == stable


@pytest.mark.parametrize(
    "name",
    [
        "/dev/sdd1",
        "/dev/sda9",
        "/dev/sdb",
        "/dev/nvme2n2p1",
        "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1",
        "/dev/sdaa1",
    ],
)
def test_what_cannot_be_told_has_a_problem_and_no_name(name: str) -> None:
    found = THREE.resolve(name)
    assert found is not None
    assert (found.stable, bool(found.problem)) == (None, True)


@pytest.mark.parametrize(
    "name",
    [
        "UUID=x", "LABEL=sda1", "/dev/mapper/sda1", "/dev/vg/lv", "/dev/md0p1", "/dev/sr0", "/dev/disk/by-uuid/x",
        "/dev/disk/by-label/sda1", "/dev/disk/by-id/dm-name-vg-lv", "/dev/disk/by-id/lvm-pv-uuid-x", "tmpfs", "none", "",
        "/dev/sda0", "/dev/sda1x", "/dev/sd", "/dev/SDA1", "/dev/sda１",
    ],
)  # fmt: skip
def test_names_that_last_or_name_no_disk_are_left_alone(name: str) -> None:
    assert THREE.resolve(name) is None


@pytest.mark.parametrize(
    "place", ["by-path/pci-0000:03:00.0-scsi-0:0:0:0", "by-id/wwn-0x6000c29", "by-id/scsi-36000c29-part-x"]
)
def test_places_are_resolved_where_there_is_one_disk(place: str) -> None:
    found = ONE.resolve(f"/dev/disk/{place}-part2")
    assert found is not None
    assert found.stable == "UUID=uuid-a2"


def test_a_uuid_that_two_file_systems_share_is_not_used() -> None:
    twin = dataclasses.replace(B1, filesystem=FileSystem("ext4", "UUID-A1"))
    found = DeviceNames(2, (A1, twin)).resolve("/dev/sda1")
    assert found is not None
    assert found.stable == "PARTUUID=aaaaaaaa-01"


def test_disks_that_are_copies_of_each_other_have_no_lasting_name() -> None:
    twin = dataclasses.replace(A1, disk=1)
    found = DeviceNames(2, (A1, twin)).resolve("/dev/sdb1")
    assert found is not None
    assert (found.stable, found.problem) == (None, "what stands there has no UUID of its own")


@pytest.mark.parametrize("uuid", ["x y", 'a"b', "a\nb", "$(reboot)", ""])
def test_a_uuid_that_is_none_never_gets_into_a_text(uuid: str) -> None:
    odd = dataclasses.replace(A1, filesystem=FileSystem("ext4", uuid), partuuid=uuid)
    found = DeviceNames(1, (odd,)).resolve("/dev/sda1")
    assert found is not None
    assert found.stable is None


def test_a_partition_without_file_system_is_named_by_its_own_uuid() -> None:
    bare = dataclasses.replace(A1, filesystem=None)
    found = DeviceNames(1, (bare,)).resolve("/dev/sda1", "ext4")
    assert found is not None
    assert found.stable == "PARTUUID=aaaaaaaa-01"


@pytest.mark.parametrize(
    ("fstype", "fits"),
    [("ext4", True), ("ext3", True), ("auto", True), ("", True), ("xfs,ext4", True), ("xfs", False), ("swap", False)],
)
def test_the_type_that_is_expected_is_compared_with_what_was_found(fstype: str, fits: bool) -> None:
    found = ONE.resolve("/dev/sda1", fstype)
    assert found is not None
    assert (found.stable is not None) is fits


def facts(disks: int) -> GuestFacts:
    """Facts of a guest whose root is the first partition of the first disk."""
    return GuestFacts(
        ReadBy.HOST, tuple(Disk(n, 1, "mbr") for n in range(disks)), (A1, A2, B1)[: disks + 1], root=Mount("/", 0, 1)
    )


def test_a_root_on_another_letter_tells_which_disk_that_letter_is() -> None:
    names = DeviceNames.of(facts(1), [Use("/dev/sdb1", "/"), Use("/dev/sdb2", "none")])
    found, other = names.resolve("/dev/sdb2"), names.resolve("/dev/sda1")
    assert found is not None
    assert other is not None
    assert found.stable == "UUID=uuid-a2"
    assert other.stable is None


def test_disks_of_several_kinds_have_no_known_order() -> None:
    names = DeviceNames.of(facts(2), [Use("/dev/sda1", "/"), Use("/dev/nvme0n1p1", "/data")])
    found = names.resolve("/dev/nvme0n1p1")
    assert found is not None
    assert (found.stable, "several kinds" in found.problem) == (None, True)


def test_what_is_a_part_of_a_volume_is_named_by_its_partition() -> None:
    physical = Partition(0, 3, 0, 1, "8e", False, "c0ffee12-03", filesystem=FileSystem("lvm2", "AbCdEf-1234"))
    found = DeviceNames(1, [physical]).resolve("/dev/sda3")
    assert found is not None
    assert found.stable == "PARTUUID=c0ffee12-03"


def test_a_root_on_a_volume_is_no_partition() -> None:
    physical = Partition(0, 3, 0, 1, "8e", False, "c0ffee12-03", filesystem=FileSystem("lvm2", "AbCdEf-1234"))
    facts = GuestFacts(ReadBy.HOST, (), (physical,), root=Mount("/", 0, 3, volume="/dev/mapper/vg-root"))
    assert DeviceNames.of(facts).root is None


BY_ID, BY_PATH = "/dev/disk/by-id/nvme-Maker_Model_1234", "/dev/disk/by-path/pci-0000:03:00.0-nvme-1"


def stable_of(name: str, *uses: Use) -> str | None:
    found = DeviceNames.of(facts(2), uses).resolve(name)
    assert found is not None
    assert bool(found.problem) is (found.stable is None)
    return found.stable


def test_a_name_by_id_or_path_is_the_only_disk_that_has_what_the_tables_expect_there() -> None:
    assert stable_of(f"{BY_ID}-part1", Use(f"{BY_ID}-part1", "/srv", "xfs")) == "UUID=uuid-b1"
    # the other disk has no second partition
    assert stable_of(f"{BY_PATH}-part2", Use(f"{BY_PATH}-part2")) == "UUID=uuid-a2"
    assert stable_of(f"{BY_PATH}-part1", Use(f"{BY_PATH}-part1", "/", "auto")) == "UUID=uuid-a1"
    # what is mounted elsewhere is not the root
    assert stable_of(f"{BY_ID}-part1", Use(f"{BY_ID}-part1", "/srv", "auto")) == "UUID=uuid-b1"


def test_a_name_by_id_that_more_than_one_disk_fits_stays_unknown() -> None:
    assert stable_of(f"{BY_ID}-part1", Use(f"{BY_ID}-part1")) is None
    assert stable_of(f"{BY_ID}-part1", Use(f"{BY_ID}-part1", "/srv", "btrfs")) is None


def test_two_names_of_one_partition_are_of_disks_that_are_not_all_there() -> None:
    uses = (Use(f"{BY_ID}-part1", "/srv", "xfs"), Use(f"{BY_PATH}-part1", "/data", "xfs"))
    assert [stable_of(use.name, *uses) for use in uses] == [None, None]


def test_names_by_id_and_by_path_may_be_of_one_disk() -> None:
    uses = (Use(f"{BY_ID}-part1", "/", "ext4"), Use(f"{BY_PATH}-part2", "none", "swap"))
    assert [stable_of(use.name, *uses) for use in uses] == ["UUID=uuid-a1", "UUID=uuid-a2"]
