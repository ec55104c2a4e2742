"""Refcounts of qcow2 images against the references: numbers of leaks and corruptions are qemu-img check's own."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import c_qcow2, qcow2_references
from converters.check import Checked, check_tables
from converters.image import open_disk
from converters.qcow2_refcounts import RefcountCheck, check_refcounts
from converters.source_file import open_source
from p2v.core.errors import BadImage
from tests.converters.images import MIB, patterned, qemu_img

CONTENT = patterned(2 * MIB + 512, seed=3)


@dataclass(frozen=True)
class Counted:
    """What both sides count."""

    leaks: int
    corruptions: int


@dataclass(frozen=True)
class Kind:
    """How an image is made: options, then what QEMU does to it."""

    name: str
    options: str = ""
    compressed: bool = False
    after: tuple[str, ...] = ()


KINDS = (
    Kind("v2", "compat=0.10"),
    Kind("v3"),
    *(Kind(f"{bits}-bits", f"refcount_bits={bits},cluster_size=4096") for bits in (1, 2, 4, 8, 32, 64)),
    Kind("512-64", "refcount_bits=64,cluster_size=512"),
    Kind("512-1", "refcount_bits=1,cluster_size=512"),
    Kind("2M", "cluster_size=2M"),
    Kind("compressed", "cluster_size=16k", compressed=True),
    Kind("subclusters", "extended_l2=on,cluster_size=16k"),
    Kind("preallocated", "preallocation=metadata"),
    Kind("data-file", "data_file=FOLDER/data.bin"),
    Kind("snapshots", "cluster_size=4096", after=("snapshot", "write", "snapshot", "write")),
    Kind("compressed-snapshots", "cluster_size=4096", compressed=True, after=("snapshot", "write", "snapshot")),
    Kind("bitmaps", "cluster_size=4096", after=("bitmap", "write", "bitmap")),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}


def make(folder: Path, kind: Kind) -> Path:
    folder.mkdir(parents=True)
    content, image = folder / "content.bin", folder / f"{kind.name}.qcow2"
    content.write_bytes(CONTENT)
    options = ["-o", kind.options.replace("FOLDER", str(folder))] if kind.options else []
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, *(["-c"] if kind.compressed else []), str(content), str(image))
    for number, step in enumerate(kind.after):
        if step == "snapshot":
            qemu_img("snapshot", "-c", f"s{number}", str(image))
        elif step == "bitmap":
            qemu_img("bitmap", "--add", "-f", "qcow2", "-g", "512", str(image), f"b{number}")
        else:
            writes = [f"-c write -P {number} {n * 300}k 37k" for n in range(4)]
            subprocess.run(["qemu-io", "-f", "qcow2", *writes, str(image)], check=True, capture_output=True)
    return image


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("refcounts")
    return {kind.name: make(folder / kind.name, kind) for kind in KINDS}


def by_qemu(image: Path) -> Counted:
    ran = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", str(image)], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout, ran.stderr
    found = json.loads(ran.stdout)
    assert found["check-errors"] == 0, ran.stderr
    return Counted(found.get("leaks", 0), found.get("corruptions", 0))


def ours(image: Path) -> tuple[RefcountCheck, list[str]]:
    problems: list[BadImage] = []
    file = open_source(image)
    try:
        return check_refcounts(file, problems.append), [error.problem for error in problems]
    finally:
        file.close()


def counted(image: Path) -> Counted:
    found, problems = ours(image)
    assert not found.not_checked
    assert bool(problems) == bool(found.corruptions)
    return Counted(found.leaks, found.corruptions)


class Image:
    """A qcow2 image's bytes, by the specification alone: what a test damages."""

    def __init__(self, raw: bytes) -> None:
        self.raw = bytearray(raw)
        self.cluster_bits: int = struct.unpack_from(">I", raw, 20)[0]
        self.l1_size, self.l1 = struct.unpack_from(">IQ", raw, 36)
        self.table: int = struct.unpack_from(">Q", raw, 48)[0]
        (version,) = struct.unpack_from(">I", raw, 4)
        self.order: int = struct.unpack_from(">I", raw, 96)[0] if version > 2 else 4
        self.subclusters = version > 2 and bool(struct.unpack_from(">Q", raw, 72)[0] & 16)

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits

    @property
    def clusters(self) -> int:
        return -(-len(self.raw) // self.cluster)

    def refcount_place(self, number: int) -> int:
        """Where the refcount's bits begin, counted in bits; -1 where there is no block for it."""
        per_block = self.cluster * 8 >> self.order
        block: int = struct.unpack_from(">Q", self.raw, self.table + 8 * (number // per_block))[0]
        begin = block * 8 + (number % per_block << self.order)
        return begin if block else -1

    def set_refcount(self, number: int, value: int) -> None:
        at, bits = self.refcount_place(number), 1 << self.order
        if at < 0:
            return
        value &= (1 << bits) - 1
        if bits >= 8:
            self.raw[at // 8 : at // 8 + bits // 8] = value.to_bytes(bits // 8, "big")
        else:
            mask = (1 << bits) - 1 << at % 8
            self.raw[at // 8] = self.raw[at // 8] & ~mask | value << at % 8

    def l2_tables(self) -> list[int]:
        found = struct.unpack_from(f">{self.l1_size}Q", self.raw, self.l1)
        return [entry & 0x00FFFFFFFFFFFE00 for entry in found if entry & 0x00FFFFFFFFFFFE00]

    def places_of_entries(self) -> list[int]:
        """Every entry of the active tables that has a place."""
        step = 16 if self.subclusters else 8
        l2 = [table + n for table in self.l2_tables() for n in range(0, self.cluster, step)]
        entries = [self.l1 + 8 * n for n in range(self.l1_size)] + l2
        return [at for at in entries if struct.unpack_from(">Q", self.raw, at)[0] & 0x00FFFFFFFFFFFE00]


@pytest.mark.parametrize("name", BY_NAME)
def test_images_of_qemu_are_sound(name: str, made: dict[str, Path]) -> None:
    assert by_qemu(made[name]) == counted(made[name]) == Counted(0, 0)
    with open_disk(made[name]) as disk:
        assert check_tables(disk) == Checked(())


@pytest.mark.parametrize("name", BY_NAME)
def test_random_refcounts_and_flags_are_counted_as_qemu_does(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    noise = random.Random(name)
    for turn in range(3):
        image = Image(made[name].read_bytes())
        # cluster 0 and those of the refcount structures: QEMU will not open or stops at some of them
        structures = {0, image.table >> image.cluster_bits}
        for _ in range(noise.randrange(1, 12)):
            number = noise.randrange(image.clusters)
            if number not in structures:
                image.set_refcount(number, noise.choice((0, 0, 1, 2, 3, 300, 70_000)))
        if name != "data-file":
            entries = image.places_of_entries()
            for at in noise.sample(entries, min(5, len(entries))):
                image.raw[at] ^= 0x80
        damaged = tmp_path / f"{turn}.qcow2"
        damaged.write_bytes(image.raw)
        assert counted(damaged) == by_qemu(damaged)


@pytest.mark.parametrize("name", ["v3", "1-bits", "4-bits", "512-64", "snapshots", "2M", "v2"])
def test_clusters_that_serve_twice_are_counted_as_qemu_does(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    image = Image(made[name].read_bytes())
    entries = [at for at in image.places_of_entries() if not image.l1 <= at < image.l1 + 8 * image.l1_size]
    noise = random.Random(name)
    once = noise.choice(entries)
    for twice in noise.sample(entries, min(4, len(entries) - 1)):
        image.raw[twice : twice + 8] = image.raw[once : once + 8]
    damaged = tmp_path / "twice.qcow2"
    damaged.write_bytes(image.raw)
    assert counted(damaged) == by_qemu(damaged)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["v3", "compressed-snapshots", "bitmaps", "2-bits", "subclusters"]),
    refcounts=st.lists(st.tuples(st.integers(0), st.integers(0, 5)), max_size=20),
    flags=st.lists(st.integers(0), max_size=8),
)
def test_any_damage_of_refcounts_and_flags_is_counted_as_qemu_does(
    made: dict[str, Path], tmp_path: Path, name: str, refcounts: list[tuple[int, int]], flags: list[int]
) -> None:
    image = Image(made[name].read_bytes())
    for number, value in refcounts:
        if number % image.clusters not in (0, image.table >> image.cluster_bits):
            image.set_refcount(number % image.clusters, value)
    entries = image.places_of_entries()
    for at in flags:
        image.raw[entries[at % len(entries)]] ^= 0x80
    damaged = tmp_path / "any.qcow2"
    damaged.write_bytes(image.raw)
    assert counted(damaged) == by_qemu(damaged)


def test_bitmaps_that_another_program_made_stale_are_leaks_as_for_qemu(made: dict[str, Path], tmp_path: Path) -> None:
    raw = bytearray(made["bitmaps"].read_bytes())
    struct.pack_into(">Q", raw, 88, 0)
    damaged = tmp_path / "stale.qcow2"
    damaged.write_bytes(raw)
    assert counted(damaged) == by_qemu(damaged)
    assert counted(damaged).leaks > 2


@pytest.mark.parametrize("second", [5 * 65_536, 1 << 40])
def test_a_refcount_block_that_cannot_be_is_counted_as_qemu_does(second: int, made: dict[str, Path], tmp_path: Path) -> None:
    image = Image(made["v3"].read_bytes())
    struct.pack_into(">Q", image.raw, image.table + 8, second)
    damaged = tmp_path / "block.qcow2"
    damaged.write_bytes(image.raw)
    assert counted(damaged) == by_qemu(damaged)
    assert counted(damaged).corruptions


def check(image: Path) -> Checked:
    with open_disk(image) as disk:
        return check_tables(disk)


def damage(source: Path, target: Path, change: Callable[[Image], None]) -> Path:
    image = Image(source.read_bytes())
    change(image)
    target.write_bytes(image.raw)
    return target


def test_a_leak_is_a_note_and_a_refcount_too_low_is_wrong(made: dict[str, Path], tmp_path: Path) -> None:
    def appended(image: Image) -> None:
        number = image.clusters
        image.raw += bytes(-len(image.raw) % image.cluster + image.cluster)
        image.set_refcount(number, 1)

    leaked = check(damage(made["v3"], tmp_path / "leak.qcow2", appended))
    assert leaked.findings == ()
    assert len(leaked.notes) == 1
    with open_disk(made["v3"]) as disk:
        place = next(extent.stored.offset for extent in disk.extents() if extent.stored is not None)
    low = check(damage(made["v3"], tmp_path / "low.qcow2", lambda image: image.set_refcount(place >> 16, 0)))
    # the refcount, and bit 63 of the entry, which says that it is one
    assert len(low.findings) == 2
    assert str(place) in low.findings[-1].problem


def test_neighbours_that_are_wrong_in_the_same_way_are_one_finding(made: dict[str, Path], tmp_path: Path) -> None:
    def change(image: Image) -> None:
        for number in range(image.clusters):
            if number != image.table >> image.cluster_bits:
                image.set_refcount(number, 0)

    found, problems = ours(damage(made["4-bits"], tmp_path / "none.qcow2", change))
    assert found.corruptions > 200
    assert len(problems) < 20


def test_refcounts_of_an_image_marked_dirty_are_not_judged(made: dict[str, Path], tmp_path: Path) -> None:
    def change(image: Image) -> None:
        image.raw[79] |= c_qcow2.INCOMPAT_DIRTY
        image.set_refcount(image.clusters - 1, 0)

    found = check(damage(made["v3"], tmp_path / "dirty.qcow2", change))
    assert found.findings == ()
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [("_MAX_COUNTER_BYTES", 1024, "512-64"), ("_MAX_L2_TABLES", 2, "512-1"), ("_MAX_L2_BYTES", 1024, "512-1"),
     ("_MAX_L1_ENTRIES", 3, "snapshots")],
)  # fmt: skip
def test_what_would_take_too_much_memory_is_said_not_to_be_checked(
    limit: str, value: int, name: str, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qcow2_references, limit, value)
    found = check(made[name])
    assert found.findings == ()
    assert len(found.notes) == 1


def test_a_large_mostly_empty_image_costs_little(tmp_path: Path) -> None:
    image = tmp_path / "large.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", str(image), "63T")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 60T 64k", str(image)], check=True, capture_output=True)
    started = time.process_time()
    tracemalloc.start()
    try:
        assert counted(image) == Counted(0, 0)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5


def test_hostile_tables_over_a_file_of_holes_stay_within_time_and_memory(made: dict[str, Path], tmp_path: Path) -> None:
    """A file of 8 TiB of holes, an L1 table of L2 tables far apart, every entry of the refcount table the same block."""
    image = Image(made["v3"].read_bytes())
    struct.pack_into(">Q", image.raw, 24, 1 << 50)
    end = -(-len(image.raw) // image.cluster) * image.cluster
    l1_entries, table_bytes = 1 << 21, c_qcow2.MAX_REFCOUNT_TABLE_BYTES
    struct.pack_into(">IQ", image.raw, 36, l1_entries, end)
    struct.pack_into(">QI", image.raw, 48, end + 8 * l1_entries, table_bytes // image.cluster)
    path = tmp_path / "hostile.qcow2"
    first = end + 8 * l1_entries + table_bytes
    with path.open("wb") as file:
        file.write(image.raw)
        file.seek(end)
        step = 64 * image.cluster
        file.write(struct.pack(f">{l1_entries}Q", *range(first, first + l1_entries * step, step)))
        file.write(struct.pack(">Q", 2 * image.cluster) * (table_bytes // 8))
        file.truncate(8 << 40)
    started = time.process_time()
    tracemalloc.start()
    try:
        found, _ = ours(path)
        assert tracemalloc.get_traced_memory()[1] < 250 * MIB
    finally:
        tracemalloc.stop()
        path.unlink()
    assert found.not_checked
    assert time.process_time() - started < 10


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_in_any_structure_raise_nothing_else(seed: int, made: dict[str, Path], tmp_path: Path) -> None:
    noise = random.Random(seed)
    damaged = tmp_path / "noise.qcow2"
    for name in ("snapshots", "bitmaps", "compressed", "512-64", "subclusters"):
        image = Image(made[name].read_bytes())
        regions = [0, image.l1, image.table, *image.l2_tables(), struct.unpack_from(">Q", image.raw, 64)[0]]
        for _ in range(8):
            at = noise.choice(regions) + noise.randrange(0, 256)
            image.raw[at : at + 1] = noise.randbytes(1)
        damaged.write_bytes(image.raw)
        try:
            found, problems = ours(damaged)
        except BadImage:
            continue
        assert found.not_checked or bool(problems) == bool(found.corruptions)
