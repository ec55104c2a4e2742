"""Volumes made by LVM and mdadm themselves, read on the host as the kernel reads them; damage and lies end as notes."""

from __future__ import annotations

import shutil
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest

from drivers.facts import Disk, FileSystem, GuestFacts, Partition, Volume
from drivers.inspection import inspect_disks, needs_appliance
from drivers.layout import Device, Layout, Sources, lay_out
from drivers.offline import OfflineTree, open_device
from drivers.volumes import MappedVolume
from p2v.core import lvm, md
from tests.drivers.raw_reader import RawReader
from tests.drivers.volume_disks import BIG, disks

pytestmark = pytest.mark.xdist_group("volume-disks")

MIB = 1024 * 1024


def inspected(*paths: Path) -> GuestFacts:
    with ExitStack() as stack:
        readers = [RawReader(path) for path in paths]
        for reader in readers:
            stack.callback(reader.close)
        return inspect_disks(readers)


def volume(facts: GuestFacts | Layout, device: str) -> Volume:
    return next(found for found in facts.volumes if found.device == device)


def contents(paths: tuple[Path, ...], device: str, path: str) -> bytes:
    readers = [RawReader(each) for each in paths]
    try:
        tree = OfflineTree(open_device(volume(lay_out(readers), device), readers))
        return tree.read(path, 64 * MIB)
    finally:
        for reader in readers:
            reader.close()


def copied(folder: Path, machine: str) -> tuple[Path, ...]:
    return tuple(Path(shutil.copy(path, folder)) for path in disks(machine))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_system_on_logical_volumes_is_found_and_mounted_as_its_fstab_says() -> None:
    facts = inspected(*disks("lvm"))
    assert facts.root is not None
    assert (facts.root.mountpoint, facts.root.volume) == ("/", "/dev/mapper/sys-root")
    assert {mount.mountpoint: mount.volume for mount in facts.mounts} == {
        "/": "/dev/mapper/sys-root", "/boot": "", "/var": "/dev/mapper/sys-big--data",
    }  # fmt: skip
    assert needs_appliance(Layout.of(facts), facts) == ""
    system = facts.filesystem_of(facts.root)
    assert system is not None
    assert system.kind == "ext4"


def test_a_volume_in_two_pieces_on_two_disks_reads_as_its_file_system_wrote_it() -> None:
    found = volume(inspected(*disks("lvm")), "/dev/mapper/sys-big--data")
    assert {segment.disk for segment in found.segments} == {0, 1}
    assert sum(segment.length for segment in found.segments) == found.size_bytes
    assert contents(disks("lvm"), "/dev/mapper/sys-big--data", "/big") == BIG


def test_both_names_of_a_logical_volume_are_known() -> None:
    assert volume(inspected(*disks("lvm")), "/dev/mapper/sys-big--data").aliases == ("/dev/sys/big-data",)


def test_a_missing_physical_volume_is_said_and_only_what_stands_on_it_is_lost() -> None:
    facts = inspected(disks("lvm")[0])
    assert any("sys lacks 1 of 2" in note for note in facts.notes)
    assert facts.root is not None
    assert facts.root.volume == "/dev/mapper/sys-root"
    lost = volume(facts, "/dev/mapper/sys-big--data")
    assert lost.segments == ()
    assert lost.filesystem is not None
    assert "missing" in lost.filesystem.why_not_host


def test_a_striped_volume_is_left_to_the_appliance() -> None:
    facts = inspected(*disks("striped"))
    assert facts.root is None
    assert "striped" in needs_appliance(Layout.of(facts), facts)


def test_lvm_inside_a_mirror_is_read_through_the_mirror() -> None:
    facts = inspected(*disks("mirror"))
    assert facts.root is not None
    assert facts.root.volume == "/dev/mapper/vg-root"
    assert [mount.volume for mount in facts.mounts if mount.mountpoint == "/boot"] == ["/dev/md/boot"]
    assert needs_appliance(Layout.of(facts), facts) == ""


@pytest.mark.parametrize("only", [0, 1])
def test_half_a_mirror_is_enough(only: int) -> None:
    facts = inspected(disks("mirror")[only])
    assert facts.root is not None
    assert facts.root.volume == "/dev/mapper/vg-root"
    assert contents((disks("mirror")[only],), "/dev/md/boot", "/vmlinuz") == b"mirrored kernel"


def test_a_member_that_fell_behind_is_not_read(tmp_path: Path) -> None:
    first, second = copied(tmp_path, "mirror")
    facts = inspected(first, second)
    stale = next(p for p in facts.partitions if (p.disk, p.number) == (0, 1))
    # version 1.0: the superblock near the end; its event count says how far the member came
    superblock = stale.offset + (stale.length // 512 - 16) // 8 * 8 * 512
    overwrite(first, superblock + 200, struct.pack("<Q", 0))
    overwrite(first, stale.offset, bytes(4 * MIB))
    assert contents((first, second), "/dev/md/boot", "/vmlinuz") == b"mirrored kernel"


def test_metadata_whose_checksum_is_wrong_count_as_absent(tmp_path: Path) -> None:
    first, second = copied(tmp_path, "lvm")
    carriers = [p for p in inspected(first, second).partitions if p.filesystem and p.filesystem.kind == "lvm2"]
    for path, part in zip((first, second), carriers, strict=True):
        raw = bytearray(path.read_bytes()[part.offset : part.offset + MIB])
        at = raw.find(b"extent_size")
        while at >= 0:
            raw[at] ^= 1
            at = raw.find(b"extent_size", at + 1)
        overwrite(path, part.offset, bytes(raw))
    facts = inspected(first, second)
    assert facts.volumes == ()
    assert needs_appliance(Layout.of(facts), facts)


@pytest.mark.parametrize(
    "text",
    [
        "vg { extent_size = 8192",
        "vg { extent_size = ",
        "} ",
        "vg { " * 100,
        "vg = [1, 2",
        'vg { extent_size = "8192" seqno = 1 }',
        'vg { extent_size = 1 id = "x" logical_volumes { a { id = "y" status = ["VISIBLE"] segment1 { type = "striped" } } } }',
        "vg § 1",
    ],
)  # fmt: skip
def test_metadata_that_make_no_sense_are_refused_in_words(text: str) -> None:
    with pytest.raises(lvm.BadMetadata, match=r"\w"):
        lvm.newest_groups([lvm.PhysicalVolume("pv", 1, text)])


def test_a_number_of_a_million_digits_takes_no_time() -> None:
    assert lvm.parse_text(f"a = {'9' * 1_000_000}")["a"] == "9" * 1_000_000


def test_the_newest_description_of_a_group_counts() -> None:
    text = 'vg {{ id = "u" seqno = {} extent_size = 1 logical_volumes {{ {} {{ id = "l" status = ["VISIBLE"] }} }} }}'
    labels = [lvm.PhysicalVolume(str(n), 1, text.format(n, name)) for n, name in ((2, "new"), (1, "old"))]
    (group,) = lvm.newest_groups(labels)
    assert [each.name for each in group.volumes] == ["new"]


def test_a_superblock_that_reaches_past_its_member_is_none(tmp_path: Path) -> None:
    path = tmp_path / "member"
    raw = bytearray(MIB)
    struct.pack_into("<II", raw, 4096, md.MAGIC, 1)
    struct.pack_into("<Q", raw, 4096 + 80, 1 << 60)
    struct.pack_into("<Q", raw, 4096 + 144, 8)
    path.write_bytes(raw)
    reader = RawReader(path)
    assert md.read_member(reader) is None
    reader.close()


def test_an_old_superblock_is_read_in_either_byte_order(tmp_path: Path) -> None:
    for order in "<>":
        raw = bytearray(256 * 1024)
        at = len(raw) - 64 * 1024
        struct.pack_into(order + "IIII", raw, at, md.MAGIC, 0, 90, 0)
        struct.pack_into(order + "IIii", raw, at + 20, 7, 0, 1, 128)
        struct.pack_into(order + "III", raw, at + 36, 2, 2, 3)
        struct.pack_into(order + "I", raw, at + 3968 + 16, 0b110)
        path = tmp_path / f"old{ord(order)}"
        path.write_bytes(raw)
        reader = RawReader(path)
        member = md.read_member(reader)
        reader.close()
        assert member is not None
        assert (member.level, member.size_bytes, member.name, member.usable) == (md.MIRROR, 128 * 1024, "3", True)
        (array,) = md.assemble({0: member})
        assert (array.device, array.problem) == ("/dev/md3", "")


def test_a_mapped_volume_ends_where_it_ends() -> None:
    (path,) = disks("luks")
    reader = RawReader(path)
    mapped = MappedVolume((), 0, [reader])
    assert mapped.pread(10, 0) == b""
    reader.close()


def test_members_of_one_btrfs_are_one_source_and_copies_of_one_ext4_are_none() -> None:
    def found(kind: str) -> tuple[Device | None, str]:
        parts = tuple(Partition(disk, 1, MIB, MIB, "83", filesystem=FileSystem(kind, "aa-bb")) for disk in (0, 1))
        return Sources(Layout((Disk(0, MIB, "mbr"), Disk(1, MIB, "mbr")), parts), None, ()).find("UUID=aa-bb")

    device, problem = found("btrfs")
    assert isinstance(device, Partition)
    assert (device.disk, problem) == (0, "")
    assert found("ext4") == (None, "2 partitions have it")
