"""Images with flipped bytes give our errors or wrong data: never a hang, another exception, or much memory."""

from __future__ import annotations

import dataclasses
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.extents import invariant_broken
from converters.image import identity, open_disk
from p2v.core.errors import P2vError
from tests.converters.damage import right_checksums
from tests.converters.images import BY_NAME, MIB, make_image, patterned

NAMES = (
    "vhd-dynamic",
    "vhd-fixed",
    "vhdx-dynamic",
    "vhdx-fixed",
    "vmdk-sparse",
    "vmdk-stream",
    "vmdk-flat",
    "vdi-dynamic",
    "vdi-fixed",
    "qcow2-v2",
    "qcow2-v3",
    "qcow2-subclusters",
    "qcow2-data-file",
    "qcow2-deflate",
    "qcow2-zstd",
)
MUTATIONS = 300
# A mutated size makes honest tables of billions of zero blocks possible; nobody has to walk them here.
_EXTENTS_WALKED = 20_000
# Of processor time: other work on the host must not fail a test.
_SECONDS = 2.0


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes_in_metadata_do_no_harm(name: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", BY_NAME[name], patterned(5 * MIB + 512))
    sound = image.read_bytes()
    with open_disk(image) as disk:
        places = [(part.offset, part.length) for part in disk.layout.metadata() if part.file.path == image]
    noise = random.Random(20240607)
    outcomes = {"read": 0, "refused": 0}
    for number in range(MUTATIONS // 3 if name.startswith("vhdx") else MUTATIONS):
        raw = bytearray(sound)
        for at, new in _flips(noise, places):
            raw[at : at + len(new)] = new
        if number % 3:
            right_checksums(raw)
        image.write_bytes(raw[: len(sound)])
        outcomes[_read(image, f"{name} mutation {number}")] += 1
    assert outcomes["read"] > 0
    assert outcomes["refused"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_images_cut_anywhere_do_no_harm(name: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", BY_NAME[name], patterned(2 * MIB + 512))
    sound = image.read_bytes()
    noise = random.Random(5)
    outcomes = set()
    for number in range(60):
        image.write_bytes(sound[: noise.randrange(len(sound)) if number % 2 else noise.randrange(70_000)])
        outcomes.add(_read(image, f"{name} cut {number}"))
    assert "refused" in outcomes


def test_opening_and_reading_a_mutated_image_takes_little_memory(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", BY_NAME["qcow2-v3"], patterned(2 * MIB))
    sound = image.read_bytes()
    noise = random.Random(11)
    tracemalloc.start()
    try:
        for number in range(40):
            raw = bytearray(sound)
            for at, new in _flips(noise, [(0, 112)]):
                raw[at : at + len(new)] = new
            image.write_bytes(raw)
            del raw
            _read(image, f"mutation {number}")
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def _flips(noise: random.Random, places: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    for _ in range(noise.choice((1, 1, 2, 4))):
        begin, length = noise.choice(places)
        # Most of a table's meaning is near its begin; the rest is often padding.
        at = begin + noise.randrange(min(length, noise.choice((64, 128, 1024, length))))
        yield at, noise.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\0" * 8, noise.randbytes(1)))


def _read(image: Path, what: str) -> str:
    started = time.process_time()
    outcome = "read"
    try:
        with open_disk(image) as disk:
            size = disk.virtual_size
            assert size > 0
            identity(disk)
            for offset in (0, size // 2, max(0, size - 70_000)):
                assert len(disk.pread(65536, offset)) == min(65536, size - offset)
            position = 0
            for number, extent in enumerate(disk.extents()):
                assert extent.offset == position, what
                assert invariant_broken([dataclasses.replace(extent, offset=0)], extent.length) is None, what
                position = extent.end
                if number == _EXTENTS_WALKED or time.process_time() - started > _SECONDS:
                    break
            else:
                assert position == size, what
    except P2vError as error:
        outcome = "refused" if error.sentence() else "unsaid"
    assert time.process_time() - started < 2 * _SECONDS, what
    return outcome
