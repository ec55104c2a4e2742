"""Where swap files stand: found by names, held against what the files are, and told in their order."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.facts import GuestFacts, Partition, ReadBy, TextFile
from drivers.file_places import places_confined
from drivers.inspection import inspect_disks
from drivers.layout import lay_out, mount_of
from drivers.unneeded import Contents, UnneededFile, unneeded_files
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, NEEDS_MOUNTS, needs
from tests.drivers import volume_disks
from tests.drivers.making import ROOT_UUID, SYSTEM, lay_files, make_disk, make_ext, run
from tests.drivers.placing import SWAP_BYTES, contents, facts_of, found, opened, swap_file

BEGIN = MIB
FSTAB = f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n/swapfile none swap sw 0 0\n"


def guest(folder: Path, *options: str, fstab: str = FSTAB) -> tuple[Path, bytes]:
    """A Linux with a swap file on ext4, and the file's bytes."""
    files = lay_files(folder / "files", {**SYSTEM, "/etc/fstab": fstab})
    swap = swap_file(files / "swapfile")
    part = make_ext(folder / "part", 24 * MIB, files, *options)
    return make_disk(folder / "disk", 32 * MIB, "2048,49152\n", [(BEGIN, part)]), swap


# --- Linux, ext ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [("-t", "ext4"), ("-t", "ext2", "-b", "1024"), ("-t", "ext3"), ("-t", "ext4", "-O", "^metadata_csum,^64bit", "-b", "1024")],
    ids=["ext4", "ext2", "ext3", "ext4-plain"],
)
def test_a_swap_file_that_fstab_names_is_found(tmp_path: Path, options: tuple[str, ...]) -> None:
    disk, swap = guest(tmp_path, *options)
    (places,) = found(disk, facts_of(disk))
    assert places.file == UnneededFile(Contents.SWAP_FILE, "/swapfile", 0, 1)
    assert contents(disk, places) == swap


def fill_and_thin(folder: Path) -> None:
    """Files until there is no more room, then every second away."""
    names = [folder / f"noise{number}" for number in range(10_000)]
    with pytest.raises(OSError, match="No space"):
        _fill(names)
    names = [name for name in names if name.exists()]
    for name in names[::2]:
        name.unlink()
    os.sync()


def _fill(names: list[Path]) -> None:
    for name in names:
        name.write_bytes(os.urandom(40 * KIB))


def test_a_scattered_swap_file_is_told_in_its_own_order(tmp_path: Path) -> None:
    files = lay_files(tmp_path / "files", {**SYSTEM, "/etc/fstab": FSTAB})
    part = make_ext(tmp_path / "part", 24 * MIB, files, "-b", "1024")
    with made.mounted(part, "ext4") as folder:
        fill_and_thin(folder)
        # written where there is room between the others, begin and end by turns
        with (folder / "swapfile").open("wb") as file:
            for number in (3, 0, 2, 1):
                file.seek(number * 256 * KIB)
                file.write(os.urandom(256 * KIB))
                file.flush()
                os.fsync(file.fileno())
        made.run("mkswap", folder / "swapfile")
        swap = (folder / "swapfile").read_bytes()
    disk = make_disk(tmp_path / "disk", 32 * MIB, "2048,49152\n", [(BEGIN, part)])
    (places,) = found(disk, facts_of(disk))
    assert len(places.segments) > 1
    assert contents(disk, places) == swap


def test_room_given_out_and_never_written_to_is_told_too(tmp_path: Path) -> None:
    files = lay_files(tmp_path / "files", {**SYSTEM, "/etc/fstab": FSTAB})
    part = make_ext(tmp_path / "part", 24 * MIB, files)
    with made.mounted(part, "ext4") as folder:
        with (folder / "swapfile").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, SWAP_BYTES)
        made.run("mkswap", folder / "swapfile")
    disk = make_disk(tmp_path / "disk", 32 * MIB, "2048,49152\n", [(BEGIN, part)])
    (places,) = found(disk, facts_of(disk))
    assert sum(segment.length for segment in places.segments) == SWAP_BYTES
    assert contents(disk, places)[4086:4096] == b"SWAPSPACE2"


def debugfs(*commands: str) -> Callable[[Path], None]:
    def change(part: Path) -> None:
        for command in commands:
            run("debugfs", "-w", "-R", command, part)

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (debugfs("ln /swapfile /other", "sif /swapfile links_count 2"), "2 names"),
        (debugfs("sif /swapfile flags 0x80800"), "cannot be read"),
        (debugfs("punch /swapfile 300 400"), "holes"),
        (debugfs("sif /swapfile mode 0060600"), "no file"),
        (debugfs("sif /swapfile size 9000000"), "holes"),
        (debugfs("rm /swapfile", "symlink /swapfile /bin/sh"), "a link"),
        (debugfs("feature needs_recovery"), "replayed"),
    ],
    ids=["names", "encrypted", "holes", "device", "size", "link", "dirty"],
)
def test_a_file_of_which_anything_is_odd_is_told_with_the_reason(
    tmp_path: Path, change: Callable[[Path], None], why: str
) -> None:
    disk, _ = guest(tmp_path, "-b", "4096")
    facts = facts_of(disk)
    part = tmp_path / "part"
    change(part)
    make_disk(disk, 32 * MIB, "2048,49152\n", [(BEGIN, part)])
    with opened(disk) as readers:
        layout = lay_out(readers)
        changed = GuestFacts(facts.read_by, layout.disks, layout.partitions, mounts=facts.mounts, texts=facts.texts)
        (places,) = places_confined(unneeded_files(changed, hibernation=False), changed, readers)
    assert why in places.why_whole
    assert not places.segments


def test_a_file_that_is_not_there_is_not_told_of(tmp_path: Path) -> None:
    disk, _ = guest(tmp_path, fstab=FSTAB.replace("/swapfile", "/gone"))
    assert found(disk, facts_of(disk)) == ()


def test_a_tree_of_extents_that_is_a_loop_ends(tmp_path: Path) -> None:
    disk, _ = guest(tmp_path, "-O", "^metadata_csum", "-b", "1024")
    facts = facts_of(disk)
    # a tree one level deep whose only child is the block of its own inode
    inode = run("debugfs", "-R", "imap /swapfile", tmp_path / "part")
    raw = bytearray((tmp_path / "part").read_bytes())
    where, offset = _inode_place(inode)
    struct.pack_into("<HHHHI", raw, where * 1024 + offset + 40, 0xF30A, 1, 4, 1, 0)
    struct.pack_into("<IIHH", raw, where * 1024 + offset + 52, 0, where, 0, 0)
    (tmp_path / "part").write_bytes(raw)
    make_disk(disk, 32 * MIB, "2048,49152\n", [(BEGIN, tmp_path / "part")])
    (places,) = found(disk, facts)
    assert places.why_whole


def _inode_place(text: str) -> tuple[int, int]:
    """Block and offset that debugfs' imap tells."""
    words = text.replace(",", " ").split()
    return int(words[words.index("at") + 2]), int(words[words.index("offset") + 1], 16)


# --- what fstab names ---------------------------------------------------------------------------------------------------


def test_devices_and_odd_paths_are_no_swap_files(tmp_path: Path) -> None:
    specs = ("/dev/sda2", "UUID=1", "/a/../b", "swap", "/")
    lines = "".join(f"{spec} none swap sw 0 0\n" for spec in specs)
    disk, _ = guest(tmp_path)
    facts = facts_of(disk)
    texts = {"/etc/fstab": TextFile("/etc/fstab", "/etc/fstab", lines)}
    named = unneeded_files(GuestFacts(ReadBy.HOST, (), facts.partitions, mounts=facts.mounts, texts=texts), hibernation=True)
    assert [file.path for file in named] in ([], ["/"])


# --- Linux, XFS ---------------------------------------------------------------------------------------------------------


def xfs_guest(
    folder: Path, fill: Callable[[Path], object], *options: str, swap: str = "/swapfile"
) -> tuple[Path, GuestFacts]:
    """A partition with an XFS, whose fstab is made up."""
    part = made.poisoned(folder / "part", 320 * MIB)
    made.run("mkfs.xfs", "-q", "-f", "-i", "nrext64=0", *options, part)
    with made.mounted(part, "xfs", "nouuid") as mounted:
        fill(mounted)
    disk = make_disk(folder / "disk", 330 * MIB, "2048,655360\n", [(BEGIN, part)])
    part.unlink()
    with opened(disk) as readers:
        layout = lay_out(readers)
    (partition,) = layout.partitions
    texts = {"/etc/fstab": TextFile("/etc/fstab", "/etc/fstab", f"{swap} none swap sw 0 0\n")}
    return disk, GuestFacts(ReadBy.HOST, layout.disks, layout.partitions, mounts=(mount_of(partition, "/"),), texts=texts)


@NEEDS_MOUNTS
@needs("mkfs.xfs")
@pytest.mark.parametrize("options", [(), ("-m", "rmapbt=1"), ("-b", "size=1024")], ids=["plain", "rmapbt", "1k"])
def test_a_swap_file_on_xfs_is_found(tmp_path: Path, options: tuple[str, ...]) -> None:
    swap = b""

    def fill(folder: Path) -> None:
        nonlocal swap
        made.scatter(folder / "noise", seed=8, budget=20 * MIB)
        swap = swap_file(folder / "swapfile")

    disk, facts = xfs_guest(tmp_path, fill, *options)
    (places,) = found(disk, facts)
    assert contents(disk, places) == swap
    disk.unlink()


def kernels_places(file: Path) -> list[tuple[int, int]]:
    """Offset in the file system and length of each extent, as the kernel tells them."""
    lines = re.findall(r"\]: (\d+)\.\.(\d+)", made.run("xfs_bmap", file))
    return [(int(first) * 512, (int(last) + 1 - int(first)) * 512) for first, last in lines]


@NEEDS_MOUNTS
@needs("mkfs.xfs", "xfs_bmap")
@pytest.mark.parametrize(("folders", "size"), [(2, SWAP_BYTES), (0, 100 * MIB)], ids=["in the second", "in two"])
@pytest.mark.parametrize("is_written", [True, False], ids=["written", "never written"])
def test_a_swap_file_on_xfs_is_found_in_every_allocation_group(
    tmp_path: Path, folders: int, size: int, is_written: bool
) -> None:
    """Groups have 80 MiB here, which is no power of two: blocks are numbered with gaps between them."""
    swap, extents = f"/folder{folders}/swapfile" if folders else "/swapfile", list[tuple[int, int]]()

    def fill(folder: Path) -> None:
        for number in range(1, folders + 1):
            (folder / f"folder{number}").mkdir()  # each in the next group
        file = folder / swap.lstrip("/")
        if is_written:
            swap_file(file, size)
        else:
            with file.open("wb") as opened_file:
                for at in range(0, size, 50 * MIB):
                    os.posix_fallocate(opened_file.fileno(), at, min(size - at, 50 * MIB))
            made.run("mkswap", file)
        extents.extend(kernels_places(file))

    disk, facts = xfs_guest(tmp_path, fill, swap=swap)
    (places,) = found(disk, facts)
    assert not places.why_whole
    assert joined((each.disk_offset - BEGIN, each.length) for each in places.segments) == joined(extents)
    assert max(offset for offset, _ in extents) > 80 * MIB
    disk.unlink()


def joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The runs, those that follow each other as one."""
    found_runs: list[tuple[int, int]] = []
    for offset, length in runs:
        if found_runs and sum(found_runs[-1]) == offset:
            offset, length = found_runs[-1][0], found_runs.pop()[1] + length
        found_runs.append((offset, length))
    return found_runs


@NEEDS_MOUNTS
@needs("mkfs.xfs")
def test_a_swap_file_on_xfs_that_shares_blocks_travels(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        swap_file(folder / "swapfile")
        made.run("cp", "--reflink=always", folder / "swapfile", folder / "copy")

    disk, facts = xfs_guest(tmp_path, fill)
    (places,) = found(disk, facts)
    assert "shares blocks" in places.why_whole
    disk.unlink()


# --- what is gone ---------------------------------------------------------------------------------------------------------


def test_a_partition_that_is_not_there_any_more(tmp_path: Path) -> None:
    disk, _ = guest(tmp_path)
    facts = facts_of(disk)
    gone = GuestFacts(facts.read_by, facts.disks, (Partition(0, 7, 0, MIB, "83"),), mounts=facts.mounts, texts=facts.texts)
    (places,) = found(disk, gone)
    assert "not there" in places.why_whole

# --- volumes ------------------------------------------------------------------------------------------------------------


def test_a_file_in_a_logical_volume_is_found_on_the_disks_below(tmp_path: Path) -> None:
    """Its volume is in two pieces, on two disks; /var is mounted by fstab, which names the file by its path in the guest."""
    disks = volume_disks.disks("lvm")
    with opened(*disks) as readers:
        facts = inspect_disks(readers)
        table = facts.texts["/etc/fstab"]
        text = replace(table, text=f"{table.text}/var/big none swap sw 0 0\n")
        named = unneeded_files(replace(facts, texts={**facts.texts, "/etc/fstab": text}), hibernation=False)
        assert [(file.path, file.volume) for file in named] == [("/big", "/dev/mapper/sys-big--data")]
        (places,) = places_confined(named, facts, readers)
        parts = [readers[s.disk].pread(s.length, s.disk_offset) for s in places.segments]
        assert b"".join(parts) == volume_disks.BIG


def test_what_no_reader_can_map_travels(tmp_path: Path) -> None:
    for machine, kind, why in (("striped", "unknown", "striped"), ("btrfs", "btrfs", "")):
        with opened(*volume_disks.disks(machine)) as readers:
            layout = lay_out(readers)
            device = next(d for d in reversed(layout.devices) if d.filesystem is not None and d.filesystem.kind == kind)
            mounts = (mount_of(device, "/"),)
            texts = {"/etc/fstab": TextFile("/etc/fstab", "/etc/fstab", "/swapfile none swap sw 0 0\n")}
            facts = GuestFacts(ReadBy.HOST, layout.disks, layout.partitions, mounts=mounts, texts=texts, volumes=layout.volumes)
            (places,) = places_confined(unneeded_files(facts, hibernation=False), facts, readers)
        assert places.why_whole
        assert why in places.why_whole
        assert not places.segments
