"""Tiny images of every variant, made by qemu-img from one patterned raw disk."""

from __future__ import annotations

import random
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import zstandard

from converters import vhd
from converters.extents import invariant_broken
from converters.image import describe, identity, open_disk
from converters.references import NOTHING_SAID, Lookup
from p2v.core.disk import Codec, DiskReader, Extent

KIB = 1024
MIB = 1024 * KIB
# No multiple of any block, grain or cluster size but the smallest.
ODD_SIZE = 12 * MIB + 3 * 512
# Holds whole blocks of the largest default (VHD's 2 MiB), so that every format leaves something out.
LONG_ZEROES = slice(4 * MIB + 512, 9 * MIB - 4096)


@dataclass(frozen=True)
class Variant:
    """How qemu-img is asked for one variant; FOLDER in the options is the image's own."""

    name: str
    format: str
    qemu_format: str
    options: str = ""
    compressed: bool = False

    @property
    def suffix(self) -> str:
        return {"vpc": ".vhd"}.get(self.qemu_format, f".{self.qemu_format}")


VARIANTS = (
    Variant("raw", "raw", "raw"),
    Variant("vhd-dynamic", "vhd", "vpc", "subformat=dynamic"),
    Variant("vhd-dynamic-exact", "vhd", "vpc", "subformat=dynamic,force_size=on"),
    Variant("vhd-fixed", "vhd", "vpc", "subformat=fixed"),
    Variant("vhd-fixed-exact", "vhd", "vpc", "subformat=fixed,force_size=on"),
    Variant("vhdx-dynamic", "vhdx", "vhdx", "subformat=dynamic,block_size=1M"),
    Variant("vhdx-dynamic-8m", "vhdx", "vhdx", "subformat=dynamic,block_size=8M"),
    Variant("vhdx-fixed", "vhdx", "vhdx", "subformat=fixed,block_size=2M"),
    Variant("vmdk-sparse", "vmdk", "vmdk", "subformat=monolithicSparse"),
    Variant("vmdk-sparse-zeroed", "vmdk", "vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    Variant("vmdk-stream", "vmdk", "vmdk", "subformat=streamOptimized"),
    Variant("vmdk-flat", "vmdk", "vmdk", "subformat=monolithicFlat"),
    Variant("vmdk-split-sparse", "vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"),
    Variant("vmdk-split-flat", "vmdk", "vmdk", "subformat=twoGbMaxExtentFlat"),
    Variant("qcow", "qcow", "qcow"),
    Variant("qed", "qed", "qed"),
    Variant("parallels", "parallels", "parallels"),
    Variant("vdi-dynamic", "vdi", "vdi"),
    Variant("vdi-fixed", "vdi", "vdi", "static=on"),
    Variant("qcow2-v2", "qcow2", "qcow2", "compat=0.10"),
    Variant("qcow2-v3", "qcow2", "qcow2", "compat=1.1"),
    Variant("qcow2-small-clusters", "qcow2", "qcow2", "cluster_size=512"),
    Variant("qcow2-large-clusters", "qcow2", "qcow2", "cluster_size=2M"),
    Variant("qcow2-preallocated", "qcow2", "qcow2", "preallocation=metadata"),
    Variant("qcow2-lazy-refcounts", "qcow2", "qcow2", "lazy_refcounts=on"),
    Variant("qcow2-subclusters", "qcow2", "qcow2", "extended_l2=on"),
    Variant("qcow2-subclusters-16k", "qcow2", "qcow2", "extended_l2=on,cluster_size=16K"),
    Variant("qcow2-subclusters-deflate", "qcow2", "qcow2", "extended_l2=on", compressed=True),
    Variant("qcow2-data-file", "qcow2", "qcow2", "data_file=FOLDER/data-file.bin"),
    Variant("qcow2-data-file-raw", "qcow2", "qcow2", "data_file=FOLDER/data-file.bin,data_file_raw=on"),
    Variant("qcow2-deflate", "qcow2", "qcow2", "", compressed=True),
    Variant("qcow2-deflate-2m", "qcow2", "qcow2", "cluster_size=2M", compressed=True),
    Variant("qcow2-zstd", "qcow2", "qcow2", "compression_type=zstd", compressed=True),
)
# Read by qemu-nbd, which alone knows where it has the bytes.
SERVED = ("qcow", "qed", "parallels")
BY_NAME = {variant.name: variant for variant in VARIANTS}


def patterned(size: int = ODD_SIZE, seed: int = 7) -> bytes:
    """A boot sector, then stretches of noise, text and zeroes of odd lengths, ending in noise."""
    noise = random.Random(seed)
    parts = [noise.randbytes(510) + b"\x55\xaa"]
    length = 512
    while length < size:
        stretch = noise.choice((512, 4 * KIB, 60 * KIB, 64 * KIB, 300 * KIB, 1 * MIB, 2 * MIB + 512))
        kind = noise.randrange(3)
        text = b"the quick brown fox %d " % length
        part = (noise.randbytes(stretch), bytes(stretch), (text * (stretch // len(text) + 1))[:stretch])[kind]
        parts.append(part)
        length += stretch
    whole = bytearray((b"".join(parts)[: size - 512] + noise.randbytes(512))[:size])
    if size >= LONG_ZEROES.stop:
        whole[LONG_ZEROES] = bytes(LONG_ZEROES.stop - LONG_ZEROES.start)
    return bytes(whole)


def make_image(folder: Path, variant: Variant, content: bytes, name: str | None = None) -> Path:
    """An image of ``content`` in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "content.bin"
    source.write_bytes(content)
    target = folder / f"{name or variant.name}{variant.suffix}"
    command = ["convert", "-f", "raw", "-O", variant.qemu_format]
    if variant.options:
        command += ["-o", variant.options.replace("FOLDER", str(folder))]
    if variant.compressed:
        command.append("-c")
    qemu_img(*command, str(source), str(target))
    source.unlink()
    return target


def qemu_img(*arguments: str) -> str:
    """Run qemu-img; its output. Raises CalledProcessError."""
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True, timeout=120).stdout


def read_by_qemu(image: Path, variant: Variant, folder: Path) -> bytes:
    """The whole disk as qemu-img reads it."""
    target = folder / f"{variant.name}.by-qemu"
    qemu_img("convert", "-f", variant.qemu_format, "-O", "raw", str(image), str(target))
    return target.read_bytes()


def rebuilt(extents: Iterable[Extent], pread_of: DiskReader) -> bytes:
    """A disk put together from its extents alone; what they leave to ``pread`` is asked of ``pread_of``."""
    parts: list[bytes] = []
    for extent in extents:
        if extent.zero:
            parts.append(bytes(extent.length))
        elif extent.stored is not None:
            with extent.stored.file.open("rb") as file:
                file.seek(extent.stored.offset)
                parts.append(file.read(extent.length))
        elif extent.compressed is not None:
            with extent.compressed.file.open("rb") as file:
                file.seek(extent.compressed.offset)
                stored = file.read(extent.compressed.length)
            whole = _inflated(stored, extent.compressed.codec, extent.compressed.inflated_length)
            parts.append(whole[extent.compressed.skip :][: extent.length])
        else:
            parts.append(pread_of.pread(extent.length, extent.offset))
        assert len(parts[-1]) == extent.length, extent
    return b"".join(parts)


def _inflated(stored: bytes, codec: Codec, length: int) -> bytes:
    if codec is Codec.ZSTD:
        return zstandard.ZstdDecompressor().decompressobj().decompress(stored)
    return zlib.decompress(stored) if codec is Codec.ZLIB else zlib.decompressobj(-15).decompress(stored, length + 1)


def whole_disk(path: Path, lookup: Lookup = NOTHING_SAID, step: int = 65_521) -> bytes:
    """A disk by its extents, after comparing that with reading it in pieces of an odd length."""
    with open_disk(path, lookup=lookup) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        by_extents = rebuilt(extents, disk)
        assert b"".join(disk.pread(step, at) for at in range(0, disk.virtual_size, step)) == by_extents
        describe(disk)
        identity(disk)
    return by_extents


def by_libvhdi(paths: Sequence[Path]) -> bytes:
    """A chain of VHDs or VHDXs through libvhdi, the child first."""
    opened: list[Any] = [vhd.independent_reader(path) for path in paths]
    try:
        for child, parent in pairwise(opened):
            child.set_parent(parent)
        return bytes(opened[0].read_buffer_at_offset(opened[0].get_media_size(), 0))
    finally:
        for each in opened:
            each.close()


@contextmanager
def held_by_qemu(image: Path, qemu_format: str) -> Iterator[None]:
    """A program of QEMU has an image open for writing, as one does whose parent was killed."""
    with subprocess.Popen(
        ["qemu-io", "-f", qemu_format, str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdin is not None
        assert orphan.stdout is not None
        orphan.stdin.write(b"length\n")
        orphan.stdin.flush()
        orphan.stdout.readline()
        try:
            yield
        finally:
            orphan.stdin.close()
