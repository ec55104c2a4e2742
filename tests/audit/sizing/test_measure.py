"""Measuring: writes to a real folder and reads real disks, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.audit.sizing import measure as measuring
from p2v.audit.sizing import source_reads
from p2v.audit.sizing.measure import Bounds, measure
from p2v.core.errors import NoSpace, NotPermitted, ReadFailed, Usage
from p2v.core.units import MIB

QUICK = Bounds(streams=2, repeats=3, seconds=20.0, stream_bytes=8 * MIB)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A raw disk full of data, enough for three repeats."""
    folder = tmp_path / "source"
    folder.mkdir()
    file = folder / "disk.img"
    file.write_bytes(bytes(510) + b"\x55\xaa" + os.urandom(48 * MIB - 512))
    yield file
    file.unlink()


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the source were on storage: where temporary files live in memory, they are always cached."""
    monkeypatch.setattr(source_reads, "is_cached", lambda handle, offset, length: 0)


def test_rates_are_medians_with_their_spread_and_nothing_is_left(
    target: Path, source: Path, nothing_cached: None
) -> None:
    before = source.stat()
    found = measure(target, [source], QUICK)
    assert found.write is not None
    assert found.read is not None
    assert found.write.repeats == 3
    # 48 MiB are three repeats of two times 8 MiB
    assert found.read.repeats == 3
    for rate in (found.write, found.read):
        assert 0 < rate.low <= rate.median <= rate.high
    assert found.read_disks == (str(source),)
    assert (found.streams, found.notes) == (2, ())
    assert list(target.iterdir()) == []
    after = source.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def test_a_repeat_ends_when_its_time_is_over(target: Path) -> None:
    ticks = iter(range(100_000))
    # each look at the clock is a second: a repeat of twenty seconds is over long before its bytes
    found = measure(target, [], Bounds(1, 3, 20.0, 1024 * MIB), clock=lambda: float(next(ticks)))
    assert found.write is not None
    assert found.write.repeats == 3
    assert found.write.high <= 1024 * MIB / 20


def test_what_is_in_the_page_cache_tells_nothing_and_is_not_read(
    target: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_reads, "is_cached", lambda handle, offset, length: length)
    found = measure(target, [source], QUICK)
    assert found.read is None
    assert found.read_disks == ()
    assert any("in this host's memory" in note for note in found.notes)
    assert any("too little" in note for note in found.notes)


def test_a_disk_that_cannot_be_read_is_a_note_and_the_next_one_is_read(
    target: Path, source: Path, tmp_path: Path, nothing_cached: None
) -> None:
    found = measure(target, [tmp_path / "none.vmdk", source], QUICK)
    assert found.read_disks == (str(source),)
    assert any("none.vmdk" in note for note in found.notes)


def test_a_disk_that_fails_while_it_is_read_is_a_note(
    target: Path, source: Path, nothing_cached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ReadFailed(str(source), "no answer")

    monkeypatch.setattr("p2v.audit.sizing.source_reads.PieceReader.fill", fail)
    found = measure(target, [source], QUICK)
    assert found.read is None
    assert any("no answer" in note for note in found.notes)
    assert list(target.iterdir()) == []


def test_the_disks_that_are_read_come_from_all_over_the_fleet(target: Path, source: Path, nothing_cached: None) -> None:
    disks = []
    for number in range(8):
        disks.append(source.with_name(f"disk{number}.img"))
        os.link(source, disks[-1])
    found = measure(target, disks, QUICK)
    assert found.read_disks == (str(disks[0]), str(disks[4]))


def test_without_disks_reading_is_not_measured(target: Path) -> None:
    found = measure(target, [], QUICK)
    assert found.write is not None
    assert found.read is None


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_nothing_is_left_when_it_ends_early(
    target: Path, error: BaseException, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file system has no O_TMPFILE and an open file keeps its name."""
    if named:

        def keeps_its_name(folder: Path) -> tuple[int, str]:
            handle, name = tempfile.mkstemp(dir=folder)
            return handle, name

        # a flag that every kernel refuses together with a folder
        monkeypatch.setattr(os, "O_TMPFILE", os.O_CREAT)
        monkeypatch.setattr(measuring, "_named_scratch", keeps_its_name)
    seen = []
    count = 0

    def fail(handle: int) -> None:
        nonlocal count
        count += 1
        seen.append(len(list(target.iterdir())))
        if count > 2:
            raise error

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises((ReadFailed, KeyboardInterrupt)):
        measure(target, [], QUICK)
    assert list(target.iterdir()) == []
    assert max(seen) == (QUICK.streams if named else 0)


_MEASURE = """
import sys
from pathlib import Path
from p2v.audit.sizing.measure import Bounds, measure
print("go", flush=True)
measure(Path(sys.argv[1]), [], Bounds(2, 1000, 0.2, 32 << 20))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_and_leaves_nothing(target: Path, number: signal.Signals) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", _MEASURE, str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"go\n"
        time.sleep(0.5)
        assert running.poll() is None
        running.send_signal(number)
        assert running.wait(60) != 0
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()
    assert list(target.iterdir()) == []


def test_nothing_is_written_beside_a_source(source: Path) -> None:
    with pytest.raises(Usage, match=r"disk\.img"):
        measure(source.parent, [source], QUICK)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        measure(tmp_path / "none", [], QUICK)


def test_a_folder_that_may_not_be_written_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(NotPermitted):
        measure(target, [], QUICK)


def test_a_nearly_full_target_is_not_filled(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "free_bytes", lambda folder: 40 * MIB)
    with pytest.raises(NoSpace):
        measure(target, [], QUICK)


def test_no_block_is_written_twice(target: Path) -> None:
    with measuring._scratch_file(target) as handle:
        writer = measuring._Writer(target, handle, 8 * MIB)
        assert writer.run(lambda: False) == 8 * MIB
        written = os.pread(handle, 8 * MIB, 0)
        writer.close()
    assert len({written[at : at + 4096] for at in range(0, len(written), 4096)}) == 2048
