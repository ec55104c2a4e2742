"""qcow2 written directly: qemu-img is the judge."""

from __future__ import annotations

import functools
import itertools
import random
import sys
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from converters.c_qcow2 import INCOMPAT_COMPRESSION, OFLAG_COMPRESSED, unpack_header
from converters.compression import compressor, deflate_by_zlib
from converters.free_ranges import FreeRanges
from converters.image import open_disk
from converters.pieces import FULL_MAP, PIECE_BYTES, SUBPIECE_BYTES, SUBPIECES, map_runs, piece_length
from converters.qcow2_clusters import HostClusters
from converters.qcow2_file import LARGEST_DISK_BYTES
from converters.qcow2_preallocated import PreallocatedQcow2Writer
from converters.qcow2_writer import Qcow2Writer
from converters.qemu_img import QemuImg
from converters.raw_writer import RawWriter
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.core.disk import Codec
from p2v.core.errors import NoSpace, ProgramFailed, ToolMissing, Usage
from p2v.core.run import SystemRunner
from p2v.core.units import GIB, KIB, MIB, TIB
from tests.converters.memory_disk import content

QEMU = QemuImg(SystemRunner())
LAYOUTS = {
    "plain": PLAIN,
    "plain 256K": TargetOptions(cluster_bytes=256 * KIB),
    "plain 2M": TargetOptions(cluster_bytes=2 * MIB),
    "zstd": TargetOptions(compression=Codec.ZSTD),
    "zstd 128K": TargetOptions(compression=Codec.ZSTD, cluster_bytes=128 * KIB),
    "zstd 2M": TargetOptions(compression=Codec.ZSTD, cluster_bytes=2 * MIB),
    "deflate": TargetOptions(compression=Codec.DEFLATE),
    "deflate 512K": TargetOptions(compression=Codec.DEFLATE, cluster_bytes=512 * KIB),
    "metadata": TargetOptions(preallocation=Preallocation.METADATA),
    "metadata 2M": TargetOptions(preallocation=Preallocation.METADATA, cluster_bytes=2 * MIB),
    "falloc": TargetOptions(preallocation=Preallocation.FALLOC),
}
EVERY_LAYOUT = pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
COMPRESSED = pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.DEFLATE], ids=["zstd", "deflate"])


def opened(
    path: Path, size: int, options: TargetOptions = PLAIN, *, resume: bool = False
) -> Qcow2Writer | PreallocatedQcow2Writer:
    """A writer as targets choose it."""
    if options.preallocation is not Preallocation.OFF:
        return PreallocatedQcow2Writer(path, size, options, resume=resume)
    return Qcow2Writer(path, size, options=options, resume=resume)


@functools.lru_cache(maxsize=64)
def piece_data(index: int, size: int) -> bytes:
    """Pieces of three kinds: that shrink by half, that do not shrink, and sub-pieces of both by turns."""
    length = piece_length(index, size)
    shrinks, stays = content(length, index), random.Random(index).randbytes(length)
    if index % 3 == 2:
        parts = [(stays if at % 2 else shrinks)[at * SUBPIECE_BYTES : (at + 1) * SUBPIECE_BYTES] for at in range(SUBPIECES)]
        return b"".join(parts)
    return stays if index % 3 else shrinks


def write(path: Path, size: int, pieces: Iterable[tuple[int, int]], options: TargetOptions = PLAIN) -> dict[int, int]:
    """An image with the given (piece, data map); returns the places."""
    writer = opened(path, size, options)
    places = {}
    for index, data_map in pieces:
        places[index] = writer.write_piece(index, memoryview(expected(index, size, data_map)), data_map)
    writer.finish()
    writer.close()
    return places


def expected(index: int, size: int, data_map: int) -> bytes:
    """What a piece reads as."""
    data, out = piece_data(index, size), bytearray(piece_length(index, size))
    for first, count in map_runs(data_map):
        a, b = first * SUBPIECE_BYTES, (first + count) * SUBPIECE_BYTES
        out[a:b] = data[a:b]
    return bytes(out)


def assert_reads_as(image: Path, data: bytes) -> None:
    """The image is sound, and QEMU and our own reader find ``data`` in it."""
    assert QEMU.check(image, "qcow2").clean
    flat = image.with_name("flat")
    QEMU.convert(image, "qcow2", flat, "raw")
    padded = data.ljust(-(-len(data) // 512) * 512, b"\0")
    assert flat.read_bytes() == padded
    with open_disk(image) as disk:
        assert disk.pread(len(padded), 0) == padded


@pytest.mark.parametrize("size", [0, 1, 512, 513, 65536, 65537, 2 * MIB, 5 * MIB + 700, 512 * MIB, 512 * MIB + 1])
@pytest.mark.parametrize("name", ["plain", "plain 2M", "zstd", "deflate 512K", "metadata", "metadata 2M"])
def test_any_size_gives_a_sound_image_of_whole_sectors(tmp_path: Path, size: int, name: str) -> None:
    image = tmp_path / "image"
    last = [] if size == 0 else [((size - 1) // PIECE_BYTES, FULL_MAP)]
    if last:
        clusters = -(-piece_length(last[0][0], size) // SUBPIECE_BYTES)
        last = [(last[0][0], (1 << clusters) - 1)]
    write(image, size, last, LAYOUTS[name])
    assert QEMU.check(image, "qcow2").clean
    info = QEMU.info(image, "qcow2")
    assert info.virtual_size == -(-size // 512) * 512
    assert info.backing is None
    assert not info.dirty
    if size and size < 100 * MIB:
        QEMU.convert(image, "qcow2", tmp_path / "raw", "raw")
        data = (tmp_path / "raw").read_bytes()
        start = last[0][0] * PIECE_BYTES
        assert data[start:size] == expected(*[last[0][0], size, last[0][1]])
        assert not any(data[size:])


@EVERY_LAYOUT
def test_every_sub_piece_map_reads_back(tmp_path: Path, options: TargetOptions) -> None:
    rng = random.Random(5)
    size = 24 * MIB - 100 * KIB - 700
    maps = {index: rng.getrandbits(32) if index % 5 else FULL_MAP for index in range(12)}
    maps[11] &= (1 << -(-piece_length(11, size) // SUBPIECE_BYTES)) - 1
    pieces = list(maps.items())
    rng.shuffle(pieces)
    write(tmp_path / "image", size, pieces, options)
    assert_reads_as(tmp_path / "image", b"".join(expected(index, size, data_map) for index, data_map in sorted(pieces)))
    info = QEMU.info(tmp_path / "image", "qcow2")
    assert info.cluster_size == options.cluster_bytes


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    maps=st.dictionaries(st.integers(0, 3), st.integers(1, FULL_MAP)),
    size=st.integers(6 * MIB + 1, 8 * MIB),
    options=st.sampled_from(list(LAYOUTS.values())),
    interrupted=st.integers(0, 4),
)
def test_any_pieces_in_any_order_with_a_resume_in_between(
    maps: dict[int, int], size: int, options: TargetOptions, interrupted: int
) -> None:
    if 3 in maps:
        maps[3] = maps[3] & (1 << -(-piece_length(3, size) // SUBPIECE_BYTES)) - 1 or 1
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image")
        writer, places = opened(image, size, options), {}
        for at, (index, data_map) in enumerate(maps.items()):
            place = writer.write_piece(index, memoryview(expected(index, size, data_map)), data_map)
            if at < interrupted:
                places[index] = place
        writer.close()
        writer = opened(image, size, options, resume=True)
        for index, place in places.items():
            writer.restore(index, place, maps[index])
        writer.tidy(())
        for index in maps.keys() - places.keys():
            writer.write_piece(index, memoryview(expected(index, size, maps[index])), maps[index])
        writer.finish()
        writer.close()
        assert_reads_as(image, b"".join(expected(index, size, maps.get(index, 0)) for index in range(4)))


@COMPRESSED
def test_what_shrinks_is_compressed_and_packed_and_what_does_not_stays_plain(tmp_path: Path, codec: Codec) -> None:
    size = 48 * MIB
    write(tmp_path / "image", size, [(index, FULL_MAP) for index in range(24)], TargetOptions(compression=codec))
    with open_disk(tmp_path / "image") as disk:
        extents = list(disk.extents())
    compressed = [extent for extent in extents if extent.compressed is not None]
    # a third shrinks, a third does not, and of a third every second cluster does
    assert sum(extent.length for extent in compressed) == size // 2
    assert {extent.compressed.codec for extent in compressed if extent.compressed} == {codec}
    plain = size // 2
    streams = sum(extent.compressed.length for extent in compressed if extent.compressed)
    # between plain clusters, a gap is left that the next stream does not fit in
    assert (tmp_path / "image").stat().st_size < (plain + streams) * 1.01 + 6 * 64 * KIB
    assert streams < size // 2 * 0.55


@COMPRESSED
def test_as_many_streams_as_can_be_touch_one_host_cluster(tmp_path: Path, codec: Codec) -> None:
    # 64 KiB of one byte come to some twenty bytes of zstd, 230 of deflate: thousands or hundreds of them share a host cluster
    size = 400 * MIB
    writer = Qcow2Writer(tmp_path / "image", size, options=TargetOptions(compression=codec))
    for index in range(size // PIECE_BYTES):
        writer.write_piece(index, memoryview(b"\x55" * PIECE_BYTES), FULL_MAP)
    writer.finish()
    writer.close()
    assert QEMU.check(tmp_path / "image", "qcow2").clean
    assert (tmp_path / "image").stat().st_size < 8 * 64 * KIB + size // 64 // KIB * 300
    with open_disk(tmp_path / "image") as disk:
        assert disk.pread(4 * MIB, size - 4 * MIB) == b"\x55" * 4 * MIB


def test_deflated_clusters_inflate_with_the_window_that_qemu_has(tmp_path: Path) -> None:
    # what repeats within 32 KiB, and not within 4 KiB: a longer look back would be found out here
    block = random.Random(1).randbytes(8 * KIB) + bytes([7]) * 8 * KIB
    size = 2 * MIB
    writer = Qcow2Writer(tmp_path / "image", size, options=TargetOptions(compression=Codec.DEFLATE))
    writer.write_piece(0, memoryview(block * (size // len(block))), FULL_MAP)
    writer.finish()
    writer.close()
    raw = (tmp_path / "image").read_bytes()
    with open_disk(tmp_path / "image") as disk:
        places = [extent.compressed for extent in disk.extents()]
    assert len(places) == 32
    for place in places:
        assert place is not None
        stream = zlib.decompressobj(-12)
        # a little at a time: only the window, not what was inflated in one go, can then be looked back at
        found, rest = b"", raw[place.offset : place.offset + place.length]
        while rest and not stream.eof:
            found += stream.decompress(rest, 1024)
            rest = stream.unconsumed_tail
        assert found == block * 4


def test_without_isal_zlib_makes_streams_of_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    data = memoryview(content(64 * KIB, 3))
    assert zlib.decompress(compressor(Codec.DEFLATE)(data), -12) == data
    monkeypatch.setitem(sys.modules, "isal.igzip_lib", None)
    assert compressor(Codec.DEFLATE) is deflate_by_zlib
    assert zlib.decompress(deflate_by_zlib(data), -12) == data


def test_without_zstandard_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ToolMissing):
        compressor(Codec.ZSTD)


def test_only_zstd_marks_the_image_as_one_that_old_qemus_cannot_read(tmp_path: Path) -> None:
    for codec, marked in ((None, 0), (Codec.DEFLATE, 0), (Codec.ZSTD, INCOMPAT_COMPRESSION)):
        write(tmp_path / "image", 4 * MIB, [(0, FULL_MAP)], TargetOptions(compression=codec))
        header = unpack_header((tmp_path / "image").read_bytes()[:112])
        assert header.incompatible_features == marked
        assert header.header_length == (112 if marked else 104)


def test_preallocated_clusters_stand_side_by_side_and_cost_nothing_until_they_are_written(tmp_path: Path) -> None:
    size = 3 * GIB
    write(tmp_path / "image", size, [(7, FULL_MAP)], LAYOUTS["metadata"])
    # 3 GiB in clusters of 64 KiB need a second refcount block
    assert QEMU.check(tmp_path / "image", "qcow2").clean
    assert size < (tmp_path / "image").stat().st_size < size + 4 * MIB
    assert (tmp_path / "image").stat().st_blocks * 512 < 6 * MIB
    with open_disk(tmp_path / "image") as disk:
        assert all(extent.allocated for extent in disk.extents())
        assert disk.pread(PIECE_BYTES, 7 * PIECE_BYTES) == piece_data(7, size)
        assert disk.pread(PIECE_BYTES, 8 * PIECE_BYTES) == bytes(PIECE_BYTES)


def test_reserved_space_is_taken_at_once(tmp_path: Path) -> None:
    writer = opened(tmp_path / "image", 64 * MIB, LAYOUTS["falloc"])
    assert (tmp_path / "image").stat().st_blocks * 512 >= 64 * MIB
    writer.finish()
    writer.close()
    assert QEMU.check(tmp_path / "image", "qcow2").clean
    raw = RawWriter(tmp_path / "raw", 64 * MIB, options=LAYOUTS["falloc"])
    raw.close()
    assert (tmp_path / "raw").stat().st_blocks * 512 >= 64 * MIB


def test_space_that_cannot_be_reserved_is_told_before_anything_is_taken(tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        opened(tmp_path / "image", 8 * TIB, LAYOUTS["falloc"])
    assert (tmp_path / "image").stat().st_blocks == 0


def test_a_huge_sparse_disk_is_a_small_file(tmp_path: Path) -> None:
    size = 16 * TIB
    rng = random.Random(6)
    pieces = [(rng.randrange(size // PIECE_BYTES), 1 << rng.randrange(32)) for _ in range(40)]
    write(tmp_path / "image", size, dict(pieces).items())
    assert QEMU.check(tmp_path / "image", "qcow2").clean
    assert (tmp_path / "image").stat().st_size < 12 * MIB


@EVERY_LAYOUT
def test_the_image_is_none_before_it_is_finished(tmp_path: Path, options: TargetOptions) -> None:
    writer = opened(tmp_path / "image", 10 * MIB, options)
    writer.write_piece(0, memoryview(content(PIECE_BYTES, 1)), FULL_MAP)
    with pytest.raises(ProgramFailed):
        QEMU.info(tmp_path / "image", "qcow2")
    writer.finish()
    assert QEMU.info(tmp_path / "image", "qcow2").virtual_size == 10 * MIB
    writer.close()


@EVERY_LAYOUT
def test_an_image_can_be_written_on_by_qemu(tmp_path: Path, options: TargetOptions) -> None:
    image = tmp_path / "image"
    write(image, 100 * MIB, [(3, FULL_MAP), (7, 5), (8, FULL_MAP), (9, FULL_MAP)], options)
    SystemRunner().run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 20M", "-c", "discard 14M 1M", str(image)], timeout=60
    )
    assert QEMU.check(image, "qcow2").clean


def test_a_piece_is_restored_once_and_in_one_table(tmp_path: Path) -> None:
    writer = Qcow2Writer(tmp_path / "image", GIB)
    writer.restore(0, 3, FULL_MAP)
    for index, place in ((0, 3), (1, 4), (1, 0)):
        with pytest.raises(ValueError, match="piece"):
            writer.restore(index, place, 3)
    writer.restore(1, 3, 3)
    writer.restore(256, 4, 3)
    writer.close()


@pytest.mark.parametrize("damage", ["taken twice", "behind the end", "in the header", "never written", "within a table"])
@pytest.mark.parametrize("name", ["plain", "zstd"])
def test_a_table_that_cannot_be_ours_is_not_believed(tmp_path: Path, damage: str, name: str) -> None:
    image, size = tmp_path / "image", 20 * MIB
    places = write(image, size, [(0, FULL_MAP), (1, FULL_MAP)], LAYOUTS[name])
    table = places[0] * 64 * KIB
    raw = bytearray(image.read_bytes())
    # piece 1 does not shrink: its entries are plain in both
    first, plain = (int.from_bytes(raw[table + at : table + at + 8], "big") for at in (0, 32 * 8))
    wrong = {
        "taken twice": plain,
        "behind the end": plain + GIB,
        "in the header": first & OFLAG_COMPRESSED or 1 << 63,
        "never written": plain | 1,
        "within a table": places[0] * 64 * KIB | 1 << 63,
    }[damage]
    raw[table : table + 8] = wrong.to_bytes(8, "big")
    image.write_bytes(raw)
    writer = Qcow2Writer(image, size, resume=True, options=LAYOUTS[name])
    for index, place in places.items():
        writer.restore(index, place, FULL_MAP)
    with pytest.raises(ValueError, match=r"taken|names|entry"):
        writer.tidy(())
    writer.close()


@given(st.lists(st.one_of(st.integers(1, 40), st.lists(st.integers(1, 9000), min_size=1, max_size=8)), max_size=30))
def test_refcounts_are_what_qemu_would_count(steps: list[int | list[int]]) -> None:
    cluster_bytes = 8192
    clusters, counted = HostClusters(cluster_bytes), {0: 1}
    streams: list[tuple[int, int]] = []
    for step in steps:
        if isinstance(step, int):
            first = clusters.take(step)
            for cluster in range(first, first + step):
                assert cluster not in counted
                counted[cluster] = 1
            continue
        streams += zip(clusters.take_streams(step), step, strict=True)
    for at, length in streams:
        for cluster in range(at // cluster_bytes, (at + length - 1) // cluster_bytes + 1):
            counted[cluster] = counted.get(cluster, 0) + 1
    assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(sorted(streams)))
    found = clusters.refcounts(0, clusters.end + 5)
    assert list(found) == [counted.get(cluster, 0) for cluster in range(clusters.end + 5)]
    # every cluster has something in it: qemu-img check would call the others leaked
    assert all(found[: clusters.end])


def test_a_disk_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        Qcow2Writer(tmp_path / "image", LARGEST_DISK_BYTES + 1)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 8), st.booleans()), max_size=40))
@example([(1, 1, False), (1, 1, True), (1, 2, False)])  # a range given back at the end, taken again with what lies behind it
@example([(1, 1, False), (1, 1, True), (3, 2, False), (1, 2, False)])
def test_free_ranges_know_what_is_free(steps: list[tuple[int, int, bool]]) -> None:
    ranges, taken, end = FreeRanges(1), {0}, 1
    for start, count, release in steps:
        wanted = set(range(start, start + count))
        if release:
            if wanted <= taken:
                ranges.release(start, count)
                taken -= wanted
        elif wanted & taken:
            with pytest.raises(ValueError, match="taken"):
                ranges.take(start, count)
        else:
            ranges.take(start, count)
            taken |= wanted
            end = max(end, start + count)
        assert ranges.end == end
        free = [n for a, length in ranges for n in range(a, a + length)]
        assert free == sorted(set(range(ranges.end)) - taken)
        assert not any(a + length == b for (a, length), (b, _) in itertools.pairwise(ranges)), "neighbours are one range"
