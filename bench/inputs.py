"""What the rows read, beside the sample guests: made once into the fixtures' cache, known by its recipe."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from p2v.core.run import SystemRunner
from p2v.core.units import GIB, MIB
from tests.fixtures import cache, packed
from tests.fixtures.cache import Artifact

_BULK_BYTES = 4 * GIB
_STRETCH_BYTES = 32 * MIB
_PART_BYTES = MIB // 4
_RECIPE = "4 GiB, every other 32 MiB is data: parts of 256 KiB, noise and text in turn, seed 1"
_OPTIONS = {
    "vmdk-stream": ("vmdk", "subformat=streamOptimized"),
    "vmdk-sparse": ("vmdk", "subformat=monolithicSparse"),
    "vhd-dynamic": ("vpc", "subformat=dynamic,force_size=on"),
    "vhdx": ("vhdx", "subformat=dynamic"),
    "qcow2": ("qcow2", ""),
    "vdi": ("vdi", ""),
}


def guest_disk(packing: str) -> Path:
    """The sample guest's disk (3 GiB, about 0.5 GiB of data); VDI is made here."""
    return _packed(packed("vmware", "raw"), "bench-vmware", packing) if packing == "vdi" else packed("vmware", packing)


def bulk_disk(packing: str) -> Path:
    """A disk of 4 GiB with 2 GiB of data, half of which can be compressed."""
    raw = cache.built(Artifact("bench-bulk", cache.recipe_digest([], _RECIPE), ".raw"), _make_bulk)
    return raw if packing == "raw" else _packed(raw, "bench-bulk", packing)


def _packed(raw: Path, stem: str, packing: str) -> Path:
    qemu_format, options = _OPTIONS[packing]
    # a folder, because a VMDK's descriptor names its own file
    artifact = Artifact(f"{stem}-{packing}", cache.recipe_digest([], str(raw.relative_to(cache.folder())), qemu_format, options))
    name = f"disk.{qemu_format}"

    def build(partial: Path) -> None:
        partial.mkdir()
        argv = ["qemu-img", "convert", "-f", "raw", "-O", qemu_format, *(["-o", options] if options else [])]
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
