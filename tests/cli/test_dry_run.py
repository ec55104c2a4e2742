"""``p2v convert --dry-run`` and what `p2v plan` says of the copy: everything is told before, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from p2v.cli.main import main
from p2v.core.errors import NoSource
from p2v.core.units import KIB, MIB, format_bytes
from p2v.record import load_record
from tests.audit.small_machines import linux_disk
from tests.batch.dos import dos_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dos_disk(tmp_path_factory.mktemp("disks") / "old.raw", b"words" * 50_000)


@pytest.fixture
def disk(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "old.raw"))


def told(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str]:
    status = main([str(word) for word in argv])
    return status, capsys.readouterr().out


def standing(folder: Path) -> Mapping[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_it_tells_of_the_copy_what_the_record_says_afterwards(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = standing(tmp_path)
    options = ("convert", disk, "-o", tmp_path / "out", "--progress", "none")
    status, words = told(capsys, *options, "--dry-run")
    assert status == 0
    assert standing(tmp_path) == before
    assert "Nothing is in the way." in words

    assert main([str(word) for word in options]) == 0
    capsys.readouterr()
    record = load_record(tmp_path / "out/old.json")
    copied, left_out = record.disks[0].written_bytes, record.disks[0].left_out[0]
    assert 256 * KIB < copied < MIB
    assert f"at most {format_bytes(copied)} of {format_bytes(8 * MIB)}" in words
    assert f"left out: {format_bytes(left_out.length)} ({left_out.kind})" in words
    made_there = words.partition("Would make in")[2].partition("\n\n")[0].split()[1:]
    assert sorted(made_there) == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_all_that_is_in_the_way_is_told_at_once(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.json").write_text("{}")
    monkeypatch.setattr("p2v.core.workspace.free_bytes", lambda folder: 5 * MIB)
    wishes = ("--to-device", tmp_path / "no-device", "--progress", "none", "--dry-run")
    status, words = told(capsys, "convert", disk, "-o", tmp_path / "out", *wishes)
    assert status == 4
    in_the_way = words.partition("In the way\n")[2]
    for what in ("no-device: does not exist", "old.json: exists already", f"{format_bytes(5 * MIB)} are free"):
        assert what in in_the_way, what
    assert not (tmp_path / "no-device").exists()


def test_a_blocker_of_the_plan_is_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linux = linux_disk(tmp_path / "linux.raw")
    options = (linux, "--reader", "host", "--accel", "tcg", "--progress", "none")
    _, plan_alone = told(capsys, "plan", *options)
    blocker = plan_alone.partition("Blockers\n- ")[2].partition(" [")[0]
    status, words = told(capsys, "convert", *options, "-o", tmp_path / "out", "--dry-run")
    assert status == 4
    assert blocker
    assert blocker in words.partition("In the way\n")[2]
    assert not (tmp_path / "out").exists()


def test_all_blocks_are_told_of_as_wished(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with disk.open("r+b") as file:  # what a deleted file has left
        file.seek(7 * MIB)
        file.write(b"\x55" * MIB)
    options = ("convert", disk, "-o", tmp_path / "out", "--progress", "none", "--dry-run")
    _, without = told(capsys, *options)
    _, whole = told(capsys, *options, "--all-blocks")
    assert "left out" in without
    assert "left out" not in whole
    sizes = [words.partition("at most ")[2].partition(" of ")[0] for words in (without, whole)]
    assert sizes[0].endswith("KiB")
    assert sizes[1].endswith("MiB")


@pytest.mark.parametrize("option", ["--json", "--in-place"])
def test_it_is_for_copies_and_prints_text(
    disk: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = told(capsys, "convert", disk, "-o", tmp_path, option, "--dry-run")
    assert status == 64


def test_a_plan_says_what_is_copied(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, words = told(capsys, "plan", disk, "--progress", "none")
    assert status == 0
    copied = words.partition("To copy\n")[2]
    assert copied.startswith("  at most ")
    assert "free clusters of FAT" in copied
    assert "Plan digest" in copied  # what follows is as ever


def test_a_disk_that_goes_away_leaves_the_plan(
    disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> object:
        raise NoSource(str(disk), "is gone")

    monkeypatch.setattr("p2v.copy_estimate.estimate", gone)
    status, words = told(capsys, "plan", disk, "--progress", "none")
    assert status == 0
    assert "not known: " in words
    assert "Plan digest" in words
