"""What the NBD export says of holes and zeroes is what the reader's extents say."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from converters.block_status import StatusRange, block_status
from converters.image import open_disk
from converters.nbd import serve
from converters.references import DiskSpec
from p2v.core.disk import Extent
from p2v.core.workspace import socket_folder
from tests.converters.images import BY_NAME, MIB, make_image, patterned, qemu_img

Range = tuple[int, int, bool]


@pytest.fixture
def sockets() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder


@pytest.fixture
def sparse_raw(tmp_path: Path) -> Path:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        for at in (0, 3 * MIB, 9 * MIB):
            file.seek(at)
            file.write(b"\xeb" * 70_000)
        file.truncate(64 * MIB)
    return path


@pytest.fixture
def chain(sparse_raw: Path) -> Path:
    child = sparse_raw.parent / "child.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", sparse_raw.name, str(child))
    for command in ("write -P 7 1M 64k", "write -z 3M 64k", "write -P 9 40M 1M"):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(child)], check=True, capture_output=True)
    return child


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Neighbours of one kind as one."""
    found: list[Range] = []
    for offset, length, zero in ranges:
        if found and found[-1][2] == zero:
            found[-1] = (found[-1][0], found[-1][1] + length, zero)
        else:
            found.append((offset, length, zero))
    return found


def by_extents(image: Path, input_format: str) -> list[Range]:
    with open_disk(image, input_format) as disk:
        return joined((extent.offset, extent.length, extent.zero) for extent in disk.extents())


def by_libnbd(uri: str) -> list[Range]:
    done = subprocess.run(["nbdinfo", "--json", "--map", uri], check=True, capture_output=True, text=True, timeout=60)
    return joined((each["offset"], each["length"], bool(each["type"] & 2)) for each in json.loads(done.stdout))


def by_qemu(uri: str) -> list[Range]:
    found = json.loads(qemu_img("map", "--output=json", "-f", "raw", uri))
    return joined((each["start"], each["length"], each["zero"]) for each in found)


@pytest.mark.parametrize("kind", ["raw", "qcow2", "chain", "vhdx", "stream"])
def test_clients_see_the_zeroes_that_the_extents_tell(
    kind: str, sparse_raw: Path, chain: Path, sockets: Path, tmp_path: Path
) -> None:
    names = {"qcow2": "qcow2-v3", "vhdx": "vhdx-dynamic", "stream": "vmdk-stream"}
    if kind in names:
        variant = BY_NAME[names[kind]]
        image, input_format = make_image(tmp_path / "made", variant, patterned()), variant.format
    else:
        image, input_format = {"raw": (sparse_raw, "raw"), "chain": (chain, "qcow2")}[kind]
    expected = by_extents(image, input_format)
    assert len(expected) > 2
    with serve(DiskSpec(image, input_format), sockets) as export:
        told = by_libnbd(export.uri)
        assert by_qemu(export.uri) == told
    if kind in ("qcow2", "vhdx"):
        # qemu-img leaves holes of the host in stored blocks, which only a look at a range notices
        told = with_more_zeroes(told, expected, image, input_format)
    assert told == expected


def with_more_zeroes(told: list[Range], expected: list[Range], image: Path, input_format: str) -> list[Range]:
    """``expected``, when what is told differs from it by further zeroes alone."""
    stored = {at for offset, length, zero in told if not zero for at in range(offset, offset + length, 512)}
    for offset, length, zero in expected:
        assert not zero or stored.isdisjoint(range(offset, offset + length, 512))
    with open_disk(image, input_format) as disk:
        assert not any(any(disk.pread(length, offset)) for offset, length, zero in told if zero)
        assert sum(length for _, length, _ in told) == disk.virtual_size
    return expected


def test_a_copy_that_leaves_holes_out_is_the_disk(chain: Path, sockets: Path, tmp_path: Path) -> None:
    expected, copied = tmp_path / "expected", tmp_path / "copied"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(chain), str(expected))
    with serve(DiskSpec(chain, "qcow2"), sockets) as export:
        subprocess.run(["nbdcopy", export.uri, str(copied)], check=True, timeout=60)
    assert copied.read_bytes() == expected.read_bytes()


def test_any_range_is_told_from_its_first_byte_on(chain: Path) -> None:
    with open_disk(chain) as disk:
        for start in (0, 511, MIB + 5, 3 * MIB + 60_000, 40 * MIB - 1, disk.virtual_size - 1):
            for length in (1, 65_536, 5 * MIB):
                found = block_status(disk, start, length)
                assert found[0].offset == start
                assert sum(each.length for each in found) == min(length, disk.virtual_size - start)
                assert all(a.offset + a.length == b.offset for a, b in pairwise(found))
                for each in found:
                    piece = disk.pread(each.length, each.offset)
                    assert not each.zero or not any(piece)
                assert block_status(disk, start, length, only_first=True) == found[:1]


def test_allocated_zeroes_are_no_holes(tmp_path: Path) -> None:
    image = tmp_path / "zeroes.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(image), "4M")
    for command in ("write -P 7 0 1M", "write -z 0 512k"):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(image)], check=True, capture_output=True)
    with open_disk(image) as disk:
        assert block_status(disk, 0, 4 * MIB) == [
            StatusRange(0, MIB // 2, zero=True, hole=False),
            StatusRange(MIB // 2, MIB // 2, zero=False, hole=False),
            StatusRange(MIB, 3 * MIB, zero=True, hole=True),
        ]


def test_a_range_far_into_a_large_disk_is_looked_up_and_not_walked_to(tmp_path: Path) -> None:
    image = tmp_path / "large.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=64k", str(image), "64T")
    with open_disk(image) as disk:
        started = time.process_time()
        for number in range(1000):
            found = block_status(disk, (60 << 40) + number * MIB, MIB, only_first=True)
            assert found == [StatusRange((60 << 40) + number * MIB, MIB, zero=True, hole=True)]
        assert time.process_time() - started < 2


def test_extents_of_parts_make_up_the_extents_of_the_whole(chain: Path) -> None:
    with open_disk(chain) as disk:
        parts: list[Extent] = []
        for start in range(0, disk.virtual_size, 1_000_003):
            parts += disk.extents_in(start, start + 1_000_003)
        assert parts[0].offset == 0
        assert all(a.end == b.offset for a, b in pairwise(parts))
        assert parts[-1].end == disk.virtual_size
        for part in parts:
            assert part.length == len(disk.pread(part.length, part.offset))
