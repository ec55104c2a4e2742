"""Describing sources, and knowing them again."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import time
from pathlib import Path

import pytest

from converters.image import describe, identity, open_disk
from tests.converters.images import MIB, VARIANTS, qemu_img


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_identity_is_the_same_again_and_quick(name: str, images: dict[str, Path]) -> None:
    with open_disk(images[name]) as disk:
        first = identity(disk)
    started = time.process_time()
    with open_disk(images[name]) as disk:
        assert identity(disk) == first
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("name", ["raw", "vhd-dynamic", "vhdx-dynamic", "vmdk-sparse", "vmdk-stream", "qcow2-v3"])
def test_identity_changes_with_time_metadata_and_first_sector(
    name: str, images: dict[str, Path], tmp_path: Path
) -> None:
    image = tmp_path / images[name].name
    image.write_bytes(images[name].read_bytes())
    with open_disk(image) as disk:
        before = identity(disk)
        first = next(extent for extent in disk.extents() if not extent.zero)
    os.utime(image, ns=(1, 1))
    with open_disk(image) as disk:
        touched = identity(disk)
    assert touched.files != before.files
    assert dataclasses.replace(touched, files=before.files) == before
    place = first.stored or first.compressed
    assert place is not None
    with image.open("r+b") as file:
        file.seek(place.offset + 100)
        file.write(b"changed")
    with open_disk(image) as disk:
        assert identity(disk).sample_sha256 != before.sample_sha256


def test_description_and_identity_are_plain_data(images: dict[str, Path]) -> None:
    for path in images.values():
        with open_disk(path) as disk:
            for value in (describe(disk), identity(disk)):
                assert json.loads(json.dumps(dataclasses.asdict(value)))


def test_description_counts_stored_bytes(images: dict[str, Path], content: bytes) -> None:
    with open_disk(images["vhd-fixed"]) as disk:
        assert describe(disk).file_size == images["vhd-fixed"].stat().st_size
    with open_disk(images["qcow2-v3"]) as sparse, open_disk(images["qcow2-deflate"]) as packed:
        assert describe(packed).allocated_size < describe(sparse).allocated_size < len(content)
    with open_disk(images["vmdk-flat"]) as disk:
        info = describe(disk)
        assert len(info.files) == 2
        assert info.file_size == sum(os.stat(file).st_size for file in info.files)


@pytest.mark.parametrize(
    ("format_name", "options", "size"),
    [
        ("vmdk", "subformat=monolithicSparse", "2T"),
        ("qcow2", "cluster_size=64K", "64T"),
        ("vpc", "force_size=on", "2T"),
    ],
)
def test_huge_disks_open_at_once_in_little_memory(format_name: str, options: str, size: str, tmp_path: Path) -> None:
    image = tmp_path / "huge"
    qemu_img("create", "-q", "-f", format_name, "-o", options, str(image), "2040G" if format_name == "vpc" else size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()  # what other tests left takes longer than opening
    started = time.thread_time()
    with open_disk(image) as disk:
        opened = time.thread_time() - started
        identity(disk)
        describe(disk)
        assert disk.pread(4096, disk.virtual_size - 4096) == bytes(4096)
    assert opened < 0.1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100 * MIB
