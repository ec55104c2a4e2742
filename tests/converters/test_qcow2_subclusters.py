"""qcow2 with extended L2 entries: subclusters of every kind against QEMU and a model, and damage."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import c_qcow2
from converters.extents import invariant_broken
from converters.image import describe, open_disk
from p2v.core.errors import BadImage
from tests.converters.damage import patched, truncated
from tests.converters.images import KIB, MIB, patterned, qemu_img, rebuilt

CLUSTER = 16 * KIB
SUB = CLUSTER // c_qcow2.SUBCLUSTERS
SIZE = 5 * CLUSTER + 512


def make(image: Path, size: int = SIZE, *, backing: Path | None = None, cluster: int = CLUSTER) -> Path:
    words = ["-b", str(backing), "-F", "raw"] if backing is not None else []
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"extended_l2=on,cluster_size={cluster}", *words, str(image), str(size))
    return image


def qemu_io(image: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, str(image)], check=True, capture_output=True, timeout=60)


def by_qemu(image: Path) -> bytes:
    target = image.with_suffix(".by-qemu")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(image), str(target))
    return target.read_bytes()


def whole(image: Path) -> bytes:
    with open_disk(image) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        by_extents = rebuilt(extents, disk)
        assert b"".join(disk.pread(1021, at) for at in range(0, disk.virtual_size, 1021)) == by_extents
    return by_extents


def l2_table(image: Path) -> int:
    raw = image.read_bytes()
    header = c_qcow2.unpack_header(raw[:112])
    return int.from_bytes(raw[header.l1_table_offset :][:8], "big") & c_qcow2.L1E_OFFSET_MASK


def with_entry(image: Path, number: int, entry: int | None = None, bitmap: int | None = None) -> Path:
    at = l2_table(image) + number * c_qcow2.EXTENDED_L2_ENTRY_BYTES
    patches = [(at, struct.pack(">Q", entry))] if entry is not None else []
    patches += [(at + 8, struct.pack(">Q", bitmap))] if bitmap is not None else []
    return patched(image, image.with_suffix(".patched"), *patches)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(patterned(SIZE))
    return path


@pytest.fixture
def mixed(base: Path) -> Path:
    """Clusters with data, zeroes and the parent's bytes side by side."""
    image = make(base.parent / "mixed.qcow2", backing=base)
    qemu_io(image, f"write -P 1 {SUB} {3 * SUB}", f"write -z {6 * SUB} {2 * SUB}", f"write -P 2 {31 * SUB} {SUB}",
            f"write -z {CLUSTER} {CLUSTER}", f"write -P 3 {2 * CLUSTER} {CLUSTER}", f"write -z {4 * CLUSTER + SUB} {SUB}",
            f"write -P 4 {5 * CLUSTER} 512")  # fmt: skip
    return image


def test_subclusters_of_every_kind_read_as_in_qemu(mixed: Path, base: Path) -> None:
    found = whole(mixed)
    assert found == by_qemu(mixed)
    assert found[:SUB] == base.read_bytes()[:SUB]
    assert found[SUB : 4 * SUB] == b"\1" * (3 * SUB)
    assert found[6 * SUB : 8 * SUB] == bytes(2 * SUB)


def test_each_kind_is_told_apart(tmp_path: Path) -> None:
    image = make(tmp_path / "x.qcow2")
    qemu_io(image, f"write -P 1 {SUB} {SUB}", f"write -z {3 * SUB} {SUB}", f"write -z {CLUSTER + SUB} {SUB}")
    with open_disk(image) as disk:
        assert "subclusters" in disk.facts.variant
        found = [(e.offset, e.length, e.zero, e.allocated) for e in disk.extents()]
    expected = [
        (0, SUB, True, False),
        (SUB, SUB, False, True),
        (2 * SUB, SUB, True, False),
        (3 * SUB, SUB, True, True),
        (4 * SUB, SIZE - 4 * SUB, True, False),
    ]
    assert found == expected


def test_compressed_clusters_stand_beside_subclusters(base: Path) -> None:
    image = make(base.parent / "x.qcow2", backing=base)
    qemu_io(image, f"write -c -P 9 {CLUSTER} {CLUSTER}", f"write -P 1 {2 * CLUSTER + SUB} {SUB}")
    assert whole(image) == by_qemu(image)
    with open_disk(image) as disk:
        assert [e.offset for e in disk.extents() if e.compressed] == [CLUSTER]
    # Their bitmap is reserved, so it says nothing.
    assert whole(with_entry(image, 1, bitmap=(1 << 64) - 1)) == by_qemu(image)


def test_data_behind_two_levels_of_subclusters(mixed: Path, tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    words = ["-o", "extended_l2=on,cluster_size=32K", "-b", str(mixed), "-F", "qcow2"]
    qemu_img("create", "-q", "-f", "qcow2", *words, str(top), str(SIZE))
    qemu_io(top, f"write -P 7 1K {KIB}", f"write -z {40 * KIB} {KIB}")
    assert whole(top) == by_qemu(top)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_random_writes_read_as_in_a_model(data: st.DataObject) -> None:
    model = bytearray(patterned(SIZE))
    commands = []
    for pattern in range(1, data.draw(st.integers(2, 12))):
        start = data.draw(st.integers(0, SIZE // 512 - 1))
        sectors = data.draw(st.integers(1, min(40, SIZE // 512 - start)))
        zero = data.draw(st.booleans())
        commands.append(f"write {'-z' if zero else f'-P {pattern}'} {start * 512} {sectors * 512}")
        model[start * 512 : (start + sectors) * 512] = bytes([0 if zero else pattern]) * (sectors * 512)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base.raw")
        base.write_bytes(patterned(SIZE))
        image = make(Path(folder, "x.qcow2"), backing=base)
        qemu_io(image, *commands)
        assert whole(image) == bytes(model)


@pytest.mark.parametrize(
    ("number", "entry", "bitmap"),
    [
        (0, None, 1 << 33 | 2),  # allocated and zero at once
        (3, 0, 1),  # allocated without a place
        (0, 0x30200, None),  # within a cluster
        (0, 1 << 50, None),  # past the end
        (2, 1 << 50, None),
    ],
)
def test_impossible_entries_are_bad(number: int, entry: int | None, bitmap: int | None, mixed: Path) -> None:
    damaged = with_entry(mixed, number, entry, bitmap)
    with open_disk(damaged) as disk, pytest.raises(BadImage, match=f"cluster {number} "):
        disk.pread(CLUSTER, number * CLUSTER)
    with open_disk(damaged) as disk, pytest.raises(BadImage):
        list(disk.extents())


def test_two_clusters_at_one_place_are_bad_though_they_use_other_subclusters(mixed: Path) -> None:
    at = l2_table(mixed)
    entry = int.from_bytes(mixed.read_bytes()[at : at + 8], "big")
    with open_disk(with_entry(mixed, 3, entry, 1 << 20)) as disk, pytest.raises(BadImage, match="also serves"):
        list(disk.extents())


def test_clusters_too_small_for_subclusters_are_bad(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="subclusters"):
        open_disk(patched(mixed, tmp_path / "x.qcow2", (20, struct.pack(">I", 13))))


def test_a_cluster_the_file_ends_in_reads_as_in_qemu(base: Path, tmp_path: Path) -> None:
    image = make(tmp_path / "x.qcow2", backing=base)
    qemu_io(image, f"write -P 5 {2 * CLUSTER} {CLUSTER - SUB}")
    with open_disk(image) as disk:
        stored = next(e.stored for e in disk.extents() if e.stored and e.stored.file == image)
    cut = truncated(image, tmp_path / "y.qcow2", stored.offset + 3 * SUB + 100)
    assert whole(cut) == by_qemu(cut)
    assert whole(cut) != by_qemu(image)


def test_a_huge_preallocated_disk_is_walked_quickly(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    words = ["-o", "extended_l2=on,cluster_size=128K,preallocation=metadata", str(image), "32G"]
    qemu_img("create", "-q", "-f", "qcow2", *words)
    with open_disk(image) as disk:
        assert describe(disk).allocated_size in (0, disk.virtual_size)
        assert len(list(disk.extents())) < 1000
        assert disk.pread(MIB, 3 * MIB + 5) == bytes(MIB)
