"""Whole disks: partition tables, volume groups and mirrors on the way to the file systems; and what is copied whole."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from converters.allocation.findings import Unused
from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.allocation.volume import Place, Volume
from converters.image import open_disk
from p2v.core import lvm
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, run, unused
from tests.drivers import volume_disks
from tests.drivers.making import make_disk, make_ext, patch

EXT, LVM = "free blocks of ext2/3/4", "free extents of LVM"
GPT = "label: gpt\n"
SWAP_UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def ext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system of 8 MiB with some files in it."""
    folder = tmp_path_factory.mktemp("ext")
    made.scatter(folder / "files", seed=5, budget=3 * MIB, largest=100 * KIB)
    return make_ext(folder / "ext", 8 * MIB, folder / "files")


def whole(found: Unused) -> dict[str, str]:
    return {volume.name: volume.why_whole for volume in found.volumes}


def shifted(left_out: LeftOut, offset: int) -> list[tuple[int, int]]:
    return [(each.offset + offset, each.length) for each in left_out]


def ranges(left_out: LeftOut) -> list[tuple[int, int]]:
    return shifted(left_out, 0)


@pytest.fixture(scope="module")
def alone(ext: Path) -> LeftOut:
    """What is free in the file system by itself: a disk without a table is one volume."""
    return made.only(unused(ext))


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("2048,16384\n18432,16384\n", ["disk 1, partition 1", "disk 1, partition 2"]),
        ("2048,16384\n18432,20000,E\n20480,16384\n", ["disk 1, partition 1", "disk 1, partition 5"]),
        (f"{GPT}2048,16384\n18432,16384\n", ["disk 1, partition 1", "disk 1, partition 2"]),
    ],
    ids=["mbr", "logical", "gpt"],
)
def test_partitions_of_every_table_are_looked_into(
    tmp_path: Path, ext: Path, alone: LeftOut, script: str, names: list[str]
) -> None:
    places = [MIB, 20480 * 512 if "E" in script else 9 * MIB]
    disk = make_disk(tmp_path / "disk", 24 * MIB, script, [(place, ext) for place in places])
    found = unused(disk)
    assert whole(found) == dict.fromkeys(names, "")
    assert ranges(found.disks[0]) == [each for place in places for each in shifted(alone, place)]


def test_a_partition_table_of_4096_byte_sectors(tmp_path: Path, ext: Path, alone: LeftOut) -> None:
    small = make_disk(tmp_path / "small", 24 * MIB, f"{GPT}2048,16384\n", [])
    raw = bytearray(24 * MIB)
    # the same header and entries, counted in larger sectors, as a disk with such sectors has them
    head = bytearray(small.read_bytes()[512:1024])
    entry = bytearray(small.read_bytes()[1024:1152])
    struct.pack_into("<QQ", entry, 32, 256, 256 + 2047)
    entries = bytes(entry) + bytes(127 * 128)
    struct.pack_into("<QQQQ", head, 24, 1, 6143, 6, 6000)
    struct.pack_into("<QIII", head, 72, 2, 128, 128, zlib.crc32(entries))
    struct.pack_into("<I", head, 16, 0)
    struct.pack_into("<I", head, 16, zlib.crc32(bytes(head[:92])))
    raw[:512] = small.read_bytes()[:512]
    raw[4096 : 4096 + 512], raw[8192 : 8192 + len(entries)] = head, entries
    raw[MIB : 9 * MIB] = ext.read_bytes()
    (tmp_path / "disk").write_bytes(raw)
    assert ranges(made.only(unused(tmp_path / "disk"))) == shifted(alone, MIB)


def _overlap(disk: Path) -> None:
    patch(disk, 446 + 16 + 8, struct.pack("<I", 3000))


def _past_the_end(disk: Path) -> None:
    patch(disk, 446 + 16 + 12, struct.pack("<I", 1 << 20))


def _dynamic(disk: Path) -> None:
    patch(disk, 446 + 4, b"\x42")


def _boot_sector_too(disk: Path) -> None:
    patch(disk, 0, b"\xeb\x58\x90mkfs.fat\x00\x02\x08\x20\x00\x02\x00\x00\x00\x80\xf8\x00\x01")


def _signature_in_the_gap(disk: Path) -> None:
    patch(disk, 64 * KIB + 64, b"_BHRfS_M")


def _large_sectors(disk: Path) -> None:
    patch(disk, 8 * MIB + 1024 + 56, b"\x53\xef")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_overlap, "overlap"),
        (_past_the_end, "past its end"),
        (_dynamic, "dynamic disks"),
        (_boot_sector_too, "a file system in one place"),
        (_signature_in_the_gap, "signature of Btrfs"),
        (_large_sectors, "sectors of 4096 bytes"),
    ],
)
def test_a_disk_whose_table_is_odd_is_copied_whole(
    tmp_path: Path, ext: Path, damage: Callable[[Path], None], why: str
) -> None:
    disk = make_disk(tmp_path / "disk", 24 * MIB, "2048,16384\n18432,16384\n", [(MIB, ext), (9 * MIB, ext)])
    assert len(unused(disk).disks[0]) >= 2
    damage(disk)
    found = unused(disk)
    assert why in whole(found)["disk 1"]
    assert not found.disks[0].total


def test_two_gpts_that_differ_are_not_believed(tmp_path: Path, ext: Path) -> None:
    disk = make_disk(tmp_path / "disk", 24 * MIB, f"{GPT}2048,16384\n", [(MIB, ext)])
    other = make_disk(tmp_path / "other", 24 * MIB, f"{GPT}2048,16384\n18432,2048\n")
    patch(disk, 24 * MIB - 33 * 512, other.read_bytes()[-33 * 512 :])
    assert "differ" in whole(unused(disk))["disk 1"]
    # a backup that is gone is none that differs: disks are grown, and the backup stays where the end was
    patch(disk, 24 * MIB - 33 * 512, bytes(33 * 512))
    assert unused(disk).disks[0].total


def test_a_chain_of_logical_partitions_that_is_a_loop_is_not_believed(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 24 * MIB, "2048,40000,E\n4096,4000\n12288,4000\n")
    patch(disk, 2048 * 512 + 446 + 16 + 8, struct.pack("<I", 0))
    assert "loop" in whole(unused(disk))["disk 1"]


def test_a_blank_disk_and_one_without_anything_known_are_copied_whole(tmp_path: Path) -> None:
    for fill in (b"\0", b"\xaa"):
        disk = tmp_path / "disk"
        disk.write_bytes(fill * MIB)
        assert whole(unused(disk)) == {"disk 1": "nothing that is known stands in it"}
    disk.write_bytes(b"\xaa" * 100)
    assert not unused(disk).disks[0].total


def test_a_file_system_longer_than_its_partition_is_copied_whole(tmp_path: Path, ext: Path) -> None:
    disk = make_disk(tmp_path / "disk", 24 * MIB, "2048,8192\n", [(MIB, ext)])
    assert "in a place of" in whole(unused(disk))["disk 1, partition 1"]


def test_a_partition_with_two_signatures_is_copied_whole(tmp_path: Path, ext: Path) -> None:
    disk = make_disk(tmp_path / "disk", 24 * MIB, "2048,16384\n", [(MIB, ext)])
    patch(disk, MIB, b"XFSB")
    assert whole(unused(disk)) == {"disk 1, partition 1": "it has the signatures of ext2/3/4 and XFS"}


@pytest.mark.parametrize("identifier", ["3bd66749292ed84a8399f6a339e3d001", "3b4da89280dd0e4d9e4eb1e3284eaed8"])
def test_bitlocker_to_go_is_copied_whole_although_it_looks_like_fat(tmp_path: Path, identifier: str) -> None:
    plain = tmp_path / "fat"
    made.poisoned(plain, 40 * MIB)
    run("mkfs.vfat", "-F", "32", "-s", "1", plain)
    assert whole(unused(plain)) == {"disk 1": ""}
    locked = patch(patch(plain, 3, b"MSWIN4.1"), 424, bytes.fromhex(identifier))
    assert whole(unused(locked)) == {"disk 1": "it has the signatures of FAT and BitLocker"}


# --- swap --------------------------------------------------------------------------------------------------------------


def swap_disk(tmp_path: Path, *options: str) -> Path:
    disk = made.poisoned(tmp_path / "disk", 24 * MIB)
    disk.chmod(0o600)
    run("sfdisk", "-q", disk, stdin="2048,16384\n")
    area = made.poisoned(tmp_path / "area", 8 * MIB)
    run("mkswap", "-L", "label", "-U", SWAP_UUID, *options, area)
    return patch(disk, MIB, area.read_bytes())


@pytest.mark.parametrize("page", ["4096", "16384", "65536"])
def test_a_swap_area_keeps_its_header_label_and_uuid(tmp_path: Path, page: str) -> None:
    disk = swap_disk(tmp_path, "-p", page)
    left_out = made.only(unused(disk))
    assert [(r.offset, r.length, r.kind) for r in left_out] == [(MIB + 64 * KIB, 8 * MIB - 64 * KIB, "contents of swap")]
    copy = made.copied(disk, left_out)
    part = tmp_path / "part"
    part.write_bytes(copy.read_bytes()[MIB : 9 * MIB])
    assert run("swaplabel", part).split() == ["LABEL:", "label", "UUID:", SWAP_UUID]


@pytest.mark.parametrize("signature", [b"S1SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"])
def test_a_swap_area_with_a_suspended_machine_in_it_is_copied_whole(tmp_path: Path, signature: bytes) -> None:
    disk = patch(swap_disk(tmp_path), MIB + 4086, signature)
    assert whole(unused(disk)) == {"disk 1, partition 1": "it holds the memory of a suspended machine"}


def test_a_swap_area_longer_than_its_partition_is_copied_whole(tmp_path: Path) -> None:
    disk = patch(swap_disk(tmp_path), MIB + 1028, struct.pack("<I", 5000))
    assert "in a place of" in whole(unused(disk))["disk 1, partition 1"]


# --- volumes ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], list[Path]]:
    """Copies of the disks of a machine with volumes."""

    def copies(name: str) -> list[Path]:
        return [Path(shutil.copy(disk, tmp_path / disk.name)) for disk in volume_disks.disks(name)]

    return copies


def garbage(disks: Sequence[Path], found: Unused) -> None:
    """Overwrite all that does not travel: what is still right then never depended on it."""
    for disk, left_out in zip(disks, found.disks, strict=True):
        with disk.open("r+b") as file:
            for each in left_out:
                file.seek(each.offset)
                file.write(b"\xaa" * each.length)


def extract(disks: Sequence[Path], places: Sequence[Place], to: Path) -> Path:
    """The bytes of a volume as a file."""
    readers = [open_disk(disk, "raw") for disk in disks]
    volume = Volume(readers, [(place,) for place in places])
    with to.open("wb") as file:
        for at in range(0, volume.size, MIB):
            file.write(volume.pread(MIB, at))
    for reader in readers:
        reader.close()
    return to


def logical_volume(disks: Sequence[Path], at: Sequence[int], name: str, to: Path) -> Path:
    """A logical volume as drivers find it: the witness. ``at``: where each disk's physical volume begins."""
    readers = [open_disk(disk, "raw") for disk in disks]
    volumes = [Volume.of_disk(readers, n) for n in range(len(disks))]
    found = [lvm.read_physical_volume(v.part(begin, v.size - begin)) for v, begin in zip(volumes, at, strict=True)]
    labels = [label for label in found if label is not None]
    (group,) = lvm.newest_groups(labels)
    runs = next(volume.runs for volume in group.volumes if volume.name == name)
    disk_of = {label.uuid.replace("-", ""): number for number, label in enumerate(labels)}
    places = [Place(disk_of[run.pv_uuid], at[disk_of[run.pv_uuid]] + run.pv_offset, run.length) for run in runs]
    for reader in readers:
        reader.close()
    return extract(disks, places, to)


def tree(image: Path) -> str:
    run("e2fsck", "-fn", image)
    folder = image.with_name(image.name + ".mnt")
    folder.mkdir()
    run("debugfs", "-R", f"rdump / {folder}", image)
    digest = made.tree_digest(folder)
    shutil.rmtree(folder)
    return digest


def test_free_extents_and_free_blocks_in_logical_volumes(machine: Callable[[str], list[Path]], tmp_path: Path) -> None:
    disks = machine("lvm")
    found = unused(*disks)
    assert {name: why for name, why in whole(found).items() if why} == {"sys/gap": "nothing that is known stands in it"}
    assert found.disks[0].by_kind()[LVM] == 32 * MIB
    assert found.disks[0].by_kind()[EXT] > 90 * MIB
    assert found.disks[1].by_kind() == {EXT: found.disks[1].total}
    begins = [40 * MIB, MIB]
    before = [tree(logical_volume(disks, begins, name, tmp_path / "lv")) for name in ("root", "big-data")]
    gap = logical_volume(disks, begins, "gap", tmp_path / "lv").read_bytes()
    garbage(disks, found)
    assert [tree(logical_volume(disks, begins, name, tmp_path / "lv")) for name in ("root", "big-data")] == before
    assert logical_volume(disks, begins, "gap", tmp_path / "lv").read_bytes() == gap
    assert unused(*disks).volumes == found.volumes


def test_a_logical_volume_on_a_disk_that_is_not_here_is_copied_whole(machine: Callable[[str], list[Path]]) -> None:
    found = unused(machine("lvm")[0])
    assert whole(found)["sys/big-data"] == "it is on a disk that is not here"
    assert whole(found)["sys/root"] == ""
    assert found.disks[0].by_kind()[LVM] == 32 * MIB


def test_both_members_of_a_mirror_lose_the_same(machine: Callable[[str], list[Path]], tmp_path: Path) -> None:
    disks = machine("mirror")
    found = unused(*disks)
    assert set(whole(found).values()) == {""}
    assert ranges(found.disks[0]) == ranges(found.disks[1])
    assert found.disks[0].by_kind()[LVM] == 16 * MIB
    assert found.disks[0].by_kind()[EXT] > 50 * MIB
    boot = [Place(0, MIB, 31 * MIB - 64 * KIB)]
    before = tree(extract(disks, boot, tmp_path / "boot"))
    garbage(disks, found)
    assert tree(extract(disks, boot, tmp_path / "boot")) == before
    # superblocks of both versions are where they were
    assert unused(*disks).volumes == found.volumes


def test_a_mirror_that_is_not_in_sync_is_copied_whole(machine: Callable[[str], list[Path]]) -> None:
    disks = machine("mirror")
    # how far a resynchronisation came, in the superblock of version 1.2 of the second member; its checksum with it
    raw = bytearray(disks[1].read_bytes()[32 * MIB + 4096 : 32 * MIB + 8192])
    struct.pack_into("<Q", raw, 208, 2048)
    roles = struct.unpack_from("<I", raw, 220)[0]
    struct.pack_into("<I", raw, 216, 0)
    total = sum(struct.unpack_from(f"<{(256 + 2 * roles) // 4}I", raw))
    struct.pack_into("<I", raw, 216, (total & 0xFFFFFFFF) + (total >> 32))
    patch(disks[1], 32 * MIB + 4096, bytes(raw))
    found = unused(*disks)
    assert "not in sync" in whole(found)["disk 2, partition 2"]
    # the other one is read by itself
    assert whole(found)["RAID of disk 1, partition 2"] == ""
    assert found.disks[1].by_kind() == {EXT: found.disks[1].total}


def test_members_of_a_stripe_are_copied_whole_but_for_free_extents(machine: Callable[[str], list[Path]]) -> None:
    found = unused(*machine("striped"))
    assert whole(found)["str/root"] == "it is striped over several disks"
    assert [left_out.by_kind() for left_out in found.disks] == [{LVM: left_out.total} for left_out in found.disks]


def test_an_encrypted_volume_is_copied_whole(machine: Callable[[str], list[Path]]) -> None:
    found = unused(*machine("luks"))
    assert whole(found)["disk 1, partition 2"] == "p2v cannot tell which of its blocks are free"


def rewritten(disk: Path, at: int, change: Callable[[bytes], bytes]) -> None:
    """Change the metadata text of a physical volume, checksums and all."""
    raw = disk.read_bytes()
    head = raw[at + 4096 : at + 4096 + 512]
    begin, size = struct.unpack_from("<QQ", head, 40)
    text = change(raw[at + 4096 + begin : at + 4096 + begin + size])
    area = bytearray(head)
    struct.pack_into("<QI", area, 48, len(text), lvm._crc(text))
    struct.pack_into("<I", area, 0, lvm._crc(bytes(area[4:])))
    patch(patch(disk, at + 4096, bytes(area)), at + 4096 + begin, text)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"striped"', b'"novelty"', "a segment of the type novelty"),
        (b'"RESIZEABLE"', b'"CLUSTERED"', "in a state that is not known"),
        (b"segment_count = 1", b"segment_count = 3", "is damaged"),
        (b"pe_count = 39", b"pe_count = 99", "behind its end"),
    ],
)
def test_a_volume_group_that_is_odd_is_copied_whole(
    machine: Callable[[str], list[Path]], old: bytes, new: bytes, why: str
) -> None:
    disks = machine("lvm")
    for disk, at in zip(disks, (40 * MIB, MIB), strict=True):
        rewritten(disk, at, lambda text: text.replace(old, new))
    found = unused(*disks)
    assert why in whole(found)["disk 1, partition 2"]
    assert LVM not in found.disks[0].by_kind()


def test_an_origin_of_snapshots_is_copied_whole(machine: Callable[[str], list[Path]]) -> None:
    """What is free in the origin may still be what the snapshot shows."""
    snapshot = (
        b'snapshot0 {\nid = "x"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\nsegment_count = 1\nsegment1 {\n'
        b'start_extent = 0\nextent_count = 15\ntype = "snapshot"\nchunk_size = 8\norigin = "root"\ncow_store = "gap"\n}\n}\n'
    )
    disks = machine("lvm")
    for disk, at in zip(disks, (40 * MIB, MIB), strict=True):
        rewritten(disk, at, lambda text: text.replace(b"logical_volumes {\n", b"logical_volumes {\n" + snapshot))
    assert "snapshots of it" in whole(unused(*disks))["sys/root"]


def test_thin_volumes_and_the_pool_below_them_are_copied_whole(machine: Callable[[str], list[Path]]) -> None:
    """The pool's data look like a file system where a thin volume's first blocks happen to stand."""
    volume = 'id = "{0}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\n'
    thin = (
        f"pool {{\n{volume.format('x')}extent_count = 15\ntype = \"thin-pool\"\nmetadata = \"gap\"\npool = \"root\"\n"
        f"transaction_id = 2\nchunk_size = 128\n}}\n}}\n"
        f"thin0 {{\n{volume.format('y')}extent_count = 40\ntype = \"thin\"\nthin_pool = \"pool\"\ntransaction_id = 1\n"
        f"device_id = 1\n}}\n}}\n"
        f"snap0 {{\n{volume.format('z')}extent_count = 40\ntype = \"thin\"\nthin_pool = \"pool\"\ntransaction_id = 2\n"
        f"device_id = 2\norigin = \"thin0\"\n}}\n}}\n"
    ).encode()
    disks = machine("lvm")
    before = unused(*disks)
    for disk, at in zip(disks, (40 * MIB, MIB), strict=True):
        rewritten(disk, at, lambda text: text.replace(b"logical_volumes {\n", b"logical_volumes {\n" + thin))
    found = unused(*disks)
    assert whole(before)["sys/root"] == ""
    assert "other volumes are made of it" in whole(found)["sys/root"]
    assert {name for name, why in whole(found).items() if why} >= {"sys/root", "sys/gap", "sys/pool", "sys/thin0", "sys/snap0"}
    # what no volume has is free all the same
    assert found.disks[0].by_kind()[LVM] == before.disks[0].by_kind()[LVM]
    assert found.disks[0].by_kind()[EXT] < before.disks[0].by_kind()[EXT]


def test_logical_volumes_that_share_extents_are_not_believed(machine: Callable[[str], list[Path]]) -> None:
    disks = machine("lvm")
    for disk, at in zip(disks, (40 * MIB, MIB), strict=True):
        rewritten(disk, at, lambda text: text.replace(b'"pv0", 15', b'"pv0", 14'))
    assert "the same extents" in whole(unused(*disks))["disk 1, partition 2"]


# --- ranges of a disk ---------------------------------------------------------------------------------------------------


def test_ranges_that_overlap_are_counted_once() -> None:
    left_out = LeftOut([LeftOutRange(100, 50, "b"), LeftOutRange(0, 120, "a"), LeftOutRange(110, 5, "c")])
    assert [(r.offset, r.length, r.kind) for r in left_out] == [(0, 120, "a"), (120, 30, "b")]
    assert left_out.total == 150


def test_ranges_come_back_from_a_file(tmp_path: Path) -> None:
    left_out = LeftOut([LeftOutRange(0, 10, "a"), LeftOutRange(1 << 50, 5, "b")])
    left_out.save(tmp_path / "list")
    assert ranges(LeftOut.load(tmp_path / "list")) == [(0, 10), (1 << 50, 5)]
    for damaged in (b"", b"P2VLEFT1" + bytes(7), (tmp_path / "list").read_bytes() + b"x"):
        (tmp_path / "list").write_bytes(damaged)
        with pytest.raises(ValueError, match="no list"):
            LeftOut.load(tmp_path / "list")
