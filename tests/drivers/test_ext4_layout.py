"""Where an ext file system keeps what, against e2fsprogs as witnesses; and what damage does to reading it."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.byte_account import Sides, account_ext4
from drivers.ext4_fields import inode_differences, odd_flags, superblock_differences, superblock_problems
from drivers.ext4_keeping import owned_by
from drivers.ext4_layout import Ext4Layout, NotUnderstood, Read
from drivers.listing import Entry, Listing
from p2v.core.units import KIB, MIB

_SIZE = 8 * MIB
_VARIANTS: dict[str, tuple[str, ...]] = {
    "1 KiB": ("-t", "ext4", "-b", "1024"),
    "4 KiB, 64bit": ("-t", "ext4", "-b", "4096", "-O", "64bit"),
    "meta_bg": ("-t", "ext4", "-b", "1024", "-g", "256", "-N", "2048", "-O", "meta_bg,^resize_inode"),
    "no flex_bg, many groups": ("-t", "ext4", "-b", "1024", "-g", "1024", "-O", "^flex_bg"),
    "ext3": ("-t", "ext3", "-b", "1024"),
    "inline_data": ("-t", "ext4", "-b", "1024", "-I", "256", "-O", "inline_data"),
    "uninit_bg": ("-t", "ext4", "-b", "1024", "-g", "1024", "-O", "^metadata_csum,uninit_bg"),
    "sparse_super2": ("-t", "ext4", "-b", "1024", "-g", "1024", "-O", "sparse_super2,^resize_inode"),
    "quota, mmp, orphan_file": ("-t", "ext4", "-b", "1024", "-O", "quota,mmp,orphan_file"),
}


def _run(*words: str | Path) -> str:
    return subprocess.run([str(w) for w in words], capture_output=True, check=True).stdout.decode("utf-8", "replace")


@pytest.fixture(scope="module")
def image_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An image of each variant with a few files, made once."""
    folder = tmp_path_factory.mktemp("ext")
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/small").write_text("small\n")
    (tree / "etc/large").write_bytes(bytes(range(256)) * 2000)
    (tree / "etc/link").symlink_to("/a/" + "long" * 40)
    (tree / "etc/short").symlink_to("small")
    with (tree / "etc/holes").open("wb") as file:
        for number in range(40):
            file.seek(number * 16 * KIB)
            file.write(b"data")

    def made(variant: str) -> Path:
        image = folder / variant.replace(" ", "-")
        if not image.exists():
            _run("mke2fs", "-q", "-F", *_VARIANTS[variant], "-d", tree, image, f"{_SIZE // KIB}k")
        return image

    return made


def _reading(data: bytes) -> Read:
    return lambda length, offset: data[offset : offset + length]


def _layout(image: Path) -> Ext4Layout:
    data = image.read_bytes()
    return Ext4Layout(_reading(data), len(data))


def _blocks(text: str) -> Iterator[int]:
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        yield from range(int(first), int(last or first) + 1)


@pytest.mark.parametrize("variant", _VARIANTS)
def test_groups_stand_where_dumpe2fs_says(image_of: Callable[[str], Path], variant: str) -> None:
    """Kinds of regions by block; the journal and what has a map of its own is looked at by inode."""
    image = image_of(variant)
    layout, said = _layout(image), _run("dumpe2fs", image)
    expected: dict[int, str] = {}
    for what, pattern in {
        "superblock": r"(?:Primary|Backup) superblock at ([\d-]+)", "group descriptors": r"Group descriptors? at ([\d-]+)",
        "room for group descriptors": r"Reserved GDT blocks at ([\d-]+)", "block bitmap": r"Block bitmap at ([\d-]+)",
        "inode bitmap": r"Inode bitmap at ([\d-]+)", "inode table": r"Inode table at ([\d-]+)",
    }.items():  # fmt: skip
        for found in re.findall(pattern, said):
            expected |= dict.fromkeys(_blocks(found), what)
    has = {
        block: region.meaning.removeprefix("copy of the ").removeprefix("copy of ")
        for region in layout.regions for block in range(region.first, region.end)
        if region.meaning not in ("journal", "quota", "list of orphans", "who has it mounted")
    }  # fmt: skip
    assert has == expected


@pytest.mark.parametrize("variant", _VARIANTS)
def test_free_blocks_and_inodes_are_those_of_dumpe2fs(image_of: Callable[[str], Path], variant: str) -> None:
    image = image_of(variant)
    layout, said = _layout(image), _run("dumpe2fs", image)
    free = {block for line in re.findall(r"^  Free blocks: (.*)$", said, re.M) for block in _blocks(line)}
    first = layout.first_block_of(0)
    assert free == {block for block in range(first, layout.blocks) if not layout.is_used(block)}
    inodes = {number for line in re.findall(r"^  Free inodes: (.*)$", said, re.M) for number in _blocks(line)}
    assert inodes == {
        group * layout.group_inodes + bit + 1
        for group in range(layout.groups) for bit in range(layout.group_inodes)
        if not layout.inode_bitmap(group)[bit // 8] >> bit % 8 & 1
    }  # fmt: skip


@pytest.mark.parametrize("variant", _VARIANTS)
@pytest.mark.parametrize("path", ["/etc/small", "/etc/large", "/etc/holes", "/etc/link", "/etc", "<8>"])
def test_contents_stand_where_debugfs_says(image_of: Callable[[str], Path], variant: str, path: str) -> None:
    image = image_of(variant)
    layout = _layout(image)
    number = int(_run("debugfs", "-R", f"stat {path}", image).split()[1])
    has = {block for first, count in layout.blocks_of(number) for block in range(first, first + count)}
    said = _run("debugfs", "-R", f"blocks {path}", image)
    assert has == {int(block) for block in said.split() if block.isdigit()}
    assert all(layout.is_used(block) for block in has)
    assert layout.map_blocks_of(number) <= has | {layout.attributes_block_of(number)}


def test_a_short_link_has_no_blocks(image_of: Callable[[str], Path]) -> None:
    """Its text stands where others have their map."""
    number = int(_run("debugfs", "-R", "stat /etc/short", image_of("1 KiB")).split()[1])
    assert _layout(image_of("1 KiB")).blocks_of(number) == ()


def test_fields_of_inodes_are_told_by_name(image_of: Callable[[str], Path], tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(image_of("1 KiB").read_bytes())
    number = int(_run("debugfs", "-R", "stat /etc/small", image).split()[1])
    before = _layout(image).inode(number)
    for field, value, told in (
        ("mode", "0100600", "mode"), ("uid", "70000", "owner"), ("size", "5", "size"), ("generation", "9", "generation"),
        ("crtime", "20010101", "time of birth"), ("projid", "3", "project"), ("flags", "0x80010", "flags"),
        ("block[3]", "7", "map of blocks"), ("extra_isize", "24", "extra size"),
    ):  # fmt: skip
        _run("debugfs", "-w", "-R", f"set_inode_field /etc/small {field} {value}", image)
        after = _layout(image).inode(number)
        assert set(inode_differences(before, after)) - {"checksum"} == {told}
        before = after
    assert inode_differences(before, before[:200] + b"x" + before[201:]) == ("attributes in the inode",)


def test_flags_that_a_file_system_sets_by_itself_are_not_odd() -> None:
    inode = bytearray(256)
    for flags, odd in ((0x1000, 0), (0x80000, 0), (0x10000000, 0), (0x10, 0x10), (0x1020, 0x20)):
        other = inode.copy()
        struct.pack_into("<I", other, 0x20, flags)
        assert odd_flags(bytes(inode), bytes(other)) == odd


def test_only_what_mounting_keeps_up_to_date_may_differ_in_a_superblock() -> None:
    before = bytes(1024)
    for at, is_kept in ((0x30, True), (0x34, True), (0x78, False), (0x5C, False), (0x64, False), (0x10C, False), (0x3FC, True)):
        after = before[:at] + b"\1" + before[at + 1 :]
        assert bool(superblock_differences(before, after)[1]) is not is_kept, hex(at)
    # of the byte with the features only one bit may differ
    assert superblock_differences(before, before[:0x60] + b"\4" + before[0x61:])[1] == ()
    assert superblock_differences(before, before[:0x60] + b"\6" + before[0x61:])[1] == (0x60,)


def test_what_a_superblock_announces_is_told() -> None:
    clean = bytearray(1024)
    clean[0x3A] = 1
    for at, value, word in ((0x60, 4, "replayed"), (0x3A, 3, "errors"), (0x3A, 0, "unmounted"), (0xE8, 12, "inode 12")):
        after = clean.copy()
        after[at] = value
        (problem,) = superblock_problems(bytes(clean), bytes(after))
        assert word in problem
    assert not list(superblock_problems(bytes(clean), bytes(clean)))


# --- damage -------------------------------------------------------------------------------------------------------------


def _exercise(data: bytes) -> None:
    """All that is read of a file system. Raises NotUnderstood."""
    layout = Ext4Layout(_reading(data), len(data))
    assert len(layout.regions) < 100_000
    for number in range(1, 20):
        layout.blocks_of(number)
        layout.map_blocks_of(number)
    owned_by(layout, range(11, 16))
    for block in (0, 1, 100, layout.blocks - 1, layout.blocks, 1 << 40):
        layout.is_used(block)
        layout.region_at(block)
    for group in {0, layout.groups - 1}:
        layout.inode_bitmap(group)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(data)
    # the superblock, the descriptors, the first inodes, or anywhere
    places = ((1024, 400), (2048, 256), (chance.choice((0x4000, 0x8000, 0x10000)), 4096), (0, len(data)))
    for _ in range(chance.randint(1, 6)):
        start, length = chance.choice(places)
        at = start + chance.randrange(length // 4) * 4
        value = chance.choice((0, 1, 2, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80, 0xF30A, chance.getrandbits(32)))
        spoilt[at : at + 4] = struct.pack("<I", value)
    return bytes(spoilt[: len(data)])


@pytest.mark.parametrize("variant", ["1 KiB", "meta_bg", "ext3", "uninit_bg"])
def test_damage_is_told_and_nothing_else_happens(image_of: Callable[[str], Path], variant: str) -> None:
    """Runs of a fixed seed; whatever is wrong, it takes no time and raises NotUnderstood only."""
    data = image_of(variant).read_bytes()
    _exercise(data)
    chance = random.Random(f"ext4 {variant}")
    told, begin = 0, time.process_time()
    for _ in range(60):
        try:
            _exercise(_damaged(data, chance))
        except NotUnderstood:
            told += 1
    assert told >= 2
    assert time.process_time() - begin < 60


@pytest.mark.parametrize("variant", ["1 KiB", "ext3"])
def test_damage_of_the_one_after_is_a_problem(image_of: Callable[[str], Path], variant: str) -> None:
    """Never waved through as not understood: the one before was."""
    data = image_of(variant).read_bytes()
    entry = Entry("/etc/small", "f", 0o644, 0, 0, 1, 6, 14, "0", "0", "0")
    listing = Listing({"/": Entry("/", "d", 0o755, 0, 0, 3, 1024, 2, "0", "0", "0"), "/etc/small": entry})
    chance = random.Random(variant)
    told = 0
    for _ in range(60):
        other = _damaged(data, chance)
        sides = Sides(_reading(data), _reading(other), len(data))
        runs = [(at, 512) for at in range(0, len(data), 512) if data[at : at + 512] != other[at : at + 512]]
        found = account_ext4(sides, runs, (listing, listing), {"/etc/small": False})
        assert found.unexplained or found.kinds or not runs
        told += bool(found.unexplained)
    # the others hit free blocks and inodes, or old entries of the journal
    assert told > 40


def _with(data: bytes, offset: int, form: str, value: int) -> bytes:
    spoilt = bytearray(data)
    struct.pack_into(form, spoilt, offset, value)
    return bytes(spoilt)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0x18, "<I", 31), (0x4, "<I", 0xFFFFFFFF), (0x20, "<I", 1), (0x20, "<I", 0), (0x28, "<I", 0), (0x58, "<H", 3),
        (0x38, "<H", 1), (0x14, "<I", 0xFFFFFFF0), (0xE0, "<I", 0xFFFFFFFF), (0xCE, "<H", 0xFFFF), (0x64, "<I", 0x200),
    ],
)  # fmt: skip
def test_impossible_superblocks_are_refused(image_of: Callable[[str], Path], offset: int, form: str, value: int) -> None:
    with pytest.raises(NotUnderstood):
        _exercise(_with(image_of("1 KiB").read_bytes(), 1024 + offset, form, value))


def test_a_map_that_leads_to_itself_is_refused(image_of: Callable[[str], Path]) -> None:
    data = image_of("ext3").read_bytes()
    layout = _layout(image_of("ext3"))
    number = int(_run("debugfs", "-R", "stat /etc/large", image_of("ext3")).split()[1])
    table = next(region for region in layout.regions if region.meaning == "inode table")
    inode = table.first * KIB + (number - 1) * layout.inode_bytes
    (indirect,) = struct.unpack_from("<I", data, inode + 0x28 + 48)
    looped = bytearray(data)
    struct.pack_into("<I", looped, inode + 0x28 + 52, indirect)
    with pytest.raises(NotUnderstood):
        Ext4Layout(_reading(bytes(looped)), len(data)).blocks_of(number)
