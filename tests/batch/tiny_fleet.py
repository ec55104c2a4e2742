"""Tiny machines as a night has them: most can be converted, some were cut short, some are hostile."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from p2v.core.units import KIB
from tests.batch.dos import dos_disk

_PACKINGS = {"raw": "raw", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}
_HEADER_BYTES = 64 * KIB
_FLIPS = 200


def tiny_fleet(folder: Path, count: int, seed: int = 1) -> Iterator[tuple[str, Path]]:
    """Names and sources: one in ten is cut short or empty, one in twenty has a header that was played with."""
    draw = random.Random(seed)
    packed = dict(_packed(folder))
    for number in range(count):
        name, data = f"m{number:03}", packed[list(packed)[number % len(packed)]]
        if number % 10 == 3:
            data = data[: len(data) // 3] if number % 20 == 3 else b""
        elif number % 20 == 7:
            data = _hostile(data, draw)
        source = folder / "exports" / f"{name}.{list(packed)[number % len(packed)]}"
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(data)
        yield name, source


def _packed(folder: Path) -> Iterator[tuple[str, bytes]]:
    disk = dos_disk(folder / "dos.raw")
    for suffix, of_qemu in _PACKINGS.items():
        made = folder / f"dos-packed.{suffix}"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", of_qemu, disk, made], check=True)
        yield suffix, made.read_bytes()


def _hostile(data: bytes, draw: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(_FLIPS):
        made[draw.randrange(min(len(made), _HEADER_BYTES))] = draw.randrange(256)
    return bytes(made)
