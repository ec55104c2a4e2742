"""Every reason to copy a file system whole: it is dirty, asleep, of a kind that is not known, or contradicts itself."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.allocation.volume import Volume
from converters.image import open_disk
from p2v.core.ntfs_records import NtfsVolume
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, NEEDS_MOUNTS, needs, run, unused
from tests.drivers.making import patch, sized

EXT_BLOCK = KIB


def why_whole(image: Path) -> str:
    """The reason for the one volume of a disk, of which then all travels."""
    found = unused(image)
    assert len(found.volumes) == 1
    assert bool(found.volumes[0].why_whole) == (found.disks[0].total == 0)
    return found.volumes[0].why_whole


# --- ext -----------------------------------------------------------------------------------------------------------------


def make_ext(path: Path, *options: str) -> Path:
    run("mke2fs", "-q", "-F", "-b", str(EXT_BLOCK), *options, sized(path, 32 * MIB))
    return path


def _superblock(form: str, offset: int, value: int) -> Callable[[Path], object]:
    return lambda image: patch(image, 1024 + offset, struct.pack(form, value))


def field(image: Path, name: str, number: int) -> int:
    """A number of dumpe2fs's: of one of the groups."""
    return int(re.findall(rf"{name}[^0-9]*(\d+)", run("dumpe2fs", image))[number])


def _bitmap_bit_and_count(image: Path) -> None:
    """A block of the inode table called free, and every count made to fit."""
    table, bitmap = field(image, "Inode table at", 0), field(image, "Block bitmap at", 0)
    at = bitmap * EXT_BLOCK + (table - 1) // 8
    patch(image, at, bytes([image.read_bytes()[at] & ~(1 << (table - 1) % 8)]))
    _counts(image)


def _counts(image: Path) -> None:
    """One more free block in the first group, and in the whole."""
    for place, form in ((2048 + 12, "<H"), (1024 + 12, "<I")):
        (count,) = struct.unpack_from(form, image.read_bytes(), place)
        patch(image, place, struct.pack(form, count + 1))


def _bitmap_bit(image: Path) -> None:
    at = field(image, "Block bitmap at", 0) * EXT_BLOCK
    patch(image, at, b"\x7f")


EXT_DOUBTS: dict[str, tuple[tuple[str, ...], Callable[[Path], object], str]] = {
    "recovery": (("-t", "ext4", "-O", "^metadata_csum"), _superblock("<I", 0x60, 0x2C6), "has to be replayed"),
    "not unmounted": (("-t", "ext2"), _superblock("<H", 0x3A, 0), "not unmounted cleanly"),
    "errors": (("-t", "ext2"), _superblock("<H", 0x3A, 3), "errors were found"),
    "errors counted": (("-t", "ext2"), _superblock("<I", 0x194, 1), "errors were found"),
    "orphans": (("-t", "ext2"), _superblock("<I", 0xE8, 12), "still to be freed"),
    "unknown compat": (("-t", "ext2"), _superblock("<I", 0x5C, 0x80000000), "not known"),
    "unknown incompat": (("-t", "ext2"), _superblock("<I", 0x60, 0x00800002), "not known"),
    "unknown ro_compat": (("-t", "ext2"), _superblock("<I", 0x64, 0x80000000), "not known"),
    "compression": (("-t", "ext2"), _superblock("<I", 0x60, 0x3), "not known"),
    "orphan file": (("-t", "ext2"), _superblock("<I", 0x64, 0x10001), "still to be freed"),
    "checksum": (("-t", "ext4"), _superblock("<B", 0x78, 65), "fails its checksum"),
    "free blocks": (("-t", "ext2"), _superblock("<I", 0x0C, 100), "its superblock counts"),
    "counts that fit each other": (("-t", "ext2"), _counts, "and its bitmap"),
    "bitmap": (("-t", "ext4"), _bitmap_bit, "bitmap of group 0 fails its checksum"),
    "bitmap, no checksum": (("-t", "ext2"), _bitmap_bit, "group 0"),
    "own blocks": (("-t", "ext2"), _bitmap_bit_and_count, "that the file system itself is in"),
    "descriptor": (("-t", "ext4"), lambda i: patch(i, 2048, b"\x07"), "descriptor of group 0 fails its checksum"),
    "in use": (("-t", "ext4", "-O", "mmp,^metadata_csum"), lambda i: None, ""),
}


@pytest.mark.parametrize("name", EXT_DOUBTS)
def test_ext_that_is_in_doubt_is_copied_whole(tmp_path: Path, name: str) -> None:
    options, damage, why = EXT_DOUBTS[name]
    image = make_ext(tmp_path / "disk", *options)
    assert why_whole(image) == ""
    damage(image)
    if why:
        assert why in why_whole(image)


def test_ext_that_another_machine_has_mounted_is_copied_whole(tmp_path: Path) -> None:
    image = make_ext(tmp_path / "disk", "-t", "ext4", "-O", "mmp,^metadata_csum")
    assert why_whole(image) == ""
    block = int(re.search(r"MMP block number: +(\d+)", run("dumpe2fs", "-h", image))[1])  # type: ignore[index]
    patch(image, block * EXT_BLOCK + 4, struct.pack("<I", 17))
    assert why_whole(image) == "another machine has it mounted"


@NEEDS_MOUNTS
def test_ext_that_is_mounted_is_copied_whole(tmp_path: Path) -> None:
    image = make_ext(tmp_path / "disk", "-t", "ext4")
    with made.mounted(image, "ext4") as folder:
        (folder / "file").write_bytes(b"x" * MIB)
        run("sync", "-f", folder)
        assert "has to be replayed" in why_whole(image)
    assert why_whole(image) == ""


def test_the_journal_of_another_file_system_is_copied_whole(tmp_path: Path) -> None:
    journal = sized(tmp_path / "journal", 16 * MIB)
    run("mke2fs", "-q", "-F", "-O", "journal_dev", "-b", "1024", journal)
    assert why_whole(journal) == "it is the journal of another file system"


# --- XFS -----------------------------------------------------------------------------------------------------------------


def make_xfs(path: Path, *options: str) -> Path:
    run("mkfs.xfs", "-q", "-f", *options, sized(path, 320 * MIB))
    return path


XFS_DOUBTS: dict[str, tuple[tuple[str, ...], list[str], str]] = {
    "unknown incompat": ((), ["sb 0", "write -d features_incompat 0x8001"], "not known (0x8000)"),
    "needs repair": ((), ["sb 0", "write -d features_incompat 0x11"], "needing repair"),
    "unknown ro_compat": ((), ["sb 0", "write -d features_ro_compat 0x800d"], "not known"),
    "free blocks": ((), ["sb 0", "write -d fdblocks 1234"], "its superblock counts 1234"),
    "group's free blocks": ((), ["agf 1", "write -d freeblks 77"], "group 1 counts 77 free blocks"),
    "reserved": ((), ["agf 1", "write -d flcount 2"], "reserved blocks"),
    "record": ((), ["agf 1", "addr bnoroot", "write -d recs[1].startblock 3"], "group 1"),
    "record, version 4": (("-m", "crc=0"), ["agf 1", "addr bnoroot", "write -d recs[1].startblock 3"], "group 1"),
    "other tree": (("-m", "crc=0"), ["agf 1", "addr cntroot", "write -d recs[1].startblock 9"], "two trees"),
    "root": ((), ["agf 1", "write -d bnoroot 5"], "a tree of group 1 is damaged"),
    "levels": ((), ["agf 1", "write -d bnolevel 2"], "level"),
    "being made": (("-m", "crc=0"), ["sb 0", "write -d inprogress 1"], "being made"),
    "unknown version 4": (("-m", "crc=0"), ["sb 0", "write -d features2 0x1008a"], "not known"),
}


@needs("mkfs.xfs", "xfs_db")
@pytest.mark.parametrize("name", XFS_DOUBTS)
def test_xfs_that_is_in_doubt_is_copied_whole(tmp_path: Path, name: str) -> None:
    options, commands, why = XFS_DOUBTS[name]
    image = make_xfs(tmp_path / "disk", *options)
    assert why_whole(image) == ""
    # -d: what is written gets its checksum, so that it is the contents that are in doubt
    run("xfs_db", "-x", *(part for command in commands for part in ("-c", command)), image)
    assert why in why_whole(image)


@needs("mkfs.xfs")
def test_xfs_whose_checksums_do_not_fit_is_copied_whole(tmp_path: Path) -> None:
    for offset, why in ((108, "its superblock"), (512 + 56, "the header of free space of group 0"), (3 * 512 + 40, "reserved")):
        image = make_xfs(tmp_path / "disk")
        patch(image, offset, b"\x55")
        assert why in why_whole(image)


@needs("mkfs.xfs")
def test_xfs_with_its_log_or_data_elsewhere_is_copied_whole(tmp_path: Path) -> None:
    other = sized(tmp_path / "other", 320 * MIB)
    assert why_whole(make_xfs(tmp_path / "disk", "-l", f"logdev={other},size=64m")) == "its log is on another device"
    assert "realtime" in why_whole(make_xfs(tmp_path / "disk", "-r", f"rtdev={other}", "-m", "rmapbt=0,reflink=0"))


@NEEDS_MOUNTS
@needs("mkfs.xfs")
def test_xfs_that_is_mounted_is_copied_whole(tmp_path: Path) -> None:
    image = make_xfs(tmp_path / "disk")
    with made.mounted(image, "xfs") as folder:
        (folder / "file").write_bytes(b"x" * MIB)
        run("sync", "-f", folder)
        assert "has to be replayed" in why_whole(image)
    assert why_whole(image) == ""


# --- NTFS ----------------------------------------------------------------------------------------------------------------


def make_ntfs(path: Path) -> Path:
    run("mkntfs", "-q", "-F", "-Q", "-c", "4096", sized(path, 48 * MIB))
    return path


def record(image: Path, number: int) -> int:
    """Where a record of the master file table stands."""
    return 4 * 4096 + number * 1024


def _volume_flags(image: Path, flags: int) -> None:
    at = record(image, 3)
    raw = image.read_bytes()[at : at + 1024]
    value = raw.index(b"\x70\0\0\0", 56) + 24
    patch(image, at + value + 10, struct.pack("<H", flags))


def _log(image: Path, *, in_use: int, flags: int) -> None:
    """A restart page as Windows writes it."""
    at = log_at(image)
    page = bytearray(4096)
    page[:8] = b"RSTR\x1e\0\x09\0"
    struct.pack_into("<QIIHHH", page, 8, 0, 4096, 4096, 48, 1, 1)
    struct.pack_into("<QHHHH", page, 48, 77, 1, 0xFFFF, in_use, flags)
    patch(image, at, bytes(page) * 2)


def first_cluster(image: Path, *file: str) -> int:
    text = run("ntfsinfo", *file, "-v", "-f", image)
    return int(re.findall(r"LCN\s+Length\s+0x0\s+(0x[0-9a-f]+)", text)[0], 0)


def log_at(image: Path) -> int:
    return first_cluster(image, "-i", "2") * 4096


@needs("mkntfs", "ntfsinfo")
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda i: _volume_flags(i, 1), "marked dirty"),
        (lambda i: _volume_flags(i, 2), "work to be done"),
        (lambda i: _volume_flags(i, 0x4000), "work to be done"),
        (lambda i: _volume_flags(i, 0x80), ""),
        (lambda i: _log(i, in_use=0, flags=0), "has to be replayed"),
        (lambda i: _log(i, in_use=0, flags=2), ""),
        (lambda i: _log(i, in_use=0xFFFF, flags=0), ""),
        (lambda i: patch(i, log_at(i), b"CHKD"), "has to be replayed"),
        (lambda i: patch(i, record(i, 6) + 510, b"\xee\xee"), "written in part"),
        (lambda i: patch(i, record(i, 6), b"BAAD"), "marked as damaged"),
        (lambda i: patch(i, record(i, 3), b"\0\0\0\0"), "record 3 is none"),
        (lambda i: patch(i, 13, b"\x10"), ""),
    ],
    ids=["dirty", "resize", "chkdsk", "harmless", "log", "clean log", "no client", "CHKD", "torn", "BAAD", "no $Volume", "cluster"],
)
def test_ntfs_that_is_in_doubt_is_copied_whole(tmp_path: Path, damage: Callable[[Path], object], why: str) -> None:
    image = make_ntfs(tmp_path / "disk")
    assert why_whole(image) == ""
    damage(image)
    found = why_whole(image)
    assert why in found
    if why == "" and image.read_bytes()[13] == 8:
        assert found == ""


VSS = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")


@needs("mkntfs")
@pytest.mark.parametrize(
    ("entry", "next_block", "why"),
    [
        (0, 0, ""),
        (1, 0, ""),
        (2, 0, "it has shadow copies"),
        (3, 0, "it has shadow copies"),
        (0, 20 * MIB, "catalog of shadow copies is not understood"),
        (0, 24 * MIB, "catalog of shadow copies is not understood"),
        (0, 1 << 60, "catalog of shadow copies is not understood"),
    ],
)
def test_ntfs_with_shadow_copies_is_copied_whole(tmp_path: Path, entry: int, next_block: int, why: str) -> None:
    """What is free may still be what a shadow copy shows."""
    image = make_ntfs(tmp_path / "disk")
    patch(image, 0x1E00, VSS + struct.pack("<IIQQQQ", 1, 1, 0x1E00, 0x1E00, 0, 20 * MIB))
    block = bytearray(16 * KIB)
    block[:48] = VSS + struct.pack("<IIQQQ", 1, 2, 0, 20 * MIB, next_block)
    struct.pack_into("<Q", block, 128 * 5, entry)
    patch(image, 20 * MIB, bytes(block))
    found = why_whole(image)
    assert why in found
    assert bool(found) == bool(why)


@needs("mkntfs", "ntfscp", "ntfsinfo")
def test_ntfs_whose_bitmap_calls_a_files_clusters_free_is_copied_whole(tmp_path: Path) -> None:
    """One bit of a bitmap that has no checksum."""
    image = make_ntfs(tmp_path / "disk")
    (tmp_path / "file").write_bytes(b"contents" * 20_000)
    run("ntfscp", "-q", "-f", image, tmp_path / "file", "file")
    assert why_whole(image) == ""
    cluster = first_cluster(image, "-F", "file") + 5
    at = first_cluster(image, "-i", "6") * 4096 + cluster // 8
    patch(image, at, bytes([image.read_bytes()[at] & ~(1 << cluster % 8)]))
    assert "that the file" in why_whole(image)


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g")
@pytest.mark.parametrize(("head", "asleep"), [(b"hibr", True), (b"HIBR", True), (b"wake", False), (b"\0\0\0\0", False)])
def test_ntfs_of_a_sleeping_windows_is_copied_whole(tmp_path: Path, head: bytes, asleep: bool) -> None:
    image = make_ntfs(tmp_path / "disk")
    with made.mounted_ntfs(image) as folder:
        (folder / "Hiberfil.sys").write_bytes(head + bytes(100_000))
        (folder / "other").mkdir()
        (folder / "other" / "hiberfil.sys").write_bytes(b"hibr" + bytes(100_000))
    assert ("hibernated" in why_whole(image)) == asleep


@NEEDS_MOUNTS
@needs("mkntfs", "ntfs-3g", "ntfscat")
def test_ntfs_whose_own_files_are_in_many_pieces(tmp_path: Path) -> None:
    """Attribute lists: a file of thousands of runs, and a master file table that grew between other files."""
    image, size = tmp_path / "disk", 15 * MIB
    run("mkntfs", "-q", "-F", "-Q", "-c", "512", made.poisoned(image, size))
    with made.mounted_ntfs(image) as folder:
        for number in range(3000):
            (folder / f"small{number}").write_bytes(bytes([number % 250 + 1]) * 2000)
        for number in range(1, 3000, 2):
            (folder / f"small{number}").unlink()
        # Windows is awake: but to know that, the begin of this file must be found by its list of attributes
        (folder / "hiberfil.sys").write_bytes(bytes(4) + b"pieces" * (5 * MIB // 6))
    text = run("ntfsinfo", "-F", "hiberfil.sys", "-v", "-f", image)
    assert "$ATTRIBUTE_LIST" in text
    assert contents(image, int(text.split("Dumping Inode ")[1].split()[0])) == bytes(4) + b"pieces" * (5 * MIB // 6)
    left_out = made.only(unused(image))
    made.check_exact(image, left_out, made.free_by_bitmap(image, 512, size // 512 - 1))
    before = ntfs_digest(image)
    copy = made.copied(image, left_out)
    assert ntfs_digest(copy) == before


def contents(image: Path, number: int) -> bytes:
    """A file's contents as the reader of records puts them together."""
    with open_disk(image, "raw") as reader:
        ntfs = NtfsVolume(Volume.of_disk([reader], 0))
        data = ntfs.data_of(number)
        assert len(data.runs) > 100  # more than one record holds
        return ntfs.read_runs(data.runs, data.size, 0)


def ntfs_digest(image: Path) -> str:
    with made.mounted_ntfs(image, "ro") as folder:
        return made.tree_digest(folder)
