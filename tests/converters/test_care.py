"""Copying gently: at a rate, with an I/O priority, beside the page cache."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from converters.care import Care, IoPriority, RateLimit, WriteBehind, drop, is_cached, not_cached
from converters.copy import copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.image import open_disk
from converters.piece_walk import walk_pieces
from converters.pieces import DataPiece, PieceBuffer, ZeroPieces
from converters.target import TargetFormat, open_target
from p2v.core.events import Event, Warned, silent
from p2v.core.units import KIB, MIB
from p2v.source_care import SourceWish, care_of
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

SIZE = 9 * MIB + 512
SPARING = Care(spare_cache=True)


def cached(path: Path) -> int:
    handle = os.open(path, os.O_RDONLY)
    try:
        return is_cached(handle, 0, path.stat().st_size) or 0
    finally:
        os.close(handle)


def cachestat_is_missing() -> str:
    with Path("/proc/self/exe").open("rb") as file:
        return "" if is_cached(file.fileno(), 0, 4096) is not None else "this kernel has no cachestat (Linux 6.5)"


NEEDS_CACHESTAT = pytest.mark.skipif(bool(cachestat_is_missing()), reason=cachestat_is_missing())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A file of which nothing is in the page cache."""
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    cold(path)
    return path


def cold(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    os.fsync(handle)
    drop(handle, 0, 0)
    os.close(handle)


class Everything:
    """Takes all pieces; knows how many bytes there were."""

    def __init__(self) -> None:
        self.length = 0
        self.priorities: set[int] = set()

    def zeroes(self, run: ZeroPieces) -> None:
        self.length += run.length

    def wants(self, piece: DataPiece) -> bool:
        return True

    def data(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        self.length += piece.length
        self.priorities.add(priority_of_this_thread())


def priority_of_this_thread() -> int:
    number = {"x86_64": 252, "aarch64": 31, "ppc64le": 274, "s390x": 283}[platform.machine()]
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), 1, 0))


def read(path: Path, care: Care) -> Everything:
    found = Everything()
    with open_disk(path, "raw") as reader:
        walk_pieces(reader, found, report=silent, phase="read", care=care)
    return found


# --- rate ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only for those who sleep."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestRateLimit:
    def test_another_rate_counts_from_now_on_also_for_who_waits(self) -> None:
        clock = Clock()
        limit = RateLimit(10, clock, clock.sleep)
        limit.take(100)

        def stopped() -> bool:
            if clock.now >= 105 and limit.bytes_per_second == 10:
                limit.change(100)
            return False

        # 100 bytes are to be paid for: 50 of them at 10 a second, the rest at 100
        limit.take(100, stopped)
        assert clock.now == pytest.approx(105.5, abs=0.2)
        limit.change(1)
        before = clock.now
        limit.take(1)
        # what was promised before is paid for at the rate of now
        assert clock.now - before == pytest.approx(100, abs=11)

    def test_bytes_take_their_time(self) -> None:
        clock = Clock()
        limit = RateLimit(MIB, clock, clock.sleep)
        for _ in range(11):
            limit.take(512 * KIB)
        # the last one's own half second has not passed
        assert clock.now == pytest.approx(105.0)

    def test_nothing_is_saved_up_while_nobody_reads(self) -> None:
        clock = Clock()
        limit = RateLimit(MIB, clock, clock.sleep)
        limit.take(MIB)
        clock.now += 1000
        limit.take(MIB)
        begin = clock.now
        limit.take(MIB)
        assert clock.now - begin == pytest.approx(1.0)

    def test_who_is_stopped_waits_no_longer(self) -> None:
        limit = RateLimit(64 * KIB)
        limit.take(100 * MIB)
        stopped = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(limit.take, 1, stopped.is_set)
            time.sleep(0.3)
            assert not waiting.done()
            stopped.set()
            waiting.result(60)

    def test_all_threads_of_a_copy_share_it(self, disk: Path) -> None:
        started = time.monotonic()
        found = read(disk, Care(limit=RateLimit(8 * MIB)))
        took = time.monotonic() - started
        assert found.length == SIZE
        # 9 MiB, of which the last piece's time is not waited for
        assert took >= (SIZE - 2 * MIB) / (8 * MIB)

    def test_a_rate_is_more_than_nothing(self) -> None:
        with pytest.raises(ValueError, match="0 bytes"):
            RateLimit(0)


# --- priority -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [IoPriority(3), IoPriority(2, 7)])
def test_threads_that_read_have_the_priority_and_others_do_not(disk: Path, wanted: IoPriority) -> None:
    before = priority_of_this_thread()
    found = read(disk, Care(priority=wanted))
    assert found.priorities == {wanted.scheduling_class << 13 | wanted.level}
    assert priority_of_this_thread() == before


# --- page cache ---------------------------------------------------------------------------------------------------


@NEEDS_CACHESTAT
class TestPageCache:
    def test_a_cold_file_stays_out_of_it(self, disk: Path) -> None:
        assert read(disk, SPARING).length == SIZE
        # what the file's ends and its first look brought in
        assert cached(disk) <= MIB

    def test_without_care_it_comes_into_it(self, disk: Path) -> None:
        read(disk, Care())
        assert cached(disk) >= SIZE - 4 * KIB

    def test_what_was_in_it_stays(self, disk: Path) -> None:
        disk.read_bytes()
        whole = cached(disk)
        assert whole >= SIZE
        read(disk, SPARING)
        assert cached(disk) == whole

    def test_parts_that_are_not_in_it_are_told(self, disk: Path) -> None:
        with disk.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(file.fileno(), 4096, 64 * KIB)
            parts = not_cached(file.fileno(), 0, 256 * KIB)
        assert parts == [(0, 64 * KIB), (128 * KIB, 64 * KIB), (192 * KIB, 64 * KIB)]

    @pytest.mark.parametrize("target_format", list(TargetFormat))
    def test_neither_end_of_a_copy_is_in_it_and_the_copy_is_right(
        self, disk: Path, tmp_path: Path, target_format: TargetFormat
    ) -> None:
        made = tmp_path / "made"
        with open_disk(disk, "raw") as reader, open_target(made, target_format, reader.virtual_size, "one") as target:
            digest = ContentDigest(reader.virtual_size)
            copy_disk(reader, target.writer, report=silent, care=SPARING, digest=digest)
            in_cache = cached(made)
            target.finish_copy()
        assert in_cache <= 256 * KIB
        with open_disk(made, target_format.value) as reader:
            assert digest.text() == digest_disk(reader)

    def test_writing_waits_for_the_disk_now_and_then(self, tmp_path: Path) -> None:
        path = tmp_path / "written"
        with path.open("wb") as file, WriteBehind(path, window_bytes=MIB) as behind:
            for _ in range(4):
                file.write(os.urandom(MIB))
                file.flush()
                behind.written(MIB)
                assert cached(path) == 0


@NEEDS_LOOP_DEVICES
@NEEDS_CACHESTAT
class TestDevices:
    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
        file = tmp_path / "under"
        file.write_bytes(os.urandom(8 * MIB))
        with loop_device(file, options=("--read-only", "--direct-io=on")) as device:
            yield device, file

    def test_a_device_is_read_around_the_page_cache(self, device: tuple[Path, Path]) -> None:
        path, file = device
        with path.open("rb") as held, open_disk(path, "raw") as reader:
            drop(held.fileno(), 0, 0)
            care = care_of(SourceWish(), [reader], silent)
            assert care.spare_cache
            found = Everything()
            walk_pieces(reader, found, report=silent, phase="read", care=care)
            assert found.length == 8 * MIB
            # while somebody has it open, what was read through the page cache would be there
            assert (is_cached(held.fileno(), 0, 8 * MIB) or 0) <= 256 * KIB
            with open_disk(file, "raw") as under:
                assert digest_disk(reader) == digest_disk(under)


    def test_a_device_that_is_written_is_not_in_it_either(self, tmp_path: Path) -> None:
        with loop_device(tmp_path / "target", 8 * MIB) as path, path.open("r+b", buffering=0) as device:
            with WriteBehind(path, window_bytes=MIB) as behind:
                device.write(os.urandom(2 * MIB))
                assert is_cached(device.fileno(), 0, 8 * MIB)
                behind.written(2 * MIB)
                assert is_cached(device.fileno(), 0, 8 * MIB) == 0


# --- who is treated how -------------------------------------------------------------------------------------------


def test_small_files_are_read_as_they_always_were_unless_asked(disk: Path) -> None:
    with open_disk(disk, "raw") as reader:
        assert care_of(SourceWish(), [reader], silent) == Care()
        assert care_of(SourceWish(limit=MIB), [reader], silent).spare_cache
        assert care_of(SourceWish(priority=IoPriority(3)), [reader], silent).spare_cache


def test_files_larger_than_half_of_the_memory_are_read_around_it(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2v.source_care.memory_bytes", lambda: 2 * SIZE - 4 * MIB)
    with open_disk(disk, "raw") as reader:
        assert care_of(SourceWish(), [reader], silent).spare_cache


def test_a_priority_that_nobody_hears_is_told(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    for scheduler in ("none", "mq-deadline"):
        monkeypatch.setattr("p2v.source_care._scheduler", lambda path, found=scheduler: ("/dev/vda", found))
        with open_disk(disk, "raw") as reader:
            care_of(SourceWish(priority=IoPriority(3)), [reader], told.append)
    (warning,) = told
    assert isinstance(warning, Warned)
    assert "'none'" in warning.message
