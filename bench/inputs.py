"""What the rows read, beside the sample guests: made once into the fixtures' cache, known by its recipe."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.core.run import SystemRunner
from p2v.core.units import GIB, MIB
from tests.fixtures import cache, packed
from tests.fixtures.cache import Artifact

_BULK_BYTES = 4 * GIB
_STRETCH_BYTES = 32 * MIB
_PART_BYTES = MIB // 4
_RECIPE = "4 GiB, every other 32 MiB is data: parts of 256 KiB, noise and text in turn, seed 1"
_STALE_BYTES = 4 * GIB
_STALE_FILE_BYTES = 3 * MIB
_STALE_FILES = 1200
_STALE_RECIPE = "4 GiB, 1200 files of 3 MiB of noise, three of four deleted, seed 2"
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "ntfs": ["mkntfs", "-q", "-F", "-Q", "-p", "2048"]}
_PACKINGS = {
    "raw": ("raw", ""),
    "vmdk-stream": ("vmdk", "subformat=streamOptimized"),
    "vmdk-sparse": ("vmdk", "subformat=monolithicSparse"),
    "vhd-dynamic": ("vpc", "subformat=dynamic,force_size=on"),
    "vhdx": ("vhdx", "subformat=dynamic"),
    "qcow2": ("qcow2", ""),
    "vdi": ("vdi", ""),
}


def qemu_format(packing: str) -> str:
    """What QEMU calls the format of a packing."""
    return _PACKINGS[packing][0]


def input_format(packing: str) -> str:
    """What we call it."""
    return "vhd" if qemu_format(packing) == "vpc" else qemu_format(packing)


def guest_disk(packing: str) -> Path:
    """The sample guest's disk (3 GiB, about 0.5 GiB of data); VDI is made here."""
    return _packed(packed("vmware", "raw"), "bench-vmware", packing) if packing == "vdi" else packed("vmware", packing)


def bulk_disk(packing: str) -> Path:
    """A disk of 4 GiB with 2 GiB of data, half of which can be compressed."""
    raw = cache.built(Artifact("bench-bulk", cache.recipe_digest([], _RECIPE), ".raw"), _make_bulk)
    return raw if packing == "raw" else _packed(raw, "bench-bulk", packing)


@dataclass(frozen=True, slots=True)
class StaleDisk:
    """A file system that was filled and then mostly emptied: alone (``volume``), and as the one partition of a raw ``disk``."""

    kind: str
    volume: Path
    disk: Path
    used_bytes: int


def stale_disk(kind: str) -> StaleDisk:
    """4 GiB of ``ext4`` or ``ntfs``, three quarters of what was written to it deleted again (made by root only)."""
    artifact = Artifact(f"bench-stale-{kind}", cache.recipe_digest([], _STALE_RECIPE, kind))
    made = cache.built(artifact, lambda partial: _make_stale(partial, kind))
    return StaleDisk(kind, made / "volume", made / "disk", int((made / "used").read_text("ascii")))


def _make_stale(partial: Path, kind: str) -> None:
    run, noise = SystemRunner().run, random.Random(2)
    partial.mkdir()
    volume, at = partial / "volume", partial / "mount"
    at.mkdir()
    with volume.open("wb") as file:
        file.truncate(_STALE_BYTES)
    run(_MAKE[kind] + [str(volume)], timeout=300.0)
    with _mounted(kind, volume, at):
        block = noise.randbytes(_STALE_FILE_BYTES)
        for number in range(_STALE_FILES):
            # no two files alike, and no time lost to noise
            (at / f"{number:04}").write_bytes(number.to_bytes(8, "big") + block[8:])
        for number in range(_STALE_FILES):
            if number % 4:
                (at / f"{number:04}").unlink()
        used = shutil.disk_usage(at).used
    at.rmdir()
    disk = partial / "disk"
    run(["truncate", "-s", str(_STALE_BYTES + 2 * MIB), str(disk)], timeout=60.0)
    table = f"label: dos\nstart=2048, size={_STALE_BYTES // 512}, type={'7' if kind == 'ntfs' else '83'}\n"
    run(["sfdisk", "--quiet", str(disk)], timeout=60.0, stdin=table.encode())
    argv = ["dd", f"if={volume}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"]
    run(argv, timeout=600.0)
    (partial / "used").write_text(str(used), "ascii")


@contextmanager
def _mounted(kind: str, volume: Path, at: Path) -> Iterator[None]:
    run = SystemRunner().run
    run(["ntfs-3g", str(volume), str(at)] if kind == "ntfs" else ["mount", "-o", "loop", str(volume), str(at)], timeout=60.0)
    try:
        yield
    finally:
        run(["umount", str(at)], timeout=300.0)


def _packed(raw: Path, stem: str, packing: str) -> Path:
    of_qemu, options = _PACKINGS[packing]
    # a folder, because a VMDK's descriptor names its own file
    artifact = Artifact(f"{stem}-{packing}", cache.recipe_digest([], str(raw.relative_to(cache.folder())), of_qemu, options))
    name = f"disk.{of_qemu}"

    def build(partial: Path) -> None:
        partial.mkdir()
        argv = ["qemu-img", "convert", "-f", "raw", "-O", of_qemu, *(["-o", options] if options else [])]
        SystemRunner().run([*argv, str(raw), str(partial / name)], timeout=1800.0)

    return cache.built(artifact, build) / name


def _make_bulk(partial: Path) -> None:
    with partial.open("wb") as file:
        file.truncate(_BULK_BYTES)
        stretches = range(0, _BULK_BYTES, 2 * _STRETCH_BYTES)
        for at, parts in zip(stretches, _stretches(random.Random(1)), strict=False):
            file.seek(at)
            file.write(parts)


def _stretches(noise: random.Random) -> Iterator[bytes]:
    words = [noise.randbytes(noise.randrange(2, 9)).hex().encode() for _ in range(2000)]
    text = b" ".join(noise.choices(words, k=_STRETCH_BYTES // 12))
    while True:
        parts = []
        for _ in range(_STRETCH_BYTES // _PART_BYTES // 2):
            begin = noise.randrange(len(text) - _PART_BYTES)
            parts += [noise.randbytes(_PART_BYTES), text[begin : begin + _PART_BYTES]]
        yield b"".join(parts)
