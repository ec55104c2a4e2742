"""Sources that cannot be read in places: what is got of them, in what time, and what the next run knows."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.copy import copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.faults import BadRanges, Patience, Rescue
from converters.faults import Faults as Policy
from converters.forgiving import ForgivingDisk
from converters.image import identity, open_disk
from converters.piece_walk import CopyCancelled
from converters.qemu_img import QemuImg
from converters.references import DiskSpec
from converters.served_overlay import served_overlay
from converters.source_file import open_source
from converters.target import Target, TargetFormat, open_target
from p2v.core.disk import told_sector_size
from p2v.core.errors import BadSectors, Blocked, P2vError, ReadFailed, SourceFailing, SourceGone, Unreadable
from p2v.core.events import Event, Warned, silent
from p2v.core.io_errors import read_problem
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from p2v.core.workspace import socket_folder
from tests.faulty_files import NEEDS_FUSE, Faults, FaultyFile, faulty_file

PAGE = 4096
SIZE = 6 * MIB
# apart from the places that an identity samples
BAD = ((MIB + 68 * KIB, PAGE), (5 * MIB + 100 * KIB, 2 * PAGE))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contents") / "whole"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def faulty(tmp_path: Path, contents: Path) -> Iterator[FaultyFile]:
    with faulty_file(tmp_path, contents) as file:
        yield file


@pytest.fixture
def direct(tmp_path: Path, contents: Path) -> Iterator[FaultyFile]:
    with faulty_file(tmp_path, contents, direct=True) as file:
        yield file


@dataclass
class Copied:
    data: bytes
    target: Target
    read: list[tuple[int, int, bool]]
    """Reads of the copy."""


def copy(file: FaultyFile, *, skip: bool, digest: ContentDigest | None = None) -> Copied:
    """Copy into a raw file beside it, going on with what is there."""
    target_path = file.control.with_name("copy.partial")
    with open_disk(file.path, "raw") as disk:
        before = len(file.reads())
        with open_target(target_path, TargetFormat.RAW, SIZE, "one", skip_unreadable=skip) as target:
            faults = target.faults(0, skip=skip)
            copy_disk(disk, target.writer, report=silent, faults=faults, digest=digest)
            target.finish_copy()
    return Copied(target_path.read_bytes(), target, file.reads()[before:])


def zeroed(path: Path, ranges: tuple[tuple[int, int], ...]) -> bytes:
    data = bytearray(path.read_bytes())
    for offset, length in ranges:
        data[offset : offset + length] = bytes(length)
    return bytes(data)


# --- what is read -------------------------------------------------------------------------------------------------


@NEEDS_FUSE
class TestBadSectors:
    def test_only_what_cannot_be_read_is_zeroes(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        digest = ContentDigest(SIZE)
        copied = copy(faulty, skip=True, digest=digest)
        assert copied.target.lost.ranges == BAD
        assert copied.data == zeroed(contents, BAD)
        with open_disk(faulty.control.with_name("copy.partial"), "raw") as made:
            assert digest.text() == digest_disk(made)

    def test_a_sector_is_the_least_that_is_lost_where_the_source_tells_them_apart(
        self, direct: FaultyFile, contents: Path
    ) -> None:
        direct.set(Faults(bad=((MIB, 512),)))
        file = open_source(direct.path)
        policy = Policy(skip=True)
        rescue = Rescue(file, policy, lambda offset: None)
        rescue._unit = 512  # as a device says
        into = memoryview(bytearray(2 * MIB))
        try:
            assert list(rescue.read(into, 0)) == [(MIB, 512)]
        finally:
            rescue.close()
            file.close()
        assert bytes(into) == zeroed(contents, ((MIB, 512),))[: 2 * MIB]

    def test_the_error_says_where_and_how_much(self, faulty: FaultyFile) -> None:
        faulty.set(Faults(bad=BAD))
        with pytest.raises(BadSectors) as caught:
            copy(faulty, skip=False)
        # the first page of whichever range a thread comes to first: what is not skipped is not measured to its end
        assert (caught.value.offset, caught.value.length) in [(start, PAGE) for start, _ in BAD]
        assert caught.value.known
        assert caught.value.exit_code == 74

    def test_what_can_be_read_at_another_attempt_is_no_loss(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD, times=2))
        copied = copy(faulty, skip=False)
        assert copied.data == contents.read_bytes()
        assert any(failed for _, _, failed in copied.read)

    def test_attempts_are_bounded(self, faulty: FaultyFile) -> None:
        faulty.set(Faults(bad=((MIB, PAGE),)))
        copied = copy(faulty, skip=True)
        # halving 64 KiB to a page, three attempts of the page, and what the kernel reads ahead
        assert 3 <= sum(failed for _, _, failed in copied.read) <= 20

    @pytest.mark.parametrize("size", [PAGE, 65536])
    def test_short_answers_are_read_on(self, direct: FaultyFile, contents: Path, size: int) -> None:
        direct.set(Faults(short=size))
        assert copy(direct, skip=False).data == contents.read_bytes()

    def test_an_unreadable_sample_is_a_part_of_the_identity(self, faulty: FaultyFile) -> None:
        faulty.set(Faults(bad=((0, 0), (SIZE // 64 // PAGE * PAGE * 16, PAGE))))
        with open_disk(faulty.path, "raw") as disk:
            first, again = identity(disk), identity(disk)
        faulty.set(Faults())
        with open_disk(faulty.path, "raw") as disk:
            whole = identity(disk)
        assert first == again
        assert first.sample_sha256 != whole.sample_sha256

    def test_a_look_into_a_disk_sees_zeroes(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        with open_disk(faulty.path, "raw") as disk:
            forgiving = ForgivingDisk(disk)
            assert forgiving.pread(SIZE, 0) == zeroed(contents, BAD)
            assert forgiving.unread.ranges == BAD
            failed = sum(failed for _, _, failed in faulty.reads())
            assert forgiving.pread(100, BAD[0][0] + 10) == bytes(100)
            assert sum(failed for _, _, failed in faulty.reads()) == failed


def test_a_look_into_a_disk_keeps_its_sectors(tmp_path: Path) -> None:
    image = tmp_path / "large"
    image.write_bytes(bytes(PAGE) + b"EFI PART" + bytes(MIB))
    with open_disk(image, "raw") as disk:
        assert told_sector_size(ForgivingDisk(disk)) == disk.logical_sector_size == PAGE


@NEEDS_FUSE
class TestCompressed:
    def test_all_of_a_compressed_block_is_lost_with_a_part_of_it(self, tmp_path: Path, contents: Path) -> None:
        small = tmp_path / "text.raw"
        small.write_bytes(b"".join(b"line %08d\n" % number for number in range(150_000)))
        image = tmp_path / "image.qcow2"
        SystemRunner().run(["qemu-img", "convert", "-c", "-O", "qcow2", str(small), str(image)], timeout=60)
        with open_disk(image) as disk:
            extent = next(each for each in disk.extents() if each.compressed is not None and each.offset >= MIB)
            assert extent.compressed is not None
            middle = extent.compressed.offset + extent.compressed.length // 2
        with faulty_file(tmp_path, image, Faults(bad=((middle, 1),))) as file, open_disk(file.path, "qcow2") as disk:
            policy = Policy(skip=True)
            made = tmp_path / "made"
            with open_target(made, TargetFormat.RAW, disk.virtual_size, "one") as target:
                copy_disk(disk, target.writer, report=silent, faults=policy)
                target.finish_copy()
        whole = small.read_bytes().ljust(disk.virtual_size, b"\0")
        lost = policy.lost.ranges
        assert any(start <= extent.offset and extent.end <= start + length for start, length in lost)
        data = bytearray(whole)
        for start, length in lost:
            data[start : start + length] = bytes(length)
        assert made.read_bytes() == bytes(data)
        assert sum(length for _, length in lost) <= 3 * 64 * KIB


# --- in what time -------------------------------------------------------------------------------------------------


@NEEDS_FUSE
class TestBudget:
    def patient(self, patience: Patience) -> Policy:
        """By whose clock every read takes five seconds."""
        ticks = itertools.count(0.0, 5.0)
        return Policy(skip=True, patience=patience, clock=lambda: next(ticks))

    def read(self, file: FaultyFile, policy: Policy, length: int) -> list[tuple[int, int]]:
        source = open_source(file.path)
        rescue = Rescue(source, policy, lambda offset: None)
        try:
            return list(rescue.read(memoryview(bytearray(length)), MIB))
        finally:
            rescue.close()
            source.close()

    def test_when_time_is_up_ranges_are_given_up_whole(self, faulty: FaultyFile) -> None:
        faulty.set(Faults(bad=((MIB + 256 * KIB, PAGE), (2 * MIB, PAGE))))
        policy = self.patient(Patience(exact_seconds=0.0))
        lost = BadRanges(self.read(faulty, policy, 2 * MIB))
        assert lost.ranges == ((MIB + 256 * KIB, 64 * KIB), (2 * MIB, 64 * KIB))

    def test_a_source_that_takes_forever_is_given_up(self, faulty: FaultyFile) -> None:
        faulty.set(Faults(bad=((MIB, MIB),)))
        policy = self.patient(Patience(exact_seconds=30.0, most_seconds=60.0))
        with pytest.raises(SourceFailing):
            self.read(faulty, policy, MIB)
        assert 60 < policy.failing_seconds < 70


# --- gone, and silent ---------------------------------------------------------------------------------------------


@NEEDS_FUSE
class TestGone:
    @pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOTCONN])
    def test_a_source_that_went_away_is_no_heap_of_bad_sectors(self, faulty: FaultyFile, number: int) -> None:
        with open_disk(faulty.path, "raw") as disk:
            faulty.set(Faults(gone=number))
            os.posix_fadvise(disk.sources[0].fd, 0, 0, os.POSIX_FADV_DONTNEED)
            before = len(faulty.reads())
            policy = Policy(skip=True)
            made = faulty.control.with_name("made")
            with open_target(made, TargetFormat.RAW, SIZE, "one") as target, pytest.raises(SourceGone):
                copy_disk(disk, target.writer, report=silent, faults=policy)
            assert policy.lost.ranges == ()
            assert len(faulty.reads()) - before < 200

    def test_a_file_system_whose_program_died_says_so(self, tmp_path: Path, contents: Path) -> None:
        with faulty_file(tmp_path, contents) as file, open_disk(file.path, "raw") as disk:
            file.end()
            with pytest.raises(SourceGone):
                digest_disk(disk)


@NEEDS_FUSE
class TestNoAnswer:
    HANGS = Faults(hangs=((3 * MIB + 70_000, PAGE),))

    def test_it_is_told_and_cancelling_does_not_wait_for_it(self, faulty: FaultyFile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("converters.piece_walk._GRACE_SECONDS", 1.0)
        monkeypatch.setattr("converters.piece_walk._TOLD_SECONDS", 1.0)
        told: list[Event] = []
        cancelled = threading.Event()

        def is_of_it(event: Event) -> bool:
            """A busy host may be as slow at other places."""
            return isinstance(event, Warned) and "no answer" in event.message and str(2 * MIB) in event.message

        def report(event: Event) -> None:
            told.append(event)
            if is_of_it(event):
                cancelled.set()

        with open_disk(faulty.path, "raw") as disk:
            faulty.set(self.HANGS)
            started = time.monotonic()
            with pytest.raises(CopyCancelled):
                digest_disk(disk, report=report, cancelled=cancelled)
            # the read hangs for ever
            assert time.monotonic() - started < 120
        assert any(is_of_it(event) for event in told)

    def test_a_late_answer_is_an_answer(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(self.HANGS)
        timer = threading.Timer(2.0, faulty.set, [Faults()])
        with open_disk(faulty.path, "raw") as disk, open_disk(contents, "raw") as whole:
            timer.start()
            assert digest_disk(disk) == digest_disk(whole)
        timer.join()


# --- the next run -------------------------------------------------------------------------------------------------


@NEEDS_FUSE
class TestNextRun:
    def test_it_does_not_try_again_what_is_known_to_be_bad(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        with pytest.raises(BadSectors) as caught:
            copy(faulty, skip=False)
        found = (caught.value.at, caught.value.length)
        copied = copy(faulty, skip=True)
        assert copied.data == zeroed(contents, BAD)
        assert copied.target.lost.ranges == BAD
        again = [read for read in copied.read if read[2] and read[0] < sum(found) and sum(read[:2]) > found[0]]
        # reading ahead of the kernel's own may touch it once
        assert len(again) <= 2

    def test_what_was_filled_stays_told_when_the_pieces_are_taken_over(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        copy(faulty, skip=True)
        copied = copy(faulty, skip=True)
        assert copied.read == []
        assert copied.target.lost.ranges == BAD

    def test_without_skipping_pieces_with_zeroes_are_copied_again(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        copy(faulty, skip=True)
        with pytest.raises(BadSectors):
            copy(faulty, skip=False)
        faulty.set(Faults())
        copied = copy(faulty, skip=False)
        assert copied.data == contents.read_bytes()
        assert copied.target.lost.ranges == ()

    def test_what_became_readable_is_no_loss_for_a_run_that_skips(self, faulty: FaultyFile, contents: Path) -> None:
        faulty.set(Faults(bad=BAD))
        copy(faulty, skip=True)
        faulty.set(Faults())
        copy(faulty, skip=False)
        copied = copy(faulty, skip=True)
        assert copied.target.lost.ranges == ()
        assert copied.data == contents.read_bytes()


# --- without a file system ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), max_size=40), st.integers(0, 230), st.integers(0, 60))
def test_bad_ranges_are_a_set_of_bytes(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    bad = BadRanges(ranges)
    expected = {at for offset, count in ranges for at in range(offset, offset + count)}
    assert {at for offset, count in bad.ranges for at in range(offset, offset + count)} == expected
    assert bad.total == len(expected)
    ends = [offset + count for offset, count in bad.ranges]
    assert all(end < following for end, (following, _) in zip(ends, bad.ranges[1:], strict=False))
    within = {at for offset, count in bad.within(start, start + length) for at in range(offset, offset + count)}
    assert within == {at for at in expected if start <= at < start + length}


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, Unreadable), (errno.ENODATA, Unreadable), (errno.ENXIO, SourceGone), (errno.ESTALE, SourceGone)],
)
def test_what_the_host_says_is_told_apart(number: int, kind: type[P2vError]) -> None:
    found = read_problem(OSError(number, os.strerror(number)), Path("/disk"), 4096, 512)
    assert type(found) is kind
    assert "4096" in found.sentence()


def test_a_bad_sector_outside_of_reading_is_no_other_error() -> None:
    assert type(read_problem(OSError(errno.EIO, "x"), Path("/disk"))) is ReadFailed


@NEEDS_FUSE
class TestServed:
    """What reads a source through QEMU is told of an I/O error somewhere, and no more."""

    def failed(self, file: FaultyFile, folder: Path) -> P2vError:
        def work() -> None:
            overlay, qemu_img = folder / "overlay.qcow2", QemuImg(SystemRunner())
            with socket_folder() as sockets, served_overlay(DiskSpec(file.path, "raw"), overlay, SIZE, sockets, qemu_img):
                read_all = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(overlay), str(folder / "out")]
                SystemRunner().run(read_all, timeout=60, accept=(0, 1))
                raise Blocked("the guest", ("something else",))

        with pytest.raises(P2vError) as caught:
            work()
        return caught.value

    def test_the_error_names_the_place_that_could_not_be_read(self, faulty: FaultyFile, tmp_path: Path) -> None:
        faulty.set(Faults(bad=BAD[:1]))
        error = self.failed(faulty, tmp_path)
        assert isinstance(error, ReadFailed)
        assert "something else" in error.sentence()
        assert str(faulty.path) in error.sentence()
        assert "cannot read" in error.sentence()

    def test_another_error_stays_itself_where_all_could_be_read(self, faulty: FaultyFile, tmp_path: Path) -> None:
        assert isinstance(self.failed(faulty, tmp_path), Blocked)
