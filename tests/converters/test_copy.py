"""Copying: what arrives, what is left out, and how it stops."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.inflate import Inflate, inflate_libdeflate, inflate_zlib
from converters.piece_reader import PieceReader
from converters.piece_walk import CopyCancelled
from converters.pieces import PIECE_BYTES, SUBPIECE_BYTES, DataPiece, PieceBuffer, ZeroPieces, cut_pieces, map_runs
from converters.qcow2_writer import Qcow2Writer
from converters.qemu_img import QemuImg
from converters.raw_writer import RawWriter
from p2v.core.disk import Codec, DiskReader, Extent, StoredAt
from p2v.core.errors import BadImage, NoSource, NoSpace, ReadFailed
from p2v.core.events import BytesDone, Event, silent
from p2v.core.run import SystemRunner
from p2v.core.units import GIB, KIB, MIB, TIB
from tests.converters.memory_disk import Kind, MemoryDisk, build, cancelled_at, compress, content
from tests.descriptors import descriptors

EVERY_KIND = [
    (Kind.STORED, 3 * MIB),
    (Kind.HOLE, 5 * MIB),
    (Kind.ZERO, 64 * KIB),
    (Kind.ZLIB, 64 * KIB),
    (Kind.DEFLATE, 64 * KIB),
    (Kind.PREAD, 100 * KIB),
    (Kind.STORED, 512),
    (Kind.HOLE, 512),
    (Kind.STORED, 512),
    (Kind.STORED_ZEROES, 4 * MIB),
    (Kind.ZLIB, 3 * MIB),
    (Kind.HOLE, 200 * MIB),
    (Kind.STORED, 70 * KIB),
]


def copied_raw(disk: DiskReader, path: Path, **options: int) -> CopyResult:
    """Copy to a raw file at ``path``."""
    writer = RawWriter(path, disk.virtual_size)
    try:
        result = copy_disk(disk, writer, report=silent, **options)  # type: ignore[arg-type]
        writer.finish()
    finally:
        writer.close()
    return result


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_extents_of_every_kind_arrive_in_a_raw_target(tmp_path: Path, threads: int) -> None:
    disk = build(tmp_path / "source", EVERY_KIND)
    result = copied_raw(disk, tmp_path / "t", threads=threads)
    assert (tmp_path / "t").read_bytes() == disk.data
    assert result.virtual_size == len(disk.data)
    assert result.resumed_bytes == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_extents_of_every_kind_arrive_in_a_qcow2_target(tmp_path: Path, threads: int) -> None:
    disk = build(tmp_path / "source", EVERY_KIND)
    writer = Qcow2Writer(tmp_path / "t", disk.virtual_size)
    copy_disk(disk, writer, report=silent, threads=threads)
    writer.finish()
    writer.close()
    qemu = QemuImg(SystemRunner())
    assert qemu.check(tmp_path / "t", "qcow2").clean
    qemu.convert(tmp_path / "t", "qcow2", tmp_path / "back", "raw")
    assert (tmp_path / "back").read_bytes() == disk.data


LENGTHS = st.sampled_from([512, 4096, 64 * KIB, 128 * KIB, MIB, 2 * MIB, 2 * MIB + 512]) | st.integers(1, 300_000)
STRETCHES = st.lists(st.tuples(st.sampled_from(Kind), LENGTHS), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stretches=STRETCHES, threads=st.integers(1, 3))
def test_any_layout_arrives_in_both_formats_with_one_digest(stretches: list[tuple[Kind, int]], threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = build(Path(folder, "source"), stretches)
        raw, qcow2 = Path(folder, "raw"), Path(folder, "qcow2")
        copied_raw(disk, raw, threads=threads)
        assert raw.read_bytes() == disk.data
        writer = Qcow2Writer(qcow2, disk.virtual_size)
        digest = ContentDigest(disk.virtual_size)
        result = copy_disk(disk, writer, report=silent, threads=threads, digest=digest)
        writer.finish()
        writer.close()
        qemu = QemuImg(SystemRunner())
        assert qemu.check(qcow2, "qcow2").clean
        qemu.convert(qcow2, "qcow2", Path(folder, "back"), "raw")
        assert Path(folder, "back").read_bytes() == disk.data.ljust(-(-len(disk.data) // 512) * 512, b"\0")
        one_stretch = MemoryDisk(disk.data, [Extent(0, len(disk.data), False, True)] if disk.data else [], disk.file)
        assert result.digest == digest_disk(one_stretch)


@given(data_map=st.integers(0, (1 << 32) - 1))
def test_the_runs_of_a_map_are_its_bits(data_map: int) -> None:
    runs = list(map_runs(data_map))
    assert sum(((1 << count) - 1) << first for first, count in runs) == data_map
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(runs))


def test_zeroes_are_found_at_both_ends_of_a_sub_piece() -> None:
    buffer = PieceBuffer()
    buffer.clear(0, PIECE_BYTES)
    assert buffer.data_map(PIECE_BYTES) == 0
    for bit, at in ((0, SUBPIECE_BYTES - 1), (7, 7 * SUBPIECE_BYTES), (31, PIECE_BYTES - 1)):
        buffer.view[at] = 1
        assert buffer.data_map(PIECE_BYTES) == 1 << bit
        assert buffer.data_map(at) == 0
        assert buffer.data_map(at + 1) == 1 << bit
        buffer.view[at] = 0


def test_zeroes_are_left_out_whatever_they_are_stored_as(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED_ZEROES, 40 * MIB), (Kind.STORED, 64 * KIB), (Kind.HOLE, 40 * MIB)])
    result = copied_raw(disk, tmp_path / "t")
    assert os.stat(tmp_path / "t").st_blocks * 512 <= 128 * KIB
    assert result.written_bytes == 64 * KIB
    assert result.read_bytes == 40 * MIB + 64 * KIB


def test_holes_are_never_read(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.HOLE, 10 * MIB), (Kind.PREAD, 64 * KIB), (Kind.ZERO, 10 * MIB)])
    copied_raw(disk, tmp_path / "t")
    assert disk.reads == 1


def test_a_disk_of_16_tib_that_is_empty_costs_nothing(tmp_path: Path) -> None:
    disk = HugeDisk(16 * TIB, tmp_path / "s")
    writer = Qcow2Writer(tmp_path / "t", disk.virtual_size)
    digest = ContentDigest(disk.virtual_size)
    started = time.process_time()
    result = copy_disk(disk, writer, report=silent, digest=digest)
    writer.finish()
    writer.close()
    assert time.process_time() - started < 5
    assert result.read_bytes == 0
    assert os.stat(tmp_path / "t").st_size < MIB
    assert QemuImg(SystemRunner()).info(tmp_path / "t", "qcow2").virtual_size == 16 * TIB


class HugeDisk:
    """One hole."""

    def __init__(self, size: int, file: Path) -> None:
        self.virtual_size, self.files = size, (file,)

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(length)

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.virtual_size, zero=True, allocated=False)

    def close(self) -> None:
        """Nothing to close."""


def test_progress_sums_up_to_the_virtual_size_with_few_events(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", EVERY_KIND)
    events: list[Event] = []
    started = time.monotonic()
    writer = RawWriter(tmp_path / "t", disk.virtual_size)
    copy_disk(disk, writer, report=events.append, phase="copy of disk 1")
    writer.close()
    done = [event for event in events if isinstance(event, BytesDone)]
    assert {event.phase for event in done} == {"copy of disk 1"}
    assert sum(event.count for event in done) == disk.virtual_size
    assert len(done) <= 2 * (20 * (time.monotonic() - started) + 2)


def test_the_first_error_stops_every_thread_soon(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.PREAD, 1000 * KIB)] * 400)
    disk.seconds_a_read, disk.fail_at = 0.02, 20 * MIB
    before = set(threading.enumerate())
    with pytest.raises(ReadFailed) as caught:
        copied_raw(disk, tmp_path / "t", threads=3)
    assert caught.value.file == str(disk.file)
    # of 400; the two others go on until the one that failed has had a processor to say so
    assert disk.reads < 300
    assert not set(threading.enumerate()) - before


def test_an_error_of_the_reader_keeps_its_type(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.PREAD, 1000)])

    def refuse(length: int, offset: int) -> bytes:
        raise NoSpace(Path("/x"), length, offset)

    disk.pread = refuse  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        copied_raw(disk, tmp_path / "t")


def test_an_error_of_the_extents_keeps_its_type(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED, MIB)])

    def torn() -> Iterator[Extent]:
        yield disk.layout[0]
        raise BadImage(disk.file, "L2 table 7 is damaged")

    disk.extents = torn  # type: ignore[method-assign]
    with pytest.raises(BadImage, match="L2 table 7"):
        copied_raw(disk, tmp_path / "t")


def test_cancelling_is_told_and_stops_soon(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.PREAD, 1000 * KIB)] * 400)
    disk.seconds_a_read = 0.02
    cancelled = cancelled_at(disk, 10)
    writer = RawWriter(tmp_path / "t", disk.virtual_size)
    with pytest.raises(CopyCancelled):
        copy_disk(disk, writer, report=silent, cancelled=cancelled)
    writer.close()
    assert disk.reads < 200


def interrupt_a_copy(number: int, frame: FrameType | None) -> None:
    """Python's own handler of SIGINT, but that one which comes when the copy has ended ends no test run."""
    while frame is not None:
        if frame.f_code is copied_raw.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back


def test_an_interrupt_in_the_main_thread_stops_the_others(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.PREAD, 1000 * KIB)] * 400)
    disk.seconds_a_read = 0.02
    main = threading.get_ident()
    stopped = threading.Event()

    def interrupt() -> None:
        # again and again: Python drops an exception that hits it in a finalizer
        while not stopped.wait(0.2):
            signal.pthread_kill(main, signal.SIGINT)

    before, interrupting = signal.signal(signal.SIGINT, interrupt_a_copy), threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            copied_raw(disk, tmp_path / "t")
    finally:
        stopped.set()
        interrupting.join()
        signal.signal(signal.SIGINT, before)
    # interrupted again while it waited for its threads, it may have left them to end with the piece each is at
    end, reads = time.monotonic() + 60, -1
    while reads != disk.reads and time.monotonic() < end:
        reads = disk.reads
        time.sleep(0.5)
    assert disk.reads == reads < 300


@pytest.mark.parametrize("inflate", [inflate_zlib, inflate_libdeflate])
@pytest.mark.parametrize("kind", [Kind.ZLIB, Kind.DEFLATE])
@pytest.mark.parametrize("damage", ["longer", "shorter", "cut", "flipped"])
def test_a_damaged_stream_is_a_bad_image_that_names_its_place(
    tmp_path: Path, inflate: Inflate, kind: Kind, damage: str
) -> None:
    good = content(64 * KIB, 3)
    stream = bytearray(compress(kind, good))
    if damage == "flipped":
        stream[5] ^= 0xFF
    stored = {
        "longer": compress(kind, good + b"x"),
        "shorter": compress(kind, good[:-1]),
        "cut": bytes(stream[:-20]),
        "flipped": bytes(stream),
    }[damage]
    disk = build(tmp_path / "s", [(kind, 64 * KIB)])
    (tmp_path / "s").write_bytes(bytes(4096) + stored)
    assert disk.layout[0].compressed is not None
    where = replace(disk.layout[0].compressed, offset=4096, length=len(stored))
    disk.layout[0] = replace(disk.layout[0], compressed=where)
    piece = next(cut_pieces(disk))
    assert isinstance(piece, DataPiece)
    with PieceReader(disk, inflate) as reader, pytest.raises(BadImage, match="byte 4096") as caught:
        reader.fill(piece, PieceBuffer())
    assert caught.value.file == tmp_path / "s"


@pytest.mark.parametrize("inflate", [inflate_zlib, inflate_libdeflate])
@pytest.mark.parametrize("codec", [Codec.ZLIB, Codec.DEFLATE])
def test_bytes_behind_a_stream_are_ignored(inflate: Inflate, codec: Codec) -> None:
    good = content(64 * KIB, 3)
    stored = compress(Kind.ZLIB if codec is Codec.ZLIB else Kind.DEFLATE, good)
    assert inflate(stored + b"\xff" * 500, codec, len(good)) == good


def test_a_file_that_ends_early_is_a_bad_image(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED, 5 * MIB)])
    os.truncate(tmp_path / "s", 3 * MIB)
    with pytest.raises(BadImage, match=f"ends at byte {3 * MIB}"):
        copied_raw(disk, tmp_path / "t")


def test_a_file_that_is_gone_is_no_source(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED, MIB)])
    (tmp_path / "s").unlink()
    with pytest.raises(NoSource):
        copied_raw(disk, tmp_path / "t")


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_extents_that_leave_a_gap_are_refused(tmp_path: Path, lost: int) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED, MIB), (Kind.HOLE, MIB), (Kind.STORED, MIB)])
    del disk.layout[lost]
    with pytest.raises(BadImage):
        copied_raw(disk, tmp_path / "t")


def test_a_writer_of_another_size_is_refused(tmp_path: Path) -> None:
    disk = build(tmp_path / "s", [(Kind.STORED, MIB)])
    writer = RawWriter(tmp_path / "t", 2 * MIB)
    with pytest.raises(BadImage):
        copy_disk(disk, writer, report=silent)
    writer.close()


def test_neighbours_in_disk_and_file_are_one_read(tmp_path: Path) -> None:
    extents = [Extent(n * 512, 512, False, True, StoredAt(tmp_path, n * 512)) for n in range(4096)]
    pieces = list(cut_pieces(MemoryDisk(bytes(2 * MIB), extents, tmp_path)))
    assert [len(piece.segments) for piece in pieces if isinstance(piece, DataPiece)] == [1]


def test_a_long_hole_is_one_run_of_pieces(tmp_path: Path) -> None:
    disk = HugeDisk(5 * GIB + 512, tmp_path / "s")
    assert list(cut_pieces(disk)) == [ZeroPieces(0, 2561, 5 * GIB + 512)]


def test_disks_of_many_files_keep_few_of_them_open(tmp_path: Path) -> None:
    layout, data = [], b""
    for number in range(200):
        file = tmp_path / f"f{number}"
        file.write_bytes(content(4096, number))
        layout.append(Extent(number * 4096, 4096, False, True, StoredAt(file, 0)))
        data += file.read_bytes()
    disk = MemoryDisk(data, layout, tmp_path / "f0")
    before = descriptors()
    with PieceReader(disk) as reader:
        piece = next(cut_pieces(disk))
        assert isinstance(piece, DataPiece)
        buffer = PieceBuffer()
        reader.fill(piece, buffer)
        assert len(descriptors() - before) <= 32
        assert buffer.view[: len(data)] == data
    assert not descriptors() - before
