"""Damage of whatever is read: the volume is copied whole, or what is left out was free all the same. Never anything else."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.allocation.left_out import LeftOut
from converters.allocation.unused import find_unused
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB, needs, run
from tests.converters.allocation.patched import PatchedDisk
from tests.drivers import volume_disks

# how often each is damaged, and where the dice begin: others in `make matrix`, not more of the same
OFTEN, SELDOM = (100, 7), (250, 8)
# a read costs a look-up in a table; a hostile disk must not cost more than some of them
READS_AT_MOST = 60_000
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)


def _ext(options: str) -> Callable[[Path, Path], object]:
    return lambda disk, files: run("mke2fs", "-q", "-F", "-E", "nodiscard", *options.split(), "-d", files, disk)


def _xfs(options: str) -> Callable[[Path, Path], object]:
    def make(disk: Path, files: Path) -> None:
        names = sorted(files.rglob("file*"))
        proto = files.with_name("proto")
        lines = "".join(f"{path.name}-{n} ---644 0 0 {path}\n" for n, path in enumerate(names))
        proto.write_text(f"/\n0 0\nd--755 0 0\n{lines}$\n$\n")
        with disk.open("r+b") as file:
            file.truncate(320 * MIB)
        run("mkfs.xfs", "-q", "-f", "-K", *options.split(), "-p", proto, disk)

    return make


def _ntfs(disk: Path, files: Path) -> None:
    run("mkntfs", "-q", "-F", "-Q", "-c", "4096", disk)
    for path in sorted(files.rglob("file*"))[:40]:
        run("ntfscp", "-q", "-f", disk, path, path.name)


def _fat(bits: int) -> Callable[[Path, Path], object]:
    def make(disk: Path, files: Path) -> None:
        with disk.open("r+b") as file:
            file.truncate({12: 4, 16: 24, 32: 40}[bits] * MIB)
        run("mkfs.vfat", "-F", str(bits), *(("-s", "1") if bits == 32 else ()), disk)
        run("mcopy", "-o", "-i", disk, *sorted(files.rglob("file*"))[: 20 if bits == 12 else 60], "::/")

    return make


def _exfat(disk: Path, files: Path) -> None:
    run("mkfs.exfat", disk)


def _swap(disk: Path, files: Path) -> None:
    run("mkswap", disk)


def _volumes(name: str) -> Callable[[Path, Path], object]:
    return lambda disk, files: shutil.copy(volume_disks.disks(name)[0], disk)


def _table(label: str) -> Callable[[Path, Path], object]:
    def make(disk: Path, files: Path) -> None:
        part = made.poisoned(disk.with_name("part"), 8 * MIB)
        _ext("-t ext4 -b 1024")(part, files)
        script = f"label: {label}\n2048,16384\n" + ("18432,20000,E\n20480,16384\n" if label == "dos" else "20480,16384\n")
        run("sfdisk", "-q", disk, stdin=script)
        with disk.open("r+b") as file:
            for at in (MIB, 20480 * 512):
                file.seek(at)
                file.write(part.read_bytes())

    return make


MAKERS = {
    "ext2": _ext("-t ext2 -b 1024"),
    "ext4": _ext("-t ext4 -b 1024"),
    "ext4-no-checksums": _ext("-t ext4 -O ^metadata_csum -b 1024"),
    "uninit_bg": _ext("-t ext4 -O ^metadata_csum,^64bit,uninit_bg -b 1024"),
    "meta_bg-bigalloc": _ext("-t ext4 -O meta_bg,^resize_inode,bigalloc -b 1024 -C 4096"),
    "xfs": _xfs("-m rmapbt=1,reflink=1"),
    "xfs-4": _xfs("-m crc=0"),
    "ntfs": _ntfs,
    "fat12": _fat(12),
    "fat16": _fat(16),
    "fat32": _fat(32),
    "exfat": _exfat,
    "swap": _swap,
    "lvm": _volumes("lvm"),
    "md": _volumes("mirror"),
    "mbr": _table("dos"),
    "gpt": _table("gpt"),
}


def is_within(found: LeftOut, free: LeftOut) -> bool:
    """Whether all that is left out was free before the damage."""
    return all(sum(part.length for part in free.within(each.offset, each.end)) == each.length for each in found)


def damages(chance: random.Random, disk: PatchedDisk, places: list[tuple[int, int]]) -> dict[int, bytes]:
    """A bit, a number, or a whole structure's worth of bytes somewhere in what is read."""
    offset, length = chance.choice(places)
    # headers are at the begin of what is read
    at = min(offset + chance.randrange(chance.choice((64, length, length)) or 1), disk.virtual_size - 1)
    kind = chance.randrange(5)
    if kind == 0:
        return {at: bytes([disk.data[at] ^ 1 << chance.randrange(8)])}
    if kind == 1:
        return {at: chance.randbytes(chance.choice((1, 2, 16)))}
    if kind == 2:
        size = chance.choice((2, 4, 8))
        number = chance.choice(NUMBERS) & (1 << 8 * size) - 1
        return {at // size * size: struct.pack(chance.choice("<>") + {2: "H", 4: "I", 8: "Q"}[size], number)}
    size = chance.choice((512, KIB, 4 * KIB))
    fill = disk.data[chance.choice(places)[0] :][:size] if kind == 3 else chance.choice((b"\0", b"\xff")) * size
    return {at // size * size: fill}


@needs("mkfs.xfs", "mkntfs", "ntfscp", "mkfs.vfat", "mcopy", "mkfs.exfat", "mkswap", "sfdisk")
@pytest.mark.parametrize("runs, seed", [OFTEN, pytest.param(*SELDOM, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("name", MAKERS)
def test_no_damage_leads_to_leaving_out_what_is_used(tmp_path: Path, name: str, runs: int, seed: int) -> None:
    made.scatter(tmp_path / "files", seed=6, budget=3 * MIB, largest=60 * KIB)
    path = made.poisoned(tmp_path / "disk", 32 * MIB)
    MAKERS[name](path, tmp_path / "files")
    check(path.read_bytes(), runs, seed)


def check(data: bytes, runs: int, seed: int) -> None:
    disk = PatchedDisk(data)
    (free,) = find_unused([disk]).disks
    assert free.total
    places, chance, changed = list(disk.read_at), random.Random(seed), 0
    for number in range(runs):
        damaged = PatchedDisk(data, damages(chance, disk, places))
        (found,) = find_unused([damaged]).disks
        assert is_within(found, free), (number, damaged.patches)
        assert damaged.reads < READS_AT_MOST
        changed += found.total != free.total
    # not everything that is read of a disk decides: other formats' signatures are looked for as well
    assert changed > runs // 25, changed
