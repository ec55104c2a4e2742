"""Superblocks and boot sectors: what writing keeps up to date may differ, and no more."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from drivers.superblocks import superblock_problems
from p2v.core.units import KIB, MIB


def _problems(kind: str, before: bytes, *changes: tuple[int, bytes]) -> list[str]:
    after = bytearray(before)
    for at, data in changes:
        after[at : at + len(data)] = data
    return list(superblock_problems(kind, lambda n, at: before[at : at + n], lambda n, at: bytes(after[at : at + n]), len(before)))


@pytest.fixture(scope="module", params=[16, 32])
def fat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A FAT as mkfs.vfat makes it."""
    image = tmp_path_factory.mktemp("fat") / "image"
    subprocess.run(["mkfs.vfat", "-C", "-F", str(request.param), str(image), str(40 * KIB)], check=True, capture_output=True)
    return image.read_bytes()


def test_free_counts_of_fat_may_differ_and_its_boot_sector_may_not(fat: bytes) -> None:
    is_fat32 = fat[82:87] == b"FAT32"
    assert not _problems("vfat", fat)
    if is_fat32:
        assert not _problems("vfat", fat, (512 + 488, b"\1\2\3\4\5\6\7\x08"))
        assert _problems("vfat", fat, (6 * 512 + 3, b"x"))
    for at in (0, 3, 11, 0x27 if not is_fat32 else 0x43, 0x2B, 62 if not is_fat32 else 90, 510):
        assert _problems("vfat", fat, (at, bytes([fat[at] ^ 0xFF]))), at
    # behind what is reserved stand names and contents
    (reserved,) = struct.unpack_from("<H", fat, 14)
    assert not _problems("vfat", fat, (reserved * 512, b"other"))


def test_a_fat_that_was_not_unmounted_is_told(fat: bytes) -> None:
    state = 0x41 if fat[82:87] == b"FAT32" else 0x25
    (problem,) = _problems("vfat", fat, (state, b"\1"))
    assert "unmounted" in problem


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The beginning of an XFS as mkfs.xfs makes it, with the first copy of its superblock."""
    image = tmp_path_factory.mktemp("xfs") / "image"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True, capture_output=True)
    with image.open("rb") as file:
        return file.read(82 * MIB)


def test_counts_of_xfs_may_differ_and_its_identity_may_not(xfs: bytes) -> None:
    assert not _problems("xfs", xfs, (128, bytes(32)), (224, b"csum"), (240, b"sequence"))
    for at in (0, 4, 32, 84, 100, 108, 124, 208, 212, 216, 248, 300):
        (problem,) = _problems("xfs", xfs, (at, bytes([xfs[at] ^ 1])))
        assert f"at byte {at}" in problem
    copy = struct.unpack_from(">I", xfs, 84)[0] * struct.unpack_from(">I", xfs, 4)[0]
    assert xfs[copy : copy + 4] == b"XFSB"
    (problem,) = _problems("xfs", xfs, (copy + 108, b"x"))
    assert "group 1" in problem


def test_roots_of_btrfs_may_differ_and_its_identity_may_not(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    with image.open("rb") as file:
        data = file.read(65 * MIB)
    for at in (72, 80, 88, 120, 217):
        assert not _problems("btrfs", data, (64 * KIB + at, b"\7"))
    for at in (32, 112, 136, 172, 299, 571):
        assert _problems("btrfs", data, (64 * KIB + at, bytes([data[64 * KIB + at] ^ 1]))), at
    assert any("replayed" in problem for problem in _problems("btrfs", data, (64 * KIB + 96, b"\1")))
    assert _problems("btrfs", data, (64 * MIB + 299, b"x"))


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "vfat", "ntfs", "unknown"])
def test_noise_has_problems_or_none_and_nothing_else(kind: str) -> None:
    chance = random.Random(kind)
    for size in (0, 100, 512, 4096, 70 * KIB):
        for head in (b"", b"XFSB", b"\xeb\x3c\x90"):
            before = bytearray(head + chance.randbytes(size))[:size]
            if size >= 512:
                before[510:512] = b"\x55\xaa"
            found = _problems(kind, bytes(before), *([(size // 2, b"\0")] if size else []))
            assert all(isinstance(problem, str) and problem for problem in found)
