"""What raw disks show: sound ones, damaged ones, hostile ones."""

from __future__ import annotations

import base64
import json
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.disk_sights import DiskSight, look_at, sights_confined
from drivers.sights.values import LuksToken, PlaceSight, Protection, Signature
from p2v.core import jsonio
from p2v.core.errors import P2vError
from tests.drivers.making import make_disk, make_ext, make_ntfs, run, sized
from tests.drivers.memory_disk import MIB, MemoryDisk, gpt_disk, gpt_pieces, mbr, mbr_disk, protective
from tests.drivers.raw_reader import RawReader

SIZE = 32 * MIB


def seen(disk: MemoryDisk) -> DiskSight:
    (found,) = look_at([disk])
    return found


def seen_file(path: Path) -> DiskSight:
    reader = RawReader(path)
    try:
        (found,) = look_at([reader])
    finally:
        reader.close()
    return found


def signed(place: PlaceSight) -> dict[str, Signature]:
    return {each.kind: each for each in place.signatures}


# --- GPT -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_a_sound_gpt_has_two_sound_copies(sector_bytes: int) -> None:
    gpt = seen(gpt_disk(sector_bytes=sector_bytes)).gpt
    assert gpt is not None
    assert (gpt.sector_bytes, gpt.protection, gpt.stated, gpt.differ) == (
        sector_bytes,
        Protection.PROTECTIVE,
        None,
        False,
    )
    assert (gpt.primary.offset, gpt.primary.problem) == (sector_bytes, "")
    assert (gpt.backup.offset, gpt.backup.problem) == (SIZE - sector_bytes, "")


def test_what_sfdisk_writes_is_sound(tmp_path: Path) -> None:
    found = seen_file(make_disk(tmp_path / "disk", SIZE, "label: gpt\nsize=8MiB\nsize=4MiB\n"))
    assert found.gpt is not None
    assert found.gpt.primary.is_sound
    assert found.gpt.backup.is_sound
    assert not found.gpt.differ
    assert [(p.number, p.offset, p.length) for p in found.partitions] == [(1, MIB, 8 * MIB), (2, 9 * MIB, 4 * MIB)]


def test_a_disk_without_a_gpt_shows_none() -> None:
    assert seen(mbr_disk()).gpt is None
    assert seen(MemoryDisk(SIZE)).gpt is None


def test_a_damaged_primary_is_told_with_its_sound_backup() -> None:
    gpt = seen(gpt_disk().put(512 + 40, b"\xff")).gpt
    assert gpt is not None
    assert "checksum" in gpt.primary.problem
    assert gpt.backup.is_sound


def test_damaged_entries_make_a_copy_bad() -> None:
    gpt = seen(gpt_disk().put(SIZE - 512 - 16384, b"\x01")).gpt
    assert gpt is not None
    assert gpt.primary.is_sound
    assert "entries" in gpt.backup.problem


def test_of_a_grown_disk_the_backup_is_where_the_header_says() -> None:
    disk = gpt_disk()
    disk.size = 2 * SIZE
    gpt = seen(disk).gpt
    assert gpt is not None
    assert gpt.stated is not None
    assert gpt.backup.problem
    assert gpt.stated.is_sound
    assert (gpt.backup.offset, gpt.stated.offset) == (2 * SIZE - 512, SIZE - 512)


def test_of_a_cut_disk_the_header_says_a_place_behind_its_end() -> None:
    disk = gpt_disk()
    disk.size = SIZE // 2
    gpt = seen(disk).gpt
    assert gpt is not None
    assert gpt.stated is not None
    assert (gpt.stated.offset, gpt.stated.is_sound) == (SIZE - 512, False)


def test_copies_that_name_other_partitions_differ() -> None:
    other = gpt_pieces(SIZE, [(MIB, 4 * MIB)])
    disk = gpt_disk()
    for at in (SIZE - 512 - 16384, SIZE - 512):
        disk.put(at, other[at])
    gpt = seen(disk).gpt
    assert gpt is not None
    assert gpt.primary.is_sound
    assert gpt.backup.is_sound
    assert gpt.differ


def test_the_mbr_in_front_may_be_hybrid_or_say_nothing() -> None:
    hybrid = seen(gpt_disk().put(0, mbr([(0xEE, 1, 2047, False), (0x83, 2048, 16384, True)]))).gpt
    silent = seen(gpt_disk().put(0, mbr([(0x83, 2048, 16384, True)]))).gpt
    nothing = seen(gpt_disk().put(0, bytes(512)))
    assert hybrid is not None
    assert hybrid.protection is Protection.HYBRID
    assert silent is not None
    assert silent.protection is Protection.NONE
    assert nothing.gpt is not None
    assert nothing.gpt.protection is Protection.NONE
    assert nothing.table == "none"


def test_a_protective_mbr_alone_is_a_gpt_without_copies() -> None:
    gpt = seen(MemoryDisk(SIZE, {0: protective(SIZE)})).gpt
    assert gpt is not None
    assert not gpt.primary.is_sound
    assert not gpt.backup.is_sound


def test_partitions_keep_what_the_table_states_past_the_disks_end() -> None:
    disk = mbr_disk(entries=[(0x83, 2048, 1 << 20, False), (0x83, 1 << 22, 2048, False)])
    first, second = seen(disk).partitions
    assert (first.offset, first.length, first.end > SIZE) == (MIB, (1 << 20) * 512, True)
    assert second.offset > SIZE
    assert second.signatures == ()


# --- arrays ----------------------------------------------------------------------------------------------


def silicon_image() -> bytes:
    raw = bytearray(512)
    struct.pack_into("<I", raw, 0x60, 0x2F000000)
    struct.pack_into("<H", raw, 0x13E, -sum(struct.unpack_from("<159H", raw)) & 0xFFFF)
    return bytes(raw)


def jmicron() -> bytes:
    raw = bytearray(b"JM\x01\x00".ljust(128, b"\0"))
    struct.pack_into("<H", raw, 4, -sum(struct.unpack("<64H", raw)) & 0xFFFF)
    return bytes(raw)


def via() -> bytes:
    raw = bytearray(b"\x55\xaa\x01\x03".ljust(51, b"\0"))
    raw[50] = sum(raw[:50]) & 0xFF
    return bytes(raw)


INTEL = b"Intel Raid ISM Cfg Sig. 1.3.00".ljust(56, b"\0") + bytes([2, 1])
DDF = b"\xde\x11\xde\x11" + bytes(4) + b"LSI     ".ljust(24, b"\0") + b"01.02.00"
ADAPTEC = b"\x37\xfc\x4d\x1e".ljust(256, b"\0") + b"DPTM"
MARKS: list[tuple[str, int, bytes]] = [
    ("Intel", SIZE - 2 * 512, INTEL),
    ("Intel", SIZE - 2 * 4096, INTEL),
    ("DDF", SIZE - 512, DDF),
    ("DDF", SIZE - 257 * 512, DDF),
    ("LSI MegaRAID", SIZE - 512, b"$XIDE$"),
    ("Adaptec", SIZE - 512, ADAPTEC),
    ("HighPoint", 4640, struct.pack("<I", 0x5A7816F0)),
    ("HighPoint", SIZE - 11 * 512, struct.pack("<I", 0x5A7816FD)),
    *(
        ("Promise FastTrak", SIZE - n * 512, b"Promise Technology, Inc.")
        for n in (16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991, 3087)
    ),
    ("Silicon Image", SIZE - 512, silicon_image()),
    ("NVIDIA", SIZE - 2 * 512, b"NVIDIA\0\0"),
    ("JMicron", SIZE - 512, jmicron()),
    ("VIA", SIZE - 512, via()),
]


@pytest.mark.parametrize("maker, at, raw", MARKS, ids=[f"{maker}-{SIZE - at}" for maker, at, _ in MARKS])
def test_metadata_of_an_array_is_told_with_its_place(maker: str, at: int, raw: bytes) -> None:
    found = seen(mbr_disk().put(at, raw)).raids
    assert [(mark.maker, mark.offset) for mark in found] == [(maker, at)]


def test_an_intel_member_says_its_version_and_members() -> None:
    (mark,) = seen(mbr_disk().put(SIZE - 1024, INTEL)).raids
    assert mark.text == "version 1.3.00, 2 disks, 1 volumes"


def test_a_ddf_header_says_its_revision_and_whose_it_is() -> None:
    (mark,) = seen(mbr_disk().put(SIZE - 512, DDF)).raids
    assert mark.text == "revision 01.02.00, header of LSI"


def test_hostile_texts_of_an_array_are_told_as_what_prints() -> None:
    (mark,) = seen(mbr_disk().put(SIZE - 1024, INTEL[:24] + b"\x1b[2J\xff\r\n!" + INTEL[32:])).raids
    assert mark.text.isprintable()


@pytest.mark.parametrize("maker, at, raw", MARKS, ids=[f"{maker}-{SIZE - at}" for maker, at, _ in MARKS])
def test_a_disk_without_such_metadata_shows_none(maker: str, at: int, raw: bytes) -> None:
    broken = bytes(byte ^ 0x20 for byte in raw[:6]) + raw[6:]
    assert seen(mbr_disk().put(at, broken)).raids == ()
    assert seen(gpt_disk()).raids == ()


# --- signatures ------------------------------------------------------------------------------------------


def test_an_ext4_says_its_length_and_block(tmp_path: Path) -> None:
    found = signed(seen_file(make_ext(tmp_path / "disk", 8 * MIB, None, "-b", "1024")).whole)
    assert list(found) == ["ext"]
    assert (found["ext"].stated_bytes, found["ext"].unit_bytes, found["ext"].stated_at) == (8 * MIB, 1024, 1028)


def test_an_xfs_says_its_length_and_sector(tmp_path: Path) -> None:
    run("mkfs.xfs", "-q", "-s", "size=4096", sized(tmp_path / "disk", 320 * MIB))
    found = signed(seen_file(tmp_path / "disk").whole)
    assert list(found) == ["xfs"]
    assert (found["xfs"].stated_bytes, found["xfs"].unit_bytes) == (320 * MIB, 4096)


def test_an_ntfs_says_its_length_place_and_what_is_free(tmp_path: Path) -> None:
    make_ntfs(tmp_path / "disk", 16 * MIB)
    found = signed(seen_file(tmp_path / "disk").whole)
    assert list(found) == ["ntfs"]
    ntfs = found["ntfs"]
    # the last sector holds the copy of the boot sector
    assert (ntfs.stated_bytes, ntfs.unit_bytes, ntfs.hidden_sectors) == (16 * MIB - 512, 512, 2048)
    said = run("ntfsinfo", "-m", tmp_path / "disk")
    clusters = next(line.split(":")[1].split()[0] for line in said.splitlines() if "Free Clusters" in line)
    assert ntfs.free_bytes == int(clusters) * 4096


def test_a_fat32_says_its_length_place_and_what_is_free(tmp_path: Path) -> None:
    run("mkfs.vfat", "-F", "32", "-h", "2048", sized(tmp_path / "disk", 64 * MIB))
    found = signed(seen_file(tmp_path / "disk").whole)
    assert list(found) == ["fat"]
    fat = found["fat"]
    assert (fat.stated_bytes, fat.unit_bytes, fat.hidden_sectors) == (64 * MIB, 512, 2048)
    assert fat.free_bytes is not None
    assert 60 * MIB < fat.free_bytes < 64 * MIB


def test_a_swap_area_says_its_length(tmp_path: Path) -> None:
    run("mkswap", sized(tmp_path / "disk", 4 * MIB))
    found = signed(seen_file(tmp_path / "disk").whole)
    assert list(found) == ["swap"]
    assert found["swap"].stated_bytes == 4 * MIB


def lvm_label(size_bytes: int) -> bytes:
    header = b"LABELONE" + struct.pack("<QII", 1, 0, 32) + b"LVM2 001"
    return header + b"A" * 32 + struct.pack("<Q", size_bytes) + bytes(400)


def md_superblock(at: int) -> bytes:
    return struct.pack("<II", 0xA92B4EFC, 1).ljust(144, b"\0") + struct.pack("<Q", at // 512) + bytes(104)


def bcache_superblock() -> bytes:
    return struct.pack("<QQQ", 0, 8, 1) + bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")


def btrfs_superblock(device_bytes: int) -> bytes:
    raw = bytearray(512)
    raw[64:72] = b"_BHRfS_M"
    struct.pack_into("<I", raw, 144, 4096)
    struct.pack_into("<Q", raw, 209, device_bytes)
    return bytes(raw)


@pytest.mark.parametrize("kind, at, raw, stated", [
    ("lvm2", 512, lvm_label(9 * MIB), 9 * MIB),
    ("lvm2", 512, lvm_label(0), None),
    ("md", 4096, md_superblock(4096), None),
    ("bcache", 4096, bcache_superblock(), None),
    ("btrfs", 65536, btrfs_superblock(7 * MIB), 7 * MIB),
    ("drbd", 8 * MIB - 4096 + 60, struct.pack(">I", 0x8374026B), None),
])  # fmt: skip
def test_volumes_are_recognised_in_their_partition(kind: str, at: int, raw: bytes, stated: int | None) -> None:
    (place,) = seen(mbr_disk().put(MIB + at, raw)).partitions
    assert [(each.kind, each.stated_bytes) for each in place.signatures] == [(kind, stated)]


def exfat(sectors: int) -> bytes:
    raw = bytearray(b"\xeb\x76\x90EXFAT   ".ljust(512, b"\0"))
    struct.pack_into("<Q", raw, 72, sectors)
    raw[108] = 9
    return bytes(raw)


def fat16(sectors: int) -> bytes:
    raw = bytearray(512)
    struct.pack_into("<HBHBHH", raw, 11, 512, 4, 1, 2, 512, sectors)
    raw[54:59], raw[510:512] = b"FAT16", b"\x55\xaa"
    return bytes(raw)


def ext4_with_64_bits(blocks: int) -> bytes:
    raw = bytearray(2048)
    struct.pack_into("<7I", raw, 1024, 100, blocks & 0xFFFFFFFF, 0, 0, 50, 0, 2)
    struct.pack_into("<I", raw, 1064, 100)
    raw[1080:1082] = b"\x53\xef"
    struct.pack_into("<I", raw, 1120, 0x80)
    struct.pack_into("<I", raw, 1024 + 0x150, blocks >> 32)
    return bytes(raw)


def reiserfs(blocks: int) -> bytes:
    return (struct.pack("<I", blocks).ljust(44, b"\0") + struct.pack("<H", 4096)).ljust(52, b"\0") + b"ReIsEr2Fs"


def bcachefs() -> bytes:
    return bytes(24) + bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")


@pytest.mark.parametrize("kind, at, raw, stated, form, number", [
    ("exfat", 0, exfat(5000), 5000 * 512, "<Q", 5000),
    ("fat", 0, fat16(6000), 6000 * 512, "<H", 6000),
    ("ext", 0, ext4_with_64_bits(5 << 32 | 7), (5 << 32 | 7) * 4096, "<I", 7),
    ("reiserfs", 65536, reiserfs(900), 900 * 4096, "<I", 900),
    ("btrfs", 65536, btrfs_superblock(7 * MIB), 7 * MIB, "<Q", 7 * MIB),
    ("lvm2", 1024, lvm_label(9 * MIB), 9 * MIB, "<Q", 9 * MIB),
    ("xfs", 0, b"XFSB" + struct.pack(">IQ", 4096, 512).ljust(98, b"\0") + struct.pack(">H", 512), 2 * MIB, ">Q", 512),
])  # fmt: skip
def test_the_number_that_says_how_long_it_is_stands_where_that_is_told(
    kind: str, at: int, raw: bytes, stated: int, form: str, number: int
) -> None:
    disk = mbr_disk().put(MIB + at, raw)
    (place,) = seen(disk).partitions
    assert [(each.kind, each.stated_bytes) for each in place.signatures] == [(kind, stated)]
    assert struct.unpack(form, disk.pread(struct.calcsize(form), place.signatures[0].stated_at)) == (number,)


@pytest.mark.parametrize("at, raw", [
    (0, exfat(5000)[:108] + b"\x08"),
    (0, exfat(5000)[:108] + b"\x0d"),
    (0, fat16(6000)[:510]),
    (0, fat16(6000)[:16] + b"\x03" + fat16(6000)[17:]),
    (1024, ext4_with_64_bits(7)[1024:1044] + b"\x02\0\0\0" + ext4_with_64_bits(7)[1048:]),
    (1024, ext4_with_64_bits(7)[1024:1064] + bytes(4) + ext4_with_64_bits(7)[1068:]),
    (65536, reiserfs(900)[:44] + b"\x01\x10" + reiserfs(900)[46:]),
    (4096, bcache_superblock()[:8] + bytes(8) + bcache_superblock()[16:]),
    (0, b"XFSB" + struct.pack(">IQ", 4095, 512)),
])  # fmt: skip
def test_a_signature_with_nonsense_behind_it_is_none(at: int, raw: bytes) -> None:
    (place,) = seen(mbr_disk().put(MIB + at, raw)).partitions
    assert place.signatures == ()


def test_bcachefs_is_no_bcache() -> None:
    (place,) = seen(mbr_disk().put(MIB + 4096, bcachefs())).partitions
    assert list(signed(place)) == ["bcachefs"]


def test_two_signatures_in_one_place_are_both_told(tmp_path: Path) -> None:
    disk = make_ext(tmp_path / "disk", 8 * MIB, None, "-b", "1024")
    with disk.open("r+b") as file:
        file.seek(4086)
        file.write(b"SWAPSPACE2")
    assert set(signed(seen_file(disk).whole)) == {"ext", "swap"}


def test_what_is_signed_on_a_partitioned_disk_is_its_own_and_not_a_partitions() -> None:
    found = seen(mbr_disk().put(512, lvm_label(SIZE)))
    assert set(signed(found.whole)) == {"lvm2"}
    # by its place this is the second sector of the partition, and no more the disk's
    inside = seen(mbr_disk(entries=[(0x8E, 1, 16384, False)]).put(512, lvm_label(SIZE)))
    assert inside.whole.signatures == ()
    assert [set(signed(p)) for p in inside.partitions] == [{"lvm2"}]


def test_an_array_of_whole_disks_is_told_by_its_superblock_at_the_end() -> None:
    at = (SIZE // 512 - 16) // 8 * 8 * 512
    assert set(signed(seen(mbr_disk().put(at, md_superblock(at))).whole)) == {"md"}
    # one that says another place was written by another device's end
    assert seen(mbr_disk().put(at, md_superblock(MIB))).whole.signatures == ()
    old = SIZE - 65536
    assert set(signed(seen(mbr_disk().put(old, struct.pack("<II", 0xA92B4EFC, 0))).whole)) == {"md"}


# --- encryption ------------------------------------------------------------------------------------------


def luks2(tree: object, *, size: int = 16384) -> bytes:
    head = b"LUKS\xba\xbe" + struct.pack(">HQ", 2, size)
    return head.ljust(4096, b"\0") + json.dumps(tree).encode().ljust(size - 4096, b"\0")


def clevis(pin: str) -> dict[str, object]:
    header = json.dumps({"alg": "dir", "clevis": {"pin": pin}}).encode()
    protected = base64.urlsafe_b64encode(header).decode().rstrip("=")
    return {"type": "clevis", "keyslots": ["1"], "jwe": {"protected": protected, "ciphertext": ""}}


def test_tokens_of_luks2_are_told_with_what_they_ask() -> None:
    tokens = {"0": clevis("tpm2"), "1": {"type": "systemd-tpm2", "keyslots": ["2"]}, "2": clevis("tang")}
    raw = luks2({"keyslots": {"0": {}, "1": {}, "2": {}}, "tokens": tokens})
    (place,) = seen(mbr_disk().put(MIB, raw)).partitions
    assert place.luks is not None
    assert place.luks.keyslots == ("0", "1", "2")
    assert place.luks.tokens == (
        LuksToken("clevis", "tpm2", ("1",)), LuksToken("systemd-tpm2", "", ("2",)), LuksToken("clevis", "tang", ("1",)),
    )  # fmt: skip


def test_luks1_has_no_tokens() -> None:
    (place,) = seen(mbr_disk().put(MIB, b"LUKS\xba\xbe\x00\x01")).partitions
    assert place.luks is not None
    assert (place.luks.version, place.luks.tokens, place.luks.problem) == (1, (), "")


@pytest.mark.parametrize("tree", [
    [], None, {"tokens": []}, {"tokens": {"0": None}}, {"tokens": {"0": {"type": 7, "keyslots": {"a": 1}, "jwe": 3}}},
    {"tokens": {"0": {"type": "clevis", "jwe": {"protected": "%%%"}}}}, {"keyslots": {"\x1b[2J": 1}},
])  # fmt: skip
def test_a_luks_header_of_other_types_tells_nothing_and_breaks_nothing(tree: object) -> None:
    (place,) = seen(mbr_disk().put(MIB, luks2(tree))).partitions
    assert place.luks is not None
    assert place.luks.problem == ""
    assert all(word.isprintable() for word in place.luks.keyslots)


@pytest.mark.parametrize("raw", [
    b"LUKS\xba\xbe" + struct.pack(">HQ", 2, 1 << 60),
    luks2({})[:4096] + b"[" * 12000,
    luks2({})[:4096] + b"\xff" * 12000,
], ids=["size", "deep", "binary"])  # fmt: skip
def test_a_luks_header_that_cannot_be_read_is_told(raw: bytes) -> None:
    (place,) = seen(mbr_disk().put(MIB, raw)).partitions
    assert place.luks is not None
    assert place.luks.problem


# --- bounds ----------------------------------------------------------------------------------------------


def test_few_and_small_reads_are_made() -> None:
    disk = gpt_disk(512 * MIB, [(MIB * (1 + 8 * n), 8 * MIB) for n in range(8)])
    assert len(seen(disk).partitions) == 8
    assert len(disk.reads) <= 48
    assert sum(length for length, _ in disk.reads) < 2 * MIB


def test_a_table_full_of_partitions_is_looked_into_up_to_a_limit() -> None:
    found = seen(gpt_disk(512 * MIB, [(MIB * (1 + n), MIB) for n in range(100)]))
    assert (len(found.partitions), found.not_looked_into) == (100, 36)


def test_sights_survive_the_child_and_json(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", SIZE, "label: dos\nsize=8MiB\n")
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(luks2({"keyslots": {"0": {}}, "tokens": {"0": clevis("tpm2")}}))
        file.seek(SIZE - 1024)
        file.write(INTEL)
    reader = RawReader(disk)
    try:
        direct, confined = look_at([reader]), sights_confined([reader])
    finally:
        reader.close()
    assert confined == direct
    assert direct[0].raids
    assert direct[0].partitions[0].luks is not None
    conv = jsonio.converter()
    text = json.dumps(jsonio.encode(conv, direct, tuple[DiskSight, ...]))
    assert jsonio.decode(conv, json.loads(text), tuple[DiskSight, ...]) == direct


def plain(rng: random.Random) -> MemoryDisk:
    return MemoryDisk(rng.randrange(0, 200_000), {0: rng.randbytes(200_000)})


def broken(rng: random.Random) -> MemoryDisk:
    """A disk on which everything that is looked for is signed, with random bytes strewn over it and its end cut."""
    disk = gpt_disk(SIZE, [(MIB * (1 + 2 * n), 2 * MIB) for n in range(8)])
    raws = (
        luks2({"tokens": {"0": clevis("tpm2")}}),
        lvm_label(rng.getrandbits(64)),
        NTFS,
        EXT,
        XFS,
        FAT,
        btrfs_superblock(1),
    )
    for number, raw in enumerate(raws):
        place = bytearray(raw)
        for _ in range(rng.randrange(12)):
            place[rng.randrange(len(place))] = rng.randrange(256)
        disk.put(MIB * (1 + 2 * number) + {5: 0, 6: 65536}.get(number, 0), bytes(place))
    for _ in range(rng.randrange(8)):
        disk.put(
            rng.choice((0, 440, 512, 1024, SIZE - 512, SIZE - 16896)) + rng.randrange(512),
            rng.randbytes(rng.randrange(1, 9)),
        )
    if rng.random() < 0.3:
        disk.size = rng.randrange(SIZE)
    return disk


NTFS = bytearray(b"\xeb\x52\x90NTFS    \x00\x02\x08".ljust(510, b"\0") + b"\x55\xaa")
struct.pack_into("<QQQ", NTFS, 40, 4000, 4, 8)
NTFS[64] = 0xF6
EXT = bytes(1024) + struct.pack("<6I", 100, 2048, 0, 0, 50, 1).ljust(56, b"\x01") + b"\x53\xef" + bytes(900)
XFS = b"XFSB" + struct.pack(">IQ", 4096, 512).ljust(98, b"\0") + struct.pack(">H", 512) + bytes(400)
FAT = bytearray(512)
FAT[11:17] = b"\x00\x02\x01\x20\x00\x02"
FAT[82:87], FAT[510:512] = b"FAT32", b"\x55\xaa"


@pytest.mark.parametrize("make", [plain, broken])
def test_whatever_stands_on_a_disk_is_no_error(make: Callable[[random.Random], MemoryDisk]) -> None:
    rng = random.Random(20261126)
    ends = time.monotonic() + 2
    for number in range(400):
        disk = make(rng)
        try:
            found = look_at([disk])
        except P2vError:
            continue
        assert json.dumps(jsonio.encode(jsonio.converter(), found, tuple[DiskSight, ...])), number
        if time.monotonic() > ends:
            break
