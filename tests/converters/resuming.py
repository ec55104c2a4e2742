"""Targets that one run leaves and another goes on with, in every layout."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from converters.copy import CopyResult, copy_disk
from converters.qemu_img import QemuImg
from converters.target import Target, TargetFormat, open_target
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.core.disk import Codec
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from tests.converters.memory_disk import Kind, MemoryDisk

QEMU = QemuImg(SystemRunner())
FORMATS = pytest.mark.parametrize("target_format", list(TargetFormat))
ZSTD = TargetOptions(compression=Codec.ZSTD)
LAYOUTS: dict[str, tuple[TargetFormat, TargetOptions]] = {
    "raw": (TargetFormat.RAW, PLAIN),
    "raw falloc": (TargetFormat.RAW, TargetOptions(preallocation=Preallocation.FALLOC)),
    "qcow2": (TargetFormat.QCOW2, PLAIN),
    "qcow2 512K": (TargetFormat.QCOW2, TargetOptions(cluster_bytes=512 * KIB)),
    "qcow2 1M": (TargetFormat.QCOW2, TargetOptions(cluster_bytes=MIB)),
    "zstd": (TargetFormat.QCOW2, ZSTD),
    "deflate 256K": (TargetFormat.QCOW2, TargetOptions(compression=Codec.DEFLATE, cluster_bytes=256 * KIB)),
    "deflate 2M": (TargetFormat.QCOW2, TargetOptions(compression=Codec.DEFLATE, cluster_bytes=2 * MIB)),
    "metadata": (TargetFormat.QCOW2, TargetOptions(preallocation=Preallocation.METADATA)),
    "falloc": (TargetFormat.QCOW2, TargetOptions(preallocation=Preallocation.FALLOC)),
    "falloc 256K": (TargetFormat.QCOW2, TargetOptions(256 * KIB, Preallocation.FALLOC)),
}
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
STRETCHES = [
    *[(Kind.PREAD, 1500 * KIB), (Kind.HOLE, 300 * KIB)] * 12,
    (Kind.HOLE, 20 * MIB),
    (Kind.STORED_ZEROES, 6 * MIB),
    *[(Kind.PREAD, 3 * MIB), (Kind.ZLIB, 64 * KIB)] * 6,
]


def opened(
    folder: Path, disk: MemoryDisk, target_format: TargetFormat, identity: str = "one", options: TargetOptions = PLAIN
) -> Target:
    """The target in ``folder``, with checkpoints every few pieces."""
    path = folder / "disk.partial"
    return open_target(path, target_format, disk.virtual_size, identity, options=options, checkpoint_bytes=4 * MIB)


def copied(target: Target, disk: MemoryDisk) -> CopyResult:
    """Copy and finish."""
    result = copy_disk(disk, target.writer, report=silent)
    target.finish_copy()
    return result


def contents(path: Path, target_format: TargetFormat, size: int) -> bytes:
    """What an image reads as; a qcow2 must be sound too."""
    if target_format is TargetFormat.RAW:
        return path.read_bytes()
    assert QEMU.check(path, "qcow2").clean
    flat = path.with_name("flat")
    QEMU.convert(path, "qcow2", flat, "raw")
    return flat.read_bytes()[:size]


def assert_whole(folder: Path, disk: MemoryDisk, target_format: TargetFormat) -> None:
    """The published image is the disk, and nothing is left beside it."""
    found = contents(folder / "disk", target_format, disk.virtual_size)
    assert hashlib.sha256(found).digest() == hashlib.sha256(disk.data).digest()
    assert not list(folder.glob("disk.partial*"))


def damage(path: Path, offset: int, data: bytes) -> None:
    """Write into the partial file behind everybody's back."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
