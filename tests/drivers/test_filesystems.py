"""File systems as their own format programs make them, clean, dirty and with features the readers do not know."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import pytest

from drivers.facts import FileSystem
from drivers.filesystems import recognise
from tests.drivers.making import MIB, ROOT_UUID, make_ext, patch, patch_word, run, sized
from tests.drivers.raw_reader import RawReader

SUPERBLOCK = 1024
COMPAT, INCOMPAT = SUPERBLOCK + 92, SUPERBLOCK + 96


def seen(path: Path) -> FileSystem:
    reader = RawReader(path)
    try:
        return recognise(reader, 0, reader.virtual_size)
    finally:
        reader.close()


def blkid(path: Path, tag: str) -> str:
    return run("blkid", "-p", "-o", "value", "-s", tag, path).strip()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_ext_agrees_with_blkid_and_dumpe2fs(tmp_path: Path, kind: str) -> None:
    path = make_ext(tmp_path / "fs", 64 * MIB, None, "-t", kind, "-L", "wurzel")
    found = seen(path)
    head = run("dumpe2fs", "-h", path)
    block = int(re.search(r"Block size: +(\d+)", head)[1])  # type: ignore[index]
    free = int(re.search(r"Free blocks: +(\d+)", head)[1])  # type: ignore[index]
    inodes = int(re.search(r"Free inodes: +(\d+)", head)[1])  # type: ignore[index]
    assert (found.kind, found.uuid, found.label) == (kind, ROOT_UUID, "wurzel")
    assert (found.size_bytes, found.free_bytes, found.free_inodes) == (64 * MIB, free * block, inodes)
    assert found.why_not_host == ""
    assert found.kind == blkid(path, "TYPE")


@pytest.mark.parametrize("feature", ["fast_commit", "mmp", "large_dir", "encrypt", "sparse_super2"])
def test_ext_features_that_the_host_reader_does_not_know_are_named(tmp_path: Path, feature: str) -> None:
    extra = (",^resize_inode",) if feature == "sparse_super2" else ("",)
    found = seen(make_ext(tmp_path / "fs", 64 * MIB, None, "-O", feature + extra[0]))
    assert feature in found.why_not_host


def test_ext_with_a_journal_to_replay_is_not_for_the_host(tmp_path: Path) -> None:
    path = patch_word(make_ext(tmp_path / "fs", 64 * MIB), INCOMPAT, set_bits=0x4)
    assert "needs_recovery" in seen(path).why_not_host


def test_ext2_that_was_not_unmounted_is_not_for_the_host(tmp_path: Path) -> None:
    path = patch(make_ext(tmp_path / "fs", 16 * MIB, None, "-t", "ext2"), SUPERBLOCK + 58, b"\0\0")
    assert "not unmounted" in seen(path).why_not_host


def test_ext_larger_than_its_place_is_not_for_the_host(tmp_path: Path) -> None:
    path = make_ext(tmp_path / "fs", 64 * MIB)
    with path.open("r+b") as file:
        file.truncate(32 * MIB)
    assert seen(path).why_not_host


@pytest.fixture(scope="module")
def xfs_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("mkfs.xfs", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("mkfs.xfs is not installed (xfsprogs)")
    path = tmp_path_factory.mktemp("xfs") / "fs"
    run("mkfs.xfs", "-q", "-m", f"uuid={ROOT_UUID}", "-L", "daten", "-d", f"file,name={path},size=320m")
    return path


def log_of(path: Path) -> tuple[int, int]:
    """Offset and length of the log, in bytes, by xfs_db."""
    fields = dict(
        line.split(" = ")
        for line in run(
            "xfs_db", "-r", "-c", "sb 0", "-c", "p logstart logblocks agblocks agblklog blocksize", path
        ).splitlines()
    )
    start, bits = int(fields["logstart"]), int(fields["agblklog"])
    block = (start >> bits) * int(fields["agblocks"]) + (start & ((1 << bits) - 1))
    return block * int(fields["blocksize"]), int(fields["logblocks"]) * int(fields["blocksize"])


def test_xfs_as_made_is_clean_and_agrees_with_blkid(xfs_image: Path) -> None:
    found = seen(xfs_image)
    assert (found.kind, found.uuid, found.label) == ("xfs", ROOT_UUID, "daten")
    assert found.size_bytes == 320 * MIB
    assert found.free_bytes is not None
    assert found.why_not_host == ""
    assert blkid(xfs_image, "TYPE") == "xfs"


def test_xfs_log_that_does_not_end_in_an_unmount_record_is_dirty(xfs_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "dirty"
    shutil.copyfile(xfs_image, path)
    start, _ = log_of(path)
    # the flags of the only operation, in the sector after the record's header
    assert path.read_bytes()[start + 512 + 9] == 0x20
    assert "replayed" in seen(patch(path, start + 512 + 9, b"\0")).why_not_host


def _record(cycle: int, sector: int, *, unmount: bool) -> bytes:
    """A log record of one operation: a header of one sector and a body of one."""
    header = bytearray(512)
    struct.pack_into(">IIIIQ", header, 0, 0xFEEDBABE, cycle, 2, 512, cycle << 32 | sector)
    struct.pack_into(">I", header, 40, 1)
    struct.pack_into(">I", header, 320, 32768)
    body = bytearray(512)
    struct.pack_into(">I", body, 0, cycle)
    body[9] = 0x20 if unmount else 0x01
    return bytes(header + body)


def _write_log(path: Path, cycle: int, head_sector: int, *, unmount: bool) -> Path:
    """Fill the log as if it had been written round and round: ``cycle`` before the head, ``cycle - 1`` behind."""
    start, length = log_of(path)
    sectors = length // 512
    log = bytearray()
    for at in range(0, sectors, 2):
        log += _record(cycle if at < head_sector else cycle - 1, at, unmount=unmount and at + 2 == head_sector)
    return patch(path, start, bytes(log))


@pytest.mark.parametrize("head", [2, 1000, 4096, -2, 0])
@pytest.mark.parametrize("unmount", [True, False])
def test_xfs_log_head_is_found_wherever_it_is(xfs_image: Path, tmp_path: Path, head: int, unmount: bool) -> None:
    path = tmp_path / "fs"
    shutil.copyfile(xfs_image, path)
    sectors = log_of(path)[1] // 512
    _write_log(path, 7, head % sectors or sectors, unmount=unmount)
    assert (seen(path).why_not_host == "") is unmount


def test_xfs_record_written_after_the_unmount_record_makes_it_dirty(xfs_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "fs"
    shutil.copyfile(xfs_image, path)
    _write_log(path, 7, 1000, unmount=True)
    # mounted again, and the machine died when the second of two writes had arrived and the first had not
    patch(path, log_of(path)[0] + 1004 * 512, _record(7, 1004, unmount=False))
    assert "replayed" in seen(path).why_not_host


def test_xfs_log_that_goes_on_after_the_unmount_record_is_dirty(xfs_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "fs"
    shutil.copyfile(xfs_image, path)
    _write_log(path, 7, 1000, unmount=True)
    # the body of a record arrived, its header did not
    patch(path, log_of(path)[0] + 1000 * 512, struct.pack(">I", 7) + bytes(508))
    assert "replayed" in seen(path).why_not_host


def test_xfs_with_a_feature_of_later_kernels_is_not_for_the_host(xfs_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "fs"
    shutil.copyfile(xfs_image, path)
    assert "feature" in seen(patch(path, 216, struct.pack(">I", 0x23))).why_not_host


def test_swap(tmp_path: Path) -> None:
    path = sized(tmp_path / "swap", 8 * MIB)
    run("mkswap", "-q", "-U", ROOT_UUID, "-L", "tausch", path)
    found = seen(path)
    assert (found.kind, found.uuid, found.label, found.why_not_host) == ("swap", ROOT_UUID, "tausch", "")
    assert "hibernated" in seen(patch(path, 4086, b"S1SUSPEND\0")).why_not_host


@pytest.mark.parametrize("bits", ["12", "16", "32"])
def test_vfat_agrees_with_blkid(tmp_path: Path, bits: str) -> None:
    path = sized(tmp_path / "fat", 64 * MIB if bits != "12" else 4 * MIB)
    run("mkfs.vfat", "-F", bits, "-n", "ESP", "-i", "1234ABCD", path)
    found = seen(path)
    assert (found.kind, found.uuid, found.label, found.why_not_host) == ("vfat", "1234-ABCD", "ESP", "")
    assert found.uuid == blkid(path, "UUID")


def _made(tmp_path: Path, size: int, *argv: str) -> Path:
    if not shutil.which(argv[0], path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip(f"{argv[0]} is not installed")
    path = sized(tmp_path / "fs", size)
    run(*argv, path)
    return path


def test_ntfs_agrees_with_blkid_and_a_dirty_one_is_not_for_the_host(tmp_path: Path) -> None:
    path = _made(tmp_path, 16 * MIB, "mkfs.ntfs", "-q", "-f", "-F", "-L", "WIN")
    found = seen(path)
    assert (found.kind, found.uuid, found.label) == ("ntfs", blkid(path, "UUID"), "WIN")
    assert found.why_not_host == ""
    data = path.read_bytes()
    table = struct.unpack_from("<Q", data, 48)[0] * 4096
    record = data[table + 3 * 1024 : table + 4 * 1024]
    # $VOLUME_INFORMATION (0x70) has 12 bytes: the flags are the last two
    attribute = record.index(struct.pack("<I", 0x70))
    value = struct.unpack_from("<H", record, attribute + 20)[0]
    patch(path, table + 3 * 1024 + attribute + value + 10, b"\x01")
    assert "dirty" in seen(path).why_not_host


def test_btrfs_and_luks_agree_with_blkid_and_are_not_for_the_host(tmp_path: Path) -> None:
    btrfs = _made(tmp_path, 128 * MIB, "mkfs.btrfs", "-q", "-L", "baum")
    found = seen(btrfs)
    assert (found.kind, found.uuid, found.label) == ("btrfs", blkid(btrfs, "UUID"), "baum")
    assert found.why_not_host
    if shutil.which("cryptsetup", path="/usr/sbin:/sbin:/usr/bin"):
        luks = sized(tmp_path / "luks", 32 * MIB)
        options = ("-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--label", "kiste")
        run("cryptsetup", "luksFormat", *options, luks, "-", stdin="secret")
        found = seen(luks)
        assert (found.kind, found.uuid, found.label) == ("luks", blkid(luks, "UUID"), "kiste")
        assert "encrypted" in found.why_not_host


def test_signatures_of_what_wraps_other_file_systems(tmp_path: Path) -> None:
    lvm = sized(tmp_path / "lvm", MIB)
    label = b"LABELONE" + struct.pack("<QII", 1, 0, 32) + b"LVM2 001" + b"abcdefghijklmnopqrstuvwxyzABCDEF"
    patch(lvm, 512, label)
    found = seen(lvm)
    assert (found.kind, found.uuid) == ("lvm2", "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF")
    assert found.why_not_host
    # a mirror's half with its superblock at the end begins with the file system itself
    mirror = make_ext(tmp_path / "md", 16 * MIB, None)
    patch(mirror, (16 * MIB // 512 - 16) * 512, b"\xfc\x4e\x2b\xa9\x01\0\0\0" + bytes(8) + bytes(range(16)))
    assert seen(mirror).kind == "md"
    bitlocker = patch(sized(tmp_path / "bde", MIB), 3, b"-FVE-FS-")
    assert seen(bitlocker).kind == "bitlocker"
    iso = patch(sized(tmp_path / "iso", MIB), 32769, b"CD001")
    assert seen(iso).kind == "iso9660"
    zfs = patch(sized(tmp_path / "zfs", 4 * MIB), 132 * 1024, struct.pack("<Q", 0x00BAB10C))
    assert seen(zfs).kind == "zfs"


def test_nothing_known_is_unknown_and_not_for_the_host(tmp_path: Path) -> None:
    zeroes, noise, short = sized(tmp_path / "z", MIB), tmp_path / "n", tmp_path / "s"
    noise.write_bytes(bytes(range(256)) * 4096)
    short.write_bytes(b"\x53\xef" * 40)
    assert all(seen(p).kind == "unknown" and seen(p).why_not_host for p in (zeroes, noise, short))
